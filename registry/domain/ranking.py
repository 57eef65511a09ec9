"""How bindings rank: a score of seven parts, and a sentence for each part.

The score is a weighted sum, simple additive weighting (Hwang and Yoon, *Multiple Attribute Decision
Making*, 1981). Each part is between 0 and 1, on a scale that is fixed and not relative to the
others, so that a score means the same in every answer and a binding's place is explained by itself.
**What nobody knows counts one half**: neither good nor bad, so that a new binding is tried.

===========  ======  ==========================================================================
part         weight  what it is
===========  ======  ==========================================================================
quality      0.25    the version's evaluation score
reliability  0.25    (successes + 1) / (requests + 2), decayed: Laplace's rule of succession, which
                     is one half without observations and near the success rate with many
latency      0.15    1 / (1 + p95 / 1 s)
cost         0.15    1 / (1 + cost / 0.01 USD) for 1,000 tokens: what was observed, else what is
                     agreed, else what the version says
health       0.10    1 if the binding is active, 0 if degraded
objective    0.05    1 if the version met its service level objective, 0 if it missed it
stage        0.05    1 in production, 0.5 validated, 0 registered
===========  ======  ==========================================================================

Ties are broken by name of the model, newest version, provider, its model id, region, and id. That
makes a total order that does not depend on the question, which is what `registry.domain.standings`
builds on.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from registry.domain.bindings import BindingStatus
from registry.domain.observations import Statistics
from registry.domain.roles import Place

HALF_LATENCY_MS: Final = 1000.0
HALF_COST_USD: Final = 0.01
UNKNOWN: Final = 0.5

PartName: TypeAlias = Literal[
    "quality", "reliability", "latency", "cost", "health", "objective", "stage"
]

WEIGHTS: Final[dict[PartName, float]] = {
    "quality": 0.25,
    "reliability": 0.25,
    "latency": 0.15,
    "cost": 0.15,
    "health": 0.10,
    "objective": 0.05,
    "stage": 0.05,
}

CostSource: TypeAlias = Literal["observed", "agreed", "version"]

_STAGES: Final = {"production": 1.0, "validated": 0.5}
_DECIMALS: Final = 6


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A binding of a living version of a living model, with all that decides its rank."""

    id: str
    model_id: str
    namespace_id: str
    level: str
    """The model's visibility."""
    model: str
    folded: str
    kind: str
    task: str
    subject: str
    is_model_active: bool
    version_id: str
    number: int
    label: str | None
    version_status: str
    eval_score: float | None
    slo_target: str
    slo_met: bool | None
    version_cost: float | None
    provider: str
    provider_model_id: str
    region: str
    endpoint: str
    config: str
    status: BindingStatus
    agreed_cost: float | None
    weight: float
    successes: float
    success_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    observed_cost: float | None
    observed_at: int | None

    @property
    def place(self) -> Place:
        """Where its model is, for who may see it."""
        return Place(namespace=self.namespace_id, model=self.model_id, level=self.level)

    @property
    def cost(self) -> float | None:
        """USD for 1,000 tokens: what was paid says more than what is agreed or planned."""
        if self.observed_cost is not None:
            return self.observed_cost
        return self.version_cost if self.agreed_cost is None else self.agreed_cost

    @property
    def cost_source(self) -> CostSource | None:
        """Where `cost` comes from."""
        if self.observed_cost is not None:
            return "observed"
        if self.agreed_cost is not None:
            return "agreed"
        return None if self.version_cost is None else "version"


def observed(candidate: Candidate, statistics: Statistics) -> Candidate:
    """The candidate after a report."""
    return msgspec.structs.replace(
        candidate,
        weight=statistics.weight,
        successes=statistics.successes,
        success_rate=statistics.success_rate,
        latency_p50_ms=statistics.latency_p50_ms,
        latency_p95_ms=statistics.latency_p95_ms,
        latency_p99_ms=statistics.latency_p99_ms,
        observed_cost=statistics.cost_per_1k,
        observed_at=statistics.observed_at,
    )


