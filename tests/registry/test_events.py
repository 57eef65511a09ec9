"""The stream of events: whole, in order, resumable, and over when it must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse

from registry.api import events as module
from registry.config import AuthConfig, Config, EventsConfig
from registry.keys import DRAIN, FEED, SEALS
from tests.support.builders import Registry
from tests.support.people import Person, grant, make_person, revoke_tokens
from tests.support.serving import opened, serving

EVENTS = "/api/v1/events"


class Event(msgspec.Struct, frozen=True):
    id: int
    event: str
    data: Any


class Stream:
    """What comes, event by event; comments and the pause to keep are noted aside."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.comments = 0
        self.retry = 0

    async def next(self) -> Event | None:
        """The next event; None at the clean end."""
        fields: dict[str, str] = {}
        while line := (await asyncio.wait_for(self.response.content.readline(), 20)).decode():
            name, _, value = line.rstrip("\n").partition(":")
            if line == "\n" and "data" in fields:
                data = json.loads(fields["data"])
                return Event(int(fields["id"]), fields["event"], data)
            if line.startswith(":"):
                self.comments += 1
            elif name == "retry":
                self.retry = int(value)
            elif line != "\n":
                fields[name] = value.removeprefix(" ")
        return None

    async def rest(self) -> list[Event]:
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def listening(registry: Registry, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    async with registry.session.get(registry.url + EVENTS + query, headers=headers) as response:
        assert response.status == 200, await response.read()
        yield Stream(response)


@asynccontextmanager
async def registry_with(
    seconds: int = 0, streams: int = 100, **more: Any
) -> AsyncIterator[Registry]:
    config = Config(events=EventsConfig(stream_seconds=seconds, streams=streams), **more)
    async with opened(None) as store, serving(store, config) as site:
        yield Registry(site)


@pytest.fixture
async def brief() -> AsyncIterator[Registry]:
    """A registry whose streams end after what there is."""
    async with registry_with() as registry:
        yield registry


@pytest.fixture
async def patient(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    """A registry whose streams go on, and look often."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.002)
    async with registry_with(3600) as registry:
        yield registry


async def happen(registry: Registry, *names: str) -> None:
    for name in names:
        answer = await registry.send("POST", "/api/v1/models", json={"name": name})
        assert answer.status == 201, answer.body
    await registry.site.app[SEALS].seal()


async def heard(registry: Registry, query: str = "", **headers: str) -> list[str]:
    async with listening(registry, query, **headers) as stream:
        return [event.data["name"] for event in await stream.rest()]


async def test_what_happened_is_told_in_order_as_the_audit_log_shows_it(brief: Registry) -> None:
    await happen(brief, "one", "two")
    async with listening(brief, "?after=0") as stream:
        found = await stream.rest()
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.retry == module.RETRY_MILLISECONDS
    log = (await brief.get("/api/v1/audit")).json["items"]

    assert [event.data for event in found] == log[::-1]
    assert [(event.id, event.event) for event in found] == [
        (entry["id"], f"{entry['kind']}.{entry['action']}") for entry in log[::-1]
    ]


async def test_what_is_not_sealed_is_not_told_yet(brief: Registry) -> None:
    await happen(brief, "one")
    await brief.send("POST", "/api/v1/models", json={"name": "two"})

    assert await heard(brief, "?after=0") == ["one"]


async def test_who_comes_back_hears_what_was_missed_and_nothing_twice(brief: Registry) -> None:
    await happen(brief, "one", "two")
    async with listening(brief, "?after=0") as stream:
        first = await stream.next()
    assert first is not None
    await happen(brief, "three")

    assert await heard(brief, "?after=0", **{"Last-Event-ID": str(first.id)}) == ["two", "three"]


async def test_many_pages_are_told_whole(brief: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.services.events.PAGE", 2)
    names = [f"model-{number}" for number in range(7)]
    await happen(brief, *names)

    assert await heard(brief, "?after=0") == names


async def test_filters_leave_out_the_rest(brief: Registry) -> None:
    await happen(brief, "one", "two")
    await brief.send("POST", "/api/v1/teams", json={"name": "vision"})
    await brief.send("DELETE", "/api/v1/models/two")
    await happen(brief)

    assert await heard(brief, "?after=0&kind=team") == ["vision"]
    assert await heard(brief, "?after=0&kind=team&kind=model&action=delete") == ["two"]
    assert await heard(brief, "?after=0&model=one") == ["one"]
    missing = await brief.get(f"{EVENTS}?model=three")
    assert (missing.status, missing.code) == (404, "model_not_found")


async def test_without_a_place_a_stream_begins_with_what_comes(patient: Registry) -> None:
    await happen(patient, "before")
    async with listening(patient) as stream:
        await happen(patient, "after")
        event = await stream.next()

    assert event is not None
    assert event.data["name"] == "after"


async def test_a_log_that_was_cut_short_is_told(brief: Registry) -> None:
    await happen(brief, "one")
    async with listening(brief, **{"Last-Event-ID": "4711"}) as stream:
        [found] = await stream.rest()

    assert (found.event, found.data) == ("reset", {"id": found.id})
    assert 0 < found.id < 4711


@pytest.mark.parametrize("place", ["-1", "one", "1.5", "9" * 30, "\u0661"])
async def test_a_place_is_a_number(brief: Registry, place: str) -> None:
    async with brief.session.get(brief.url + EVENTS, headers={"Last-Event-ID": place}) as response:
        assert response.status == 400
        assert (await response.json())["errors"][0]["field"] == "Last-Event-ID"


async def test_silence_is_filled_with_comments(
    patient: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    async with listening(patient) as stream:
        waiting = asyncio.ensure_future(stream.next())
        await patient.site.until(lambda: stream.comments >= 3)
        await happen(patient, "one")
        event = await waiting

    assert event is not None
    assert event.data["name"] == "one"


async def test_a_draining_server_ends_its_streams_cleanly(patient: Registry) -> None:
    async with listening(patient) as stream:
        patient.site.app[DRAIN].begin()
        assert await stream.rest() == []
    await patient.site.until(lambda: patient.site.app[FEED].streams == 0)


async def test_a_client_that_left_is_noticed_before_anything_is_said(
    patient: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 3600.0)
    feed = patient.site.app[FEED]
    async with listening(patient) as stream:
        await patient.site.until(lambda: feed.streams == 1)
        stream.response.close()

    await patient.site.until(lambda: feed.streams == 0)


async def test_a_worker_keeps_so_many_streams_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.002)
    async with registry_with(3600, streams=1) as registry, listening(registry):
        refused = await registry.get(EVENTS)

    assert (refused.status, refused.code) == (429, "limit_reached")


async def test_other_workers_are_heard(patient: Registry) -> None:
    """Another application on the same index stands for another worker."""
    async with serving(patient.store, Config()) as site, listening(patient) as stream:
        await happen(Registry(site), "theirs")
        event = await stream.next()

    assert event is not None
    assert event.data["name"] == "theirs"


@asynccontextmanager
async def asking_who(seconds: int = 0) -> AsyncIterator[tuple[Registry, Person]]:
    """A registry that asks who one is, with an administrator."""
    async with registry_with(seconds, auth=AuthConfig(mode="authenticated")) as registry:
        yield registry, await make_person(registry.store, "root", is_admin=True)


async def make_models(registry: Registry, boss: Person, *names: str) -> None:
    for name in names:
        async with registry.session.post(
            registry.url + "/api/v1/models", json={"name": name}, headers=boss.headers
        ) as response:
            assert response.status == 201, await response.text()
    await registry.site.app[SEALS].seal()


async def test_whoever_reads_the_log_of_a_namespace_hears_of_it_alone() -> None:
    async with asking_who() as (registry, boss):
        for slug in ("ours", "theirs"):
            async with registry.session.post(
                registry.url + "/api/v1/namespaces", json={"slug": slug}, headers=boss.headers
            ) as response:
                assert response.status == 201, await response.text()
        await make_models(registry, boss, "ours/one", "theirs/two")
        somebody = await make_person(registry.store, "ada")
        before = await registry.send("GET", f"{EVENTS}?after=0", headers=somebody.headers)
        await grant(registry.store, somebody, "admin", kind="namespace", on="ours")

        everything = await heard(registry, "?after=0&kind=model", **boss.headers)
        own = await heard(registry, "?after=0", **somebody.headers)

    assert b"data" not in before.body
    assert everything == ["ours/one", "theirs/two"]
    assert own == ["ours/one"]


async def test_a_token_that_was_revoked_ends_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.002)
    async with asking_who(3600) as (registry, boss):
        other = await make_person(registry.store, "grace", is_admin=True)
        # Of models alone: that tokens were used is told by and by.
        async with listening(registry, "?kind=model", **other.headers) as stream:
            await make_models(registry, boss, "one")
            assert (await stream.next()) is not None
            await revoke_tokens(registry.store, other)
            await make_models(registry, boss, "two")

            assert await stream.rest() == []
