"""A receiver of webhooks on loopback that answers as a test says and keeps what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Received(msgspec.Struct):
    """One request, whole."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """Answers 204, or what `then` says, first to last, and the last of it for ever."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.under_way = 0
        self.most_under_way = 0
        self.url = ""
        self._behaviours: list[Behaviour] = []

    def then(self, *behaviours: Behaviour | int) -> None:
        """What to answer from now on: a status, or a handler."""
        self._behaviours = [one if callable(one) else answering(one) for one in behaviours]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            body = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(request.raw_path, headers, body))
            if not self._behaviours:
                return web.Response(status=204)
            behave = self._behaviours[0]
            if len(self._behaviours) > 1:
                self._behaviours.pop(0)
            return await behave(request)
        finally:
            self.under_way -= 1


def answering(status: int, body: str = "", **headers: str) -> Behaviour:
    """Always the same answer."""

    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=body or None, headers=named)

    return answer


async def reset(request: web.Request) -> web.StreamResponse:
    """End the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never(_: web.Request) -> web.StreamResponse:
    """Do not answer at all."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
