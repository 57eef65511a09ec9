"""What is sent: releases, runs and reports as the API wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from registry.client.connection import part
from registry.demo.content import files_of
from registry.demo.files import chance
from registry.demo.kinds import Binding, Release, Trial, Work

REPORTS: Final = 40
"""Observations that each binding gets, of several requests each."""

STATUSES: Final[Mapping[str, Sequence[str]]] = {
    "registered": (),
    "validated": ("validated",),
    "production": ("validated", "production"),
    "deprecated": ("production", "deprecated"),
    "archived": ("validated", "archived"),
}

REASONS: Final[Mapping[str, str]] = {
    "succeeded": "",
    "failed": "the loss was not a number any more",
    "cancelled": "learns too slowly to be worth it",
    "timeout": "the time for it was over",
}


def segment(name: str) -> str:
    return part(name.replace("/", "~"))


def version_path(name: str, label: str) -> str:
    return f"models/{segment(name)}/versions/{part(label)}"


def said(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def version_wish(work: Work, release: Release) -> dict[str, Any]:
    wish: dict[str, Any] = {
        "label": release.label,
        "files": [
            {"path": path, "digest": f"sha256:{sha256(content).hexdigest()}"}
            for path, content in files_of(work, release).items()
        ],
        "description": release.change,
        "metadata": {"owner": work.team},
        "lineage": [_edge(relation, parent) for relation, parent in release.parents],
        "reason": release.change,
    }
    if work.kind == "model":
        wish["framework"] = work.framework
        wish["framework_version"] = work.framework_version
        wish["python_version"] = "3.12"
        wish["parameters"] = {"learning_rate": 3e-4, "batch_size": 64}
        wish["region"] = "eu-central-1"
        wish["slo_target"] = "99 % of answers within a second"
        wish["slo_met"] = release.slo_met
        wish["eval_score"] = release.score
        wish["cost_per_1k"] = release.cost_per_1k
    if release.score is not None:
        wish["performance_metrics"] = {work.metric: release.score}
    return wish


def _edge(relation: str, parent: str) -> dict[str, Any]:
    if parent.startswith("hf:"):
        kind = "dataset" if parent.startswith("hf:datasets/") else "external"
        return {"relation": relation, "parent": {"uri": parent, "kind": kind}}
    model, _, version = parent.partition(":")
    return {"relation": relation, "parent": {"model": model, "version": version}}


def trial_of(work: Work, release: Release) -> Trial:
    """The run that made a release: later ones ran later."""
    behind = len(work.releases) - work.releases.index(release)
    numbers = chance(work.name, release.label, "run")
    return Trial(
        name=f"{work.tail} {release.label}",
        model=work.name,
        days_ago=round(21 * behind - 14 * numbers.random(), 2),
        hours=release.hours,
        gpus=release.gpus,
        rate=3e-4,
        best=release.score or 0.5,
    )


def reports_of(binding: Binding) -> list[dict[str, Any]]:
    numbers = chance(binding.model, binding.provider, binding.label)
    reports = []
    for _ in range(REPORTS):
        count = numbers.randint(5, 50)
        tokens = count * numbers.randint(200, 900)
        has_failed = numbers.random() < binding.failures * 10
        reports.append(
            {
                "success": not has_failed,
                "count": max(count // 10, 1) if has_failed else count,
                "latency_ms": round(binding.typical_ms * numbers.lognormvariate(0, 0.35), 1),
                "tokens": tokens,
                "cost_usd": round(tokens / 1000 * binding.cost_per_1k, 6),
            }
        )
    return reports
