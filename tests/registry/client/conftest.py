"""A patient client that does not really wait, and servers and links that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import text

from registry.client.connection import Connection, Patience
from registry.client.push import Publication, Pushed, push
from registry.client.transfer import Step
from registry.client.unfinished import Unfinished
from registry.domain.names import parse_model_name
from registry.keys import DRAIN
from store.index.transactions import Statement, Tx
from tests.support.builders import Registry

Connect = Callable[[str], Connection]


class Watched:
    """Remembers every step it was told."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)

    def ended_full(self, stage: str) -> bool:
        last = [step for step in self.steps if step.stage == stage][-1]
        return last.done == last.total


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def pauses() -> list[float]:
    """What the client would have waited."""
    return []


@pytest.fixture
def connect(pauses: list[float]) -> Connect:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    def connection(url: str, **patience: int) -> Connection:
        return Connection(url, patience=Patience(**patience), sleep=sleep)

    return connection


@pytest.fixture
async def registry(registry: Registry) -> AsyncIterator[Registry]:
    """The registry of all tests; the leases that a question for missing blobs leaves end early."""
    yield registry
    drain = registry.site.app[DRAIN]
    await registry.site.until(lambda: not drain.in_flight)  # a question may still be answered
    statement = Statement(text("DELETE FROM leases"))

    async def unit(tx: Tx) -> int:
        return await tx.run(statement)

    await registry.store.index.run(unit)


def filled(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


async def send(
    url: str,
    connect: Connect,
    unfinished: Unfinished,
    *places: Path,
    label: str | None = "1.0.0",
    watch: Any = lambda step: None,
    patience: Mapping[str, int] | None = None,
    **more: Any,
) -> Pushed:
    publication = Publication(model=parse_model_name("bert"), label=label, **more)
    async with connect(url, **(patience or {})) as connection:
        return await push(connection, places, publication, unfinished=unfinished, watch=watch)


class Link:
    """A way to a server that cuts connections after so many bytes, in either direction.

    `up` and `down` hold one limit for each connection, in the order in which they are made.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.up: list[int | None] = []
        self.down: list[int | None] = []
        self.sent = 0
        self.received = 0
        self.url = ""

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up = self.up.pop(0) if self.up else None
        down = self.down.pop(0) if self.down else None
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        ways = [
            asyncio.create_task(self._copy(reader, back, up, "sent")),
            asyncio.create_task(self._copy(there, writer, down, "received")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()  # what is on its way to the server still arrives
            writer.transport.abort()

    async def _copy(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        limit: int | None,
        name: str,
    ) -> None:
        try:
            while piece := await source.read(65_536):
                if limit is not None:
                    piece = piece[:limit]
                    limit -= len(piece)
                setattr(self, name, getattr(self, name) + len(piece))
                target.write(piece)
                await target.drain()
                if limit == 0:
                    return
        except ConnectionError:
            return


@asynccontextmanager
async def linked(port: int) -> AsyncIterator[Link]:
    link = Link(port)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):  # asyncio logs a cancelled callback as a fault
            await link._pass_on(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    link.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield link
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn


@asynccontextmanager
async def answering(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """A server whose every answer a test makes up; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
