"""Ranges of versions mean what npm's documentation says they mean."""

from __future__ import annotations

import itertools

import pytest

from registry.domain.ranges import MOST_ALTERNATIVES, MOST_CHARACTERS, parse_range
from registry.domain.versions import precedence
from registry.errors import Invalid


def contains(range: str, label: str) -> bool:
    stands = precedence(label)
    assert stands.key is not None, label
    found = parse_range(range)
    spans = found.releases if stands.standing == "release" else found.prereleases
    return any(span.start <= stands.key < span.stop for span in spans)


# Each line: a range, what is in it, what is not.
TABLE = [
    ("1.4.2", "1.4.2 v1.4.2 1.4.2+build", "1.4.1 1.4.3 1.4.2-rc"),
    ("=1.4.2", "1.4.2", "1.4.3"),
    ("v1.4.2", "1.4.2", "1.4.3"),
    (">1.4.2", "1.4.3 1.5.0 2.0.0 10.0.0", "1.4.2 1.4.3-a 1.4.2-z"),
    (">=1.4.2", "1.4.2 1.4.3", "1.4.1 1.4.2-z"),
    ("<1.4.2", "1.4.1 0.0.0", "1.4.2 1.4.2-a 1.4.1-a"),
    ("<=1.4.2", "1.4.2 1.4.1", "1.4.3 1.4.2-a"),
    (">1.4", "1.5.0 2.0.0", "1.4.9 1.4.0 1.5.0-a"),
    (">1", "2.0.0", "1.99.99 1.0.0"),
    (">=1.4", "1.4.0 1.4.9", "1.3.9 1.4.0-a"),
    ("<1.4", "1.3.99", "1.4.0 1.4.0-a"),
    ("<=1.4", "1.4.99 1.4.0", "1.5.0"),
    ("<=1", "1.99.0", "2.0.0"),
    ("", "0.0.0 7.8.9", "1.0.0-a"),
    ("*", "0.0.0 7.8.9", "1.0.0-a"),
    ("x", "0.0.0 7.8.9", "1.0.0-a"),
    (">=*", "0.0.0", ""),
    ("<*", "", "0.0.0 1.0.0"),
    (">*", "", "0.0.0 1.0.0"),
    ("1", "1.0.0 1.99.3", "2.0.0 0.9.9 2.0.0-a"),
    ("1.x", "1.0.0 1.99.3", "2.0.0 1.0.0-a"),
    ("1.*.X", "1.0.0 1.99.3", "2.0.0"),
    ("1.4", "1.4.0 1.4.10", "1.5.0 1.3.9"),
    ("1.4.x", "1.4.0 1.4.10", "1.5.0 1.4.0-a"),
    ("~1.4.2", "1.4.2 1.4.99", "1.4.1 1.5.0 1.5.0-a"),
    ("~1.4", "1.4.0 1.4.99", "1.5.0 1.3.9"),
    ("~1", "1.0.0 1.99.0", "2.0.0"),
    ("~>1.4.2", "1.4.2 1.4.9", "1.5.0"),
    ("~0.4.2", "0.4.3", "0.5.0"),
    ("~1.4.2-b.2", "1.4.2-b.2 1.4.2-b.10 1.4.2-c 1.4.2 1.4.9", "1.4.2-b.1 1.4.3-b.4 1.5.0"),
    ("~*", "3.0.0", "3.0.0-a"),
    ("^1.4.2", "1.4.2 1.99.0", "1.4.1 2.0.0 2.0.0-a 1.5.0-a"),
    ("^0.4.2", "0.4.2 0.4.9", "0.5.0 0.4.1"),
    ("^0.0.4", "0.0.4", "0.0.5 0.0.3"),
    ("^1.4.x", "1.4.0 1.9.0", "2.0.0 1.3.9"),
    ("^0.0.x", "0.0.0 0.0.9", "0.1.0"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^1.x", "1.0.0 1.9.9", "2.0.0"),
    ("^0.x", "0.0.0 0.9.9", "1.0.0"),
    ("^0", "0.9.9", "1.0.0"),
    ("^1.4.2-b.2", "1.4.2-b.2 1.4.2-c 1.4.2 1.9.0", "1.4.2-b.1 1.4.3-a 2.0.0"),
    ("^0.0.4-b", "0.0.4-b 0.0.4-c 0.0.4", "0.0.5 0.0.4-a"),
    ("^*", "4.0.0", ""),
    ("1.4.2 - 2.3.4", "1.4.2 2.0.0 2.3.4", "1.4.1 2.3.5 2.0.0-a"),
    ("1.4 - 2.3.4", "1.4.0 2.3.4", "1.3.9"),
    ("1.4.2 - 2.3", "2.3.99", "2.4.0"),
    ("1.4.2 - 2", "2.99.0", "3.0.0"),
    ("* - 2", "0.0.0 2.9.9", "3.0.0"),
    ("1.4.2-a - 2.0.0-c", "1.4.2-b 1.5.0 2.0.0-b", "2.0.0-d 2.0.0 1.9.0-b"),
    (">=1.4.2 <1.6.0", "1.4.2 1.5.9", "1.6.0 1.4.1"),
    (">= 1.4.2  <\t1.6.0", "1.4.2 1.5.9", "1.6.0"),
    (">1.4.2-a.3", "1.4.2-a.7 1.4.2-b 1.4.2 3.4.5", "3.4.5-a.9 1.4.2-a.3 1.4.2-a.2"),
    (">=2 <1", "", "0.5.0 1.5.0 2.5.0"),
    ("1.4.7 || >=1.4.9 <2.0.0", "1.4.7 1.4.9 1.9.0", "1.4.8 2.0.0"),
    ("<1 || 1.5.0-b || 3.x", "0.9.0 1.5.0-b 3.1.0", "1.5.0 1.5.0-c 2.0.0"),
    ("||", "1.0.0", ""),
    ("1.10.0 || 1.9.0", "1.9.0 1.10.0", "1.9.1"),
    (">1.9", "1.10.0 1.11.0", "1.9.9"),
    ("^99999999999999999999.0.0", "99999999999999999999.5.0", "99999999999999999998.0.0"),
]


@pytest.mark.parametrize(("range", "inside", "outside"), TABLE)
def test_ranges_hold_what_they_should(range: str, inside: str, outside: str) -> None:
    assert [label for label in inside.split() if not contains(range, label)] == []
    assert [label for label in outside.split() if contains(range, label)] == []


@pytest.mark.parametrize(
    "range",
    [
        "nightly",
        "1.2.3.4",
        ">>1",
        "=>1",
        "1,2",
        ">=01.2.0",
        "1.2.3-01",
        "1.2.3-",
        "1.x-beta",
        "^",
        "~ ",
        "1 -2",
        "1.2.3 | 2",
        "\u0661.0.0",
        "1.2.3\n\x00",
        "x" * (MOST_CHARACTERS + 1),
        "||" * MOST_ALTERNATIVES,
    ],
)
def test_what_is_no_range_is_refused(range: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_range(range)
    assert refused.value.code == "range_invalid"


def test_spans_are_disjoint_and_in_order() -> None:
    found = parse_range("1.x || >=1.5 <3 || 0.1.0 || 5.0.0-a || >5.0.0-b <5.0.0")

    for spans in (found.releases, found.prereleases):
        assert all(span.start < span.stop for span in spans)
        assert all(one.stop < other.start for one, other in itertools.pairwise(spans))
    assert len(found.prereleases) == 2
