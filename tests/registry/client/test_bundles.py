"""Small files go together: in few requests, each once, and never other bytes than were hashed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from registry.client import bundles
from registry.client.bundles import Bundles, bundles_of
from registry.client.connection import Connection
from registry.client.errors import NotARegistry, Refused, SourceChanged, Unreachable
from registry.client.missing import missing_of
from registry.client.sources import find_sources, hash_sources
from registry.client.transfer import Meter, Step
from registry.client.unfinished import Unfinished
from registry.config import Config, LimitsConfig
from registry.keys import DRAIN
from store.digest import Digest
from store.opening import Store
from tests.registry.client.conftest import Connect, Watched, answering, filled, linked, send
from tests.support.builders import Registry
from tests.support.serving import serving

NOWHERE = Unfinished(None)
MANY = {f"part-{number % 7}/{number}": f"{number:03}".encode() * 1_000 for number in range(80)}
ODD = {
    "-rf": b"dash",
    "a b#c?d%41": b"reserved",
    "ünï": b"composed",
    "zwei/\U0001f600": b"not in the first plane",
    "x" * 250: b"long",
    "sha256:0": b"colon",
    '"quoted"': b"quotes",
    "empty": b"",
    "also/empty": b"",
    "same": b"dash",
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Method, path and announced length of every request that carries bytes."""
    found: list[tuple[str, str, int]] = []
    original = Connection.answered

    @asynccontextmanager
    async def answered(
        self: Connection, method: str, path: str, **options: Any
    ) -> AsyncIterator[Any]:
        if method == "PUT":
            found.append((method, path, int(options["headers"]["Content-Length"])))
        async with original(self, method, path, **options) as answer:
            yield answer

    monkeypatch.setattr(Connection, "answered", answered)
    return found


async def files_of(registry: Registry, label: str = "1.0.0") -> dict[str, str]:
    listed = (await registry.get(f"/models/bert/{label}/")).json
    return {file["path"]: file["digest"] for file in listed["files"]}


def digests_of(files: dict[str, bytes]) -> dict[str, str]:
    return {path: str(Digest.of(content)) for path, content in files.items()}


async def test_many_small_files_are_one_request(
    registry: Registry,
    connect: Connect,
    tmp_path: Path,
    watched: Watched,
    sent: list[tuple[str, str, int]],
) -> None:
    folder = filled(tmp_path / "model", MANY)
    pushed = await send(registry.url, connect, NOWHERE, folder, watch=watched)

    assert (pushed.files, pushed.sent, pushed.already_there) == (80, 80, 0)
    assert pushed.sent_size == sum(map(len, MANY.values()))
    assert [path for _, path, _ in sent] == ["/api/v1/blobs.tar"]
    assert watched.ended_full("sending")
    assert await files_of(registry) == digests_of(MANY)


async def test_names_and_bytes_of_any_kind_arrive(
    registry: Registry, connect: Connect, tmp_path: Path
) -> None:
    pushed = await send(registry.url, connect, NOWHERE, filled(tmp_path / "model", ODD))

    assert (pushed.files, pushed.sent) == (10, 8), "equal bytes are sent once"
    assert await files_of(registry) == digests_of(ODD)


async def test_larger_files_go_alone_beside_them(
    registry: Registry, connect: Connect, tmp_path: Path, sent: list[tuple[str, str, int]]
) -> None:
    edge = {"edge": b"e" * (64 << 10), "beyond": b"b" * ((64 << 10) + 1), "small": b"s"}
    await send(registry.url, connect, NOWHERE, filled(tmp_path / "model", edge))

    paths = {path for _, path, _ in sent}
    assert paths == {"/api/v1/blobs.tar", f"/blobs/{Digest.of(edge['beyond'])}"}
    assert await files_of(registry) == digests_of(edge)


async def test_one_small_file_is_no_archive(
    registry: Registry, connect: Connect, tmp_path: Path, sent: list[tuple[str, str, int]]
) -> None:
    await send(registry.url, connect, NOWHERE, filled(tmp_path / "model", {"f": b"x"}))

    assert [path for _, path, _ in sent] == [f"/blobs/{Digest.of(b'x')}"]


async def test_an_archive_is_bounded_in_files_and_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = find_sources([filled(tmp_path / "model", {f"{n:02}": b"x" * n for n in range(20)})])
    blobs = await hash_sources(sources, lambda step: None)

    monkeypatch.setattr(bundles, "BUNDLE_FILES", 8)
    assert [len(bundle) for bundle in bundles_of(blobs)] == [8, 8, 4]
    monkeypatch.setattr(bundles, "BUNDLE_BYTES", 3 * 1024)
    assert [len(bundle) for bundle in bundles_of(blobs)] == [3, 3, 3, 3, 3, 3, 2]
    assert [blob for bundle in bundles_of(blobs) for blob in bundle] == blobs


# Broken links


async def at_rest(registry: Registry) -> None:
    """The server has seen the break and has stored what was whole."""
    drain = registry.site.app[DRAIN]
    await registry.site.until(lambda: not drain.in_flight)
    await registry.store.ingest.close()


