"""What becomes of the records of a run: ratios, goals, comparisons, tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.__main__ import asked, scenarios
from bench.records import OURS, Environment, Goal, Run, judge, read_lines, write_lines
from bench.tables import END, START, publish, replaced, sections


def run_of(contender: str, number: int, value: float, case: str = "GET") -> Run:
    return Run("small", case, contender, number, {"requests_per_s": value})


def example_environment(**changed: Any) -> Environment:
    same: dict[str, Any] = {
        "command": "python -m bench",
        "started_at": "2026-11-21T00:00:00Z",
        "commit": "abc",
        "machine": "a machine",
        "cores": 2,
        "memory_gib": 4,
        "kernel": "6",
        "python": "3.11",
        "root": "/somewhere",
        "root_file_system": "tmpfs",
        "load_average": 0.1,
        "versions": {"nginx": "1"},
        "skipped": {"docker-registry": "docker-registry is not installed"},
    }
    return Environment(**same | changed)


def test_a_ratio_is_formed_within_each_round_before_the_median() -> None:
    ours = [run_of(OURS, number, value) for number, value in enumerate((10, 100, 30))]
    theirs = [run_of("nginx", number, value) for number, value in enumerate((10, 50, 10))]

    found = judge([*ours, *theirs], Goal(case="GET", figure="requests_per_s", against="nginx"))

    assert found is not None
    assert (found.median, found.low, found.high) == (2, 1, 3)


def test_a_goal_against_an_absent_peer_is_not_judged() -> None:
    goal = Goal(case="GET", figure="requests_per_s", against="nginx", at_least=1)

    assert judge([run_of(OURS, 0, 1)], goal) is None


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(case="x", figure="ms", at_most=5), 5.0, True),
        (Goal(case="x", figure="ms", at_most=5), 5.1, False),
        (Goal(case="x", figure="ms", at_least=0.8), 0.79, False),
        (Goal(case="x", figure="ms"), 1e9, True),
    ],
)
def test_a_goal_is_met_at_its_bound_and_missed_beyond(goal: Goal, value: float, met: bool) -> None:
    assert goal.is_met(value) is met


def test_a_comparison_is_silent_within_the_spread_and_names_what_left_it() -> None:
    before = [run_of(OURS, number, value) for number, value in enumerate((90, 100, 110))]
    near = [run_of(OURS, number, value) for number, value in enumerate((80, 95, 105))]
    far = [run_of(OURS, number, value) for number, value in enumerate((40, 50, 60))]

    assert report.comparison_lines(near, before) == ["nothing moved beyond the spread"]
    assert report.comparison_lines(far, before) == [
        "worse: small, GET, digestry, requests/s: 100 to 50 (-50 %)"
    ]


def test_records_survive_the_way_to_a_file_and_back(tmp_path: Path) -> None:
    environment = example_environment()
    runs = [run_of(OURS, 0, 1.5), run_of("nginx", 0, 2.5)]
    path = tmp_path / "records.jsonl"

    write_lines(path, environment, runs)

    assert read_lines(path) == (environment, runs)
    assert len(path.read_bytes().splitlines()) == 3


def test_the_tables_of_a_document_are_those_of_the_last_run_that_measured_them() -> None:
    case = "GET 4 KiB, 16"
    old = [run_of(OURS, 0, 1, case), run_of("nginx", 0, 1, case)]
    new = [run_of(OURS, 0, 3000, case), run_of("nginx", 0, 6000, case)]
    kept = [(example_environment(), old), (example_environment(command="again"), new)]
    here = {"idle": "### `idle`: kept\n", "small": "### `small`: old\n", "gone": "### `gone`: it\n"}
    before = f"before\n{START}\n{''.join(here.values())}{END}\nafter\n"

    found = sections(kept)
    document = replaced(before, found)

    assert found.keys() == {"small"}
    assert "`again`, 2026-11-21T00:00:00Z" in found["small"]
    assert f"| {case} | digestry | 3,000 |" in found["small"]
    ratio = f"| {case}: requests/s / nginx | 0.50 (0.50 to 0.50) | at least 0.25: met |"
    assert ratio in found["small"]
    assert document.startswith("before\n")
    assert document.endswith("\nafter\n")
    assert document.count(found["small"]) == document.count("kept") == 1
    assert "`small`: old" not in document
    assert "gone" not in document
    assert replaced(document, found) == document


def test_records_and_picture_stand_beside_their_tables(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    document = tmp_path / "README.md"
    document.write_text(f"{START}{END}")
    of_small, of_idle = [
        [Run(name, case, OURS, 0, {figure: 2.0}), Run(name, case, peer, 0, {figure: 1.0})]
        for name, case, figure, peer in (
            ("small", "GET 4 KiB, 16", "requests_per_s", "nginx"),
            ("idle", "idle connections", "p50_ms", "bare"),
        )
    ]

    publish(document, [(example_environment(), of_small)])
    publish(document, [(example_environment(command="again"), of_idle)])

    kept = {path.name: read_lines(path) for path in (tmp_path / "measured").iterdir()}
    assert kept == {
        "small.jsonl": (example_environment(), of_small),
        "idle.jsonl": (example_environment(command="again"), of_idle),
    }
    assert "### `small`" in document.read_text()
    assert "### `idle`" in document.read_text()
    picture = (tmp_path / "side-by-side.svg").read_text()
    assert "small, GET 4 KiB, 16 / nginx" in picture
    assert "idle, idle connections" in picture
    with pytest.raises(ValueError, match="where idle was measured"):
        publish(document, [(None, of_idle)])


def test_the_command_of_a_table_does_not_say_where_its_results_went() -> None:
    said = ["small", "--json", "here.jsonl", "--rounds", "2", "--plots=there", "--seconds", "2"]

    assert list(asked(said)) == ["small", "--rounds", "2", "--seconds", "2"]


def test_a_document_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="measured"):
        replaced("no marks", {})


def test_the_picture_of_all_shows_what_is_better_to_the_right() -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from bench.plots import ratios

    runs = [
        Run("idle", "idle connections", who, 0, {"p50_ms": value})
        for who, value in ((OURS, 2.0), ("bare", 1.0))
    ]

    [found] = ratios(runs, [scenarios()["idle"]])

    assert (found.peer, found.median, found.is_met) == ("bare", 0.5, True)
