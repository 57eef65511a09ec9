"""A cursor leads on in the list that it came from, and nowhere else."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import msgspec
import pytest

from registry.domain.expectations import ANYTHING, Expected, mark_of
from registry.errors import Invalid, PreconditionFailed
from registry.http.conditional import etag_of_row
from registry.http.cursors import PageQuery, cursor, place_after


class Query(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str | None = None


def test_a_place_comes_back_as_it_was_whatever_the_page() -> None:
    text = cursor(Query(kind="a", limit=3), "näme", 7, scope="list")

    assert place_after(Query(kind="a", limit=9, after=text), tuple[str, int], scope="list") == (
        "näme",
        7,
    )
    assert place_after(Query(kind="a"), tuple[str, int]) is None


@pytest.mark.parametrize(
    ("query", "kind", "scope"),
    [
        (Query(kind="b"), tuple[str, int], "list"),
        (Query(kind="a"), tuple[str, int], "other"),
        (Query(kind="a"), tuple[int, str], "list"),
        (PageQuery(), tuple[str, int], "list"),
    ],
)
def test_another_question_refuses_it(query: PageQuery, kind: type, scope: str) -> None:
    text = cursor(Query(kind="a"), "x", 7, scope="list")

    with pytest.raises(Invalid) as caught:
        place_after(msgspec.structs.replace(query, after=text), kind, scope=scope)

    assert (caught.value.field, caught.value.code) == ("after", "invalid_cursor")


@pytest.mark.parametrize(
    "text",
    ["", "x", "!", "ä", "AAAA", "=" * 9, urlsafe_b64encode(b"\xc1" * 9).decode(), "k" * 2000],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        place_after(PageQuery(after=text), tuple[str])

    assert caught.value.code == "invalid_cursor"


def test_a_number_that_no_index_holds_is_refused() -> None:
    for number, is_held in ((2**63 - 1, True), (-(2**63) + 1, True), (2**63, False)):
        query = PageQuery(after=cursor(PageQuery(), -1.5, number))
        if is_held:
            assert place_after(query, tuple[float, int]) == (-1.5, number)
            continue
        with pytest.raises(Invalid) as caught:
            place_after(query, tuple[float, int])
        assert caught.value.code == "invalid_cursor"


def test_expectations_compare_id_and_changes() -> None:
    expected = Expected(frozenset((("mdl_a", 3, ""), ("mdl_a", 5, ""))))

    expected.require("mdl_a", 5)
    ANYTHING.require("mdl_b", 1)
    for id, changes in (("mdl_a", 4), ("mdl_b", 3)):
        with pytest.raises(PreconditionFailed):
            expected.require(id, changes)
    assert etag_of_row("mdl_a", 5) == '"mdl_a.5"'


def test_what_shows_a_name_is_expected_under_it() -> None:
    seen = Expected(frozenset((("ver_a", 1, mark_of("bert")),)))

    seen.require("ver_a", 1, under="bert")
    for under in ("Bert", ""):
        with pytest.raises(PreconditionFailed):
            seen.require("ver_a", 1, under=under)
    assert etag_of_row("ver_a", 1, under="bert") == f'"ver_a.1-{mark_of("bert")}"'
