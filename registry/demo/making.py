"""What all stages of the demo share: words for requests, and what was made so far."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from registry.client.connection import Connection
from registry.client.errors import Refused
from registry.client.transfer import each

MARK: Final = "demo"
"""The tag on everything that the demo made."""

MADE: Final = "made-up"
AT_ONCE: Final = 8

Watch = Callable[[str, int, int], None]
"""Told which stage is at which of how many steps."""


class Maker:
    """One run of the demo at one server."""

    def __init__(self, connection: Connection, watch: Watch, there: set[str]) -> None:
        self.connection = connection
        self.watch = watch
        self.there = there
        """The models that were there before."""
        self.now = datetime.now(UTC)
        self.versions: dict[str, dict[str, Any]] = {}
        """What the server says of each release, by ``model:label``."""
        self.made: dict[str, int] = {}

    async def api(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """What the server answers; a repeat of a lost request changes nothing."""
        return (await self._exchange(method, path, content))[1]

    async def post(self, path: str, content: Any) -> tuple[int, dict[str, Any]]:
        """The same with the status: 201 where something was made."""
        return await self._exchange("POST", path, content)

    async def _exchange(self, method: str, path: str, content: Any) -> tuple[int, dict[str, Any]]:
        headers: Mapping[str, str] = {}
        if method == "POST":
            headers = {"Idempotency-Key": secrets.token_hex(16)}
        return await self.connection.exchange(
            method, f"/api/v1/{path}", dict[str, Any], content=content, headers=headers
        )

    async def make(self, path: str, content: Any, kind: str) -> dict[str, Any] | None:
        """Make something; None where it is there already."""
        try:
            made = await self.api("POST", path, content)
        except Refused as refused:
            if refused.status == 409 and refused.code.endswith(("_exists", "_taken")):
                return None
            raise
        self.count(kind)
        return made

    def count(self, kind: str, count: int = 1) -> None:
        """So many were made."""
        if count:
            self.made[kind] = self.made.get(kind, 0) + count

    async def listed(self, path: str) -> list[dict[str, Any]]:
        """The first thousand of a list."""
        limited = f"{path}{'&' if '?' in path else '?'}limit=1000"
        items: list[dict[str, Any]] = (await self.api("GET", limited))["items"]
        return items

    async def put(self, path: str, content: bytes) -> None:
        """Send bytes to an address outside of the API."""

        async def attempt() -> None:
            async with self.connection.answered("PUT", path, data=content):
                pass

        await self.connection.repeated(attempt)

    async def all(
        self, stage: str, items: Sequence[Any], work: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Work on all, several at once, and tell how far it is."""
        done = 0

        async def one(item: Any) -> None:
            nonlocal done
            await work(item)
            done += 1
            self.watch(stage, done, len(items))

        await each(items, one, at_once=AT_ONCE)
