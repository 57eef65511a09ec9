"""Every scenario runs for one tiny round, and what it runs with does as it says.

Speed is not asserted here: a busy machine must not fail a test. What could rot is: imports, the
dialects of the peers, names of cases in goals, figures that no table knows.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import clients, peers, report
from bench.__main__ import main, obtain, present, scenarios
from bench.clients import CannotRun
from bench.data import MIB, Data
from bench.harness import Bench, Measured, Scenario, Settings, run_scenario, scratch
from bench.metadata import DIALECTS, POINTS
from bench.processes import (
    AHEAD,
    Server,
    ServerFailed,
    cpu_seconds,
    free_port,
    peak_bytes,
    sessions_ahead,
)
from bench.records import FIGURES, OURS, judge, read_lines
from bench.touched import touched
from tests.support.servers import make_like_new, start_digestry

COMPLETE = os.environ.get("DIGESTRY_TESTS_COMPLETE") == "1"
WITH_MLFLOW = os.environ.get("DIGESTRY_TESTS_MLFLOW") == "1"
"""Its environment is 850 MB, and starting it takes ten processor seconds."""

ALONE = ("fairness", "mixed", "parallel")
"""Ask peers nothing that the others do not."""

QUICK_PEERS = tuple(name for name in peers.PEERS if name != "mlflow")


class Named(msgspec.Struct, frozen=True):
    name: str


def skip_by_name(why: str) -> None:
    if COMPLETE:
        pytest.fail(f"{why}, and every program is expected here")
    pytest.skip(why)


def tiny(root: Path) -> Settings:
    return Settings(
        root=root,
        disk=root,
        size_bytes=4 * MIB,
        rounds=1,
        rate_seconds=0.25,
        settle_seconds=0.05,
        parallel=2,
        connections=(16,),
        models=110,
        versions=1_003,
        pair_seconds=0.05,
    )


_start = peers.Digestry.start


def start_like_new(contender: peers.Digestry, directory: Path, settle_seconds: float) -> Server:
    """Start on a directory like new: making one costs as much as all that a tiny round asks."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "data").exists():
        make_like_new(directory / "data")
    return _start(contender, directory, settle_seconds)


