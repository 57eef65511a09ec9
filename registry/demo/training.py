"""Runs: one that made each release, and those of experiments that made none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from registry.demo.curves import curves
from registry.demo.kinds import Experiment, Release, Trial, Work
from registry.demo.making import MADE, MARK, Maker
from registry.demo.trials import EXPERIMENTS
from registry.demo.wishes import REASONS, said, segment, trial_of
from registry.demo.works import WORKS, releases

USD_PER_GPU_HOUR: Final = 2.4

Plan: TypeAlias = tuple[str | None, Trial, Work, Release | None]
"""A run to be: its experiment, how it goes, of what, and the release it makes if it makes one."""


async def runs(maker: Maker) -> None:
    runs: list[Plan] = [
        (None, trial_of(work, release), work, release)
        for work, release in releases()
        if work.kind == "model"
    ]
    named = {work.name: work for work in WORKS}
    for experiment in EXPERIMENTS:
        id = await _experiment(maker, experiment)
        runs += [(id, trial, named[trial.model], None) for trial in experiment.trials]
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for name in maker.there:
        for one in await maker.listed(f"runs?model={segment(name)}"):
            known[name, one["name"]] = one

    async def tell(plan: Plan) -> None:
        await _run(maker, *plan, known.get((plan[2].name, plan[1].name)))

    await maker.all("runs", runs, tell)


async def _experiment(maker: Maker, experiment: Experiment) -> str:
    for one in await maker.listed(f"experiments?namespace={experiment.namespace}"):
        if one["name"] == experiment.name:
            return str(one["id"])
    wish = {
        "namespace": experiment.namespace,
        "name": experiment.name,
        "description": experiment.about,
        "tags": {MARK: MADE},
    }
    maker.count("experiments")
    return str((await maker.api("POST", "experiments", wish))["id"])


async def _run(
    maker: Maker,
    experiment: str | None,
    trial: Trial,
    work: Work,
    release: Release | None,
    there: dict[str, Any] | None,
) -> None:
    """A run, from its start to its end; one that is there is only brought to its end."""
    if there is not None and there["status"] != "running":
        return
    if there is None:
        data, _, data_version = work.data.partition(":")
        wish = {
            "name": trial.name,
            "experiment": experiment,
            "model": work.name,
            "version": None if release is None else release.label,
            "started_at": said(maker.now - timedelta(days=trial.days_ago)),
            "dataset": data,
            "dataset_version": data_version,
            "hyperparameters": {"learning_rate": trial.rate, "batch_size": 64, "seed": 17},
            "environment": {
                "python": "3.12",
                "gpu": f"{trial.gpus} x H100" if trial.gpus else "none",
                work.framework: work.framework_version,
            },
        }
        there = await maker.api("POST", "runs", wish)
        maker.count("runs")
    path, started = f"runs/{there['id']}", datetime.fromisoformat(there["started_at"])
    points = list(
        curves(f"{work.name} {trial.name}", trial.shape, best=trial.best, rate=trial.rate)
    )
    last = points[-1]["step"]
    for point in points:
        passed = timedelta(hours=trial.hours * point["step"] / max(last, 1))
        point["time"] = said(started + passed)
    logged = await maker.api("POST", f"{path}/metrics", {"points": points})
    maker.count("points", logged["new"])
    if trial.status == "running":
        return
    hours = round(trial.hours * trial.gpus, 2)
    end = {
        "status": trial.status,
        "ended_at": said(started + timedelta(hours=trial.hours)),
        "gpu_hours": hours,
        "cost_usd": round(hours * USD_PER_GPU_HOUR + trial.hours * 0.2, 2),
        "reason": REASONS[trial.status],
    }
    await maker.api("POST", f"{path}/finish", end)
