"""Tables that a person reads: medians with their spread, then ratios beside their goals."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness import Scenario
from bench.records import FIGURES, OURS, Environment, Goal, Run, Summary, figures_of, judge


def environment_lines(environment: Environment) -> list[str]:
    lines = [
        f"{environment.started_at}  {environment.command}",
        f"{environment.cores} cores of {environment.machine}, {environment.memory_gib:.0f} GiB, "
        f"Linux {environment.kernel}, Python {environment.python}, "
        f"load {environment.load_average:.2f} at the start",
        f"files on {environment.root_file_system} ({environment.root})",
    ]
    lines += [f"{name}: {version}" for name, version in environment.versions.items()]
    lines += [f"{name}: skipped, {why}" for name, why in environment.skipped.items()]
    if environment.load_average > 0.5:
        lines.append("this machine was busy: figures are lower and wider than they should be")
    return lines


def scenario_lines(scenario: Scenario, runs: Sequence[Run]) -> list[str]:
    if not runs:
        return [f"{scenario.name}: nobody to measure, only {', '.join(scenario.speaks)} can do it"]
    rounds = len({run.round for run in runs})
    lines = [f"{scenario.name}: {scenario.title} ({_rounds(rounds)}; median, lowest to highest)"]
    for case in dict.fromkeys(run.case for run in runs):
        lines += ["", *_case_table(case, [run for run in runs if run.case == case])]
    goals = [line for goal in scenario.goals if (line := _goal_line(goal, runs))]
    return [*lines, "", *goals] if goals else lines


def comparison_lines(runs: Sequence[Run], earlier: Sequence[Run]) -> list[str]:
    """What moved beyond the spread of both; silence about the rest."""
    lines = []
    cases = dict.fromkeys((run.scenario, run.case, run.contender) for run in runs)
    for scenario, case, contender in cases:
        now = _figures(runs, scenario, case, contender)
        before = _figures(earlier, scenario, case, contender)
        for name in now.keys() & before.keys():
            new, old = now[name], before[name]
            if old.median and not (new.low <= old.high and old.low <= new.high):
                change = 100 * (new.median / old.median - 1)
                better = (change > 0) == FIGURES[name].more_is_better
                label = f"{scenario}, {case}, {contender}, {FIGURES[name].label}"
                values = f"{number(name, old.median)} to {number(name, new.median)}"
                verdict = "better" if better else "worse"
                lines.append(f"{verdict}: {label}: {values} ({change:+.0f} %)")
    return sorted(lines) or ["nothing moved beyond the spread"]


def _figures(runs: Sequence[Run], scenario: str, case: str, contender: str) -> dict[str, Summary]:
    return figures_of([run for run in runs if run.scenario == scenario], case, contender)


def _case_table(case: str, runs: Sequence[Run]) -> list[str]:
    names = [name for name in FIGURES if any(name in run.figures for run in runs)]
    rows = [[case, *(FIGURES[name].label for name in names)]]
    for contender in dict.fromkeys(run.contender for run in in_order(runs)):
        figures = figures_of(runs, case, contender)
        rows.append([contender, *(cell(name, figures.get(name)) for name in names)])
    return align(rows)


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Ours first, then the others as they came."""
    return sorted(runs, key=lambda run: run.contender != OURS)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "   ".join(cells).rstrip())
    return lines


def cell(name: str, summary: Summary | None) -> str:
    if summary is None:
        return "-"
    if summary.rounds == 1:
        return number(name, summary.median)
    spread = f"{number(name, summary.low)} to {number(name, summary.high)}"
    return f"{number(name, summary.median)} ({spread})"


def _goal_line(goal: Goal, runs: Sequence[Run]) -> str | None:
    found = judge(runs, goal)
    if found is None:
        return None
    unit = FIGURES[goal.figure]
    what = f"{unit.label} of {OURS}" + (f" / {goal.against}" if goal.against else "")
    spread = f" ({found.low:.2f} to {found.high:.2f})" if found.rounds > 1 else ""
    verdict = ""
    if goal.at_least is not None or goal.at_most is not None:
        verdict = "met" if goal.is_met(found.median) else "MISSED"
        verdict = f"; goal {goal.words}: {verdict}"
    return f"  {goal.case}: {what} = {found.median:.2f}{spread}{verdict}"


def number(name: str, value: float) -> str:
    return f"{value:,.{FIGURES[name].digits}f}"


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"
