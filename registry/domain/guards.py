"""Promotion guards: what must hold of a version before an alias or a status moves to it. Pure.

A guard belongs to a model, or to a namespace and all its models. It covers the aliases and the
statuses that it names; a ``*`` in the name of an alias is anything, but `latest` and `main`, which
publishing moves, are covered only where they are named. Every guard that covers a move must hold,
and a refusal says of each rule that failed what it asks for and what was found.

Rules
-----
``approvals``   reviewers other than the author whose newest review approves; and nobody's newest
                one may reject
``scores``      trust scores (`registry.domain.scoring`) by their metric, with the least value
``metrics``     recorded metrics of the version: the latest of that name and split, within bounds
``licences``    SPDX names, one of which the version's rated licence must be
``movers``      ids of users and teams, one of whom must be who moves; nobody else may even take the
                alias away
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from registry.domain.names import RESERVED_ALIASES, fold
from registry.domain.roles import matches

OVERALL: Final = "overall"
"""The name of the weighted mean of all scores, beside those of the metrics."""

MOST_GUARDS: Final = 100
"""Of one model or namespace: each move asks all of them."""


class MetricRule(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a recorded metric, both ends included; None is no bound."""

    name: str
    split: str
    at_least: float | None = None
    at_most: float | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold; empty asks for nothing."""

    approvals: int = 0
    scores: Mapping[str, float] = msgspec.field(default_factory=dict)
    metrics: tuple[MetricRule, ...] = ()
    licences: tuple[str, ...] = ()
    movers: tuple[str, ...] = ()


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """A guard of a model or of a namespace; `aliases` are patterns, folded."""

    id: str
    model_id: str | None
    namespace_id: str | None
    aliases: tuple[str, ...]
    statuses: tuple[str, ...]
    rules: Rules
    description: str
    is_active: bool
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1

    def covers_alias(self, name: str) -> bool:
        """Whether moving the alias of this name is its business."""
        folded = fold(name)
        if folded in RESERVED_ALIASES:
            return folded in self.aliases
        return any(matches(pattern, folded) for pattern in self.aliases)

    def covers_status(self, status: str) -> bool:
        return status in self.statuses


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version and of who moves; `metrics` by name and split."""

    approvals: int = 0
    rejections: int = 0
    scores: Mapping[str, float | None] = msgspec.field(default_factory=dict)
    metrics: Mapping[tuple[str, str], float] = msgspec.field(default_factory=dict)
    licence: str | None = None
    mover: frozenset[str] = frozenset()


class Failure(msgspec.Struct, frozen=True):
    """A rule that does not hold."""

    guard: str
    rule: str
    required: str
    found: str


def failures(guard: Guard, facts: Facts | None, mover: frozenset[str]) -> Iterator[Failure]:
    """What does not hold. Without facts nothing is promoted, and only `movers` is asked."""
    rules = guard.rules
    if rules.movers and not mover & frozenset(rules.movers):
        yield Failure(guard.id, "movers", "one of those that the guard names", "somebody else")
    if facts is None:
        return
    if facts.approvals < rules.approvals:
        yield Failure(guard.id, "approvals", f"at least {rules.approvals}", str(facts.approvals))
    if rules.approvals and facts.rejections:
        yield Failure(guard.id, "approvals", "nobody who rejects", str(facts.rejections))
    yield from _failed_scores(guard, facts.scores)
    for rule in rules.metrics:
        value = facts.metrics.get((rule.name, rule.split))
        if value is None or not is_within(value, rule):
            found = "not recorded" if value is None else str(value)
            yield Failure(guard.id, f"metrics.{rule.split}.{rule.name}", bounds(rule), found)
    if rules.licences and (facts.licence or "").lower() not in _lowered(rules.licences):
        found = facts.licence or "none rated"
        yield Failure(guard.id, "licences", f"one of {', '.join(rules.licences)}", found)


def _failed_scores(guard: Guard, scores: Mapping[str, float | None]) -> Iterator[Failure]:
    for metric, least in guard.rules.scores.items():
        value = scores.get(metric)
        if value is None or value < least:
            found = str(value)
            if value is None:
                found = "without evidence" if metric in scores else "not rated"
            yield Failure(guard.id, f"scores.{metric}", f"at least {least}", found)


def is_within(value: float, rule: MetricRule) -> bool:
    """Whether a value is within the bounds; NaN never is."""
    if math.isnan(value):
        return False
    return (rule.at_least is None or value >= rule.at_least) and (
        rule.at_most is None or value <= rule.at_most
    )


def bounds(rule: MetricRule) -> str:
    """The bounds in words."""
    said = []
    if rule.at_least is not None:
        said.append(f"at least {rule.at_least}")
    if rule.at_most is not None:
        said.append(f"at most {rule.at_most}")
    return " and ".join(said) or "recorded"


def _lowered(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
