"""JSON in: RFC 8259 and no more, within limits, with every bad field named."""

from __future__ import annotations

import gc
import json
import sys
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import BodyMalformed, Invalid
from registry.http.bodies import MOST_DEPTH, MOST_EXPLAINED_BYTES, parse_json


class Wish(msgspec.Struct):
    name: str = ""
    size: int = 0
    share: float = 0.0
    free: Any = None


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"free":' + opening * (depth - 1) + closing * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xff",
        b'{"name": "\xff"}',
        b'{"\xff": 1}',
        b'{"unknown": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\\udc00x"}',
        b'{"unknown": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"share": NaN}',
        b'{"share": Infinity}',
        b'{"share": -Infinity}',
        b'{"free": NaN}',
        b"{'name': 1}",
        b'{"name": "a",}',
        b'{"name": "\x00"}',
        b'{"name": "a\\u0000"}',
        b'{"name": "\\\\\\u0000"}',
        b'{"free": {"\\u0000": 1}}',
        b"\x1f\x8b\x08",
    ],
)
def test_what_is_not_json_is_malformed(content: bytes) -> None:
    with pytest.raises(BodyMalformed):
        parse_json(content, Wish)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"share": 1e400}', "share"),
        (b'{"share": -1e400}', "share"),
        (b'{"free": [1e400]}', "free[0]"),
        (b'{"size": 1.5}', "size"),
        (b'{"size": ' + b"9" * 5000 + b"}", "size"),
        (b'{"free": {"a": ' + b"9" * 5000 + b"}}", "free"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'"x"', "body"),
    ],
)
def test_what_no_field_can_hold_is_named(content: bytes, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_json(content, Wish)

    assert refused.value.problems[0][0].startswith(field)
    assert not isinstance(refused.value, BodyMalformed)


def test_what_only_looks_like_an_escaped_nul_is_text() -> None:
    assert parse_json(b'{"name": "\\\\u0000"}', Wish).name == "\\u0000"


def test_numbers_that_nothing_can_hold_are_named_beside_others() -> None:
    with pytest.raises(Invalid) as refused:
        parse_json(b'{"name": 1, "share": 1e400, "size": 0.5, "free": 1e400}', Wish)

    assert [problem[0] for problem in refused.value.problems] == ["name", "size", "share"]


def test_of_a_name_that_comes_twice_the_last_counts() -> None:
    assert parse_json(b'{"name": "a", "name": "b"}', Wish).name == "b"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_limited_to_the_level(opening: bytes, closing: bytes) -> None:
    innermost = b"" if opening == b"[" else b"1"

    def at(depth: int) -> bytes:
        return b'{"free":' + opening * (depth - 1) + innermost + closing * (depth - 1) + b"}"

    parse_json(at(MOST_DEPTH), Wish)
    with pytest.raises(BodyMalformed, match=f"more than {MOST_DEPTH} levels"):
        parse_json(at(MOST_DEPTH + 1), Wish)


@pytest.mark.parametrize("depth", [1000, 100_000])
@pytest.mark.parametrize("name", [b"free", b"unknown"])
def test_json_of_any_depth_is_no_crash(depth: int, name: bytes) -> None:
    with pytest.raises(BodyMalformed):
        parse_json(b'{"' + name + b'":' + b"[" * depth + b"]" * depth + b"}", Wish)
    with pytest.raises(BodyMalformed):
        parse_json(b'{"' + name + b'":' + b"[" * depth, Wish)


def test_brackets_in_texts_are_no_depth() -> None:
    text = '[{"\\' * 500

    assert parse_json(json.dumps({"name": text, "free": [text]}).encode(), Wish).name == text


def test_many_shallow_objects_are_not_deep() -> None:
    content = b'{"free": [' + b",".join([b'{"a": []}'] * 10_000) + b"]}"

    assert len(parse_json(content, Wish).free) == 10_000


def test_looking_for_depth_takes_a_pass_a_level_however_large_the_body() -> None:
    """It happens on the event loop, for every larger body: no step of Python's own per value."""
    content = b'{"free": [' + b",".join([b'[[[[[[{"a": "[\\"]"}]]]]]]'] * 10_000) + b"]}"
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    gc.disable()  # what other tests left takes steps of its own when it is collected
    sys.setprofile(count)
    try:
        parse_json(content, Wish)
    finally:
        sys.setprofile(None)
        gc.enable()

    assert steps < 1_000


def test_a_large_body_has_at_least_its_first_bad_field_named() -> None:
    padding = b'"' + b"x" * MOST_EXPLAINED_BYTES + b'"'

    with pytest.raises(Invalid) as refused:
        parse_json(b'{"free": ' + padding + b', "size": "a", "share": "b"}', Wish)

    assert [problem[0] for problem in refused.value.problems] == ["size"]


def depth_of(value: Any) -> int:
    members = (
        list(value.values())
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else None
    )
    return 0 if members is None else 1 + max(map(depth_of, members), default=0)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
NESTED = st.recursive(
    st.one_of(st.none(), st.text(alphabet='[]{}"\\ab', max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=20,
)


@settings(deadline=None)
@given(NESTED, st.integers(0, 2 * MOST_DEPTH))
def test_exactly_what_is_too_deep_is_refused(value: Any, wraps: int) -> None:
    for _ in range(wraps):
        value = [value]
    value = {"free": value, "name": "[" * 100}
    content = json.dumps(value).encode()

    if depth_of(value) <= MOST_DEPTH:
        assert parse_json(content, Wish).free == value["free"]
    else:
        with pytest.raises(BodyMalformed):
            parse_json(content, Wish)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(Invalid):
        parse_json(content, Wish)
