"""Training runs over HTTP: what they belong to, how they end, what they cost, who finds them."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog import costs
from registry.catalog.runs import _page
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import ModelId
from registry.domain.runs import FINAL_STATUSES, RunStatus, allowed_after, without_secrets
from registry.errors import NotFound
from registry.services import costs as cost_service
from registry.services.costs import sum_costs
from registry.services.purges import finish_purges
from registry.services.runs import RunQuestion, RunWish, create_run, get_run, list_runs
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

RUNS = "/api/v1/runs"
ROOT = Path(__file__).resolve().parents[2]
STRANGER = Principal("usr_stranger", "stranger")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def tell(registry: Registry, **said: Any) -> Answer:
    return await registry.send("POST", RUNS, json=said)


async def told(registry: Registry, **said: Any) -> Any:
    answer = await tell(registry, **said)
    assert answer.status == 201, answer.body
    return answer.json


async def patch(registry: Registry, run: Any, **said: Any) -> Answer:
    return await registry.send("PATCH", f"{RUNS}/{run['id']}", json=said)


async def finish(registry: Registry, run: Any, **said: Any) -> Answer:
    return await registry.send("POST", f"{RUNS}/{run['id']}/finish", json=said)


async def listed(registry: Registry, query: str = "") -> list[str]:
    answer = await registry.get(RUNS + query)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json["items"]]


async def trail(registry: Registry, run: Any) -> list[str]:
    rows = await registry.rows(f"SELECT action FROM audit WHERE entity = '{run['id']}' ORDER BY id")
    return [action for (action,) in rows]


async def model(registry: Registry, name: str, **said: Any) -> Any:
    answer = await registry.send("POST", "/api/v1/models", json={"name": name, **said})
    assert answer.status == 201, answer.body
    return answer.json


# Telling


async def test_a_run_needs_nothing_and_starts_now(registry: Registry) -> None:
    before = registry.store.clock()
    answer = await registry.send("POST", RUNS, json={})
    run = answer.json

    assert answer.status == 201
    assert answer.headers["Location"] == f"{RUNS}/{run['id']}"
    assert (run["status"], run["ended_at"], run["duration_seconds"]) == ("running", None, None)
    assert (run["gpu_hours"], run["cost_usd"]) == (None, None)
    assert run["started_at"] == run["created_at"] > "2026"
    assert run["created_by"] == "usr_local"
    assert registry.store.clock() >= before
    assert (await registry.get(f"{RUNS}/{run['id']}")).json == run


async def test_everything_said_of_a_run_is_kept(registry: Registry) -> None:
    version = await registry.publish("nlp~bert", "1.0.0", {"f": b"x"})
    experiment = (await registry.send("POST", "/api/v1/experiments", json={"name": "lr"})).json
    said = {
        "name": "seed 1",
        "dataset": "hf:datasets/allenai/c4",
        "dataset_version": "2026-10",
        "description": "longer",
        "gpu_hours": 8.5,
        "cost_usd": 21,
        "hyperparameters": {"lr": 3e-4, "layers": [1, {"a": None}]},
        "environment": {"python": "3.12"},
    }

    run = await told(registry, experiment="LR", model="nlp/bert", version="1.0.0", **said)

    assert {name: run[name] for name in said} == said
    assert run["experiment"] == experiment["id"]
    assert run["version"] == {"id": version["id"], "number": 1, "label": "1.0.0"}
    assert run["model"].startswith("mdl_")


async def test_a_version_brings_its_model(registry: Registry) -> None:
    version = await registry.publish("bert", "1.0.0", {"f": b"x"})
    run = await told(registry, version=version["id"])
    without_model = await tell(registry, version="1.0.0")

    assert run["model"].startswith("mdl_")
    assert (without_model.status, without_model.json["errors"][0]["field"]) == (400, "version")


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        ({"experiment": "none"}, "experiment_not_found", "none"),
        ({"experiment": "nobody~none"}, "namespace_not_found", "nobody"),
        ({"experiment": "exp_01kagz6y5n8s3v0c4t7x9b2d1f"}, "experiment_not_found", "exp_"),
        ({"model": "gpt"}, "model_not_found", "gpt"),
        ({"model": "bert", "version": "9"}, "version_not_found", "9 of bert"),
        ({"version": "ver_01kagz6y5n8s3v0c4t7x9b2d1f"}, "version_not_found", "ver_"),
        ({"model": "other", "version": "VERSION"}, "version_not_found", "of other"),
    ],
)
async def test_what_is_not_there_is_named(
    registry: Registry, said: dict[str, str], code: str, named: str
) -> None:
    version = await registry.publish("bert", "1.0.0", {"f": b"x"})
    await registry.publish("other", "1.0.0", {"f": b"y"})
    said = {name: version["id"] if value == "VERSION" else value for name, value in said.items()}

    told_now = await tell(registry, **said)
    run = await told(registry)
    changed = await patch(registry, run, **said)
    asked = await registry.send(
        "GET", f"{RUNS}?" + "&".join(f"{name}={value}" for name, value in said.items())
    )

    for answer in (told_now, changed, asked):
        assert (answer.status, answer.code) == (404, code)
        assert named in answer.json["detail"]
    assert await registry.count("runs") == 1


async def test_a_draft_has_no_runs(registry: Registry) -> None:
    await registry.put("/models/bert/2.0.0/f", b"x")
    answer = await tell(registry, model="bert", version="2.0.0")

    assert (answer.status, answer.code) == (409, "version_is_draft")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"cost_usd": -0.01}, "cost_usd"),
        ({"gpu_hours": -1}, "gpu_hours"),
        ({"cost_usd": "NaN"}, "cost_usd"),
        ({"cost_usd": 1e13}, "cost_usd"),
        ({"status": "done"}, "status"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"started_at": "2026-11-20T12:00:00"}, "started_at"),
        ({"started_at": "1969-12-31T23:59:59Z"}, "started_at"),
        ({"ended_at": "2026-11-20T12:00:00Z"}, "ended_at"),
        (
            {
                "status": "failed",
                "started_at": "2026-11-20T12:00:00Z",
                "ended_at": "2026-11-20T11:59:59.999999Z",
            },
            "ended_at",
        ),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"hyperparameters": {"a": "x" * (256 << 10)}}, "hyperparameters"),
        ({"environment": {"a": "x" * (64 << 10)}}, "environment"),
        ({"environment_unmasked": ["x"] * 101}, "environment_unmasked"),
        ({"name": "x" * 201}, "name"),
        ({"model": "a//b"}, "model"),
        ({"cost": 1}, "cost"),
    ],
)
async def test_what_a_run_cannot_be_is_refused(
    registry: Registry, said: dict[str, Any], field: str
) -> None:
    answer = await tell(registry, **said)

    assert answer.status == 400
    assert [one["field"] for one in answer.json["errors"]] == [field]
    assert await registry.count("runs") == 0


async def test_a_cost_that_json_cannot_hold_is_refused(registry: Registry) -> None:
    for text_ in (b'{"cost_usd": NaN}', b'{"cost_usd": 1e999}', b'{"cost_usd": Infinity}'):
        answer = await registry.send(
            "POST", RUNS, data=text_, headers={"Content-Type": "application/json"}
        )
        assert answer.status == 400


async def test_a_run_is_told_of_when_it_is_over(registry: Registry) -> None:
    run = await told(
        registry,
        status="timeout",
        started_at="2026-11-20T12:00:00+01:00",
        ended_at="2026-11-20T12:00:00Z",
    )

    assert (run["status"], run["started_at"]) == ("timeout", "2026-11-20T11:00:00.000000Z")
    assert run["duration_seconds"] == 3600
    assert await trail(registry, run) == ["create", "status"]


async def test_a_run_told_of_as_over_without_times_took_no_time(registry: Registry) -> None:
    run = await told(registry, status="failed")
    past = await told(registry, status="failed", ended_at="2020-01-01T00:00:00Z")

    assert (run["duration_seconds"], past["duration_seconds"]) == (0, 0)


async def test_a_repeated_key_tells_of_one(registry: Registry) -> None:
    sent = [
        await registry.send("POST", RUNS, json={}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert await registry.count("runs") == 1


# Statuses


@pytest.mark.parametrize("status", FINAL_STATUSES)
async def test_a_running_run_may_end_in_any_way_and_stays_so(
    registry: Registry, status: RunStatus
) -> None:
    run = await told(registry)
    ended = await finish(registry, run, status=status, reason="because")

    assert (ended.status, ended.json["status"]) == (200, status)
    assert ended.json["ended_at"] is not None
    assert ended.json["duration_seconds"] >= 0
    for other in ("running", *FINAL_STATUSES):
        answer = await patch(registry, run, status=other)
        if other == status:
            assert answer.json == ended.json
        else:
            assert (answer.status, answer.code) == (409, "transition_forbidden")
            assert answer.json["from"] == status
            assert (answer.json["to"], answer.json["allowed"]) == (other, [])
    assert await trail(registry, run) == ["create", "status"]


def test_the_table_of_statuses_is_that_of_the_design() -> None:
    assert allowed_after("running") == ("succeeded", "failed", "cancelled", "timeout")
    assert [allowed_after(status) for status in FINAL_STATUSES] == [()] * 4


async def test_finishing_says_when_and_what_it_took(registry: Registry) -> None:
    run = await told(registry, started_at="2026-11-20T12:00:00Z")

    early = await finish(registry, run, ended_at="2026-11-20T11:00:00Z")
    done = await finish(registry, run, ended_at="2026-11-20T12:30:00Z", gpu_hours=4, cost_usd=9.5)
    again = await finish(registry, run, ended_at="2026-11-20T12:30:00Z", gpu_hours=4, cost_usd=9.5)

    assert (early.status, early.code) == (400, "run_ends_before_start")
    assert (done.json["status"], done.json["duration_seconds"]) == ("succeeded", 1800)
    assert (done.json["gpu_hours"], done.json["cost_usd"]) == (4, 9.5)
    assert again.json == done.json
    assert again.headers["ETag"] == done.headers["ETag"]


async def test_an_empty_finish_means_success_now(registry: Registry) -> None:
    run = await told(registry)
    answer = await registry.send("POST", f"{RUNS}/{run['id']}/finish")

    assert (answer.status, answer.json["status"]) == (200, "succeeded")


async def test_a_run_that_starts_in_the_future_does_not_end_before(registry: Registry) -> None:
    run = await told(registry, started_at="2999-01-01T00:00:00Z")

    assert (await finish(registry, run)).json["duration_seconds"] == 0


async def test_the_end_of_a_run_that_ended_is_corrected(registry: Registry) -> None:
    run = await told(registry, started_at="2026-11-20T12:00:00Z")
    running = await patch(registry, run, ended_at="2026-11-20T13:00:00Z")
    await finish(registry, run, ended_at="2026-11-20T13:00:00Z")

    moved = await patch(
        registry, run, started_at="2026-11-20T14:00:00Z", ended_at="2026-11-20T15:30:00Z"
    )
    wrong = await patch(registry, run, started_at="2026-11-20T16:00:00Z")

    assert (running.status, running.json["errors"][0]["field"]) == (400, "ended_at")
    assert (moved.json["duration_seconds"], moved.json["status"]) == (5400, "succeeded")
    assert (wrong.status, wrong.code) == (400, "run_ends_before_start")


async def test_of_many_that_end_a_run_differently_one_does(registry: Registry) -> None:
    run = await told(registry)

    answers = await asyncio.gather(
        *(finish(registry, run, status=FINAL_STATUSES[n % 4]) for n in range(40))
    )
    status = (await registry.get(f"{RUNS}/{run['id']}")).json["status"]

    for number, answer in enumerate(answers):
        assert answer.status == (200 if FINAL_STATUSES[number % 4] == status else 409)
    assert await trail(registry, run) == ["create", "status"]


def test_only_one_function_writes_the_status_of_a_run() -> None:
    """Otherwise a door could walk round the table of statuses."""
    sources = {path: path.read_text() for path in (ROOT / "registry").rglob("*.py")}
    found = {
        str(path.relative_to(ROOT))
        for path, source in sources.items()
        if "write_run_status" in source  # else no tree of it holds it, and parsing takes long
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and any(n.name == "write_run_status" for n in node.names)
    }

    assert found == {"registry/services/run_moves.py"}


@pytest.mark.parametrize(
    "values",
    [
        "status = 'succeeded'",
        "ended_at = started_at",
        "status = 'failed', ended_at = started_at - 1",
        "status = 'lost', ended_at = started_at",
        "cost_usd = -1",
        "gpu_hours = -0.5",
        "version = 'x', model = NULL",
        "deleted_at = 1",
    ],
)
async def test_the_index_holds_no_run_that_cannot_be(registry: Registry, values: str) -> None:
    await told(registry)
    statement = Statement(text(f"UPDATE runs SET {values}"))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    with pytest.raises(IndexConflict):
        await registry.store.index.run(unit)


# Changing


async def test_a_merge_patch_merges_objects_and_takes_back(registry: Registry) -> None:
    run = await told(
        registry,
        name="n",
        cost_usd=1,
        hyperparameters={"a": 1, "b": {"c": 2, "d": 3}},
        environment={"x": 1},
    )

    changed = await patch(
        registry,
        run,
        name=None,
        cost_usd=None,
        hyperparameters={"a": None, "b": {"d": 4}},
        environment=None,
        dataset="wiki",
    )

    assert (changed.json["name"], changed.json["cost_usd"]) == ("", None)
    assert changed.json["hyperparameters"] == {"b": {"c": 2, "d": 4}}
    assert (changed.json["environment"], changed.json["dataset"]) == ({}, "wiki")


async def test_what_changes_nothing_leaves_no_trace(registry: Registry) -> None:
    said = {"name": "n", "cost_usd": 1.5, "hyperparameters": {"a": 1}, "status": "running"}
    run = await told(registry, **said)

    answer = await patch(registry, run, **said)

    assert answer.headers["ETag"] == f'"{run["id"]}.1"'
    assert answer.json == run
    assert await trail(registry, run) == ["create"]


async def test_an_audit_entry_says_what_differs_and_why(registry: Registry) -> None:
    run = await told(registry, name="a", dataset="wiki")
    await patch(registry, run, name="b", dataset="wiki", reason="typo")

    [entry] = await registry.rows(
        "SELECT before, after, reason, kind, name FROM audit WHERE action = 'update'"
    )

    assert entry == ('{"name":"a"}', '{"name":"b"}', "typo", "run", "b")


async def test_a_change_is_conditional(registry: Registry) -> None:
    run = await told(registry)
    address, tag = f"{RUNS}/{run['id']}", {"If-Match": f'"{run["id"]}.1"'}
    unmodified = await registry.get(address, If_None_Match=tag["If-Match"])

    answers = await asyncio.gather(
        *(registry.send("PATCH", address, json={"name": str(n)}, headers=tag) for n in range(20))
    )
    ended = await registry.send("POST", f"{address}/finish", json={}, headers=tag)
    deleted = await registry.send("DELETE", address, headers=tag)

    assert unmodified.status == 304
    assert sorted(answer.status for answer in answers) == [200] + [412] * 19
    assert (ended.status, deleted.status) == (412, 412)


async def test_a_run_goes_to_another_model_without_its_version(registry: Registry) -> None:
    one = await registry.publish("one", "1.0.0", {"f": b"1"})
    two = await registry.publish("two", "1.0.0", {"f": b"2"})
    run = await told(registry, model="one", version="1.0.0")

    same = await patch(registry, run, model="one")
    moved = await patch(registry, run, model="two")
    placed = await patch(registry, run, version="1")
    by_id = await patch(registry, run, version=one["id"])
    without = await patch(registry, run, version=None)
    alone = await patch(registry, run, model=None)

    assert same.json["version"]["id"] == one["id"]
    assert moved.json["version"] is None
    assert placed.json["version"]["id"] == two["id"]
    assert (by_id.json["model"], by_id.json["version"]["id"]) == (run["model"], one["id"])
    assert (without.json["model"], without.json["version"]) == (run["model"], None)
    assert alone.json["model"] is None


async def test_a_run_keeps_what_was_deleted_meanwhile(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.send("POST", "/api/v1/experiments", json={"name": "lr"})
    run = await told(registry, experiment="lr", model="bert", version="1.0.0")
    await registry.send("DELETE", "/api/v1/experiments/lr")
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")

    changed = await patch(registry, run, name="still")

    for name in ("experiment", "model", "version"):
        assert changed.json[name] == run[name]


# Secrets


async def test_secrets_of_the_environment_are_never_kept(registry: Registry) -> None:
    run = await told(
        registry,
        environment={
            "HF_TOKEN": "hf_abcdef",
            "nested": {"list": [{"db_password": "hunter22"}], "max_tokens": 5},
            "pairs": [{"key": "API_KEY", "value": "sk-12345"}],
            "empty_secret": None,
        },
        environment_unmasked=["pad_token"],
    )
    changed = await patch(
        registry, run, environment={"WANDB_API_KEY": "w-98765", "pad_token": "[PAD]"}
    )

    assert changed.json["environment"] == {
        "HF_TOKEN": "(masked)",
        "WANDB_API_KEY": "(masked)",
        "empty_secret": None,
        "nested": {"list": [{"db_password": "(masked)"}], "max_tokens": 5},
        "pad_token": "[PAD]",
        "pairs": [{"key": "API_KEY", "value": "(masked)"}],
    }
    for path in (registry.store.settings.root or Path()).glob("index.sqlite3*"):
        content = path.read_bytes()
        for secret in (b"hf_abcdef", b"hunter22", b"sk-12345", b"w-98765"):
            assert secret not in content


async def test_a_name_taken_off_the_list_is_masked(registry: Registry) -> None:
    run = await told(
        registry, environment={"pad_token": "[PAD]"}, environment_unmasked=["pad_token"]
    )
    changed = await patch(registry, run, environment_unmasked=None)
    allowed = await patch(registry, run, environment_unmasked=["pad_token"])

    assert changed.json["environment"] == {"pad_token": "(masked)"}
    assert allowed.json["environment"] == {"pad_token": "(masked)"}


def test_unmasked_names_hold_for_pairs_too() -> None:
    value = {"a": [{"key": "pad_token", "value": "x"}, {"key": "hf_token", "value": "y"}]}

    assert without_secrets(value, frozenset(("pad_token",))) == {
        "a": [{"key": "pad_token", "value": "x"}, {"key": "hf_token", "value": "(masked)"}]
    }


# Deleting


async def test_a_deleted_run_is_found_by_id_and_comes_back(registry: Registry) -> None:
    run = await told(registry, name="gone")
    address = f"{RUNS}/{run['id']}"

    deleted = await registry.send("DELETE", address)
    found = await registry.get(address)
    refused = [
        await registry.send("DELETE", address),
        await patch(registry, run, name="new"),
        await finish(registry, run),
    ]
    lists = await listed(registry), await listed(registry, "?deleted=true")
    restored = await registry.send("POST", f"{address}/restore")

    assert deleted.status == 204
    assert found.json["deleted_by"] == "usr_local"
    assert [answer.code for answer in refused] == ["run_not_found"] * 3
    assert lists == ([], ["gone"])
    assert restored.json["deleted_at"] is None
    assert await listed(registry) == ["gone"]
    assert await trail(registry, run) == ["create", "delete", "restore"]


async def test_only_a_deleted_run_is_purged_with_all_it_logged(registry: Registry) -> None:
    run, other = await told(registry), await told(registry)
    for one in (run, other):
        points = [{"key": f"k{n % 3}", "value": n, "step": n} for n in range(2500)]
        await registry.send("POST", f"{RUNS}/{one['id']}/metrics", json={"points": points})

    live = await registry.send("POST", f"{RUNS}/{run['id']}/purge")
    await registry.send("DELETE", f"{RUNS}/{run['id']}")
    purged = await registry.send("POST", f"{RUNS}/{run['id']}/purge")

    assert (live.status, live.code) == (409, "run_live")
    assert purged.status == 204
    assert (await registry.get(f"{RUNS}/{run['id']}")).status == 404
    assert (await registry.count("runs"), await registry.count("run_details")) == (1, 1)
    assert (await registry.count("run_series"), await registry.count("run_points")) == (3, 2500)
    assert (await trail(registry, run))[-1] == "purge"


async def test_a_purged_model_takes_its_runs_along(registry: Registry) -> None:
    version = await registry.publish("bert", "1.0.0", {"f": b"1"})
    other = await told(registry, name="other")
    for _ in range(3):
        run = await told(registry, version=version["id"])
        points = [{"key": "loss", "value": n, "step": n} for n in range(1500)]
        await registry.send("POST", f"{RUNS}/{run['id']}/metrics", json={"points": points})
    await registry.send("DELETE", f"{RUNS}/{run['id']}")
    metrics = [{"name": "acc", "split": "test", "value": 1}]
    await registry.send("POST", "/api/v1/models/bert/versions/1/metrics", json={"metrics": metrics})

    await registry.send("DELETE", "/api/v1/models/bert")
    purged = await registry.send("POST", f"/api/v1/models/{run['model']}/purge")

    assert purged.status == 204, purged.body
    assert await registry.rows("SELECT id FROM runs") == [(other["id"],)]
    for table in ("run_series", "run_points", "version_metrics", "versions"):
        assert await registry.count(table) == 0


async def test_runs_of_a_purged_version_stay_with_its_model(registry: Registry) -> None:
    version = await registry.publish("bert", "1.0.0", {"f": b"1"})
    run = await told(registry, version=version["id"], cost_usd=5)
    metrics = [{"name": "acc", "split": "test", "value": 1}]
    await registry.send("POST", "/api/v1/models/bert/versions/1/metrics", json={"metrics": metrics})
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")
    await registry.send("POST", "/api/v1/models/bert/versions/1/purge")

    found = await registry.get(f"{RUNS}/{run['id']}")

    assert (found.json["model"], found.json["version"]) == (run["model"], None)
    assert found.headers["ETag"] == f'"{run["id"]}.2"'
    assert await registry.count("version_metrics") == 0


@pytest.mark.parametrize("is_back", [False, True])
async def test_a_purge_that_was_cut_short_is_finished_unless_the_version_is_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    async def die(*_: object) -> None:
        raise RuntimeError("the process ends here")

    await registry.publish("bert", "1.0.0", {"f": b"1"})
    metrics = {"metrics": [{"name": "acc", "split": "test", "value": 1}]}
    await registry.send("POST", "/api/v1/models/bert/versions/1/metrics", json=metrics)
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")
    with monkeypatch.context() as patch:
        patch.setattr("registry.services.removal.forget_training", die)
        gone = await registry.send("POST", "/api/v1/models/bert/versions/1/purge")
    assert gone.status == 500
    if is_back:
        await registry.publish("bert", "1.0.0", {"f": b"1"})

    assert await finish_purges(registry.store) == 1
    assert await finish_purges(registry.store) == 0
    assert await registry.count("version_metrics") == (1 if is_back else 0)


# Lists


async def company(registry: Registry) -> None:
    """Eight runs: of two models and two experiments, every second one failed."""
    for name in ("one", "two"):
        await registry.publish(name, "1.0.0", {"f": name.encode()})
        await registry.send("POST", "/api/v1/experiments", json={"name": name})
    for number in range(8):
        side = "two" if number >= 4 else "one"
        await told(
            registry,
            name=str(number),
            model=side,
            version="1" if number % 4 < 2 else None,
            experiment=side,
            status="failed" if number % 2 else "running",
            started_at=f"2026-01-0{number + 1}T00:00:00Z",
            ended_at=f"2026-01-0{number + 1}T01:00:00Z" if number % 2 else None,
        )


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "76543210"),
        ("?model=one", "3210"),
        ("?model=two&version=1", "54"),
        ("?experiment=one", "3210"),
        ("?status=failed", "7531"),
        ("?status=succeeded", ""),
        ("?status=failed&model=one", "31"),
        ("?status=running&experiment=two&model=two&version=1.0.0", "4"),
        ("?since=2026-01-03T00:00:00Z&until=2026-01-06T00:00:00Z", "432"),
        ("?model=one&since=2026-01-03T00:00:00Z", "32"),
        ("?deleted=true", ""),
    ],
)
async def test_runs_are_listed_the_last_started_first(
    registry: Registry, query: str, names: str
) -> None:
    await company(registry)
    separator = "&" if query else "?"
    answer = await registry.get(f"{RUNS}{query}{separator}total=true")

    assert "".join(one["name"] for one in answer.json["items"]) == names
    assert (answer.json["total"], answer.json["total_is_exact"]) == (len(names), True)


async def test_pages_hold_every_run_once(registry: Registry) -> None:
    await company(registry)
    await told(registry, name="8", started_at="2026-01-08T00:00:00Z")  # the same time as another
    found: list[str] = []
    after = ""
    while True:
        answer = await registry.get(f"{RUNS}?limit=2{after}")
        found += [one["name"] for one in answer.json["items"]]
        if answer.json["next"] is None:
            break
        after = f"&after={answer.json['next']}"

    assert sorted(found) == sorted("012345678")
    assert found[2:] == list("6543210")


async def test_a_listed_run_says_what_things_are_called_now(registry: Registry) -> None:
    await company(registry)
    await registry.send("PATCH", "/api/v1/models/two", json={"name": "renamed"})

    first = (await registry.get(f"{RUNS}?limit=1&version={await version_id(registry)}")).json
    one = first["items"][0]

    assert (one["model_name"], one["experiment_name"]) == ("renamed", "two")
    assert one["version"]["label"] == "1.0.0"


async def version_id(registry: Registry) -> str:
    answer = await registry.get("/api/v1/models/renamed/versions/1")
    found: str = answer.json["id"]
    return found


async def test_a_cursor_of_another_list_is_refused(registry: Registry) -> None:
    await company(registry)
    next = (await registry.get(f"{RUNS}?limit=1")).json["next"]
    answer = await registry.get(f"{RUNS}?limit=1&status=failed&after={next}")

    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ((), "runs_by_start"),
        (("since", "until"), "runs_by_start"),
        (("status",), "runs_by_status"),
        (("model",), "runs_by_model"),
        (("experiment",), "runs_by_experiment"),
        (("version",), "runs_by_version"),
        (("experiment", "model", "status"), "runs_by_experiment"),
        (("model", "status", "since"), "runs_by_model"),
        (("version", "experiment", "model", "status", "seen"), "runs_by_version"),
    ],
)
@pytest.mark.parametrize("has_place", [False, True])
async def test_a_list_runs_along_the_index_of_its_most_selective_filter(
    registry: Registry, given: tuple[str, ...], index: str, has_place: bool
) -> None:
    statement = _page(given, is_deleted=False, has_place=has_place)
    plan = await plan_of(registry.store.index, statement)

    assert index in plan[0]
    assert not [step for step in plan if "TEMP B-TREE" in step]


# Who sees them


async def test_a_run_is_seen_by_who_sees_its_model_or_who_made_it(registry: Registry) -> None:
    store = registry.store
    hidden = await create_run(store, LOCAL, RunWish(name="hidden"))
    own = await create_run(store, STRANGER, RunWish(name="own", cost_usd=2.0))

    with pytest.raises(NotFound):
        await get_run(store, STRANGER, hidden.run.id)
    page = await list_runs(store, STRANGER, RunQuestion(), after=None, limit=10, is_counted=True)
    spent = await sum_costs(store, STRANGER, by=None, since=None, until=None, limit=10)
    by_model = await sum_costs(store, STRANGER, by="model", since=None, until=None, limit=10)

    assert (await get_run(store, STRANGER, own.run.id)).run == own.run
    assert [one.run.name for one in page.items] == ["own"]
    assert page.count == 1
    assert spent.total == by_model.total == costs.Spent(1, 2.0, 0.0, 0, 1)


async def test_who_decides_about_a_run_moves_with_it(registry: Registry) -> None:
    model_id = (await model(registry, "bert"))["id"]
    experiment = (await registry.send("POST", "/api/v1/experiments", json={"name": "lr"})).json
    [(namespace,)] = await registry.rows("SELECT namespace FROM experiments")
    run = await told(registry)
    owners = []
    for said in (
        {"experiment": experiment["id"]},
        {"model": "bert"},
        {"experiment": None},
        {"experiment": "lr", "model": None},
        {"experiment": None},
    ):
        await patch(registry, run, **said)
        owners += await registry.rows("SELECT owner FROM runs")
    placed = await told(registry, experiment="lr", model="bert")
    owners += await registry.rows(f"SELECT owner FROM runs WHERE id = '{placed['id']}'")

    assert [owner for (owner,) in owners] == [
        namespace,
        model_id,
        model_id,
        namespace,
        "usr_local",
        model_id,
    ]


async def test_a_stranger_cannot_put_a_run_where_they_see_nothing(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    answer = await registry.get("/api/v1/models/bert")

    with pytest.raises(NotFound):
        await create_run(registry.store, STRANGER, RunWish(model=ModelId(answer.json["id"])))


# Costs


async def spenders(registry: Registry) -> dict[str, str]:
    """Two teams, three models, six runs; the ids of the models."""
    for team in ("vision", "speech"):
        await registry.send("POST", "/api/v1/teams", json={"name": team})
    ids = {}
    for name, team in (("cats", "vision"), ("dogs", "vision"), ("voice", "speech")):
        ids[name] = (await model(registry, name, team=team))["id"]
    for number, (name, cost, hours) in enumerate(
        (
            ("cats", 10, 1),
            ("cats", 5.5, None),
            ("dogs", 20, 4),
            ("voice", None, 2),
            (None, 1, 1),
            ("cats", 1000, 1000),
        )
    ):
        run = await told(
            registry,
            model=name,
            cost_usd=cost,
            gpu_hours=hours,
            started_at=f"2026-01-0{number + 1}T00:00:00Z",
        )
    await registry.send("DELETE", f"{RUNS}/{run['id']}")
    return ids


def spent(answer: Any) -> tuple[Any, ...]:
    return tuple(
        answer[name]
        for name in ("runs", "cost_usd", "gpu_hours", "without_cost", "without_gpu_hours")
    )


async def test_costs_are_summed_in_all_by_model_and_by_team(registry: Registry) -> None:
    ids = await spenders(registry)
    in_all = (await registry.get(f"{RUNS}/costs")).json
    by_model = (await registry.get(f"{RUNS}/costs?by=model")).json
    by_team = (await registry.get(f"{RUNS}/costs?by=team")).json

    total = (5, 36.5, 8.0, 1, 1)
    assert [spent(one["total"]) for one in (in_all, by_model, by_team)] == [total] * 3
    assert (in_all["groups"], in_all["items"]) == (None, [])
    assert [(one["name"], *spent(one)) for one in by_model["items"]] == [
        ("dogs", 1, 20.0, 4.0, 0, 0),
        ("cats", 2, 15.5, 1.0, 0, 1),
        (None, 1, 1.0, 1.0, 0, 0),
        ("voice", 1, 0.0, 2.0, 1, 0),
    ]
    assert by_model["items"][1]["id"] == ids["cats"]
    assert [(one["name"], *spent(one)) for one in by_team["items"]] == [
        ("vision", 3, 35.5, 5.0, 0, 1),
        (None, 1, 1.0, 1.0, 0, 0),
        ("speech", 1, 0.0, 2.0, 1, 0),
    ]


async def test_costs_are_filtered_by_start_and_cut_without_losing_the_total(
    registry: Registry,
) -> None:
    await spenders(registry)
    between = "since=2026-01-02T00:00:00Z&until=2026-01-04T00:00:00Z"
    in_all = (await registry.get(f"{RUNS}/costs?{between}")).json
    by_team = (await registry.get(f"{RUNS}/costs?by=team&{between}")).json
    cut = (await registry.get(f"{RUNS}/costs?by=model&limit=1")).json

    assert spent(in_all["total"]) == spent(by_team["total"]) == (2, 25.5, 4.0, 0, 1)
    assert [one["name"] for one in by_team["items"]] == ["vision"]
    assert [one["name"] for one in cut["items"]] == ["dogs"]
    assert (cut["groups"], cut["total"]["cost_usd"]) == (4, 36.5)


async def test_costs_of_nothing_are_nothing(registry: Registry) -> None:
    for by in ("", "?by=model", "?by=team"):
        answer = await registry.get(f"{RUNS}/costs{by}")
        assert spent(answer.json["total"]) == (0, 0.0, 0.0, 0, 0)
        assert answer.json["items"] == []


@pytest.mark.parametrize("by", [None, "model", "team"])
async def test_a_cost_summary_is_one_statement(registry: Registry, by: costs.Group | None) -> None:
    await spenders(registry)
    index = registry.store.index
    before = index.statement_count()  # type: ignore[attr-defined]  # of the one there is
    await cost_service.sum_costs(registry.store, LOCAL, by=by, since=1, until=2**62, limit=10)

    assert index.statement_count() - before == 1  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("given", [(), ("since",), ("since", "until")])
async def test_sums_read_no_rows_of_runs(registry: Registry, given: tuple[str, ...]) -> None:
    for statement in (
        costs._in_all(given),
        costs._by("model", given),
        costs._by("team", given),
    ):
        plan = await plan_of(registry.store.index, statement)
        of_runs = [step for step in plan if " runs " in f" {step} "]
        assert of_runs
        assert all("COVERING INDEX" in step for step in of_runs), plan
