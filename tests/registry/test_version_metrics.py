"""Metrics of versions over HTTP: recorded per split, listed, the latest of each, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from registry.catalog import metrics as rows
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import ByNumber, parse_model
from registry.domain.runs import SPLITS
from registry.errors import NotFound
from registry.services import metrics as service
from registry.services.metrics import NamedVersion, compare_versions, list_latest
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

METRICS = "/api/v1/models/bert/versions/1.0.0/metrics"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        await running.publish("bert", "1.0.0", {"f": b"1"})
        yield running
        await running.check()


def metric(name: str, value: Any, split: str = "test", day: int | None = 1) -> dict[str, Any]:
    time = {} if day is None else {"time": f"2026-01-{day:02}T00:00:00Z"}
    return {"name": name, "split": split, "value": value, **time}


async def record(registry: Registry, *metrics: Any, path: str = METRICS, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("POST", path, json={"metrics": metrics}, headers=named)


async def recorded(registry: Registry, *metrics: Any, path: str = METRICS) -> None:
    answer = await record(registry, *metrics, path=path)
    assert answer.status == 201, answer.body


async def found(registry: Registry, query: str = "") -> list[tuple[str, str, Any]]:
    answer = await registry.get(METRICS + query)
    assert answer.status == 200, answer.body
    return [(one["name"], one["split"], one["value"]) for one in answer.json["items"]]


# Recording


async def test_metrics_are_recorded_with_who_and_when(registry: Registry) -> None:
    answer = await record(registry, metric("acc", 0.9), metric("loss", "NaN", "train", None))
    first, second = answer.json["items"]

    assert answer.status == 201
    assert (first["time"], first["created_by"]) == ("2026-01-01T00:00:00.000000Z", "usr_local")
    assert (second["value"], second["time"]) == ("NaN", second["created_at"])
    assert (await registry.get(METRICS)).json["items"] == [first, second]


async def test_the_same_time_again_replaces_the_value(registry: Registry) -> None:
    await recorded(registry, metric("acc", 0.9), metric("acc", 0.8))
    await recorded(registry, metric("acc", "Infinity", day=2), metric("acc", 0.7))

    assert await found(registry) == [("acc", "test", 0.7), ("acc", "test", "Infinity")]


async def test_an_unknown_split_is_refused_with_those_there_are(registry: Registry) -> None:
    answer = await record(registry, metric("acc", 1), metric("acc", 1, "tset"))
    [problem] = answer.json["errors"]

    assert (answer.status, problem["field"]) == (400, "metrics[1].split")
    for split in SPLITS:
        assert split in problem["accepted"]
    assert "did you mean test?" in problem["reason"]
    assert await found(registry) == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "metrics[0].name"),
        ({"name": "a\nb"}, "metrics[0].name"),
        ({"name": "x" * 251}, "metrics[0].name"),
        ({"value": "nan"}, "metrics[0].value"),
        ({"value": True}, "metrics[0].value"),
        ({"value": None}, "metrics[0].value"),
        ({"time": "1960-01-01T00:00:00Z"}, "metrics[0].time"),
        ({"unit": "%"}, "metrics[0].unit"),
    ],
)
async def test_what_a_metric_cannot_be_is_refused(
    registry: Registry, wrong: dict[str, Any], field: str
) -> None:
    answer = await record(registry, {**metric("acc", 1), **wrong})

    assert answer.status == 400
    assert [one["field"] for one in answer.json["errors"]] == [field]


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand(registry: Registry, count: int) -> None:
    answer = await record(registry, *(metric(str(n), n) for n in range(count)))

    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "metrics")


async def test_a_batch_is_one_entry_of_the_audit_log(registry: Registry) -> None:
    await recorded(registry, metric("acc", 1), metric("f1", 2))
    entries = await registry.rows("SELECT kind, name, after FROM audit WHERE action = 'measure'")

    assert len(entries) == 1
    assert entries[0][:2] == ("version", "1.0.0")
    assert '"f1"' in entries[0][2]


async def test_a_repeated_key_records_once(registry: Registry) -> None:
    sent = [
        await record(registry, metric("acc", 1, day=None), Idempotency_Key="k") for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert len(await found(registry)) == 1


async def test_a_version_has_so_many_names_and_no_more(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_NAMES", 3)
    await recorded(registry, *(metric(str(n), n) for n in range(3)))
    known = await record(registry, metric("0", 5, "train"), metric("1", 5, day=9))
    refused = await record(registry, metric("0", 6), metric("3", 3))

    assert known.status == 201
    assert (refused.status, refused.code, refused.json["names"]) == (409, "too_many_metrics", 4)
    assert ("0", "test", 6) not in await found(registry)


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("/api/v1/models/gpt/versions/1/metrics", "model_not_found", 404),
        ("/api/v1/models/bert/versions/9/metrics", "version_not_found", 404),
        ("/api/v1/models/bert/versions/2.0.0/metrics", "version_is_draft", 409),
    ],
)
async def test_metrics_belong_to_a_published_version(
    registry: Registry, path: str, code: str, status: int
) -> None:
    await registry.put("/models/bert/2.0.0/f", b"x")
    answers = [
        await record(registry, metric("acc", 1), path=path),
        await registry.get(path),
        await registry.get(f"{path}/latest"),
    ]

    assert [(answer.status, answer.code) for answer in answers] == [(status, code)] * 3


@pytest.mark.parametrize(
    "values", ["split = 'dev'", "value = NULL", "special = 'NaN'", "special = 'nan', value = NULL"]
)
async def test_the_index_holds_no_metric_that_cannot_be(registry: Registry, values: str) -> None:
    await recorded(registry, metric("acc", 1))
    statement = Statement(text(f"UPDATE version_metrics SET {values}"))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    with pytest.raises(IndexConflict):
        await registry.store.index.run(unit)


# Lists


async def test_metrics_are_listed_by_name_and_split(registry: Registry) -> None:
    for day in (2, 1):
        await recorded(
            registry, *(metric(name, day, split, day) for name in "ba" for split in SPLITS)
        )

    assert [one[:2] for one in await found(registry)] == [
        (name, split) for name in "ab" for split in sorted(SPLITS) for _ in range(2)
    ]
    assert await found(registry, "?name=b&split=train") == [("b", "train", 1), ("b", "train", 2)]
    assert len(await found(registry, "?split=production")) == 4
    assert await found(registry, "?name=c") == []


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_hold_every_metric_once(registry: Registry, limit: int) -> None:
    metrics = [metric(name, day, split, day) for name in "ab" for split in SPLITS for day in (1, 2)]
    await recorded(registry, *metrics)
    items: list[Any] = []
    after = ""
    while True:
        answer = await registry.get(f"{METRICS}?limit={limit}{after}")
        items += answer.json["items"]
        if answer.json["next"] is None:
            break
        after = f"&after={answer.json['next']}"

    assert len(items) == len({(one["name"], one["split"], one["time"]) for one in items}) == 16


# The latest


async def test_the_latest_of_each_name_and_of_each_split(registry: Registry) -> None:
    await recorded(
        registry,
        metric("acc", 0.1, "train", 3),
        metric("acc", 0.2, "test", 1),
        metric("acc", 0.3, "test", 2),
        metric("loss", 9, "production", 1),
    )

    per_name = await found(registry, "/latest")
    per_split = await found(registry, "/latest?per=split")

    assert per_name == [("acc", "train", 0.1), ("loss", "production", 9)]
    assert per_split == [
        ("acc", "train", 0.1),
        ("acc", "test", 0.3),
        ("loss", "production", 9),
    ]


async def test_of_splits_measured_together_the_one_recorded_last_is_the_latest(
    registry: Registry,
) -> None:
    await recorded(registry, metric("acc", 1, "train"))
    await recorded(registry, metric("acc", 2, "test"))
    await recorded(registry, metric("acc", 3, "train"))

    assert await found(registry, "/latest") == [("acc", "train", 3)]


async def test_nothing_measured_has_no_latest(registry: Registry) -> None:
    assert await found(registry, "/latest") == await found(registry, "/latest?per=split") == []


_WISHES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "a b", "ü", "z/z"]),
        st.sampled_from(SPLITS),
        st.integers(1, 28),
        st.floats(-10, 10) | st.sampled_from(["NaN", "-Infinity"]),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda wish: wish[:3],
)


@settings(max_examples=40, deadline=None)
@given(wishes=_WISHES)
def test_the_latest_is_what_python_finds_in_the_whole_history(wishes: list[Any]) -> None:
    async def compare() -> None:
        async with running_registry(None) as registry:
            await registry.publish("bert", "1.0.0", {"f": b"1"})
            metrics = [metric(name, value, split, day) for name, split, day, value in wishes]
            await recorded(registry, *metrics)
            per_split = await found(registry, "/latest?per=split")
            per_name = {name: value for name, _, value in await found(registry, "/latest")}

        latest: dict[tuple[str, str], Any] = {}
        newest: dict[str, int] = {}
        for name, split, day, value in sorted(wishes, key=lambda wish: wish[2]):
            latest[name, split] = value
            newest[name] = day
        assert {(name, split): value for name, split, value in per_split} == latest
        assert per_name.keys() == newest.keys()
        for name, value in per_name.items():
            assert (name, newest[name], value) in [(n, d, v) for n, _, d, v in wishes]

    asyncio.run(compare())


@pytest.mark.parametrize("per", ["name", "split"])
async def test_the_latest_are_one_statement(registry: Registry, per: rows.Per) -> None:
    await recorded(registry, *(metric(name, 1, split) for name in "abc" for split in SPLITS))
    index, sent = registry.store.index, list[str]()
    latest = rows.latest_metrics

    async def counted(tx: Tx, ids: Any, *, per: rows.Per) -> Any:
        before = tx.statements  # type: ignore[attr-defined]  # of the driver's transaction
        result = await latest(tx, ids, per=per)
        sent.extend([per] * (tx.statements - before))  # type: ignore[attr-defined]  # as above
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "latest_metrics", counted)
        found = await list_latest(registry.store, LOCAL, parse_model("bert"), ByNumber(1), per=per)

    assert index is registry.store.index
    assert sent == [per]
    assert len(found) == (3 if per == "name" else 12)


@pytest.mark.parametrize("statement", [rows._LATEST_PER_SPLIT, rows._LATEST_PER_NAME])
async def test_the_latest_are_found_by_walking_the_key(
    registry: Registry, statement: Statement
) -> None:
    """However often a metric was measured, only its last time is looked at."""
    plan = await plan_of(registry.store.index, statement)

    of_metrics = [
        step
        for step in plan
        if any(name in step for name in ("version_metrics", "other", "first", "following"))
    ]
    assert all(step.startswith("SEARCH") for step in of_metrics), plan
    assert any("version=? AND name=? AND split=? AND time=?" in step for step in of_metrics)
    assert any("version=? AND name>?" in step for step in of_metrics)


# Side by side


async def test_versions_of_any_models_are_compared(registry: Registry) -> None:
    await registry.publish("nlp~gpt", "2.0.0", {"f": b"2"})
    await recorded(registry, metric("acc", 0.5), metric("acc", 0.9, day=2), metric("only", 1))
    await recorded(
        registry,
        metric("acc", "NaN"),
        metric("acc", 0.7, "train"),
        path="/api/v1/models/nlp~gpt/versions/2.0.0/metrics",
    )
    by_id = (await registry.get("/api/v1/models/bert/versions/1")).json["id"]

    answer = await registry.get(
        f"/api/v1/metrics/compare?version=bert:1.0.0&version=nlp~gpt@latest&version={by_id}"
        "&version=nlp%2Fgpt:1"
    )

    assert answer.status == 200, answer.body
    assert [(one["model"], one["label"]) for one in answer.json["versions"]] == [
        ("bert", "1.0.0"),
        ("nlp/gpt", "2.0.0"),
        ("bert", "1.0.0"),
        ("nlp/gpt", "2.0.0"),
    ]
    assert [(one["name"], one["split"], one["values"]) for one in answer.json["metrics"]] == [
        ("acc", "train", [None, 0.7, None, 0.7]),
        ("acc", "test", [0.9, "NaN", 0.9, "NaN"]),
        ("only", "test", [1, None, 1, None]),
    ]
    assert answer.json["metrics"][0]["times"][0] is None


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid"),
        ("version=bert", 400, "invalid"),
        ("version=:1", 400, "invalid"),
        ("version=bert:", 400, "version_reference_invalid"),
        ("version=a%20/b:1", 400, "model_name_invalid"),
        ("version=bert:1&version=bert:9", 404, "version_not_found"),
        ("version=gpt@latest", 404, "model_not_found"),
        ("version=ver_01kagz6y5n8s3v0c4t7x9b2d1f", 404, "version_not_found"),
        ("&".join(["version=bert:1"] * 51), 400, "invalid"),
    ],
)
async def test_what_cannot_be_compared_is_named(
    registry: Registry, query: str, status: int, code: str
) -> None:
    answer = await registry.get(f"/api/v1/metrics/compare?{query}")

    assert (answer.status, answer.code) == (status, code)


async def test_a_comparison_shows_nothing_that_its_reader_may_not_see(registry: Registry) -> None:
    stranger = Principal("usr_stranger", "stranger")
    asked = [NamedVersion(parse_model("bert"), ByNumber(1))]

    with pytest.raises(NotFound):
        await compare_versions(registry.store, stranger, asked)


async def test_what_is_deleted_has_no_metrics_until_it_is_back(registry: Registry) -> None:
    await recorded(registry, metric("acc", 1))
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")
    gone = await registry.get(METRICS)
    await registry.send("POST", "/api/v1/models/bert/versions/1/restore")

    assert gone.status == 404
    assert await found(registry) == [("acc", "test", 1)]