async def test_an_archive_that_breaks_off_goes_on_with_what_did_not_arrive(
    registry: Registry,
    connect: Connect,
    tmp_path: Path,
    watched: Watched,
    sent: list[tuple[str, str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = missing_of

    async def ask_at_rest(*given: Any) -> list[Digest]:
        await at_rest(registry)
        return await original(*given)

    monkeypatch.setattr(bundles, "missing_of", ask_at_rest)
    monkeypatch.setattr(bundles, "GROUPED", 20)
    folder = filled(tmp_path / "model", MANY)
    async with linked(registry.site.port) as link:
        # The first archive finds the connection of the question before it open.
        link.up = [150_000, 100_000]
        pushed = await send(link.url, connect, NOWHERE, folder, watch=watched)

    assert (pushed.number, pushed.sent) == (1, 80)
    first, second, third = (length for _, _, length in sent)
    entry = 512 + 3_072
    assert first - 150_000 < second < first - 150_000 + 3 * entry, "all but what was cut"
    assert second - 100_000 < third < second - 100_000 + 3 * entry
    assert watched.ended_full("sending")
    assert all(step.done <= step.total for step in watched.steps)
    assert await files_of(registry) == digests_of(MANY)


async def test_a_push_that_ended_in_an_archive_is_continued_by_the_next(
    registry: Registry, connect: Connect, tmp_path: Path, sent: list[tuple[str, str, int]]
) -> None:
    folder = filled(tmp_path / "model", MANY)
    async with linked(registry.site.port) as link:
        link.up = [150_000, *[0] * 9]
        with pytest.raises(Unreachable):
            await send(link.url, connect, NOWHERE, folder, patience={"failures": 1})
        await at_rest(registry)
        arrived = await registry.count("blobs")
        link.up = []
        pushed = await send(link.url, connect, NOWHERE, folder)

    assert 30 < arrived < 80
    assert (pushed.sent, pushed.already_there) == (80 - arrived, arrived)
    assert sent[-1][2] < sent[0][2] - 100_000


# Files that change


def touched(path: Path) -> None:
    path.write_bytes(b"other" * 100)


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def gone(path: Path) -> None:
    path.unlink()


def forged(path: Path) -> None:
    """Other bytes under the same time and size: only the server can tell."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, grown, gone, forged])
async def test_a_file_that_changes_is_named_and_never_stored(
    registry: Registry, connect: Connect, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    files = {f"f{number}": b"%d" % number * 300 for number in range(10)}
    folder = filled(tmp_path / "model", files)
    once = [folder / "f7"]

    def watch(step: Step) -> None:
        if step.stage == "sending" and once:
            change(once.pop())

    with pytest.raises(SourceChanged, match="f7 changed while"):
        await send(registry.url, connect, NOWHERE, folder, watch=watch)
    await at_rest(registry)
    assert await registry.count("versions") == 0
    assert set(await registry.site.stored()) < set(digests_of(files).values())


async def test_a_file_that_is_written_while_it_is_read_is_refused(
    registry: Registry, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "model", {"a": b"first", "b": b"second"})
    original, reads = os.read, 0

    def read(descriptor: int, size: int) -> bytes:
        nonlocal reads
        content = original(descriptor, size)
        reads += content == b"second"
        if content == b"second" and reads == 2:  # hashed before, now sent
            (folder / "b").write_bytes(b"SECOND")
        return content

    monkeypatch.setattr("registry.client.sources.os.read", read)
    with pytest.raises(SourceChanged, match="b changed while"):
        await send(registry.url, connect, NOWHERE, folder)
    assert await registry.count("versions") == 0


# Servers that take no archives


async def test_where_no_archive_is_taken_every_file_goes_alone(
    registry: Registry,
    connect: Connect,
    tmp_path: Path,
    watched: Watched,
    sent: list[tuple[str, str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundles, "_PATH", "/api/v1/an-older-server.tar")
    monkeypatch.setattr(bundles, "BUNDLE_FILES", 4)
    monkeypatch.setattr("registry.client.push.BUNDLES_AT_ONCE", 1)
    pushed = await send(
        registry.url, connect, NOWHERE, filled(tmp_path / "model", ODD), watch=watched
    )

    assert pushed.sent == 8
    assert len(sent) == 9, "it is asked once"
    assert watched.ended_full("sending")
    assert await files_of(registry) == digests_of(ODD)


async def test_a_file_that_is_too_large_for_the_server_is_named(
    store: Store, connect: Connect, tmp_path: Path
) -> None:
    config = Config(limits=LimitsConfig(blob_bytes=1_000))
    folder = filled(tmp_path / "model", {"a": b"a", "b": b"b" * 2_000, "c": b"c"})
    async with serving(store, config) as site:
        with pytest.raises(Refused, match=r"/b: .*1000 bytes") as raised:
            await send(site.url, connect, NOWHERE, folder)
    assert raised.value.status == 413


async def test_a_server_that_takes_fewer_than_were_sent_is_not_believed(
    connect: Connect, tmp_path: Path
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({"blobs": 1, "size": 1})

    sources = find_sources([filled(tmp_path / "model", {"a": b"a", "b": b"b"})])
    async with answering(handler) as url, connect(url) as connection:
        blobs = await hash_sources(sources, lambda step: None)
        meter = Meter("sending", 2, lambda step: None)
        with pytest.raises(NotARegistry, match="of 2 blobs that were sent it has taken 1"):
            await Bundles(connection, meter, NOWHERE).send(blobs)
