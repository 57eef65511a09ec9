"""What a run leaves behind: one record per contender, case and round, and how records are judged.

Every figure carries its unit in its name. Ratios are formed within a round, between contenders
that ran one after the other on the same bytes, and only then reduced to a median.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

OURS = "digestry"


class Unit(msgspec.Struct, frozen=True):
    label: str
    digits: int
    more_is_better: bool = False


FIGURES: dict[str, Unit] = {
    "mib_per_s": Unit("MiB/s", 0, more_is_better=True),
    "requests_per_s": Unit("requests/s", 0, more_is_better=True),
    "blobs_per_s": Unit("blobs/s", 0, more_is_better=True),
    "files_per_s": Unit("files/s", 0, more_is_better=True),
    "points_per_s": Unit("points/s", 0, more_is_better=True),
    "seconds": Unit("s", 3),
    "ms": Unit("ms", 2),
    "first_ms": Unit("first ms", 2),
    "ready_ms": Unit("ready ms", 0),
    "p50_ms": Unit("p50 ms", 2),
    "p99_ms": Unit("p99 ms", 2),
    "p999_ms": Unit("p99.9 ms", 2),
    "p999_growth_ms": Unit("p99.9 growth ms", 2),
    "idle_p50_ms": Unit("idle p50 ms", 2),
    "idle_p99_ms": Unit("idle p99 ms", 2),
    "alone_p50_ms": Unit("alone p50 ms", 2),
    "alone_p99_ms": Unit("alone p99 ms", 2),
    "connections": Unit("connections", 0),
    "kib_per_connection": Unit("KiB/connection", 1),
    "p99_of_limit": Unit("p99/limit", 2),
    "small_p50_ms": Unit("small p50 ms", 2),
    "small_p99_ms": Unit("small p99 ms", 2),
    "p50_of_small": Unit("p50/small", 2),
    "p99_of_small": Unit("p99/small", 2),
    "of_empty": Unit("of empty", 2),
    "of_dd": Unit("of dd", 2, more_is_better=True),
    "max_ms": Unit("max ms", 1),
    "resent_mib": Unit("re-sent MiB", 2),
    "cpu_s_per_gib": Unit("CPU s/GiB", 2),
    "cpu_hashed_s_per_gib": Unit("with hash CPU s/GiB", 2),
    "cpu_us_per_request": Unit("CPU us/request", 0),
    "cpu_s": Unit("CPU s", 2),
    "peak_mib": Unit("peak MiB", 0),
    "blobs": Unit("blobs", 0),
}


class Environment(msgspec.Struct, frozen=True, tag="environment"):
    """Where and when the records that follow were made."""

    command: str
    started_at: str
    commit: str
    machine: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    root: str
    root_file_system: str
    load_average: float
    versions: dict[str, str]
    skipped: dict[str, str]


class Run(msgspec.Struct, frozen=True, tag="run"):
    """The figures of one contender in one case of one round."""

    scenario: str
    case: str
    contender: str
    round: int
    figures: dict[str, float]


class Summary(msgspec.Struct, frozen=True):
    """Median and spread over rounds; never the best round alone."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        return cls(statistics.median(values), min(values), max(values), len(values))


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A promise to hold a figure to: ours alone, or as a ratio to another contender."""

    case: str
    figure: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    @property
    def words(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "reported"


def figures_of(runs: Iterable[Run], case: str, contender: str) -> dict[str, Summary]:
    values: dict[str, list[float]] = {}
    for run in runs:
        if (run.case, run.contender) == (case, contender):
            for name, value in run.figures.items():
                values.setdefault(name, []).append(value)
    return {name: Summary.of(each) for name, each in values.items()}


def judge(runs: Sequence[Run], goal: Goal) -> Summary | None:
    """The figure or ratio that the goal speaks of; None when a side of it did not run."""
    ours = _by_round(runs, goal, OURS)
    if goal.against is None:
        return Summary.of(list(ours.values())) if ours else None
    theirs = _by_round(runs, goal, goal.against)
    ratios = [ours[each] / theirs[each] for each in ours if theirs.get(each)]
    return Summary.of(ratios) if ratios else None


def _by_round(runs: Sequence[Run], goal: Goal, contender: str) -> dict[int, float]:
    return {
        run.round: run.figures[goal.figure]
        for run in runs
        if (run.case, run.contender) == (goal.case, contender) and goal.figure in run.figures
    }


def write_lines(path: Path, environment: Environment, runs: Sequence[Run]) -> None:
    encoder = msgspec.json.Encoder()
    path.write_bytes(encoder.encode_lines([environment, *runs]))


def read_lines(path: Path) -> tuple[Environment | None, list[Run]]:
    records = msgspec.json.Decoder(Environment | Run).decode_lines(path.read_bytes())
    environments = [each for each in records if isinstance(each, Environment)]
    runs = [each for each in records if isinstance(each, Run)]
    return (environments[0] if environments else None), runs
