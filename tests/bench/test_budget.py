"""What a request costs in counts stays within what was recorded, and the comparison can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.budget import Budget, Costs, is_comparable, recorded, risen, versions

ROOT = Path(__file__).parents[2]
COSTS = Costs(statements=3, commits=1, hops=1, turns=5, calls=400)


def test_no_path_costs_more_than_was_recorded() -> None:
    """In a process of its own: other tests leave threads, caches and profilers behind."""
    if not is_comparable(recorded()):
        print("calls are not judged: the versions differ from the recorded ones")

    done = subprocess.run(
        [sys.executable, "-m", "bench.budget"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "most", "too_much"),
    [
        ("statements", 3.05, 4),
        ("commits", 1.05, 2),
        ("hops", 1.05, 2),
        ("turns", 6.1, 7),
        ("calls", 411, 413),
    ],
)
def test_a_cost_may_rise_by_its_tolerance_and_no_more(
    name: str, most: float, too_much: float
) -> None:
    budget = Budget(versions(), {"GET": COSTS})

    assert risen(budget, {"GET": msgspec.structs.replace(COSTS, **{name: most})}) == []
    assert risen(budget, {"GET": msgspec.structs.replace(COSTS, **{name: too_much})}) == [
        f"GET: {too_much:g} {name} instead of {getattr(COSTS, name):g}"
    ]


def test_calls_under_other_versions_are_not_judged() -> None:
    budget = Budget({**versions(), "aiohttp": "0.1"}, {"GET": COSTS})
    more = msgspec.structs.replace(COSTS, calls=800, hops=2)

    assert risen(budget, {"GET": more}) == ["GET: 2 hops instead of 1"]


def test_a_path_is_recorded_and_measured_or_named() -> None:
    budget = Budget(versions(), {"GET": COSTS})

    assert risen(budget, {"PUT": COSTS}) == [
        "GET: recorded and not measured",
        "PUT: not recorded",
    ]
