"""One picture per scenario, bars of medians with their spread, and one of all: `side-by-side.svg`.

The one of all shows every goal that compares with a peer as a ratio, on a scale where right of one
is better, whether more or less of the figure is; what was asked of it is a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import msgspec

matplotlib.use("Agg")  # a server has no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.harness import Scenario
from bench.records import FIGURES, OURS, Goal, Run, Summary, figures_of, judge

pyplot.rcParams["svg.fonttype"] = "none"
pyplot.rcParams["svg.hashsalt"] = "digestry"  # the same figures draw the same file

_OURS_COLOUR, _OTHER_COLOUR = "#1f6f8b", "#b8c4c9"


_MET_COLOUR, _MISSED_COLOUR = "#1f6f8b", "#c0562f"


class Ratio(msgspec.Struct, frozen=True):
    """How far ours is ahead in one goal: above one is better."""

    label: str
    peer: str
    median: float
    low: float
    high: float
    goal: float | None

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.median >= self.goal


def draw(directory: Path, runs: Sequence[Run], scenarios: Sequence[Scenario]) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    drawn = [
        _draw_scenario(directory, name, [run for run in runs if run.scenario == name])
        for name in dict.fromkeys(run.scenario for run in runs)
    ]
    found = ratios(runs, scenarios)
    return [*drawn, draw_side_by_side(directory, found)] if found else drawn


def ratios(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> list[Ratio]:
    """Every goal that compares with a peer who took part, in the order of scenarios."""
    found = []
    for scenario in scenarios:
        own = [run for run in runs if run.scenario == scenario.name]
        for goal in scenario.goals:
            summary = None if goal.against is None else judge(own, goal)
            if summary is None or goal.against is None or min(summary.low, summary.median) <= 0:
                continue
            label = f"{scenario.name}, {goal.case}"
            unit = FIGURES[goal.figure]
            if not unit.more_is_better:
                label += f", {unit.label}"
            found.append(_ratio(label, goal, summary, unit.more_is_better))
    return found


def _ratio(label: str, goal: Goal, summary: Summary, more_is_better: bool) -> Ratio:
    bound = goal.at_least if more_is_better else goal.at_most
    values = [summary.median, summary.low, summary.high]
    if not more_is_better:
        values = [1 / value for value in (summary.median, summary.high, summary.low)]
        bound = None if bound is None else 1 / bound
    return Ratio(label, str(goal.against), values[0], values[1], values[2], bound)


def draw_side_by_side(directory: Path, found: Sequence[Ratio]) -> Path:
    figure, axis = pyplot.subplots(figsize=(10, 1.2 + 0.26 * len(found)), layout="tight")
    places = range(len(found))
    for place, each in zip(places, found, strict=True):
        colour = _MET_COLOUR if each.is_met else _MISSED_COLOUR
        axis.barh(place, each.median - 1, left=1, height=0.6, color=colour, alpha=0.85)
        axis.plot([each.low, each.high], [place, place], color="black", linewidth=1)
        if each.goal is not None:
            axis.plot([each.goal], [place], marker="|", markersize=11, color="black")
        text = f" {each.median:.3g}"
        axis.text(max(each.high, 1), place, text, va="center", fontsize=7)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yticks(list(places), [f"{each.label} / {each.peer}" for each in found], fontsize=7)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(
        "Digestry beside others: ratio in the same run, right of 1 is better; line: spread; "
        "mark: goal",
        fontsize=9,
    )
    path = directory / "side-by-side.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _draw_scenario(directory: Path, name: str, runs: Sequence[Run]) -> Path:
    panels = list(dict.fromkeys((run.case, figure) for run in runs for figure in run.figures))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.5 * columns, 0.6 + 1.7 * rows), squeeze=False, layout="tight"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (case, each) in zip(axes.flat, panels, strict=False):
        _draw_panel(axis, case, each, runs)
    figure.suptitle(f"{name}: median of rounds, lowest to highest")
    path = directory / f"{name}.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _draw_panel(axis: Axes, case: str, figure: str, runs: Sequence[Run]) -> None:
    contenders = [
        each
        for each in dict.fromkeys(run.contender for run in reversed(runs))
        if figure in figures_of(runs, case, each)
    ]
    found = [figures_of(runs, case, each)[figure] for each in contenders]
    axis.barh(
        contenders,
        [each.median for each in found],
        xerr=[
            [each.median - each.low for each in found],
            [each.high - each.median for each in found],
        ],
        color=[_OURS_COLOUR if each == OURS else _OTHER_COLOUR for each in contenders],
        capsize=3,
    )
    better = "more" if FIGURES[figure].more_is_better else "less"
    axis.set_title(f"{case}: {FIGURES[figure].label} ({better} is better)", fontsize=8)
    axis.tick_params(labelsize=7)
