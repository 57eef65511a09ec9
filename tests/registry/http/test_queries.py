"""Query strings are as strict as JSON bodies: every bad parameter is named, unknown ones too."""

from __future__ import annotations

import datetime
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from registry.errors import Invalid
from registry.http.queries import parse_query


class Filter(msgspec.Struct, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: str | None = None
    total: bool = False
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    status: Literal["draft", "published"] | None = None
    tag: list[str] = []
    sizes: Annotated[list[int], Meta(max_length=2)] = []
    at: Annotated[datetime.datetime, Meta(tz=True)] | UnsetType = UNSET
    text: str = msgspec.field(default="", name="q")
    told: Annotated[bool | None, Meta(description="documented fields are read like the others")] = (
        None
    )
    tells: Annotated[list[Annotated[int, Meta(description="each")]], Meta(examples=[[1]])] = []


def parse(**given: str | list[str]) -> Filter:
    texts = {name: [text] if isinstance(text, str) else text for name, text in given.items()}
    return parse_query(texts, Filter)


def refused(**given: str | list[str]) -> list[tuple[str, ...]]:
    with pytest.raises(Invalid) as caught:
        parse(**given)
    return list(caught.value.problems)


def test_nothing_given_is_the_defaults() -> None:
    assert parse() == Filter()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("limit", "7", 7),
        ("after", "null", "null"),
        ("after", "", ""),
        ("after", "12", "12"),
        ("total", "true", True),
        ("total", "false", False),
        ("score", "1", 1.0),
        ("score", "2.5e-1", 0.25),
        ("status", "draft", "draft"),
        ("tag", "a", ["a"]),
        ("tag", ["a", "b"], ["a", "b"]),
        ("sizes", ["1", "2"], [1, 2]),
        ("told", "true", True),
        ("tells", ["1", "2"], [1, 2]),
    ],
)
def test_texts_become_values(name: str, text: str | list[str], value: Any) -> None:
    assert getattr(parse(**{name: text}), name) == value


@pytest.mark.parametrize("text", ["2026-11-20T12:00:00+01:00", "2026-11-20T12:00:00 01:00"])
def test_times_are_read_with_a_plus_that_was_not_encoded(text: str) -> None:
    at = parse(at=text).at

    assert isinstance(at, datetime.datetime)
    assert at.astimezone(datetime.UTC).hour == 11


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("limit", "0", "from 1 to 1000"),
        ("limit", "1001", "from 1 to 1000"),
        ("limit", "9" * 50, "from 1 to 1000"),
        ("limit", "", "from 1 to 1000"),
        ("limit", "1.0", "a whole number"),
        ("limit", "+1", "a whole number"),
        ("limit", " 1", "a whole number"),
        ("limit", "1_0", "a whole number"),
        ("limit", "\N{ARABIC-INDIC DIGIT ONE}", "a whole number"),
        ("total", "yes", "true or false"),
        ("total", "1", "true or false"),
        ("score", "NaN", "a number from 0 to 1"),
        ("score", "inf", "a number from 0 to 1"),
        ("score", "1e999", "a number from 0 to 1"),
        ("score", "0x1", "a number from 0 to 1"),
        ("status", "drft", "did you mean draft?"),
        ("at", "noon", "RFC 3339"),
        ("at", "2026-11-20T12:00:00", "RFC 3339"),
        ("limit", ["1", "2"], "more than once"),
        ("limt", "1", "did you mean limit?"),
        ("text", "x", "is not known here"),
        ("q", "a\x00b", "U+0000"),
        ("tag", ["a", "\x00"], "U+0000"),
        ("sizes", ["1", "2", "3"], "at most 2 entries"),
    ],
)
def test_what_cannot_be_read_is_refused(name: str, text: str | list[str], words: str) -> None:
    ((field, reason, *_),) = refused(**{name: text})

    assert field == name
    assert words in reason


def test_a_bad_entry_of_a_list_is_named_with_its_place() -> None:
    assert [problem[0] for problem in refused(sizes=["1", "x"])] == ["sizes[1]"]


def test_all_bad_parameters_are_named_at_once() -> None:
    problems = refused(limt="1", limit="0", total="maybe", after=["a", "b"], tag="fine")

    assert [problem[0] for problem in problems] == ["limt", "after", "limit", "total"]


def test_an_unknown_parameter_is_told_which_there_are() -> None:
    ((_, _, accepted),) = refused(zzzzzz="1")

    assert accepted == "after, at, limit, q, score, sizes, status, tag, tells, told, total"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["limit", "total", "score", "at", "tag", "q"]), st.text()),
        st.lists(st.text(max_size=30), min_size=1, max_size=3),
        max_size=6,
    )
)
def test_any_query_is_read_or_refused(given: dict[str, list[str]]) -> None:
    with suppress(Invalid):
        parse_query(given, Filter)
