"""``digestry demo``: what it makes, that it repeats, where it refuses, what it prints."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from registry.cli import demo as command
from registry.cli.commands import run_command
from registry.client.errors import ClientError
from registry.demo.content import files_of
from registry.demo.curves import curves
from registry.demo.filling import Filled, HoldsOthers, NameTaken, fill_at
from registry.demo.works import WORKS, releases
from tests.support.builders import Registry, running_registry


class Interrupted(Exception):
    """Somebody pressed a key."""


def unwatched(stage: str, done: int, total: int) -> None:
    """Nobody looks."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def company(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Registry]:
    root = tmp_path_factory.mktemp("demo") / "data"
    async with running_registry(root) as running:
        filled = await fill_at(running.url, unwatched)
        assert not filled.was_there
        yield running
        await running.check()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with running_registry(None) as running:
        yield running


async def api(registry: Registry, path: str) -> Any:
    answer = await registry.get(f"/api/v1/{path}")
    assert answer.status == 200, answer.body
    return answer.json


async def items(registry: Registry, path: str) -> list[Any]:
    found: list[Any] = (await api(registry, path))["items"]
    return found


@pytest.mark.asyncio(loop_scope="module")
async def test_a_company_is_there(company: Registry) -> None:
    there = await api(company, "analytics/registry")

    assert there["models_by_kind"] == {"dataset": 4, "model": 16}
    assert (there["teams"], there["experiments"], there["environments"]) == (6, 4, 5)
    assert there["versions"] == len(list(releases())) >= 36
    assert set(there["runs_by_status"]) == {
        *("succeeded", "failed", "cancelled", "timeout", "running")
    }
    assert set(there["deployments_by_status"]) == {
        *("deploying", "healthy", "degraded", "failed", "terminated")
    }
    assert there["lineage"] > 20
    # A run that is told of twice, because the answer was lost, is there once.
    assert await company.count("idempotency_keys") > there["versions"] + there["runs"]
    assert there["bytes"]["saved"] > there["bytes"]["in_versions"] / 2
    assert {one["name"].partition("/")[0] for one in await items(company, "models")} == {
        *("support", "language", "vision", "tabular", "forecasting", "ranking", "speech")
    }


@pytest.mark.asyncio(loop_scope="module")
async def test_every_view_of_a_model_has_something_to_show(company: Registry) -> None:
    router = "models/language~ticket-router"
    history = await items(company, f"{router}/aliases/champion/history")
    found = await api(company, f"analytics/{router}")
    version = f"{router}/versions/1.2.0"

    assert [one["version"]["label"] for one in history] == ["1.2.0", "1.0.0", "1.1.0", "1.0.0"]
    assert found["versions"]["by_status"] == {"deprecated": 1, "production": 1, "validated": 1}
    assert found["runs"]["by_status"] == {"cancelled": 1, "failed": 1, "succeeded": 5}
    assert found["deployments"]["active"] == 2
    assert found["cost_usd"] > found["gpu_hours"] > 0
    assert (await api(company, f"{version}/scores"))["overall"]["value"] > 0.4
    assert (await items(company, f"{version}/reviews"))[0]["verdict"] == "approve"
    assert {one["split"] for one in await items(company, f"{version}/metrics")} == {
        *("train", "validation", "test", "production")
    }
    assert (await api(company, f"{router}/versions/1.3.0"))["label"] == "1.3.0"
    assert b"Sends each support ticket" in (await company.get(f"/api/v1/{router}/card")).body
    [old] = await items(company, "analytics/retraining")
    assert (old["name"], old["measured_from"]) == ("forecasting/energy", "run")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_deployment_was_rolled_back(company: Registry) -> None:
    listed = await items(company, "deployments?name=ticket-router&environment=production-eu")
    events = await items(company, f"deployments/{listed[0]['id']}/events?limit=1000")

    assert listed[0]["version"]["label"] == "1.2.0"
    assert listed[0]["replicas"] == 6
    actions = [one["action"] for one in events]
    assert len(actions) == 10
    assert actions.count("rollback") == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_gateway_gets_an_answer(company: Registry) -> None:
    found = await api(company, "resolve?task=text-generation")

    assert found["items"][0]["model"]["name"] == "language/reply-drafter"
    assert found["items"][0]["success_rate"] > 0.9


@pytest.mark.asyncio(loop_scope="module")
async def test_curves_fall_rise_and_blow_up(company: Registry) -> None:
    runs = {one["name"]: one for one in await items(company, "runs?limit=1000")}

    best = await chart(company, runs["rate 3e-4"], "train/loss")
    score = await chart(company, runs["rate 3e-4"], "validation/score")
    lost = await chart(company, runs["rate 3e-3"], "train/loss")
    assert best[0] > 2 > 0.5 > best[-1]
    assert score[0] < 0.3 < 0.85 < score[-1] < 1
    assert lost[-1] == "NaN"
    assert runs["rate 3e-3"]["status"] == "failed"


async def chart(company: Registry, run: Any, key: str) -> list[Any]:
    path = f"runs/{run['id']}/metrics/points?limit=1000&key={key.replace('/', '%2F')}"
    return [one["value"] for one in await items(company, path)]


@pytest.mark.asyncio(loop_scope="module")
async def test_again_changes_nothing(company: Registry) -> None:
    before = await company.count("audit")

    assert await fill_at(company.url, unwatched) == Filled(was_there=True, made={})
    assert await company.count("audit") == before


