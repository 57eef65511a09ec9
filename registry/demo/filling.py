"""Fills a registry with the company, through its API. Every stage may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from registry.client.connection import Connection
from registry.client.errors import ClientError, Refused
from registry.client.transfer import each
from registry.demo import operating, publishing, training
from registry.demo.kinds import Work
from registry.demo.making import AT_ONCE, MARK, Maker, Watch
from registry.demo.wishes import segment
from registry.demo.works import WORKS

DONE: Final = "complete"
"""The value of the tag on the last model, once everything is there."""

STAGES: Final[tuple[tuple[str, Callable[[Maker], Awaitable[None]]], ...]] = (
    ("teams", publishing.teams),
    ("models", publishing.models),
    ("files", publishing.files),
    ("versions", publishing.versions),
    ("drafts", publishing.drafts),
    ("statuses", publishing.statuses),
    ("champions", publishing.champions),
    ("measurements", publishing.measurements),
    ("runs", training.runs),
    ("environments", operating.environments),
    ("deployments", operating.deployments),
    ("bindings", operating.bindings),
    ("reviews", operating.reviews),
    ("scores", operating.scores),
    ("downloads", operating.downloads),
)


class HoldsOthers(ClientError):
    """The registry holds models that are not of the demo."""

    def __init__(self, models: int) -> None:
        self.models = models
        super().__init__(f"the registry holds {models} models already")


class NameTaken(ClientError):
    """A model of the demo's name is somebody's; nothing is added to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} is there and not of the demo; rename it or use another server")


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now of the company, and whether it was there before."""

    was_there: bool
    made: dict[str, int]


async def fill(connection: Connection, watch: Watch, *, anyway: bool = False) -> Filled:
    """Make the company; raises what the client raises.

    Before anything is made: `HoldsOthers` unless `anyway`, and `NameTaken`.
    """
    if await _is_complete(connection):
        return Filled(was_there=True, made={})
    if not anyway:
        await _require_room(connection)
    there = await _found_models(connection)
    return await _filled(Maker(connection, watch, there))


async def _is_complete(connection: Connection) -> bool:
    path = f"/api/v1/models?tag={MARK}%3D{DONE}&limit=1"
    return bool((await connection.get(path, dict[str, Any]))["items"])


async def _require_room(connection: Connection) -> None:
    counted = "/api/v1/models?limit=1&total=true"
    there = (await connection.get(counted, dict[str, Any]))["total"]
    own = (await connection.get(f"{counted}&tag={MARK}", dict[str, Any]))["total"]
    if there > own:
        raise HoldsOthers(there)


async def _found_models(connection: Connection) -> set[str]:
    """The models of the demo that are there; raises `NameTaken`."""
    found = set[str]()

    async def look(work: Work) -> None:
        try:
            path = f"/api/v1/models/{segment(work.name)}"
            there = await connection.get(path, dict[str, Any])
        except Refused as refused:
            if refused.status != 404:
                raise
            return
        if MARK not in {tag["key"] for tag in there["tags"]}:
            raise NameTaken(work.name)
        found.add(work.name)

    await each(WORKS, look, at_once=AT_ONCE)
    return found


async def _filled(maker: Maker) -> Filled:
    for stage, work in STAGES:
        maker.watch(stage, 0, 0)
        await work(maker)
    await maker.api("PUT", f"models/{segment(WORKS[-1].name)}/tags/{MARK}", {"value": DONE})
    return Filled(was_there=False, made=dict(sorted(maker.made.items())))


async def fill_at(
    url: str, watch: Watch, *, anyway: bool = False, token: str | None = None
) -> Filled:
    """The same at a server's address, as whoever has the token."""
    async with Connection(url, token=token) as connection:
        return await fill(connection, watch, anyway=anyway)
