"""Where commands that manage people and rights ask: a server, as whoever is logged in there, or the
server of a data directory, as its owner.

A **desk** takes requests of the native API. The one of a server shows the token that
``digestry login`` kept, or ``DIGESTRY_TOKEN``. The one of a data directory shows the secret in
``server.json``, which makes an administrator of whoever may read that file: it works before anybody
has logged in, and when nobody can any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from registry.cli import presence
from registry.cli.exits import CommandError
from registry.cli.offices import RemoteOffice, configure
from registry.cli.transfers import with_server
from registry.client.connection import Connection
from store.processes import is_alive

PAGE = 1000


class Desk(Protocol):
    """Answers one request after the other; what is refused ends the command."""

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """What ``/api/v1/{path}`` answers as JSON; None where it answers nothing."""
        ...


class ServerDesk:
    """At a server's address; `token` takes the place of what is kept for it, an empty one is none.

    Requests are repeated where an answer is lost, so those that change something carry a key.
    """

    def __init__(self, server: str | None, *, token: str | None = None) -> None:
        self._server = server
        self._token = token

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else None

        async def work(connection: Connection, _: object) -> Any:
            raw = await connection.raw(method, f"/api/v1/{path}", content=content, headers=headers)
            return msgspec.json.decode(raw) if raw else None

        return with_server(self._server, "asking", work, token=self._token)


class LocalDesk:
    """At the server that runs on a data directory."""

    def __init__(self, data: str | None, config: str | None) -> None:
        root = Path(configure(config, data).store.data).resolve()
        found = presence.find(root)
        if found is None or not is_alive(found.pid):
            raise CommandError(f"no server runs on {root}")
        self._office = RemoteOffice(found)

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        raw = self._office.tell(method, f"/api/v1/{path}", content)
        return msgspec.json.decode(raw) if raw else None


def open_desk(server: str | None, data: str | None, config: str | None = None) -> Desk:
    """The desk that the flags of a command mean."""
    if data is None and config is None:
        return ServerDesk(server)
    if server is not None:
        raise CommandError("--server and --data mean two different servers; give one of them")
    return LocalDesk(data, config)


def all_of(desk: Desk, path: str) -> list[dict[str, Any]]:
    """Every entry of a list."""
    joint = "&" if "?" in path else "?"
    items: list[dict[str, Any]] = []
    after = ""
    while True:
        page = desk.ask("GET", f"{path}{joint}limit={PAGE}{after}")
        items += page["items"]
        if page["next"] is None:
            return items
        after = f"&after={page['next']}"