Rank: TypeAlias = tuple[float, str, int, str, str, str, str]
"""Sorts candidates, the best first."""


def rank_of(candidate: Candidate) -> Rank:
    """The place of a candidate among all others."""
    return (
        -score_of(candidate),
        candidate.folded,
        -candidate.number,
        candidate.provider,
        candidate.provider_model_id,
        candidate.region,
        candidate.id,
    )


def score_of(candidate: Candidate) -> float:
    """Between 0 and 1; rounded, so that one that is told is the one that decided."""
    parts = parts_of(candidate)
    return round(sum(WEIGHTS[name] * parts[name] for name in WEIGHTS), _DECIMALS)


def parts_of(candidate: Candidate) -> dict[PartName, float]:
    """The parts of the score before they are weighed."""
    cost, latency = candidate.cost, candidate.latency_p95_ms
    met = candidate.slo_met
    return {
        "quality": UNKNOWN if candidate.eval_score is None else candidate.eval_score,
        "reliability": (candidate.successes + 1) / (candidate.weight + 2),
        "latency": UNKNOWN if latency is None else 1 / (1 + latency / HALF_LATENCY_MS),
        "cost": UNKNOWN if cost is None else 1 / (1 + cost / HALF_COST_USD),
        "health": 1.0 if candidate.status == "active" else 0.0,
        "objective": UNKNOWN if met is None else float(met),
        "stage": _STAGES.get(candidate.version_status, 0.0),
    }


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a score: its value, what it is multiplied by, and why it is so."""

    name: PartName
    value: float
    weight: float
    reason: str


def explained(candidate: Candidate) -> list[Part]:
    """The parts of a candidate's score, in the order of the table above."""
    values, reasons = parts_of(candidate), _reasons(candidate)
    return [
        Part(name=name, value=round(values[name], _DECIMALS), weight=weight, reason=reasons[name])
        for name, weight in WEIGHTS.items()
    ]


def _reasons(candidate: Candidate) -> dict[PartName, str]:
    return {
        "quality": _quality(candidate),
        "reliability": _reliability(candidate),
        "latency": _latency(candidate),
        "cost": _cost(candidate),
        "health": f"the binding is {candidate.status}",
        "objective": _objective(candidate),
        "stage": f"the version is {_STAGE_WORDS.get(candidate.version_status, 'registered')}",
    }


_STAGE_WORDS: Final = {"production": "in production", "validated": "validated"}


def _quality(candidate: Candidate) -> str:
    if candidate.eval_score is None:
        return "the version has no evaluation score, which counts as one half"
    return f"the version's evaluation score is {candidate.eval_score:g}"


def _reliability(candidate: Candidate) -> str:
    if candidate.success_rate is None:
        return "nothing was observed yet, which counts as one half"
    return (
        f"{100 * candidate.success_rate:.4g} % of recent requests succeeded; "
        f"they weigh as much as {candidate.weight:.4g} made just now"
    )


def _latency(candidate: Candidate) -> str:
    if candidate.latency_p95_ms is None:
        return "no latency was observed, which counts as one half"
    return f"95 % of recent answers came within {candidate.latency_p95_ms:.4g} ms"


def _cost(candidate: Candidate) -> str:
    cost = candidate.cost
    match candidate.cost_source:
        case "observed":
            return f"1,000 tokens were observed to cost {cost:.4g} USD"
        case "agreed":
            return f"1,000 tokens are agreed to cost {cost:.4g} USD"
        case "version":
            return f"the version says that 1,000 tokens cost {cost:.4g} USD"
        case None:
            return "no cost is known, which counts as one half"


def _objective(candidate: Candidate) -> str:
    target = f" ({candidate.slo_target})" if candidate.slo_target else ""
    if candidate.slo_met is None:
        return f"nobody said whether the version meets its objective{target}; it counts as one half"
    return f"the version {'met' if candidate.slo_met else 'missed'} its objective{target}"
