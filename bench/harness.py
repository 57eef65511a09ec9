"""Runs scenarios: fresh server processes for every measurement, contenders taking turns.

In each round the contenders run one after the other and the order moves on by one, so that a
machine that drifts wrongs nobody in particular. Files of a measurement are gone before the next.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.clients import CannotRun
from bench.data import GIB, MIB, Data
from bench.peers import Contender
from bench.processes import Server, Usage
from bench.records import Goal, Run
from bench.touched import touched

Figures = dict[str, float]
Measured = Generator[tuple[str, Figures]]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    root: Path
    disk: Path
    """Where a scenario goes whose files the root has no room for."""
    size_bytes: int = GIB
    rounds: int | None = None
    rate_seconds: float = 4.0
    """How long a case that counts requests runs."""
    settle_seconds: float = 0.3
    connections: tuple[int, ...] = (1, 16, 256)
    """At how many connections `small` is measured."""
    parallel: int = 32
    pair_seconds: float | None = None
    """How long a case of `catalog` runs, of which there are many; None: half of `rate_seconds`."""
    models: int = 100_000
    versions: int = 1_000_000
    """How large the large index of `catalog` is."""
    keep: Path | None = None
    """Where the filled indexes of `catalog` stay for the next run."""
    case: str = ""
    """Ask only the questions of `catalog` whose name has this."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `measure` yields (case, figures) for one contender in one round."""

    name: str
    title: str
    measure: Callable[[Bench, Any, Any], Measured]
    prepare: Callable[[Bench, Sequence[Contender]], Any] = lambda bench, contenders: None
    """Makes, once, what all rounds share; its result is handed to every `measure`."""
    goals: tuple[Goal, ...] = ()
    speaks: tuple[str, ...] = ("digestry", "nginx", "docker-registry")
    """Contenders whose protocol can do this at all."""
    own: tuple[Any, ...] = ()
    """What is compared instead of servers: anything with a `name`."""
    rounds: int = 5
    alternates: bool = False
    """Inside a round the contenders are all alive and take turns case by case, so that seconds and
    not minutes lie between what is compared."""
    is_slow: bool = False
    """Takes minutes: runs only when named, or by the name `all`."""


class Bench:
    """What a scenario needs from a run: settings, bodies, directories that vanish."""

    def __init__(self, settings: Settings, data: Data, directory: Path) -> None:
        self.settings = settings
        self.data = data
        self._directory = directory
        self._serial = 0

    def new_directory(self) -> Path:
        """A directory that lives until the scenario ends."""
        self._serial += 1
        made = self._directory / f"kept-{self._serial}"
        made.mkdir()
        return made

    def passing_directory(self) -> contextlib.AbstractContextManager[Path]:
        return scratch(self._directory)

    @contextlib.contextmanager
    def fresh(self, contender: Contender, root: Path | None = None) -> Iterator[Server]:
        """A new server on a new directory; both are gone afterwards."""
        with (
            scratch(root or self._directory) as directory,
            contender.start(directory, self.settings.settle_seconds) as server,
        ):
            yield server

    def again(self, contender: Contender, directory: Path) -> Server:
        """A new server on a directory that keeps what it has."""
        return contender.start(directory, self.settings.settle_seconds)


def costs(usage: Usage, *, moved_bytes: int = 0, requests: int = 0) -> Figures:
    figures = {"peak_mib": usage.peak_bytes / MIB}
    if moved_bytes:
        figures["cpu_s_per_gib"] = usage.cpu_seconds * GIB / moved_bytes
    if requests:
        figures["cpu_us_per_request"] = usage.cpu_seconds * 1e6 / requests
    return figures


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="digestry-bench-", dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def run_scenario(
    scenario: Scenario,
    bench: Bench,
    contenders: Sequence[Contender],
    progress: Callable[[str], None],
) -> list[Run]:
    """All rounds of one scenario; raises CannotRun when the machine lacks something."""
    taking_part = scenario.own or [each for each in contenders if each.name in scenario.speaks]
    prepared = scenario.prepare(bench, taking_part)
    runs: list[Run] = []
    for number in range(bench.settings.rounds or scenario.rounds):
        turn = number % len(taking_part) if taking_part else 0
        in_order = [*taking_part[turn:], *taking_part[:turn]]
        for together in [in_order] if scenario.alternates else [[one] for one in in_order]:
            names = [contender.name for contender in together]
            progress(f"{scenario.name} round {number + 1}: {', '.join(names)}")
            turns = [scenario.measure(bench, contender, prepared) for contender in together]
            for name, case, figures in _in_turn(names, turns):
                runs.append(Run(scenario.name, case, name, number, figures))
    return runs


def _in_turn(names: Sequence[str], turns: Sequence[Measured]) -> Iterator[tuple[str, str, Figures]]:
    """One case of each in turn, until each has had all; whatever happens, all of them end."""
    with contextlib.ExitStack() as ending:
        for measured in turns:
            ending.push(contextlib.closing(measured))
        for cases in zip(*turns, strict=True):
            for name, (case, figures) in zip(names, cases, strict=True):
                yield name, case, figures


def run_all(
    scenarios: Sequence[Scenario],
    settings: Settings,
    contenders: Sequence[Contender],
    *,
    progress: Callable[[str], None],
    finished: Callable[[Scenario, list[Run]], None],
    skipped: Callable[[Scenario, str], None],
) -> list[Run]:
    runs: list[Run] = []
    progress("touching memory")
    with (
        touched(4 * settings.size_bytes),
        scratch(settings.root) as bodies,
    ):
        data = Data(bodies)
        for scenario in scenarios:
            with scratch(settings.root) as directory:
                bench = Bench(settings, data, directory)
                try:
                    found = run_scenario(scenario, bench, contenders, progress)
                except CannotRun as error:
                    skipped(scenario, str(error))
                    continue
            runs += found
            finished(scenario, found)
    return runs