async def counts(registry: Registry) -> dict[str, Any]:
    found: dict[str, Any] = await api(registry, "analytics/registry")
    del found["at"]
    found["points"] = await registry.count("run_points")
    found["version_metrics"] = await registry.count("version_metrics")
    found["alias_events"] = await registry.count("alias_events")
    found["deployment_events"] = await registry.count("deployment_events")
    return found


async def test_what_was_interrupted_is_finished_and_what_is_there_stays(
    registry: Registry,
) -> None:
    for stop in ("versions", "runs"):

        def watch(stage: str, done: int, total: int, stop: str = stop) -> None:
            if stage == stop and total and done >= total / 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            await fill_at(registry.url, watch)
    filled = await fill_at(registry.url, unwatched)
    assert not filled.was_there
    whole = await counts(registry)
    answer = await registry.send(
        "PUT", "/api/v1/models/ranking~recommendations/tags/demo", json={"value": "made-up"}
    )
    assert answer.status in (200, 201)
    again = await fill_at(registry.url, unwatched)

    after = await counts(registry)

    assert set(again.made) == {"downloads"}
    assert after | {"tags": 0} == whole | {"tags": 0}
    assert whole["runs_by_status"]["running"] == 1
    assert whole["versions"] == len(list(releases()))


async def test_other_models_are_left_alone_unless_told_otherwise(registry: Registry) -> None:
    made = await registry.send("POST", "/api/v1/models", json={"name": "mine"})
    assert made.status == 201

    with pytest.raises(HoldsOthers) as refused:
        await fill_at(registry.url, unwatched)
    assert isinstance(refused.value, ClientError)
    assert await registry.count("teams") == 0

    def watch(stage: str, done: int, total: int) -> None:
        if stage == "files":
            raise Interrupted

    with pytest.raises(Interrupted):
        await fill_at(registry.url, watch, anyway=True)
    assert await registry.count("models") == 21


async def test_somebody_elses_model_is_never_added_to(registry: Registry) -> None:
    made = await registry.send("POST", "/api/v1/models", json={"name": "Tabular/Fraud"})
    assert made.status == 201

    with pytest.raises(NameTaken, match="tabular/fraud"):
        await fill_at(registry.url, unwatched, anyway=True)
    assert await registry.count("models") == 1
    assert await registry.count("teams") == 0


# The command


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_says_what_and_where(
    company: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await asyncio.to_thread(run_command, ["demo", "--server", company.url])
    told = capsys.readouterr().out
    assert code == 0
    assert "there already" in told
    assert f"curl {company.url}/api/v1/analytics/registry" in told

    await asyncio.to_thread(run_command, ["demo", "--server", company.url, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["was_there"], found["made"], found["server"]) == (True, {}, company.url)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_it_points_at_is_there(company: Registry) -> None:
    for place in command.places(company.url):
        words = place.replace("'", "").split()
        if words[0] == "digestry":
            continue
        answer = await company.get(words[-1].removeprefix(company.url))
        assert answer.status == 200, place


async def test_the_command_refuses_where_models_are(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    await registry.send("POST", "/api/v1/models", json={"name": "mine"})

    code = await asyncio.to_thread(run_command, ["demo", "--server", registry.url])

    assert code == 2
    assert "--anyway" in capsys.readouterr().err


# Content


def test_the_same_files_come_every_time() -> None:
    work = WORKS[5]

    assert files_of(work, work.releases[0]) == files_of(work, work.releases[0])
    assert files_of(work, work.releases[0]) != files_of(work, work.releases[1])


def tensors(content: bytes) -> Mapping[str, Any]:
    """The header of a safetensors file, checked as its readers check it."""
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    header.pop("__metadata__")
    end = 0
    for one in header.values():
        begin, end_of = one["data_offsets"]
        assert begin == end
        width = {"F32": 4, "I8": 1}[one["dtype"]]
        assert end_of - begin == width * math.prod(one["shape"])
        end = end_of
    assert len(content) == 8 + length + end
    return header


def test_weights_are_whole_and_finite() -> None:
    for work, release in releases():
        for path, content in files_of(work, release).items():
            if path.endswith(".safetensors"):
                found = tensors(content)
                begin = len(content) - max(one["data_offsets"][1] for one in found.values())
                first = next(one for one in found.values() if one["dtype"] == "F32")
                at = begin + first["data_offsets"][0]
                (value,) = struct.unpack("<f", content[at : at + 4])
                assert abs(value) < 0.06, path


def test_tables_have_the_columns_that_are_said() -> None:
    for work, release in releases():
        if work.kind == "dataset":
            files = files_of(work, release)
            parts = [files[path].decode() for path in files if path.startswith("data/")]
            assert len(parts) == work.releases.index(release) + 1
            for part in parts:
                lines = part.splitlines()
                assert lines[0] == ",".join(work.columns)
                assert {line.count(",") for line in lines} == {len(work.columns) - 1}


def test_a_curve_is_finite_until_it_is_not() -> None:
    for shape, last in (("learns", 60), ("diverges", 27), ("stops", 18)):
        points = list(curves("x", shape, best=0.9, rate=1e-3))  # type: ignore[arg-type]  # a literal
        losses = [point["value"] for point in points if point["key"] == "train/loss"]
        assert len(losses) == last + 1
        assert ("NaN" in losses) == (shape == "diverges")
        assert all(isinstance(value, float) for value in losses[:-1])
