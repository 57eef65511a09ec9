from __future__ import annotations

import math
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from registry.config import Config, StoreConfig
from registry.keys import CONDITION, DRAIN, METRICS, SURVEY
from registry.services import condition as condition_module
from store.errors import Unavailable
from store.opening import Store
from tests.support.storing import put


async def test_the_living_are_healthy(client: aiohttp.ClientSession) -> None:
    response = await client.get("/healthz")

    assert (response.status, await response.json()) == (200, {"status": "ok", "faults": {}})


async def test_a_fresh_server_is_ready(client: aiohttp.ClientSession) -> None:
    response = await client.get("/readyz")

    assert (response.status, await response.json()) == (200, {"status": "ok", "faults": {}})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/v1/stats", "/"])
async def test_heads_have_no_body(client: aiohttp.ClientSession, path: str) -> None:
    response = await client.head(path)

    assert (response.status, await response.read()) == (200, b"")


async def faults(client: aiohttp.ClientSession) -> tuple[int, set[str]]:
    response = await client.get("/readyz")
    return response.status, set((await response.json())["faults"])


async def test_a_draining_server_is_alive_and_not_ready(
    client: aiohttp.ClientSession, app: web.Application
) -> None:
    app[DRAIN].begin()

    assert await faults(client) == (503, {"draining"})
    assert (await client.get("/healthz")).status == 200


async def test_an_index_that_cannot_be_read_is_not_ready(
    client: aiohttp.ClientSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(unit: Any) -> None:
        raise Unavailable("reading the index")

    monkeypatch.setattr(store.index, "look", look)

    assert await faults(client) == (503, {"index"})


@pytest.mark.parametrize("store", ["local"], indirect=True)
class TestOnADisk:
    async def test_a_fresh_directory_is_ready(self, client: aiohttp.ClientSession) -> None:
        assert await faults(client) == (200, set())

    async def test_a_directory_that_cannot_be_written_is_not_ready(
        self, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(condition_module.os, "access", lambda *_: False)

        assert await faults(client) == (503, {"storage"})


@pytest.mark.parametrize("store", ["local"], indirect=True)
class TestBelowTheReserve:
    @pytest.fixture
    def config(self) -> Config:
        return Config(store=StoreConfig(reserve_share=1.0))

    async def test_the_server_is_not_ready(self, client: aiohttp.ClientSession) -> None:
        assert await faults(client) == (503, {"space"})


async def test_stats_count_blobs_and_bytes(client: aiohttp.ClientSession, store: Store) -> None:
    await put(store, b"12345")
    await put(store, b"123")
    stats = await (await client.get("/api/v1/stats")).json()

    assert stats["stored"] == {
        "blobs": 2,
        "bytes": 8,
        "damaged_blobs": 0,
        "damaged_bytes": 0,
    }
    assert stats["store_id"] == store.store_id


async def test_stats_count_at_most_once_in_a_while(
    client: aiohttp.ClientSession,
    app: web.Application,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await put(store, b"12345")
    await client.get("/api/v1/stats")
    await put(store, b"123")

    monkeypatch.setattr(condition_module, "FRESH_SECONDS", math.inf)
    assert (await app[CONDITION].totals()).blobs == 1
    monkeypatch.setattr(condition_module, "FRESH_SECONDS", 0.0)
    assert (await app[CONDITION].totals()).blobs == 2


async def test_metrics_count_requests_by_route(client: aiohttp.ClientSession) -> None:
    for name in ("first-name", "second-name"):
        await client.get(f"/blobs/{name}")
    text = await (await client.get("/metrics")).text()

    counted = [
        line for line in text.splitlines() if line.startswith("digestry_http_requests_total")
    ]
    assert any('route="/blobs/{' in line and line.endswith(" 2.0") for line in counted)
    assert "first-name" not in text


async def test_metrics_count_bytes(client: aiohttp.ClientSession) -> None:
    await client.put("/blobs/a.bin", data=b"x" * 1000)
    text = await (await client.get("/metrics")).text()

    assert "digestry_http_received_bytes_total 1000.0" in text


async def test_methods_nobody_knows_share_one_label(client: aiohttp.ClientSession) -> None:
    await client.request("PROPFIND", "/healthz")
    text = await (await client.get("/metrics")).text()

    assert 'method="other"' in text
    assert "PROPFIND" not in text


async def test_gauges_are_read_when_asked(
    client: aiohttp.ClientSession, app: web.Application
) -> None:
    app[METRICS].gauge("digestry_test", "A test.", lambda: 7.0)
    text = await (await client.get("/metrics")).text()

    assert "digestry_test 7.0" in text
    assert "digestry_http_requests_in_flight 1.0" in text


async def test_metrics_tell_what_they_can_where_the_index_does_not_answer(
    client: aiohttp.ClientSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(unit: Any) -> None:
        raise Unavailable("reading the index")

    assert "digestry_index_up 1.0" in await (await client.get("/metrics")).text()
    monkeypatch.setattr(store.index, "look", fail)
    text = await (await client.get("/metrics")).text()

    assert "digestry_index_up 0.0" in text
    assert "digestry_http_requests_total" in text
    assert "digestry_blobs{" in text  # as they were seen last


async def test_a_survey_that_takes_too_long_is_no_index_that_is_down(
    client: aiohttp.ClientSession, app: web.Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise Unavailable("a read that took too long")

    monkeypatch.setattr(app[SURVEY], "look", fail)
    text = await (await client.get("/metrics")).text()

    assert "digestry_index_up 1.0" in text
    assert "digestry_survey_timestamp_seconds" not in text
