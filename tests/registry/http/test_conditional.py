"""Entity tags, digest fields and preconditions."""

from __future__ import annotations

import pytest

from registry.http.conditional import (
    InvalidDigestField,
    Verdict,
    check_preconditions,
    etag_of,
    parse_digest_field,
    range_applies,
    repr_digest_of,
    tags_in,
)
from store.digest import EMPTY, Digest

HELLO = Digest.of(b"hello")
TAG = etag_of(HELLO)


def test_a_digest_survives_the_digest_field() -> None:
    assert parse_digest_field(repr_digest_of(HELLO)) == HELLO


def test_the_field_of_no_bytes_is_the_one_of_the_standard() -> None:
    expected = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"

    assert repr_digest_of(EMPTY) == expected


def test_the_sha256_member_is_found_among_others() -> None:
    header = f"sha-512=:AAAA:, {repr_digest_of(HELLO)}, md5=:AAAA:"

    assert parse_digest_field(header) == HELLO


def test_a_field_of_other_algorithms_says_nothing() -> None:
    assert parse_digest_field("sha-512=:AAAA:") is None


@pytest.mark.parametrize(
    "header", ["sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:===:", "sha-256=::", "SHA-256=1"]
)
def test_a_broken_sha256_member_is_an_error(header: str) -> None:
    with pytest.raises(InvalidDigestField):
        parse_digest_field(header)


def test_a_list_of_tags_is_read_until_it_makes_no_sense() -> None:
    assert tags_in('"a", W/"b",  "c,d", e, "f"') == [
        ('"a"', False),
        ('"b"', True),
        ('"c,d"', False),
    ]


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "expected"),
    [
        (None, None, Verdict.PROCEED),
        (TAG, None, Verdict.PROCEED),
        ("*", None, Verdict.PROCEED),
        (f'"other", {TAG}', None, Verdict.PROCEED),
        ('"other"', None, Verdict.FAILED),
        (f"W/{TAG}", None, Verdict.FAILED),
        ("", None, Verdict.FAILED),
        (None, TAG, Verdict.NOT_MODIFIED),
        (None, f"W/{TAG}", Verdict.NOT_MODIFIED),
        (None, "*", Verdict.NOT_MODIFIED),
        (None, '"other"', Verdict.PROCEED),
        ('"other"', TAG, Verdict.FAILED),
        (TAG, TAG, Verdict.NOT_MODIFIED),
    ],
)
def test_preconditions_of_a_read(
    if_match: str | None, if_none_match: str | None, expected: Verdict
) -> None:
    assert (
        check_preconditions(TAG, if_match=if_match, if_none_match=if_none_match, is_read=True)
        is expected
    )


def test_a_write_on_a_tag_it_must_not_find_fails() -> None:
    verdict = check_preconditions(TAG, if_match=None, if_none_match="*", is_read=False)

    assert verdict is Verdict.FAILED


def test_nothing_there_matches_nothing() -> None:
    assert check_preconditions(None, if_match="*", if_none_match=None, is_read=True) is (
        Verdict.FAILED
    )
    assert check_preconditions(None, if_match=None, if_none_match="*", is_read=False) is (
        Verdict.PROCEED
    )


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [
        (None, True),
        (TAG, True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
    ],
)
def test_only_our_strong_tag_lets_a_range_count(if_range: str | None, *, expected: bool) -> None:
    assert range_applies(if_range, TAG) is expected
