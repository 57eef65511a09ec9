"""`python -m bench`: choose scenarios and contenders, print tables, keep records on request."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import os
import pkgutil
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import bench
from bench import peers, processes, report
from bench.clients import CannotRun
from bench.data import GIB
from bench.harness import Scenario, Settings, run_all
from bench.peers import Contender
from bench.records import OURS, Environment, Run, read_lines, write_lines

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def scenarios() -> dict[str, Scenario]:
    """Every `bench_*.py`, by name."""
    found = {}
    for module in pkgutil.iter_modules(bench.__path__):
        if module.name.startswith("bench_"):
            scenario = importlib.import_module(f"bench.{module.name}").SCENARIO
            found[scenario.name] = scenario
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    known = scenarios()
    parser = _parser(known)
    options = parser.parse_args(arguments)
    chosen = _chosen(known, options.scenario)
    speaking = {name for scenario in chosen for name in scenario.speaks}
    theirs = [name for name in options.peers if name in speaking]
    refused = {} if options.no_install else obtain(theirs)
    contenders, skipped = present(() if options.only_peers else (OURS,), theirs)
    skipped |= refused
    settings = Settings(
        root=options.root,
        disk=options.disk,
        size_bytes=options.size,
        rounds=options.rounds,
        rate_seconds=options.seconds,
        models=options.models,
        versions=options.versions,
        keep=options.keep,
        case=options.case,
    )
    environment = describe(settings, contenders, skipped)
    _print(report.environment_lines(environment))

    started = time.monotonic()

    def finished(scenario: Scenario, runs: list[Run]) -> None:
        nonlocal started
        took, started = time.monotonic() - started, time.monotonic()
        _print(["", *report.scenario_lines(scenario, runs), f"  {scenario.name} took {took:.0f} s"])

    def missing(scenario: Scenario, why: str) -> None:
        _print(["", f"{scenario.name}: skipped, {why}"])

    with contextlib.ExitStack() as ending:
        if options.ahead:
            try:
                ending.enter_context(processes.AHEAD[options.ahead]())
            except OSError as error:
                parser.error(f"--ahead needs root and Linux: {error}")
        runs = run_all(
            chosen,
            settings,
            contenders,
            progress=_progress,
            finished=finished,
            skipped=missing,
        )
    if options.json:
        write_lines(options.json, environment, runs)
    if options.against:
        _compare(options.against, runs)
    if options.plots:
        _plot(options.plots, runs, list(known.values()))
    return 0


def present(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[Contender], dict[str, str]]:
    """The named contenders that can run here, and why the others cannot."""
    able, skipped = [], {}
    for contender in peers.ALL:
        why = contender.absent()
        if contender.name not in {*ours, *theirs}:
            continue
        if why is None:
            able.append(contender)
        else:
            skipped[contender.name] = why
    return able, skipped


def obtain(names: Sequence[str]) -> dict[str, str]:
    """Install the named peers that can be; why the others could not."""
    refused = {}
    for contender in peers.ALL:
        if contender.name in names and contender.absent():
            _progress(f"installing {contender.name}")
            try:
                contender.obtain()
            except CannotRun as error:
                refused[contender.name] = str(error)
    return refused


def asked(arguments: Sequence[str]) -> Iterator[str]:
    """A command line without where its results go, which says nothing of them."""
    rest = iter(arguments)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name not in ("--json", "--plots"):
            yield word
        elif not equals:
            next(rest, None)


def describe(
    settings: Settings, contenders: Sequence[Contender], skipped: dict[str, str]
) -> Environment:
    now = datetime.datetime.now(datetime.UTC)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Environment(
        command=shlex.join(["python", "-m", "bench", *asked(sys.argv[1:])]),
        started_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=peers.commit(),
        machine=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=pages / GIB,
        kernel=platform.release(),
        python=platform.python_version(),
        root=str(settings.root),
        root_file_system=_file_system(settings.root),
        load_average=os.getloadavg()[0],
        versions={each.name: each.version() for each in contenders},
        skipped=skipped,
    )


def _parser(known: dict[str, Scenario]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Digestry beside other servers: same machine, same run, same bytes.",
        epilog="scenarios: " + ", ".join(_listed(each) for each in known.values()),
    )
    parser.add_argument(
        "scenario", nargs="*", choices=[*known, "all", []], help="default: all but the slow ones"
    )
    parser.add_argument("--rounds", type=int, help="rounds instead of each scenario's own number")
    parser.add_argument("--size", type=_size, default=GIB, help="of a large blob, such as 256M")
    parser.add_argument("--seconds", type=float, default=4, help="for cases that count requests")
    parser.add_argument(
        "--peers", type=_names, default=peers.PEERS, help="beside Digestry, comma-separated"
    )
    parser.add_argument(
        "--no-install", action="store_true", help="never make an environment for a peer"
    )
    parser.add_argument("--only-peers", action="store_true", help="leave Digestry out")
    parser.add_argument(
        "--ahead",
        choices=tuple(processes.AHEAD),
        help="servers and clients run before whatever else the machine does (root, Linux)",
    )
    parser.add_argument("--root", type=_directory, default=_default_root(), help="where files go")
    parser.add_argument(
        "--disk",
        type=_directory,
        default=Path(tempfile.gettempdir()),
        help="where the scenario goes that needs tens of gigabytes",
    )
    parser.add_argument("--models", type=int, default=100_000, help="in the index of `catalog`")
    parser.add_argument("--versions", type=int, default=1_000_000, help="of these models together")
    parser.add_argument(
        "--keep", type=_directory, metavar="DIR", help="keep what `catalog` filled for the next run"
    )
    parser.add_argument(
        "--case", default="", metavar="TEXT", help="only questions of `catalog` with this in them"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write records as JSON lines")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with such records")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw pictures (matplotlib)")
    return parser


def _listed(scenario: Scenario) -> str:
    return scenario.name + (" (slow)" if scenario.is_slow else "")


def _chosen(known: dict[str, Scenario], names: Sequence[str]) -> list[Scenario]:
    if "all" in names:
        return list(known.values())
    return [known[name] for name in names] or [x for x in known.values() if not x.is_slow]


def _compare(path: Path, runs: Sequence[Run]) -> None:
    environment, earlier = read_lines(path)
    when = f" of {environment.started_at}, {environment.machine}" if environment else ""
    _print(["", f"against {path}{when}:", *report.comparison_lines(runs, earlier)])


def _plot(directory: Path, runs: Sequence[Run], known: Sequence[Scenario]) -> None:
    try:
        from bench.plots import draw
    except ModuleNotFoundError as error:
        _print(["", f"plots: skipped, {error.name} is not installed"])
        return
    _print(["", *(f"drew {path}" for path in draw(directory, runs, known))])


def _default_root() -> Path:
    """Memory where there is some: comparisons are of processors, and syncing costs nobody."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else _temporary()


def _temporary() -> Path:
    return Path(tempfile.gettempdir())


def _directory(text: str) -> Path:
    path = Path(text).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    unknown = sorted(set(names) - set(peers.PEERS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError("a number of bytes, or one with K, M or G")
    return int(match[1]) * _UNITS[match[2].upper()]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    """Type of the file system that holds a path: the longest mount point above it wins."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _print(lines: Sequence[str]) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
