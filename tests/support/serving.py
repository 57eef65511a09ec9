"""The application on a store, on a real socket of the test's own event loop."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession, web
from multidict import CIMultiDictProxy

from registry.app import create_app, runner_of
from registry.catalog.migrations import CHAINS
from registry.config import Config
from registry.keys import DRAIN
from store.clock import Clock, system_clock
from store.durable import Disk
from store.opening import Store, StoreSettings, open_store
from tests.support.fresh import initialize_like_new


class Answer(msgspec.Struct):
    """One answer as it came over the wire."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable word of a problem document."""
        return str(self.json["code"])


class Site:
    """A served application: ask it properly with `ask`, or with any bytes at all with `raw`."""

    def __init__(self, store: Store, app: web.Application, port: int, session: ClientSession):
        self.store = store
        self.app = app
        self.port = port
        self.session = session
        self.url = f"http://127.0.0.1:{port}"

    async def ask(self, method: str, path: str, *, data: Any = None, **options: Any) -> Answer:
        if isinstance(data, bytes):
            options["data"] = io.BytesIO(data)  # aiohttp warns about large bytes
        elif data is not None:
            options["data"] = data
        async with self.session.request(method, self.url + path, **options) as response:
            return await answer_of(response)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, sent: bytes) -> bytes:
        """Send bytes and return everything that comes until the server closes the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(sent)
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def at_rest(self) -> None:
        """Return once no request is in hand, of clients that have left neither."""
        await self.until(lambda: self.app[DRAIN].in_flight == 0)

    async def staged(self) -> list[str]:
        """Staging files that are left once every cleanup under way has ended."""
        await self.store.ingest.close()
        return [info.session async for info in self.store.blobs.list_staged()]

    async def stored(self) -> list[str]:
        """Digests of all stored files."""
        return [str(info.digest) async for page in self.store.blobs.list() for info in page]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Give the server turns of the loop until something is true."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)


async def answer_of(response: ClientResponse) -> Answer:
    return Answer(response.status, response.headers, await response.read())


def head(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and what follows them, of the first answer in `raw`."""
    block, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = block.decode("latin-1").split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, _, value in fields}, rest


@asynccontextmanager
async def serving(store: Store, config: Config | None = None) -> AsyncIterator[Site]:
    """Serve `store` until the end of the block; the store stays open."""
    config = config or Config()
    app = create_app(config, store)
    runner = runner_of(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ClientSession(auto_decompress=False) as session:
            yield Site(store, app, port, session)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(
    root: Path | None, *, clock: Clock = system_clock, disk: Disk | None = None, **settings: Any
) -> AsyncIterator[Store]:
    """A fresh store in `root`, or in memory; without a reserve, so that any disk will do."""
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(initialize_like_new, root, CHAINS)
    choices = {"reserve_bytes": 0, "reserve_share": 0.0, "chains": CHAINS, **settings}
    store = await open_store(StoreSettings(root=root, **choices), clock=clock, disk=disk)
    try:
        yield store
    finally:
        await store.close()
