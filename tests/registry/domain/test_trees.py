"""Paths, trees and their one canonical text."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain import paths as rules
from registry.domain.media import DEFAULT, media_type
from registry.domain.paths import (
    differing_in_case,
    file_that_is_a_directory,
    order,
    parents,
    parse_path,
)
from registry.domain.trees import (
    EMPTY_TREE,
    VECTORS,
    TreeFile,
    decode_tree,
    encode_tree,
    sorted_files,
    tree_digest,
)
from registry.errors import Invalid
from store.digest import Digest

ABC = Digest.of(b"abc")


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c",
        "a b",
        ".hidden",
        "...",
        "a..b",
        ".gitignore",
        "git/.github/x",
        "a~b@c:d?e#f%",
        "x" * 255,
        "\u6a21\u578b/\U0001f600",
        "/".join(["x" * 255] * 4),
    ],
)
def test_paths_that_keep_the_grammar(path: str) -> None:
    assert parse_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "./a",
        "a/.",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".git",
        "a/.git/b",
        ".Git",
        "a\\b",
        *(f"a{character}b" for character in "\0\n\r\t\x1b\x7f\x80\x85\x9f\u2028\u2029\ud800"),
        "x" * 256,
        "\u00e9" * 128,
        "/".join(["x" * 255] * 4) + "/y",
    ],
)
def test_paths_that_break_a_rule_are_refused(path: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_path(path)

    assert refused.value.code == "path_invalid"


def test_paths_are_normalised() -> None:
    assert parse_path("gru\u0308n") == "gr\u00fcn"
    assert parse_path("\u212b") == "\u00c5"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_a_path_that_is_read_is_safe_to_unpack(text: str) -> None:
    try:
        path = parse_path(text)
    except Invalid:
        return

    assert parse_path(path) == path
    assert unicodedata.is_normalized("NFC", path)
    assert "\n" not in path
    assert "\0" not in path
    assert not set(path.split("/")) & {"", ".", ".."}


def test_every_directory_above_a_file_is_named() -> None:
    assert list(parents("a/b/c")) == ["a", "a/b"]
    assert list(parents("a")) == []


@pytest.mark.parametrize(
    ("files", "directories", "found"),
    [
        (["a", "b"], [], None),
        (["a", "a/b"], [], "a"),
        (["a", "a-", "a.", "a/b"], [], "a"),
        (["a/b", "a/b/c/d"], [], "a/b"),
        (["a", "ab", "a b/c"], [], None),
        (["a"], ["a"], "a"),
        (["a"], ["a/b"], "a"),
        (["a/b"], ["a", "a/c"], None),
    ],
)
def test_a_file_is_never_a_directory(
    files: list[str], directories: list[str], found: str | None
) -> None:
    assert file_that_is_a_directory(files, directories) == found


segments = st.text(st.sampled_from("ab-.0 \u00e9\U0001f600"), min_size=1, max_size=2).filter(
    lambda text: text not in (".", "..")
)
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(st.sets(paths, max_size=8))
def test_the_quick_look_for_clashes_finds_what_the_slow_one_finds(found: set[str]) -> None:
    slow = any(parent in found for path in found for parent in parents(path))

    assert (file_that_is_a_directory(found) is not None) == slow


def test_paths_that_differ_only_in_case_are_flagged() -> None:
    assert differing_in_case(["a", "B", "A", "b", "c"]) == [["a", "A"], ["B", "b"]]


@pytest.mark.parametrize(("files", "expected"), VECTORS)
def test_trees_have_the_digests_of_the_vectors(
    files: tuple[tuple[int, str, str], ...], expected: str
) -> None:
    """Recomputed here from the words of the format alone."""
    lines = sorted((path.encode(), size, digest) for size, digest, path in files)
    text = b"digestry-tree-1\n" + b"".join(
        b"%d %s %s\n" % (size, digest.encode(), path) for path, size, digest in lines
    )

    assert hashlib.sha256(text).hexdigest() == expected
    rows = [TreeFile(path, Digest(digest), size) for size, digest, path in files]
    assert tree_digest(rows).hex == expected
    assert encode_tree(sorted_files(rows)) == text


def test_no_files_are_a_tree_too() -> None:
    assert tree_digest([]) == EMPTY_TREE
    assert decode_tree(b"digestry-tree-1\n") == []


@settings(deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=3), max_size=6))
def test_a_tree_is_read_back_as_it_was_written(files: dict[str, bytes]) -> None:
    rows = [
        TreeFile(unicodedata.normalize("NFC", p), Digest.of(c), len(c)) for p, c in files.items()
    ]
    try:
        ordered = sorted_files(rows)
    except Invalid:
        return

    assert decode_tree(encode_tree(ordered)) == ordered
    assert [order(file.path) for file in ordered] == sorted(order(file.path) for file in rows)
    assert tree_digest(reversed(rows)) == Digest.of(encode_tree(ordered))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"digestry-tree-2\n",
        b"digestry-tree-1",
        b"digestry-tree-1\n\n",
        b"digestry-tree-1\n3 %s a" % ABC.hex.encode(),
        b"digestry-tree-1\n03 %s a\n" % ABC.hex.encode(),
        b"digestry-tree-1\n-3 %s a\n" % ABC.hex.encode(),
        b"digestry-tree-1\n3  %s a\n" % ABC.hex.encode(),
        b"digestry-tree-1\n3 %s a\n" % ABC.hex.upper().encode(),
        b"digestry-tree-1\n3 %s ../a\n" % ABC.hex.encode(),
        b"digestry-tree-1\n3 %s gru\xcc\x88n\n" % ABC.hex.encode(),
        b"digestry-tree-1\n3 %s a\xff\n" % ABC.hex.encode(),
        b"digestry-tree-1\n3 %(d)s b\n3 %(d)s a\n" % {b"d": ABC.hex.encode()},
        b"digestry-tree-1\n3 %(d)s a\n3 %(d)s a\n" % {b"d": ABC.hex.encode()},
        b"digestry-tree-1\n3 %(d)s a\n3 %(d)s a/b\n" % {b"d": ABC.hex.encode()},
    ],
)
def test_a_text_that_is_not_canonical_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        decode_tree(text)


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("model.safetensors", DEFAULT),
        ("a/config.JSON", "application/json"),
        ("README", "text/plain; charset=utf-8"),
        ("README.md", "text/markdown; charset=utf-8"),
        ("x.png", "image/png"),
        (".json", DEFAULT),
        ("json", DEFAULT),
        ("a.json/b", DEFAULT),
    ],
)
def test_media_types_follow_from_paths_alone(path: str, media: str) -> None:
    assert media_type(path) == media


@settings(deadline=None)
@given(st.from_regex(rules._PLAIN, fullmatch=True))
def test_a_path_that_is_not_looked_at_closely_has_nothing_wrong(path: str) -> None:
    assert rules._why_not(path) is None
    assert unicodedata.normalize("NFC", path) == path
