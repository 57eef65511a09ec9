"""The grammar of names, labels and references, one rule each."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain import ids
from registry.domain.ids import FOLDER, MODEL, VERSION, is_id, new_id, new_revision_id
from registry.domain.names import (
    RESERVED_FIRST_SEGMENTS,
    ModelName,
    fold,
    parse_alias,
    parse_label,
    parse_model_name,
)
from registry.domain.references import (
    ByAlias,
    ById,
    ByName,
    ByNumber,
    ByRevision,
    ByTree,
    ModelId,
    VersionReference,
    parse_model,
    parse_reference,
)
from registry.errors import Invalid
from store.digest import Digest

NOW = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("bert", "bert"),
        ("Bert", "Bert"),
        ("nlp/bert", "nlp/bert"),
        ("nlp~bert", "nlp/bert"),
        ("a~b/c", "a/b/c"),
        ("default/bert", "bert"),
        ("DEFAULT~bert", "bert"),
        ("default/a/b", "default/a/b"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u6a21\u578b", "\u6a21\u578b"),
        ("two words", "two words"),
        ("x" * 96, "x" * 96),
        ("/".join(["x" * 49] * 4), "/".join(["x" * 49] * 4)),
        ("team/models", "team/models"),
        ("team/mdl_x", "team/mdl_x"),
        (".hidden", ".hidden"),
        ("a+b=c&d,e!", "a+b=c&d,e!"),
        ("{braces}", "{braces}"),
    ],
)
def test_names_are_read_into_one_form(written: str, text: str) -> None:
    name = parse_model_name(written)

    assert name.text == text
    assert parse_model_name(name.segment) == name
    if "/" not in text:
        assert parse_model_name(f"default/{text}") == name


@pytest.mark.parametrize(
    "written",
    [
        "",
        "/",
        "~",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        " a",
        "a ",
        "a/ b",
        "x" * 97,
        "/".join(["x" * 50] * 4),
        *(f"a{character}b" for character in ":@\\%#?"),
        *(f"a{character}b" for character in "\0\n\t\x1b\x7f\x85\xad\u200d\u202e\u2028\ufeff\ud800"),
        "api",
        "API",
        "default",
        "default/default",
        "default/api",
        "blobs/x",
        "mdl_x",
        "MDL_x",
        "ver_",
        "run_7/x",
        "default/usr_x",
    ],
)
def test_names_that_break_a_rule_are_refused(written: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_model_name(written)

    assert refused.value.code == "model_name_invalid"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Bert", "bERT"), ("stra\u00dfe", "STRASSE"), ("\u0130x", "i\u0307x"), ("\ufb01n", "FIN")],
)
def test_names_that_differ_in_case_only_fold_alike(one: str, other: str) -> None:
    assert parse_model_name(one).folded == parse_model_name(other).folded


@settings(deadline=None)
@given(st.text(max_size=30))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@settings(deadline=None)
@given(st.text(max_size=120))
def test_a_name_that_is_read_is_in_normal_form_and_reads_again(text: str) -> None:
    try:
        name = parse_model_name(text)
    except Invalid:
        return

    assert unicodedata.is_normalized("NFC", name.text)
    assert isinstance(name, ModelName)
    assert parse_model_name(name.text) == name
    assert name.text.isprintable()


def test_reserved_words_are_written_as_they_are_compared() -> None:
    assert {fold(word) for word in RESERVED_FIRST_SEGMENTS} == RESERVED_FIRST_SEGMENTS


@pytest.mark.parametrize("label", ["1.0.0", "v1", "2026-11-20", "_", "a+b", "1.", "x" * 128, "0x1"])
def test_labels_that_keep_the_grammar(label: str) -> None:
    assert parse_label(label) == label
    assert parse_alias(label) == label


@pytest.mark.parametrize(
    "label",
    [
        "",
        "-1",
        ".1",
        "+1",
        "a b",
        "a/b",
        "a\n",
        "\u00e9",
        "\u0661",
        "x" * 129,
        "7",
        "0" * 50,
        "a" * 40,
        "F" * 40,
        "v1.tar",
        "v1.TAR",
        "ver_1",
        "VER_1",
    ],
)
def test_labels_that_break_a_rule_are_refused(label: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_label(label)

    assert refused.value.code == "label_invalid"


REFERENCES: list[tuple[str, VersionReference]] = [
    ("@Champion", ByAlias("Champion", "champion")),
    ("7", ByNumber(7)),
    ("007", ByNumber(7)),
    ("1.4.0", ByName("1.4.0", "1.4.0")),
    ("Latest", ByName("Latest", "latest")),
    ("sha256:" + "0" * 64, ByTree(Digest("0" * 64))),
    ("a" * 40, ByRevision("a" * 40)),
    ("ver_" + "0" * 26, ById("ver_" + "0" * 26)),
]


@pytest.mark.parametrize(("text", "reference"), REFERENCES)
def test_a_reference_says_how_it_is_meant(text: str, reference: VersionReference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    "text",
    ["", "@", "@@x", "@7", "1" * 19, "sha256:", "sha256:" + "A" * 64, "A" * 40, "ver_x", "*"],
)
def test_a_reference_that_can_mean_nothing_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_reference(text)

    assert refused.value.code == "version_reference_invalid"


def test_a_model_is_asked_for_by_name_or_id() -> None:
    id = new_id(MODEL, NOW)

    assert parse_model(id) == ModelId(id)
    assert parse_model("a~b") == parse_model_name("a/b")


def test_ids_carry_their_prefix_and_sort_by_time() -> None:
    made = [new_id(VERSION, NOW + second * 1_000_000) for second in range(50)]

    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(is_id(id, VERSION) and not is_id(id, FOLDER) for id in made)
    assert all(parse_reference(id) == ById(id) for id in made)


def test_of_all_bytes_each_digit_of_an_id_comes_equally_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = iter([bytes([byte] * 20) for byte in range(256)])
    monkeypatch.setattr(ids, "_random_bytes", lambda: next(given))
    random = [new_id(VERSION, NOW)[-16:] for _ in range(256)]

    assert all(len(set(digits)) == 1 for digits in random)
    assert set(Counter(random).values()) == {8}
    assert len(set(random)) == 32


def test_revision_ids_never_read_as_numbers() -> None:
    for _ in range(100):
        id = new_revision_id()
        assert parse_reference(id) == ByRevision(id)


@pytest.mark.parametrize("text", ["", "ABC-x_9", "".join(map(chr, range(128)))])
def test_short_ways_of_folding_give_what_the_long_way_gives(text: str) -> None:
    assert fold(text) == fold(text + "é").removesuffix("é")
