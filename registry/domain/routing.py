"""What a gateway asks for, as tests that a candidate passes or fails.

Each test has a word for the reason why what fails it is left out. They are made in a fixed order,
the one of `REASONS`, and a candidate is counted under the first that it fails; so the counts add up
to all that were considered, and those of an empty answer say which limit took the last ones away.

A limit on something that nobody knows is not met: such candidates are counted under a reason of
their own, because other numbers would not help them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.ranking import Candidate

RoutableStatus: TypeAlias = Literal["registered", "validated", "production"]

DEFAULT_STATUSES: Final[tuple[RoutableStatus, ...]] = ("production", "validated")
"""Somebody looked at these; a registered version is offered to those who ask for it."""

Reason: TypeAlias = Literal[
    "model",
    "kind",
    "task",
    "subject",
    "version_status",
    "provider",
    "region",
    "model_inactive",
    "binding_inactive",
    "objective_unknown",
    "objective_missed",
    "eval_score_unknown",
    "eval_score_below",
    "cost_unknown",
    "cost_above",
    "latency_unknown",
    "latency_above",
    "success_rate_unknown",
    "success_rate_below",
]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class Demand(msgspec.Struct, frozen=True):
    """What must hold for a candidate; `value` is what is compared with, None where nothing is."""

    reason: Reason | Literal["hidden"]
    value: Any = None

    @property
    def check(self) -> Callable[[Candidate, Any], bool]:
        """Says of a candidate and `value` whether it holds."""
        return _CHECKS[self.reason]

    def passes(self, candidate: Candidate) -> bool:
        return self.check(candidate, self.value)


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """A question: None and empty where it does not matter."""

    model_id: str | None = None
    kind: str | None = None
    task: str | None = None
    subject: str | None = None
    statuses: frozenset[str] = frozenset(DEFAULT_STATUSES)
    providers: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    must_meet_slo: bool = False
    min_eval_score: float | None = None
    max_cost_per_1k: float | None = None
    max_latency_ms: float | None = None
    min_success_rate: float | None = None

    def tests(self) -> list[Demand]:
        """What must hold, in the order of `REASONS`."""
        asked: dict[Reason, Any] = {
            "model": self.model_id,
            "kind": self.kind,
            "task": self.task,
            "subject": self.subject,
            "version_status": self.statuses,
            "provider": self.providers or None,
            "region": self.regions or None,
            "model_inactive": True,
            "binding_inactive": True,
            "objective_unknown": self.must_meet_slo or None,
            "objective_missed": self.must_meet_slo or None,
            "eval_score_unknown": _if_limited(self.min_eval_score),
            "eval_score_below": self.min_eval_score,
            "cost_unknown": _if_limited(self.max_cost_per_1k),
            "cost_above": self.max_cost_per_1k,
            "latency_unknown": _if_limited(self.max_latency_ms),
            "latency_above": self.max_latency_ms,
            "success_rate_unknown": _if_limited(self.min_success_rate),
            "success_rate_below": self.min_success_rate,
        }
        return [Demand(reason, value) for reason, value in asked.items() if value is not None]


def _if_limited(limit: float | None) -> bool | None:
    return None if limit is None else True


def _at_least(value: float | None, limit: float) -> bool:
    return value is not None and value >= limit


def _at_most(value: float | None, limit: float) -> bool:
    return value is not None and value <= limit


_CHECKS: Final[Mapping[str, Callable[[Candidate, Any], bool]]] = {
    "hidden": lambda one, visibility: visibility.opens(one.place),
    "model": lambda one, id: one.model_id == id,
    "kind": lambda one, kind: one.kind == kind,
    "task": lambda one, task: one.task == task,
    "subject": lambda one, subject: one.subject == subject,
    "version_status": lambda one, statuses: one.version_status in statuses,
    "provider": lambda one, providers: one.provider in providers,
    "region": lambda one, regions: one.region in regions,
    "model_inactive": lambda one, _: one.is_model_active,
    "binding_inactive": lambda one, _: one.status != "inactive",
    "objective_unknown": lambda one, _: one.slo_met is not None,
    "objective_missed": lambda one, _: one.slo_met is True,
    "eval_score_unknown": lambda one, _: one.eval_score is not None,
    "eval_score_below": lambda one, least: _at_least(one.eval_score, least),
    "cost_unknown": lambda one, _: one.cost is not None,
    "cost_above": lambda one, most: _at_most(one.cost, most),
    "latency_unknown": lambda one, _: one.latency_p95_ms is not None,
    "latency_above": lambda one, most: _at_most(one.latency_p95_ms, most),
    "success_rate_unknown": lambda one, _: one.success_rate is not None,
    "success_rate_below": lambda one, least: _at_least(one.success_rate, least),
}


def sentence(reason: Reason, count: int, routing: Routing) -> str:
    """Why so many candidates were left out, in plain words."""
    many = f"{count:,} {'is' if count == 1 else 'are'}"
    match reason:
        case "model":
            return f"{many} of other models"
        case "kind":
            return f"{many} of models of another kind than {routing.kind}"
        case "task":
            return f"{many} of models for other tasks than {routing.task}"
        case "subject":
            return f"{many} of models for other subjects than {routing.subject}"
        case "version_status":
            return f"{many} of versions that are not {_either(routing.statuses)}"
        case "provider":
            return f"{many} not at {_either(routing.providers)}"
        case "region":
            return f"{many} not in {_either(routing.regions)}"
        case "model_inactive":
            return f"{many} of models that are not active"
        case "binding_inactive":
            return f"{many} inactive"
        case "objective_unknown":
            return f"{many} of versions of which nobody said whether they meet their objective"
        case "objective_missed":
            return f"{many} of versions that missed their objective"
        case "eval_score_unknown":
            return f"{many} of versions without an evaluation score"
        case "eval_score_below":
            return f"{many} of versions with an evaluation score below {routing.min_eval_score:g}"
        case "cost_unknown":
            return f"{many} without a known cost"
        case "cost_above":
            return f"{many} above {routing.max_cost_per_1k:g} USD for 1,000 tokens"
        case "latency_unknown":
            return f"{many} without an observed latency"
        case "latency_above":
            return f"{many} above {routing.max_latency_ms:g} ms for 95 % of answers"
        case "success_rate_unknown":
            return f"{many} without an observed success rate"
        case "success_rate_below":
            return f"{many} below a success rate of {routing.min_success_rate:g}"


def _either(words: frozenset[str]) -> str:
    return " or ".join(sorted(words))
