"""`python -m bench.tables FILE…`: what `--json` kept, as the tables of `bench/README.md`.

`--into` puts them between the two marks of a document, in place of what was there: a table that
nobody typed cannot disagree with its run. Several files are several runs; a scenario's table says
which command it is of, and one that two runs measured is of the later.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.__main__ import scenarios
from bench.harness import Scenario
from bench.records import FIGURES, Environment, Goal, Run, figures_of, judge, read_lines
from bench.report import cell, in_order, number

START, END = "<!-- measured: python -m bench.tables -->", "<!-- end of measured -->"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("file", nargs="+", type=Path, help="records that `--json` wrote")
    parser.add_argument("--into", type=Path, metavar="FILE", help="a document with the two marks")
    options = parser.parse_args(arguments)
    text = "\n".join(tables([read_lines(path) for path in options.file]))
    if options.into is None:
        print(text)
    else:
        options.into.write_text(replaced(options.into.read_text(), text))
    return 0


def replaced(document: str, text: str) -> str:
    """The document with this text between its marks; raises ValueError where there are none."""
    before, start, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"no {START} … {END} in the document")
    return f"{before}{START}\n\n{text}\n{END}{after}"


def tables(kept: Sequence[tuple[Environment | None, Sequence[Run]]]) -> Iterator[str]:
    yield "![every ratio to a peer](side-by-side.svg)"
    yield ""
    environments = [environment for environment, _ in kept if environment is not None]
    for name, version in {k: v for each in environments for k, v in each.versions.items()}.items():
        yield f"- {name}: {version}"
    yield ""
    goals: list[str] = []
    for scenario in scenarios().values():
        own = [
            (environment, [run for run in runs if run.scenario == scenario.name])
            for environment, runs in kept
        ]
        environment, runs = next((each for each in reversed(own) if each[1]), (None, []))
        if runs:
            yield from _section(scenario, environment, runs)
            goals += [line for goal in scenario.goals if (line := _goal(scenario, goal, runs))]
    if goals:
        yield from (
            "### Goals",
            "",
            "| Goal | Median (lowest to highest) | |",
            "| --- | --- | --- |",
        )
        yield from (*goals, "")


def _section(
    scenario: Scenario, environment: Environment | None, runs: Sequence[Run]
) -> Iterator[str]:
    yield f"### `{scenario.name}`: {scenario.title}"
    yield ""
    if environment is not None:
        rounds = len({run.round for run in runs})
        yield (
            f"`{environment.command}`, {environment.started_at}, commit {environment.commit}, "
            f"load {environment.load_average:.1f} at the start, rounds: {rounds}; "
            f"{environment.cores} cores of {environment.machine}, "
            f"{environment.memory_gib:.0f} GiB, Linux {environment.kernel}, "
            f"Python {environment.python}, files on {environment.root_file_system}."
        )
        yield ""
    names = [name for name in FIGURES if any(name in run.figures for run in runs)]
    yield _row("Case", "Who", *(FIGURES[name].label for name in names))
    yield _row(*["---"] * (2 + len(names)))
    for case in dict.fromkeys(run.case for run in runs):
        of_case = [run for run in runs if run.case == case]
        for contender in dict.fromkeys(run.contender for run in in_order(of_case)):
            figures = figures_of(runs, case, contender)
            yield _row(case, contender, *(cell(name, figures.get(name)) for name in names))
    yield ""


def _goal(scenario: Scenario, goal: Goal, runs: Sequence[Run]) -> str | None:
    found = judge(runs, goal)
    if found is None:
        return None
    what = f"{scenario.name}, {goal.case}: {FIGURES[goal.figure].label}"
    if goal.against is not None:
        what += f" / {goal.against}"
    told = f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"
    if goal.against is None:
        values = [number(goal.figure, each) for each in (found.median, found.low, found.high)]
        told = f"{values[0]} ({values[1]} to {values[2]})"
    if goal.at_least is None and goal.at_most is None:
        return _row(what, told, "reported")
    return _row(what, told, f"{goal.words}: {'met' if goal.is_met(found.median) else 'MISSED'}")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
