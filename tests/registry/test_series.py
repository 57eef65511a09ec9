"""What runs log: points in batches, read back to the bit, or drawn with every peak; over HTTP."""

from __future__ import annotations

import asyncio
import math
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import series as rows
from registry.domain.principals import LOCAL
from registry.errors import Conflict
from registry.services import series
from registry.services.runs import RunWish, create_run
from registry.services.series import Turnstile, log_points
from store.index.transactions import Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

RUNS = "/api/v1/runs"
TIME = "2026-11-20T12:30:00Z"
NOW = 1_800_000_000_000_000


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


@pytest.fixture
async def metrics(registry: Registry) -> str:
    """The address of the metrics of a run."""
    answer = await registry.send("POST", RUNS, json={})
    return f"{RUNS}/{answer.json['id']}/metrics"


def point(step: int, value: Any, *, key: str = "loss", time: str | None = TIME) -> dict[str, Any]:
    return {"key": key, "step": step, "value": value, **({} if time is None else {"time": time})}


async def log(registry: Registry, metrics: str, points: list[Any], **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("POST", metrics, json={"points": points}, headers=named)


async def logged(registry: Registry, metrics: str, points: list[Any]) -> dict[str, int]:
    answer = await log(registry, metrics, points)
    assert answer.status == 200, answer.body
    found: dict[str, int] = answer.json
    return found


async def everything(
    registry: Registry, metrics: str, query: str = "", limit: int = 1000
) -> list[tuple[str, int, Any]]:
    found: list[tuple[str, int, Any]] = []
    after = ""
    while True:
        answer = await registry.get(f"{metrics}/points?limit={limit}{query}{after}")
        assert answer.status == 200, answer.body
        found += [(one["key"], one["step"], one["value"]) for one in answer.json["items"]]
        if answer.json["next"] is None:
            return found
        after = f"&after={answer.json['next']}"


async def chart(registry: Registry, metrics: str, query: str) -> list[dict[str, Any]]:
    answer = await registry.get(f"{metrics}/chart?{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["series"]
    return found


# Logging


async def test_a_batch_of_thousands_is_read_back_whole(registry: Registry, metrics: str) -> None:
    points = [point(n // 4, n / 7, key=f"k{n % 4}") for n in range(10_000)]
    random.Random(1).shuffle(points)

    said = await logged(registry, metrics, points)
    found = await everything(registry, metrics)

    assert said == {"points": 10_000, "new": 10_000}
    assert found == sorted((one["key"], one["step"], one["value"]) for one in points)


async def test_every_double_comes_back_to_the_bit(registry: Registry, metrics: str) -> None:
    """Points travel to the index as JSON text."""
    chosen = random.Random(2)
    values = [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.1, 1e22, 1e23, 2**53 + 1]
    while len(values) < 5000:
        value = struct.unpack("d", chosen.randbytes(8))[0]
        if math.isfinite(value):
            values.append(value)

    await logged(registry, metrics, [point(n, value) for n, value in enumerate(values)])
    found = await everything(registry, metrics)

    assert [value for _, _, value in found] == [float(value) for value in values]


async def test_what_is_not_finite_travels_by_its_word(registry: Registry, metrics: str) -> None:
    values = [1.5, "NaN", "Infinity", "-Infinity", -0.0, 0]
    await logged(registry, metrics, [point(n, value) for n, value in enumerate(values)])

    assert [value for _, _, value in await everything(registry, metrics)] == values
    listed = (await registry.get(metrics)).json["items"]
    assert listed[0]["last"] == {"value": 0.0, "step": 5, "time": "2026-11-20T12:30:00.000000Z"}


async def test_the_same_batch_again_changes_nothing(registry: Registry, metrics: str) -> None:
    points = [point(n, n, key=f"k{n % 3}") for n in range(3500)]
    await logged(registry, metrics, points)
    again = await logged(registry, metrics, points)

    assert again == {"points": 3500, "new": 0}
    assert len(await everything(registry, metrics)) == 3500
    listed = (await registry.get(metrics)).json["items"]
    assert [one["points"] for one in listed] == [1167, 1167, 1166]


async def test_the_last_value_for_a_step_and_time_counts(registry: Registry, metrics: str) -> None:
    first = await logged(registry, metrics, [point(1, 1), point(2, 2), point(1, "NaN")])
    second = await logged(registry, metrics, [point(2, 20), point(3, 3), point(0, 0)])
    other_time = await logged(registry, metrics, [point(2, 2, time="2026-11-20T12:31:00Z")])

    assert (first["new"], second["new"], other_time["new"]) == (2, 2, 1)
    assert await everything(registry, metrics) == [
        ("loss", 0, 0),
        ("loss", 1, "NaN"),
        ("loss", 2, 20),
        ("loss", 2, 2),
        ("loss", 3, 3),
    ]
    assert (await registry.get(metrics)).json["items"][0]["points"] == 5


async def test_numbers_and_words_replace_each_other(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(1, "NaN"), point(2, 2), point(3, "Infinity")])
    await logged(registry, metrics, [point(1, 1), point(2, "-Infinity"), point(3, "NaN")])

    assert [value for _, _, value in await everything(registry, metrics)] == [1, "-Infinity", "NaN"]


async def test_points_without_a_time_were_measured_now(registry: Registry, metrics: str) -> None:
    for _ in range(2):
        await log(registry, metrics, [point(1, 1, time=None)], Idempotency_Key="k")
    await logged(registry, metrics, [point(1, 2, time=None), point(1, 3, time=None)])

    assert [value for _, _, value in await everything(registry, metrics)] == [1, 3]


async def test_a_key_of_several_transactions_is_answered_once(
    registry: Registry, metrics: str
) -> None:
    points = [point(n, n, time=None) for n in range(2500)]
    answers = [await log(registry, metrics, points, Idempotency_Key="k") for _ in range(2)]

    assert [answer.json for answer in answers] == [{"points": 2500, "new": 2500}] * 2
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert await registry.count("run_points") == 2500


async def test_a_run_that_ended_is_still_logged_to_and_a_deleted_one_is_not(
    registry: Registry, metrics: str
) -> None:
    run = metrics.removesuffix("/metrics")
    await registry.send("POST", f"{run}/finish")
    after_end = await log(registry, metrics, [point(1, 1)])
    await registry.send("DELETE", run)
    deleted = await log(registry, metrics, [point(2, 2)])
    unknown = await log(registry, f"{RUNS}/run_01kagz6y5n8s3v0c4t7x9b2d1f/metrics", [point(2, 2)])

    assert after_end.status == 200
    for answer in (deleted, unknown):
        assert (answer.status, answer.code) == (404, "run_not_found")
    assert len(await everything(registry, metrics)) == 1


async def test_logging_changes_nothing_of_the_run(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(1, 1)])

    answer = await registry.get(metrics.removesuffix("/metrics"))
    assert answer.headers["ETag"].endswith('.1"')
    assert await registry.rows("SELECT action FROM audit WHERE kind = 'run'") == [("create",)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"points": []}, "points"),
        ({"points": [point(n, 1) for n in range(10_001)]}, "points"),
        ({"points": [point(1, 1), point(1, "nan")]}, "points[1].value"),
        ({"points": [point(1, None)]}, "points[0].value"),
        ({"points": [point(1, 1, key="")]}, "points[0].key"),
        ({"points": [point(1, 1, key="x" * 251)]}, "points[0].key"),
        ({"points": [point(1, 1)] * 300 + [point(1, 1, key="a\tb")]}, "points[300].key"),
        ({"points": [point(1, 1, key=" a")]}, "points[0].key"),
        ({"points": [point(1, 1)] * 700 + [point(2**60, 1)]}, "points[700].step"),
        ({"points": [point(1, 1)] * 700 + [{"key": "a"}]}, "points[700].value"),
        ({"points": [point(1, 1, time="1969-01-01T00:00:00Z")]}, "points[0].time"),
        ({"points": [point(1, 1, time="2026-11-20")]}, "points[0].time"),
        ({"points": [{**point(1, 1), "epoch": 1}]}, "points[0].epoch"),
        ({"points": [point(1, 1)], "run": "x"}, "run"),
        ({"points": {}}, "points"),
        ({}, "points"),
    ],
)
async def test_bad_points_are_named_and_none_is_logged(
    registry: Registry, metrics: str, body: Any, field: str
) -> None:
    answer = await registry.send("POST", metrics, json=body)

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == field
    assert await registry.count("run_points") == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"points": [{"key": "a", "value": NaN}]}',
        b'{"points": [{"key": "a", "value": 1e999}]}',
        b'{"points": [{"key": "a", "value": 1}]',
        b'{"points": [{"key": "\xff", "value": 1}]}',
        b'{"points": [{"key": "a", "value": 1, "x": ' + b"[" * 3000 + b"]" * 3000 + b"}]}",
        b'{"points": [{"key": "a", "value": ' + b"9" * 400 + b"}]}",
    ],
)
async def test_what_is_no_json_is_refused(registry: Registry, metrics: str, body: bytes) -> None:
    answer = await registry.send(
        "POST", metrics, data=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status == 400, answer.body
    assert await registry.count("run_points") == 0


async def test_a_run_has_so_many_series_and_no_more(
    registry: Registry, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "MOST_SERIES", 5)
    await logged(registry, metrics, [point(1, 1, key=str(n)) for n in range(4)])

    refused = await log(registry, metrics, [point(1, 1, key=str(n)) for n in range(3, 6)])
    known = await log(registry, metrics, [point(2, 1, key=str(n)) for n in range(5)])

    assert (refused.status, refused.code) == (409, "too_many_series")
    assert (refused.json["series"], refused.json["allowed"]) == (4, 5)
    assert known.status == 200


# One transaction after the other


async def test_a_batch_is_cut_into_bounded_transactions(
    registry: Registry, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    put = rows.put_points

    async def watched(tx: Tx, points: Any) -> int:
        sizes.append(sum(len(members) for _, members in points))
        return await put(tx, points)

    monkeypatch.setattr(series, "put_points", watched)
    await logged(registry, metrics, [point(n, n, key=f"k{n % 7}") for n in range(4321)])

    assert sizes == [500] * 8 + [321]


async def test_batches_of_many_take_turns_at_the_writer(registry: Registry) -> None:
    """However many log at once, a transaction holds the points of one of them."""
    store, turnstile = registry.store, Turnstile()
    runs = [(await create_run(store, LOCAL, RunWish())).run.id for _ in range(6)]
    points = [(n, NOW, float(n), None) for n in range(3000)]
    commits = store.index.stats.commits  # type: ignore[attr-defined]  # of the one there is

    await asyncio.gather(
        *(log_points(store, LOCAL, turnstile, run, {"loss": points}) for run in runs)
    )

    assert store.index.stats.commits - commits == 36  # type: ignore[attr-defined]  # as above
    assert await registry.count("run_points") == 18_000


async def test_whoever_gives_up_at_the_turnstile_lets_the_next_one_in() -> None:
    turnstile = Turnstile()

    async def enter() -> None:
        async with turnstile:
            pass

    first = asyncio.create_task(enter())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(enter(), 5)

    assert first.cancelled()


async def test_a_call_that_failed_half_way_is_completed_by_repeating_it(
    registry: Registry, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = rows.put_points, 0

    async def failing(tx: Tx, points: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Conflict("test", "x", "on purpose")
        return await put(tx, points)

    points = [point(n, n) for n in range(4000)]
    monkeypatch.setattr(series, "put_points", failing)
    failed = await log(registry, metrics, points, Idempotency_Key="k")
    partly = await registry.count("run_points")
    again = await log(registry, metrics, points, Idempotency_Key="k")

    assert (failed.status, partly) == (409, 2000)
    assert again.json == {"points": 4000, "new": 2000}
    assert len(await everything(registry, metrics)) == 4000


async def test_units_may_run_twice(registry: Registry) -> None:
    """As every unit: a batch that fails is replayed."""
    store = registry.store
    run = (await create_run(store, LOCAL, RunWish())).run.id
    points = {"a": [(n, NOW, float(n), None) for n in range(10)]}

    async def twice(tx: Tx) -> tuple[int, int]:
        first = await series._write(LOCAL, run, points, tx)
        return first, await series._write(LOCAL, run, points, tx)

    assert await store.index.run(twice) == (10, 0)


# Lists


async def test_series_are_listed_in_order_of_key_by_prefix_and_page(
    registry: Registry, metrics: str
) -> None:
    keys = ["eval/acc", "train/a", "train/b", "train/c", "val"]
    await logged(registry, metrics, [point(n, n, key=key) for key in keys for n in range(3)])

    first = (await registry.get(f"{metrics}?prefix=train%2F&limit=2")).json
    second = (await registry.get(f"{metrics}?prefix=train%2F&limit=2&after={first['next']}")).json
    whole = (await registry.get(metrics)).json

    assert [one["key"] for one in first["items"] + second["items"]] == keys[1:4]
    assert [one["key"] for one in whole["items"]] == keys
    assert (second["next"], whole["items"][0]["last"]["value"]) == (None, 2)


async def test_a_cursor_of_another_run_is_refused(registry: Registry, metrics: str) -> None:
    other = (await registry.send("POST", RUNS, json={})).json["id"]
    await logged(registry, metrics, [point(n, n, key=str(n)) for n in range(3)])
    for path in ("", "/points"):
        next = (await registry.get(f"{metrics}{path}?limit=1")).json["next"]
        answer = await registry.get(f"{RUNS}/{other}/metrics{path}?limit=1&after={next}")
        assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_points_hold_each_once(registry: Registry, metrics: str, limit: int) -> None:
    points = [point(n, n, key=key) for key in "abcd" for n in range(5)]
    points.append(point(4, 44, key="b", time="2026-11-20T12:40:00Z"))
    await logged(registry, metrics, points)

    found = await everything(registry, metrics, limit=limit)

    assert found == sorted((one["key"], one["step"], one["value"]) for one in points)


async def test_points_are_read_by_key_and_span(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(n, n, key=key) for key in "abcd" for n in range(9)])

    found = await everything(registry, metrics, "&key=c&key=a&key=zz&from_step=2&to_step=4", 2)
    spanned = await everything(registry, metrics, "&from_step=8", 3)

    assert [(key, step) for key, step, _ in found] == [(k, n) for k in "ac" for n in (2, 3, 4)]
    assert [(key, step) for key, step, _ in spanned] == [(k, 8) for k in "abcd"]


# Charts


async def test_a_short_series_is_drawn_whole(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(n, n * 2) for n in range(50)])
    [drawn, unknown] = await chart(registry, metrics, "key=loss&key=none&points=50")

    assert (drawn["sampled"], drawn["total"]) == (False, 50)
    assert drawn["steps"] == list(range(50))
    assert drawn["values"] == [n * 2 for n in range(50)]
    assert set(drawn["times"]) == {"2026-11-20T12:30:00.000000Z"}
    assert (unknown["key"], unknown["total"], unknown["steps"]) == ("none", 0, [])


async def test_peaks_ends_and_divergence_stay_in_a_chart(registry: Registry, metrics: str) -> None:
    values: list[Any] = [math.sin(n / 300) for n in range(9000)]
    values[4321], values[77], values[5555], values[5556] = 1000, -1000, "NaN", "Infinity"
    await logged(registry, metrics, [point(n, value) for n, value in enumerate(values)])

    [drawn] = await chart(registry, metrics, "key=loss&points=100")

    assert (drawn["sampled"], drawn["total"]) == (True, 9000)
    assert len(drawn["steps"]) <= 100
    assert drawn["steps"] == sorted(set(drawn["steps"]))
    assert drawn["values"] == [values[step] for step in drawn["steps"]]
    assert {0, 77, 4321, 5555, 8999} <= set(drawn["steps"])


async def test_a_chart_of_several_keys_is_in_their_order(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(n // 2, n, key="ba"[n % 2]) for n in range(4000)])
    drawn = await chart(registry, metrics, "key=b&key=a&key=b&points=20")

    assert [one["key"] for one in drawn] == ["b", "a"]
    assert all(0 < len(one["steps"]) <= 20 for one in drawn)


async def test_a_chart_of_a_span_zooms_in(registry: Registry, metrics: str) -> None:
    await logged(registry, metrics, [point(n, n) for n in range(5000)])

    [near] = await chart(registry, metrics, "key=loss&points=50&from_step=100&to_step=140")
    [wide] = await chart(registry, metrics, "key=loss&points=50&from_step=1000&to_step=1999")

    assert (near["sampled"], near["steps"]) == (False, list(range(100, 141)))
    assert wide["sampled"]
    assert (wide["steps"][0], wide["steps"][-1]) == (1000, 1999)
    assert near["total"] == wide["total"] == 5000


async def test_points_of_one_step_are_drawn_along_their_times(
    registry: Registry, metrics: str
) -> None:
    """As system metrics are logged: always at step 0."""
    points = [
        point(
            0,
            100 if n == 1234 else n % 10,
            time=f"2026-11-20T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
        )
        for n in range(4000)
    ]
    await logged(registry, metrics, points)
    [drawn] = await chart(registry, metrics, "key=loss&points=40")

    assert 20 < len(drawn["times"]) <= 40
    assert drawn["times"] == sorted(drawn["times"])
    assert 100 in drawn["values"]


def _finite(low: float = -1e6, high: float = 1e6) -> st.SearchStrategy[Any]:
    return st.floats(low, high) | st.sampled_from(["NaN", "Infinity", "-Infinity"])


@settings(max_examples=60, deadline=None)
@given(
    points=st.dictionaries(
        st.tuples(st.integers(-50, 2000), st.integers(0, 3)), _finite(), min_size=1, max_size=80
    ),
    most=st.integers(10, 40),
)
def test_whatever_is_logged_its_extremes_are_drawn(
    points: dict[tuple[int, int], Any], most: int
) -> None:
    asyncio.run(_draw(points, most))


async def _draw(points: dict[tuple[int, int], Any], most: int) -> None:
    async with running_registry(None) as registry:
        run = (await registry.send("POST", RUNS, json={})).json["id"]
        metrics = f"{RUNS}/{run}/metrics"
        await logged(
            registry,
            metrics,
            [
                point(step, value, time=f"2026-11-20T12:30:0{second}Z")
                for (step, second), value in points.items()
            ],
        )
        [drawn] = await chart(registry, metrics, f"key=loss&points={most}")

    places = [
        (step, int(time[18:19])) for step, time in zip(drawn["steps"], drawn["times"], strict=True)
    ]
    finite = [value for value in points.values() if not isinstance(value, str)]
    assert len(places) <= most
    assert drawn["sampled"] == (len(points) > most)
    assert places == sorted(places)
    assert drawn["values"] == [points[place] for place in places]
    assert places[0] == min(points)
    assert places[-1] == max(points)
    if finite:
        assert {min(finite), max(finite)} <= set(drawn["values"])
    if len(finite) < len(points):
        assert any(isinstance(value, str) for value in drawn["values"])


@pytest.mark.parametrize(
    "query", ["points=50", "key=a&points=9", "key=a&points=2001", "key=", "&".join(["key=a"] * 21)]
)
async def test_a_chart_of_too_much_is_refused(registry: Registry, metrics: str, query: str) -> None:
    assert (await registry.get(f"{metrics}/chart?{query}")).status == 400


# How it is found


@pytest.mark.parametrize("axis", ["step", "time"])
async def test_a_chart_searches_its_intervals_by_the_primary_key(
    registry: Registry, axis: rows.Axis
) -> None:
    plan = await plan_of(registry.store.index, rows._extremes(axis))

    of_points = [step for step in plan if "points" in step]
    assert of_points
    assert all(step.startswith("SEARCH") for step in of_points), plan
    bound = f"{axis}>? AND {axis}<?"
    assert sum(bound in step for step in of_points) == 3, plan


@pytest.mark.parametrize(
    "statement", ["_OF_KEYS", "_KNOWN", "_FROM_START", "_BEHIND", "_TO_END", "_DELETE_POINTS"]
)
async def test_points_are_found_by_their_key(registry: Registry, statement: str) -> None:
    plan = await plan_of(registry.store.index, getattr(rows, statement))

    of_points = [step for step in plan if "run_points" in step or "other" in step]
    assert of_points
    assert all(step.startswith("SEARCH") for step in of_points), plan
    if statement != "_KNOWN":
        assert not [step for step in plan if "TEMP B-TREE FOR ORDER" in step], plan


async def test_appending_asks_nothing_about_older_points(registry: Registry, metrics: str) -> None:
    """A long series must not make its next points dear."""
    index = registry.store.index
    await logged(registry, metrics, [point(n, n) for n in range(500)])

    async def cost(points: list[Any]) -> int:
        before = index.statement_count()  # type: ignore[attr-defined]  # of the one there is
        await logged(registry, metrics, points)
        found: int = index.statement_count() - before  # type: ignore[attr-defined]  # as above
        return found

    appended = await cost([point(n, n) for n in range(500, 1000)])
    late = await cost([point(n, n, time="2026-11-20T12:31:00Z") for n in range(400, 900)])

    assert (appended, late) == (4, 5)
    assert msgspec.json.decode((await registry.get(metrics)).body)["items"][0]["points"] == 1500


async def test_a_batch_costs_no_more_statements_for_more_series(
    registry: Registry, metrics: str
) -> None:
    index = registry.store.index
    taken = []
    for keys, steps in ((1, (1, 2)), (50, (3, 4))):
        for step in steps:  # the first of a key makes its series
            before = index.statement_count()
            await logged(registry, metrics, [point(step, 1, key=f"k{n}") for n in range(keys)])
        taken.append(index.statement_count() - before)

    assert taken[0] == taken[1]
    found = await registry.get(metrics)
    assert [series["points"] for series in found.json["items"][:2]] == [4, 2]
