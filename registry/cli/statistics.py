"""``digestry stats``: how much is stored, asked of a server or counted in the directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from registry.cli.exits import CLEAN
from registry.cli.offices import LocalOffice, RemoteOffice, open_office
from registry.cli.output import many, say, say_json, size
from registry.services.condition import Condition
from store.opening import Store


def stats(*, server: str | None, config: str | None, data: str | None, as_json: bool) -> int:
    """Print counts and bytes."""
    found = _find(server, config, data)
    if as_json:
        say_json(found)
        return CLEAN
    for line in _lines(found):
        say(line)
    return CLEAN


def _find(server: str | None, config: str | None, data: str | None) -> dict[str, Any]:
    from registry.cli.transfers import SERVER_VARIABLE, with_server

    if data is None and config is None:
        server = server or os.environ.get(SERVER_VARIABLE) or None
    if server is not None:
        return with_server(
            server, "stats", lambda connection, _: connection.get("/api/v1/stats", dict[str, Any])
        )
    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            return office.read("/api/v1/stats", dict[str, Any])
        assert isinstance(office, LocalOffice)
        return office.on_store(_count)


async def _count(store: Store) -> dict[str, Any]:
    """The same as the server answers."""
    from registry.api.health import stats_of

    settings = store.settings
    condition = Condition(
        store, reserve_bytes=settings.reserve_bytes, reserve_share=settings.reserve_share
    )
    found: dict[str, Any] = msgspec.to_builtins(await stats_of(condition))
    return found


def _lines(found: Mapping[str, Any]) -> list[str]:
    stored, space = found["stored"], found["space"]
    lines = [
        f"store: {found['store_id']}, served by digestry {found['version']}",
        f"stored: {many(stored['blobs'], 'blob')}, {size(stored['bytes'])}",
    ]
    if stored["damaged_blobs"]:
        damaged = many(stored["damaged_blobs"], "blob")
        lines.append(f"damaged: {damaged}, {size(stored['damaged_bytes'])}; uploading heals them")
    lines.append(
        f"free: {size(space['free_bytes'])} of {size(space['total_bytes'])}, "
        f"{size(space['reserve_bytes'])} kept in reserve"
    )
    return lines
