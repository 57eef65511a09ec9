"""SemVer precedence as sortable text, and the rule of `latest`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.versions import Candidate, choose_latest, precedence

# Section 11 of SemVer 2.0.0, and what trips naive comparisons.
ORDER = [
    "0.0.0-0",
    "0.0.0",
    "0.9.10",
    "0.10.0",
    "1.0.0-0",
    "1.0.0-1",
    "1.0.0-2.9",
    "1.0.0-2.10",
    "1.0.0-11",
    "1.0.0--",
    "1.0.0-A",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.1.0",
    "1.0.0-alpha.beta",
    "1.0.0-alpha-a",
    "1.0.0-alpha0",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "10.0.0",
    "99999999999999999999999.0.0",
]


def test_keys_sort_as_semver_does() -> None:
    keys = [precedence(label).key or "" for label in ORDER]

    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_build_metadata_does_not_count_and_a_v_may_stand_before() -> None:
    assert precedence("1.0.0+a") == precedence("1.0.0") == precedence("v1.0.0+b.1")
    assert precedence("1.0.0-rc.1+a") == precedence("v1.0.0-rc.1")


@pytest.mark.parametrize(
    "label",
    [
        *(None, "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+"),
        *("V1.0.0", "2026-11-20", "nightly", "v", "1.0.0 ", "1.0.0\n"),
    ],
)
def test_other_labels_take_no_part_in_the_order(label: str | None) -> None:
    assert precedence(label).standing == "plain"


def rule_as_written(labels: list[str]) -> int | None:
    """The design's sentence, word for word, with an order made by hand."""
    rank = {label: position for position, label in enumerate(ORDER)}
    standing = {label: precedence(label).standing for label in labels}
    eligible = []
    for number, label in enumerate(labels, 1):
        if standing[label] == "plain":
            eligible.append(number)
        elif standing[label] == "release":
            if not any(standing[o] == "release" and rank[o] > rank[label] for o in labels):
                eligible.append(number)
        elif all(standing[other] == "prerelease" for other in labels):
            eligible.append(number)
    return max(eligible, default=None)


def candidates(labels: list[str]) -> list[Candidate]:
    return [Candidate(number, precedence(label)) for number, label in enumerate(labels, 1)]


WORDS = ["nightly", "0.9.10", "1.0.0-0", "1.0.0-rc.1", "1.0.0", "1.0.1", "2.0.0"]


def test_latest_is_what_the_sentence_says_for_every_short_history() -> None:
    for length in range(5):
        for labels in itertools.product(WORDS, repeat=length):
            history = list(labels)
            assert choose_latest(candidates(history)) == rule_as_written(history), history


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_the_three_rows_of_the_catalog_decide_alike(labels: list[str]) -> None:
    everything = candidates(labels)
    three = []
    for standing in ("plain", "release", "prerelease"):
        of_kind = [one for one in everything if one.precedence.standing == standing]
        if standing == "release":
            of_kind.sort(key=lambda one: (one.precedence.key or "", one.number))
        three += of_kind[-1:]

    assert choose_latest(three) == choose_latest(everything)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.booleans()), max_size=12))
def test_what_is_retired_does_not_count_at_all(versions: list[tuple[str, bool]]) -> None:
    everything = [
        Candidate(one.number, one.precedence, is_retired)
        for one, (_, is_retired) in zip(
            candidates([label for label, _ in versions]), versions, strict=True
        )
    ]
    others = [one for one in everything if not one.is_retired]

    assert choose_latest(everything) == choose_latest(others)
    assert choose_latest(everything) not in [one.number for one in everything if one.is_retired]
