"""`python -m bench.tables FILE…`: what `--json` kept, as the tables of `bench/README.md`.

`--into` puts them between the two marks of a document: a table that nobody typed cannot disagree
with its run. Each scenario has a section, which says of which command and commit it is. What these
runs did not measure stays as an earlier run left it there; of several files the later has its say.
Beside the document the records themselves are kept, a file for each scenario in ``measured``, and
the picture of all of them is drawn, which needs matplotlib.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from bench.__main__ import scenarios
from bench.harness import Scenario
from bench.records import (
    FIGURES,
    OURS,
    Environment,
    Goal,
    Run,
    figures_of,
    judge,
    read_lines,
    write_lines,
)
from bench.report import cell, in_order, number

START, END = "<!-- measured: python -m bench.tables -->", "<!-- end of measured -->"
PICTURE = "![every ratio to a peer](side-by-side.svg)"

Kept: TypeAlias = Sequence[tuple[Environment | None, Sequence[Run]]]
"""Records of several runs, each with what it says of where it was made; the later has its say."""

_SECTION = re.compile(r"^### `(\w+)`:.*?(?=^### |\Z)", re.MULTILINE | re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("file", nargs="+", type=Path, help="records that `--json` wrote")
    parser.add_argument("--into", type=Path, metavar="FILE", help="a document with the two marks")
    options = parser.parse_args(arguments)
    kept = [read_lines(path) for path in options.file]
    if options.into is None:
        print("\n".join(sections(kept).values()))
    else:
        publish(options.into, kept)
    return 0


def publish(document: Path, kept: Kept) -> None:
    """Keep the records beside the document, and make its tables and its picture of all there are.

    Raises ValueError for a document without marks, and for records that do not say where they were
    made; ModuleNotFoundError without matplotlib.
    """
    from bench.plots import draw_side_by_side, ratios

    directory = document.parent / "measured"
    directory.mkdir(exist_ok=True)
    for name, (environment, runs) in newest(kept).items():
        if environment is None:
            raise ValueError(f"nothing says where {name} was measured")
        write_lines(directory / f"{name}.jsonl", environment, runs)
    files = [directory / f"{name}.jsonl" for name in scenarios()]
    told = [read_lines(file) for file in files if file.exists()]
    document.write_text(replaced(document.read_text(), sections(told)))
    every = [run for _, runs in told for run in runs]
    draw_side_by_side(document.parent, ratios(every, list(scenarios().values())))


def replaced(document: str, found: Mapping[str, str]) -> str:
    """The document with these sections between its marks; raises ValueError where there are none.

    Sections of other scenarios stay; those of none that there is now go.
    """
    before, start, rest = document.partition(START)
    between, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"no {START} … {END} in the document")
    known = {match[1]: match[0] for match in _SECTION.finditer(between)} | dict(found)
    text = "\n".join(known[name].rstrip("\n") + "\n" for name in scenarios() if name in known)
    return f"{before}{START}\n\n{PICTURE}\n\n{text}\n{END}{after}"


def newest(kept: Kept) -> dict[str, tuple[Environment | None, list[Run]]]:
    """What was measured last of each scenario, by its name."""
    found = {}
    for name in scenarios():
        for environment, runs in kept:
            if own := [run for run in runs if run.scenario == name]:
                found[name] = (environment, own)
    return found


def sections(kept: Kept) -> dict[str, str]:
    """A section for each scenario that was measured, by its name."""
    return {
        name: "\n".join(_section(scenarios()[name], environment, runs))
        for name, (environment, runs) in newest(kept).items()
    }


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
        taking_part = {run.contender for run in runs}
        versions = [
            f"{name} {version}"
            for name, version in environment.versions.items()
            if name in taking_part and name != OURS
        ]
        if versions:
            yield f"Beside it: {', '.join(versions)}."
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
    goals = [line for goal in scenario.goals if (line := _goal(goal, runs))]
    if goals:
        yield from (
            _row("Ratio or bound", "Median (lowest to highest)", "Goal"),
            _row(*["---"] * 3),
        )
        yield from (*goals, "")


def _goal(goal: Goal, runs: Sequence[Run]) -> str | None:
    found = judge(runs, goal)
    if found is None:
        return None
    what = f"{goal.case}: {FIGURES[goal.figure].label}"
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
