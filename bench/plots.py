"""One picture per scenario: bars of medians with their spread, contenders side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a server has no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.records import FIGURES, OURS, Run, figures_of

_OURS_COLOUR, _OTHER_COLOUR = "#1f6f8b", "#b8c4c9"


def draw(directory: Path, runs: Sequence[Run]) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    return [
        _draw_scenario(directory, name, [run for run in runs if run.scenario == name])
        for name in dict.fromkeys(run.scenario for run in runs)
    ]


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
