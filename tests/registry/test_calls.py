"""Every call to the kernel and to SQLite fails once under every kind of request that changes bytes.

The answer says so in its own words, 503 or 507 and never 500, or it is a success that holds. The
same request works when it is sent again, and the registry is sound at the end.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import random
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pysqlite3.dbapi2 as sqlite
import pytest

from registry.keys import UPLOAD_SESSIONS
from store.digest import Digest
from tests.support.builders import Answer, Registry, assert_claims_match
from tests.support.calls import GROWING, OPENING, READING, Calls, Fault
from tests.support.serving import opened, serving
from tests.support.soundness import assert_store_is_sound

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
CODES = {"unavailable", "storage_full", "too_many_open_files"}
LARGE = 1_300_000


class Target(msgspec.Struct):
    """What a request is about: every request gets bytes and a name that nobody else has."""

    registry: Registry
    number: int
    location: str = ""

    def content(self, size_bytes: int = 300) -> bytes:
        return random.Random(self.number).randbytes(size_bytes)

    @property
    def model(self) -> str:
        return f"m{self.number}"

    async def version(self) -> None:
        await self.registry.publish(self.model, "1.0.0", {"f": self.content()})


Act = Callable[[Target], Awaitable[Answer]]


class Request(msgspec.Struct, frozen=True):
    """A request, and what must be there before it. `again` are the answers of a repetition."""

    name: str
    act: Act
    prepare: Callable[[Target], Awaitable[object]]
    again: tuple[int, ...]


async def nothing(target: Target) -> None:
    """Nothing is needed."""


async def put(target: Target) -> Answer:
    content = target.content()
    return await target.registry.put(f"/blobs/{Digest.of(content)}", content)


async def put_large(target: Target) -> Answer:
    return await target.registry.put("/blobs/large.bin", target.content(LARGE))


async def put_file(target: Target) -> Answer:
    path = f"/models/{target.model}/1.0.0/f?publish=true"
    return await target.registry.put(path, target.content())


async def put_tar(target: Target) -> Answer:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 300
            archive.addfile(info, io.BytesIO(target.content()))
    return await target.registry.put(f"/models/{target.model}/1.0.0.tar", buffer.getvalue())


async def register(target: Target) -> Answer:
    files = [{"path": "f", "digest": str(Digest.of(target.content()))}]
    path = f"/api/v1/models/{target.model}/versions"
    return await target.registry.send("POST", path, json={"label": "1.0.0", "files": files})


async def release(target: Target) -> Answer:
    return await target.registry.send("DELETE", f"/blobs/{Digest.of(target.content())}")


async def delete(target: Target) -> Answer:
    return await target.registry.send("DELETE", f"/api/v1/models/{target.model}/versions/1.0.0")


async def purge(target: Target) -> Answer:
    path = f"/api/v1/models/{target.model}/versions/1.0.0/purge"
    return await target.registry.send("POST", path)


async def restore(target: Target) -> Answer:
    path = f"/api/v1/models/{target.model}/versions/1.0.0/restore"
    return await target.registry.send("POST", path)


async def deleted(target: Target) -> None:
    await target.version()
    assert (await delete(target)).status in (200, 204)


TUS = {"Tus-Resumable": "1.0.0"}


async def begin(target: Target) -> Answer:
    head = {**TUS, "Upload-Length": "300"}
    return await target.registry.send("POST", "/uploads", headers=head)


async def begun(target: Target) -> None:
    answer = await begin(target)
    target.location = answer.headers["Location"].removeprefix(target.registry.url)


async def finish(target: Target) -> Answer:
    """As a client does: ask how far it is, then send the rest."""
    asked = await target.registry.send("HEAD", target.location, headers=TUS)
    if asked.status != 200:
        return asked
    offset = int(asked.headers["Upload-Offset"])
    kind = "application/offset+octet-stream"
    head = {**TUS, "Upload-Offset": str(offset), "Content-Type": kind}
    content = target.content()[offset:]
    return await target.registry.send("PATCH", target.location, data=content, headers=head)


REQUESTS = [
    Request("put", put, nothing, (200, 201)),
    Request("put large", put_large, nothing, (200, 201)),
    Request("put file", put_file, nothing, (200, 201)),
    Request("put tar", put_tar, nothing, (200, 201)),
    Request("register", register, put, (200, 201)),
    Request("release", release, put, (204,)),
    Request("delete", delete, Target.version, (200, 204, 404)),
    Request("purge", purge, deleted, (200, 204)),
    Request("restore", restore, deleted, (200,)),
    Request("begin an upload", begin, nothing, (201,)),
    Request("finish an upload", finish, begun, (204, 409)),
]


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[tuple[Registry, Calls]]:
    calls = Calls()
    with calls.patched():
        async with opened(tmp_path / "data", grace_seconds=0) as store, serving(store) as site:
            calls.attach(store)
            yield Registry(site), calls


def way_to_fail(name: str, number: int, turn: int) -> Fault:
    """One of what can become of a call, another one each turn."""
    ways: list[Fault] = []
    if name.startswith("sql"):
        ways.append(Fault(number, "before", code=sqlite.SQLITE_IOERR))
        ways.append(Fault(number, "torn", code=sqlite.SQLITE_FULL))
        ways.append(Fault(number, "after", code=sqlite.SQLITE_IOERR))
    else:
        ways.append(Fault(number, "before", errno.EIO))
        ways += [Fault(number, "after", errno.EIO)] if name not in READING else []
        ways += [Fault(number, "before", errno.ENOSPC)] if name in GROWING else []
        ways += [Fault(number, "before", errno.EMFILE)] if name in OPENING else []
        ways += [Fault(number, "torn", errno.ENOSPC)] if name == "pwritev" else []
    return ways[turn % len(ways)]


def turns() -> Iterator[int]:
    """Which ways are tried in this run."""
    yield from range(5) if LONG else [random.randrange(60)]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: one.name)
async def test_a_failing_call_is_answered_cleanly(
    registry: tuple[Registry, Calls], request_: Request
) -> None:
    served, calls = registry
    served.site.app[UPLOAD_SESSIONS].finish_wait_seconds = 0
    first = Target(served, 1 << 40)
    await request_.prepare(first)
    with calls.watching():
        assert (await request_.act(first)).status < 300
        await served.store.ingest.close()
    names = calls.seen
    number = 0
    for turn in turns():
        for at, name in enumerate(names):
            number += 1
            target = Target(served, number)
            fault = way_to_fail(name, at, turn + at)
            note = f"{fault} of {name}, after {names[:at]}"
            await request_.prepare(target)
            with calls.watching(fault):
                answer = await request_.act(target)
                await served.store.ingest.close()
            if answer.status >= 300:
                assert answer.status in (503, 507), (answer.status, answer.body, note)
                if answer.body and answer.headers["Content-Type"].startswith("application/"):
                    assert answer.code in CODES, note
            again = await request_.act(target)
            assert again.status in request_.again, (again.status, again.body, note)

    await served.store.ingest.close()
    await served.store.quarantine.settle()
    await served.store.fsck.run(repair=True)
    await assert_claims_match(served.store)
    root = served.store.settings.root
    assert root is not None
    await asyncio.to_thread(assert_store_is_sound, root)
