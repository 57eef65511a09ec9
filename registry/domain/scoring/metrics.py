"""The eleven metrics in one table: name, weight, evidence, and for which kinds they make sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.scoring.bus_factor import bus_factor
from registry.domain.scoring.code_quality import code_quality
from registry.domain.scoring.data import dataset_and_code, dataset_quality
from registry.domain.scoring.evidence import Evidence, Outcome
from registry.domain.scoring.licence import licence
from registry.domain.scoring.performance import performance_claims
from registry.domain.scoring.ramp_up import ramp_up_time
from registry.domain.scoring.reproducibility import reproducibility
from registry.domain.scoring.reviewedness import reviewedness
from registry.domain.scoring.size import size
from registry.domain.scoring.tree import tree_score

MetricName: TypeAlias = Literal[
    "ramp_up_time",
    "bus_factor",
    "performance_claims",
    "licence",
    "size",
    "dataset_and_code",
    "dataset_quality",
    "code_quality",
    "reproducibility",
    "reviewedness",
    "tree_score",
]

Part: TypeAlias = Literal[
    "card",
    "licence_files",
    "files",
    "runs",
    "measured",
    "parents",
    "datasets",
    "reviews",
    "contributors",
]
"""A part of the evidence that is gathered on its own. ``parents`` and ``datasets`` are both parts
of the lineage."""

Kind: TypeAlias = Literal["model", "dataset", "generic"]

_EVERY: Final[tuple[Kind, ...]] = get_args(Kind)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric: what it asks, what it looks at, where it comes from; `score` computes it."""

    name: MetricName
    title: str
    question: str
    weight: float
    """Its share of the overall score."""
    parts: tuple[Part, ...]
    score: Callable[[Evidence], Outcome]
    source: str
    kinds: tuple[Kind, ...] = _EVERY


DIGITS: Final = 6
"""After the point, of a value."""

_MITCHELL: Final = "Mitchell et al. 2019, arXiv:1810.03993"
_GEBRU: Final = "Gebru et al. 2021, arXiv:1803.09010"
_PINEAU: Final = "Pineau et al. 2021, arXiv:2003.12206"
_AVELINO: Final = "Avelino et al. 2016, arXiv:1604.06766"

METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="ramp_up_time",
            title="Ramp-up time",
            question="How soon can somebody who does not know it use it?",
            weight=0.1,
            parts=("card", "files"),
            score=ramp_up_time,
            source=f"model cards after {_MITCHELL}; weights are ours",
        ),
        Metric(
            name="bus_factor",
            title="Bus factor",
            question="How many people could leave before the work stands still?",
            weight=0.1,
            parts=("contributors",),
            score=bus_factor,
            source=f"truck factor after {_AVELINO}, over contributions; the scale is ours",
        ),
        Metric(
            name="performance_claims",
            title="Performance claims",
            question="Is it said how well it does, and does anything back that?",
            weight=0.1,
            parts=("card", "measured", "runs"),
            score=performance_claims,
            source=f"after {_MITCHELL}, and {_PINEAU}; weights are ours",
            kinds=("model",),
        ),
        Metric(
            name="licence",
            title="Licence",
            question="Is it under a known licence, and how freely may it be used?",
            weight=0.1,
            parts=("card", "licence_files"),
            score=licence,
            source="names of SPDX and of the Hugging Face Hub; the order of freedom is ours",
        ),
        Metric(
            name="size",
            title="Size",
            question="On which hardware do its weights fit into memory?",
            weight=0.05,
            parts=("files",),
            score=size,
            source="our own definition",
            kinds=("model",),
        ),
        Metric(
            name="dataset_and_code",
            title="Dataset and code",
            question="Is it known what data and code made it, and are they there?",
            weight=0.1,
            parts=("card", "files", "runs", "datasets"),
            score=dataset_and_code,
            source=f"after {_PINEAU}; weights are ours",
            kinds=("model",),
        ),
        Metric(
            name="dataset_quality",
            title="Dataset quality",
            question="How well is the data documented?",
            weight=0.1,
            parts=("card", "datasets"),
            score=dataset_quality,
            source=f"data sheets after {_GEBRU}; weights are ours",
            kinds=("model", "dataset"),
        ),
        Metric(
            name="code_quality",
            title="Code quality",
            question="Is its code of the kind that can be maintained?",
            weight=0.1,
            parts=("files",),
            score=code_quality,
            source="our own definition",
        ),
        Metric(
            name="reproducibility",
            title="Reproducibility",
            question="Is enough known to make it again?",
            weight=0.1,
            parts=("runs", "measured", "files", "datasets"),
            score=reproducibility,
            source=f"the reproducibility checklist of {_PINEAU}; weights are ours",
            kinds=("model",),
        ),
        Metric(
            name="reviewedness",
            title="Reviewedness",
            question="Has anybody other than its author looked at it, and what did they say?",
            weight=0.1,
            parts=("reviews",),
            score=reviewedness,
            source="our own definition",
        ),
        Metric(
            name="tree_score",
            title="Tree score",
            question="How far can what it came from be trusted?",
            weight=0.05,
            parts=("parents",),
            score=tree_score,
            source="our own definition",
        ),
    )
}


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """One number for a version: the weighted mean of the metrics that have a value.

    ``coverage`` is the weight of those; a high value at a low coverage says little.
    """

    value: float | None
    coverage: float
    without_evidence: tuple[str, ...]
    not_rated: tuple[str, ...]


def compute(metric: Metric, evidence: Evidence) -> Outcome:
    """The outcome of a metric, which has no value for kinds that it makes no sense for."""
    if evidence.kind not in metric.kinds:
        return Outcome(None, {"kind": evidence.kind}, f"makes no sense for a {evidence.kind}")
    found = metric.score(evidence)
    assert (found.value is None) == bool(found.reason), "a value, or a reason for none"
    if found.value is None:
        return found
    return msgspec.structs.replace(found, value=round(found.value, DIGITS))


def overall(values: Mapping[str, float | None]) -> Overall:
    """The overall score of values by metric; metrics that are not among them were not rated."""
    counted = {
        name: (METRICS[name].weight, value)
        for name, value in values.items()
        if value is not None and name in METRICS
    }
    weight = sum(share for share, _ in counted.values())
    total = sum(share * value for share, value in counted.values())
    return Overall(
        value=round(min(1.0, max(0.0, total / weight)), DIGITS) if counted else None,
        coverage=round(weight, 4),
        without_evidence=tuple(n for n in METRICS if n in values and values[n] is None),
        not_rated=tuple(name for name in METRICS if name not in values),
    )


def masked(evidence: Any, is_visible: Callable[[str], bool]) -> Any:
    """Evidence as somebody may read it who does not see everything that it was gathered from.

    Entries of ``parents`` and ``datasets`` name the model they are of; of one that may not be seen
    only that there is one is left.
    """
    if not isinstance(evidence, dict):
        return evidence
    return {
        name: [_masked_entry(one, is_visible) for one in value]
        if name in ("parents", "datasets") and isinstance(value, list)
        else value
        for name, value in evidence.items()
    }


def models_named(evidence: Any) -> frozenset[str]:
    """The ids of the models that entries of evidence name."""
    named = set[str]()

    def note(model: str) -> bool:
        named.add(model)
        return True

    masked(evidence, note)
    return frozenset(named)


def _masked_entry(entry: Any, is_visible: Callable[[str], bool]) -> Any:
    model = entry.get("model") if isinstance(entry, dict) else None
    return entry if model is None or is_visible(model) else {"restricted": True}