class Forking:
    """`subprocess` for those who start servers: ours is forked, which spares half of a tiny round.

    Only where nobody measures the start itself.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        if list(command[1:4]) != ["-m", "registry", "serve"]:
            return subprocess.Popen(command, **options)
        given: dict[str, str] = options.pop("env")
        ours = {name: value for name, value in given.items() if name.startswith("DIGESTRY_")}
        return start_digestry(*command[3:], env=ours, **options)


@pytest.mark.parametrize("name", sorted(scenarios()))
def test_a_scenario_runs_one_round_with_whoever_is_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "startup":
        monkeypatch.setattr(peers.Digestry, "start", start_like_new)
        monkeypatch.setattr("bench.processes.subprocess", Forking())
    run_tiny(scenarios()[name], tmp_path, () if name in ALONE else QUICK_PEERS)


@pytest.mark.parametrize("name", ["artifacts", "metadata"])
def test_mlflow_stands_beside_digestry(name: str, tmp_path: Path) -> None:
    if not WITH_MLFLOW:
        pytest.skip("DIGESTRY_TESTS_MLFLOW=1 has `mlflow server` take part")
    assert obtain(["mlflow"]) == {}

    run_tiny(scenarios()[name], tmp_path, ("mlflow",))


def run_tiny(scenario: Scenario, tmp_path: Path, theirs: Sequence[str]) -> None:
    """One round with whoever is here; what it finds can be told and judged."""
    contenders, absent = present((OURS,), theirs)
    taking_part = {each.name for each in contenders} & set(scenario.speaks)
    if COMPLETE:
        assert absent == {}
    if not scenario.own and not taking_part:
        skip_by_name("; ".join(absent.values()))
    bodies, files = tmp_path / "bodies", tmp_path / "files"
    bodies.mkdir()
    files.mkdir()
    bench = Bench(tiny(tmp_path), Data(bodies), files)

    try:
        runs = run_scenario(scenario, bench, contenders, progress=lambda text: None)
    except CannotRun as error:
        skip_by_name(str(error))

    expected = {each.name for each in scenario.own} or taking_part
    assert {run.contender for run in runs} == expected
    for run in runs:
        assert run.figures.keys() <= FIGURES.keys()
        assert all(math.isfinite(value) for value in run.figures.values())
    measured = {run.case for run in runs}
    for goal in scenario.goals:
        assert counted_away(goal.case) in map(counted_away, measured)
        if goal.case in measured and {OURS, goal.against or OURS} <= expected:
            assert judge(runs, goal) is not None
    assert report.scenario_lines(scenario, runs)[0].startswith(f"{scenario.name}: ")


def counted_away(case: str) -> str:
    """What a case is called whatever the settings: how many connections is one of them."""
    return re.sub(r"\d+", "#", case)


def test_every_scenario_file_asks_a_question_and_names_a_decision() -> None:
    for scenario in scenarios().values():
        text = sys.modules[scenario.measure.__module__].__doc__ or ""

        assert "?\n" in text.splitlines(keepends=True)[0]
        assert "ecides" in text


def test_fresh_bodies_share_a_file_and_differ_in_their_digest(tmp_path: Path) -> None:
    data = Data(tmp_path)
    bodies = [data.file(MIB), data.fresh(MIB), data.fresh(MIB)]

    for body in bodies:
        assert body.size_bytes == MIB
        assert body.sha256 == hashlib.sha256(bytes(body.shared) + body.tail).hexdigest()
    assert len({body.sha256 for body in bodies}) == 3
    assert len({body.path for body in bodies}) == 1
    assert hashlib.sha256(bodies[0].path.read_bytes()).hexdigest() == bodies[0].sha256


def test_small_bodies_have_the_digests_that_are_prepared_for_them(tmp_path: Path) -> None:
    data = Data(tmp_path)
    template = data.small_template(4096)

    digests = data.small_digests(4096, 3)

    expected = [hashlib.sha256(f"{template}{n:016d}".encode()).hexdigest() for n in range(3)]
    assert digests == expected
    assert len(template) + 16 == 4096


def test_the_cost_of_a_child_that_ended_is_its_parents() -> None:
    spin = "import time\nwhile time.process_time() < 0.4: pass"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {spin!r}])"
    command = [sys.executable, "-c", code + "\nsys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while cpu_seconds(process.pid) < 0.3:  # the child alone, each of four sums cut to a tick
            assert process.poll() is None

        assert peak_bytes(process.pid) > MIB


def test_a_server_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="ended with 3\nno such luck"):
        Server(
            "unlucky",
            [sys.executable, "-c", "print('no such luck', flush=True); raise SystemExit(3)"],
            port=free_port(),
            ready_path="/",
            log=tmp_path / "log",
            working_directory=tmp_path,
            environment=os.environ,
            settle_seconds=0.05,
        )


def test_ahead_is_the_sessions_of_this_process_and_of_its_servers_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, str]] = []

    def started() -> None:
        with pytest.raises(ServerFailed):
            Server(
                "short",
                ["true"],
                port=free_port(),
                ready_path="/",
                log=tmp_path / "log",
                working_directory=tmp_path,
                environment=os.environ,
                settle_seconds=0.05,
            )

    def prefer(pid: int | str, priority: str) -> None:
        told.append((pid == "self", priority))

    monkeypatch.setattr("bench.processes._prefer", prefer)
    monkeypatch.setattr("bench.processes.os.setsid", lambda: None)
    with sessions_ahead():
        started()
    started()

    assert told == [(True, "-19"), (False, "-19"), (True, "0")]


def test_real_time_ends_with_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr("os.sched_setscheduler", lambda pid, policy, how: told.append(policy))

    with AHEAD["real-time"]():
        assert told == [os.SCHED_RR]

    assert told == [os.SCHED_RR, os.SCHED_OTHER]


def test_nobody_goes_ahead_where_the_scheduler_knows_no_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.processes._GROUP", "no-such-file")
    monkeypatch.setattr("bench.processes.os.setsid", lambda: None)

    with pytest.raises(SystemExit):
        main(["client", "--ahead", "sessions", "--peers", "", "--root", str(tmp_path)])

    assert "--ahead needs root" in capsys.readouterr().err


def test_scratch_is_gone_even_after_a_failure(tmp_path: Path) -> None:
    def use_and_fail() -> None:
        with scratch(tmp_path) as directory:
            (directory / "file").write_bytes(b"x")
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        use_and_fail()

    assert list(tmp_path.iterdir()) == []


def test_of_touched_memory_a_page_of_each_step_stays() -> None:
    with touched(4 * MIB) as memory:
        stays = [memory[page * mmap.PAGESIZE] != 0 for page in range(len(memory) // mmap.PAGESIZE)]

    step = 256 * 1024 // mmap.PAGESIZE
    assert stays == ([True] + [False] * (step - 1)) * 16


def test_contenders_that_alternate_are_all_alive_case_by_case_and_all_end(tmp_path: Path) -> None:
    seen: list[str] = []

    def measure(_: Bench, contender: Named, __: None) -> Measured:
        try:
            for case in ("one", "two"):
                seen.append(f"{contender.name} {case}")
                yield case, {"seconds": 1.0}
        finally:
            seen.append(f"{contender.name} ends")

    apart = Scenario(name="turns", title="", measure=measure, own=(Named("a"), Named("b")))
    bench = Bench(tiny(tmp_path), Data(tmp_path), tmp_path)

    run_scenario(apart, bench, [], progress=seen.append)
    one_by_one, seen[:] = list(seen), []
    run_scenario(msgspec.structs.replace(apart, alternates=True), bench, [], progress=seen.append)

    of_one = ["turns round 1: {0}", "{0} one", "{0} two", "{0} ends"]
    assert one_by_one == [line.format(name) for name in "ab" for line in of_one]
    assert seen[1:5] == ["a one", "b one", "a two", "b two"]
    assert sorted(seen[5:]) == ["a ends", "b ends"]


def test_the_command_prints_a_table_and_writes_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, root = tmp_path / "records.jsonl", tmp_path / "root"
    small = ["client", "--rounds", "1", "--size", "2M", "--root", str(root), "--peers", ""]
    main([*small, "--json", str(records)])
    main([*small, "--against", str(records)])

    printed = capsys.readouterr().out
    assert "client: the load generators" in printed
    assert f"against {records}" in printed
    assert {run.scenario for run in read_lines(records)[1]} == {"client"}
    assert list(root.iterdir()) == []


def test_who_answers_nothing_in_time_is_asked_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def command(port: int, script: str, *_: str, connections: int, seconds: float) -> list[str]:
        tried.append(seconds)
        told = {"requests": int(seconds > 30), "seconds": seconds, "failures": 0}
        return ["echo", json.dumps(told | {"p50_us": 1, "p99_us": 1})]

    monkeypatch.setattr(clients, "wrk_command", command)

    assert clients.wrk(1, "get.lua", connections=1, seconds=0.25).requests == 1
    assert tried == [0.25, 1, 8, 64]
    with pytest.raises(clients.NoAnswer):
        clients.wrk(1, "get.lua", connections=1, seconds=10)


def test_a_peer_that_cannot_be_installed_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(peers.Mlflow, "requirement", str(tmp_path / "there-is-no-such-package"))

    refused = obtain(["mlflow"])

    assert "pip cannot install" in refused["mlflow"]
    assert present((), ["mlflow"]) == ([], {"mlflow": "mlflow is not installed"})
    assert list((tmp_path / "digestry-bench").iterdir()) == []


def test_the_command_never_installs_what_no_chosen_scenario_speaks_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    main(["client", "--rounds", "1", "--size", "1M", "--root", str(tmp_path / "root")])

    assert "mlflow" not in capsys.readouterr().out
    assert not (tmp_path / "digestry-bench").exists()


def test_both_dialects_put_the_same_points_once_each() -> None:
    [ours, theirs] = [
        json.loads(each.log("run").replace("@", "7").split("\t")[2])
        for each in (DIALECTS["digestry"], DIALECTS["mlflow"])
    ]
    wanted = [(point["key"], point["value"], point["step"]) for point in ours["points"]]

    assert wanted == [(each["key"], each["value"], each["step"]) for each in theirs["metrics"]]
    assert len(set(wanted)) == POINTS
    assert {step for _, _, step in wanted} == {7}


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["client", "--peers", "nginxx"])

    assert "unknown: nginxx" in capsys.readouterr().err
