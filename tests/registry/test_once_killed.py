"""A server killed between commit and answer, and a client that repeats its request afterwards.

With an ``Idempotency-Key`` the client gets the answer it missed, and the change was made once:
whether the kill came right after the commit, or right before it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientError, ClientSession, FormData

from store.digest import Digest
from tests.support.builders import Registry, running_registry
from tests.support.servers import ROOT, environment, make_like_new

HELLO = str(Digest.of(b"hello"))
KEY = {"Idempotency-Key": "the-one"}
PATIENCE_SECONDS = 60.0


class Order(msgspec.Struct, frozen=True):
    """A request with what must be there before, and what it makes: rows of a table."""

    name: str
    path: str
    makes: str
    json: Any = None
    data: bytes | None = None
    files: Mapping[str, bytes] | None = None

    def body(self) -> Any:
        """What to send; a form has another boundary each time."""
        if self.files is None:
            return self.data
        form = FormData()
        for name, content in self.files.items():
            form.add_field("file", content, filename=name)
        return form


ORDERS = [
    Order("publish", "/api/v1/models/bert/versions/1.0.0/publish", "versions"),
    Order(
        "register",
        "/api/v1/models/bert/versions",
        "versions",
        json={"label": "2.0.0", "files": [{"path": "a.txt", "digest": HELLO}], "publish": True},
    ),
    Order("multipart", "/api/v1/models/bert/versions", "versions", files={"a.txt": b"new"}),
    Order("model", "/api/v1/models", "models WHERE name = 'gpt'", json={"name": "gpt"}),
    Order("pin", "/api/v1/pins", "audit WHERE kind = 'pin'", json={"digest": HELLO}),
    Order("blob", "/blobs", "blobs WHERE size = 5000", data=b"large" * 1000),
]


@asynccontextmanager
async def dying(root: Path, moment: str) -> AsyncIterator[str]:
    """The address of a server that will die; at the end of the block it must have."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.dying", str(root), moment,
        env=environment(), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
        assert await process.wait() == -9
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("order", ORDERS, ids=[order.name for order in ORDERS])
async def test_what_was_not_answered_is_answered_once_repeated(
    tmp_path: Path, order: Order, moment: str
) -> None:
    root = tmp_path / "data"
    await asyncio.to_thread(make_like_new, root)  # the dying one would migrate for half a second
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with dying(root, moment) as url, ClientSession(url) as session:
            async with session.put("/models/bert/1.0.0/a.txt", data=b"hello") as put:
                assert put.status == 201
            with pytest.raises(ClientError):
                await session.post(order.path, json=order.json, data=order.body(), headers=KEY)
        async with running_registry(root) as registry:
            before = await registry.count(order.makes)
            first = await repeat(registry, order)
            again = await repeat(registry, order)

            assert before == (1 if moment == "after" else 0)
            assert await registry.count(order.makes) == 1
            assert first.status == 201
            assert ("Idempotency-Replayed" in first.headers) == (moment == "after")
            assert "Idempotency-Replayed" in again.headers
            assert (again.status, again.body) == (first.status, first.body)


async def repeat(registry: Registry, order: Order) -> Any:
    return await registry.send("POST", order.path, json=order.json, data=order.body(), headers=KEY)
