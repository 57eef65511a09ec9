"""Who sends bytes that others have stored gives the server as much to do as with new ones.

Through every door: what the disk is asked and how many statements the index runs, up to the answer,
are the same for bytes that are hidden from the caller and for bytes that nobody has.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import FormData

from store.durable import Disk
from store.ingest import HELD_BYTES
from tests.registry.test_enumeration import notes_wait
from tests.support.builders import tar_of
from tests.support.people import AUTHENTICATED, Person, make_person
from tests.support.serving import Answer, Site, opened, serving

SMALL: Final = 3_000
LARGE: Final = HELD_BYTES * 20


class Counting(Disk):
    """Counts what it is asked, by what it costs: a name is a name, whether link or directory.

    Removing names is not counted: it comes behind the answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def create(self, path: str) -> int:
        self.asked["create"] += 1
        return super().create(path)

    def open(self, path: str) -> int:
        self.asked["open"] += 1
        return super().open(path)

    def write(self, descriptor: int, path: str, pieces: Sequence[Any], at: int) -> int:
        self.asked["write"] += 1
        return super().write(descriptor, path, pieces, at)

    def sync_data(self, descriptor: int, path: str) -> None:
        self.asked["sync_data"] += 1

    def sync_directory(self, path: str) -> None:
        self.asked["sync_directory"] += 1

    def link(self, source: str, target: str) -> None:
        self.asked["name"] += 1
        super().link(source, target)

    def mkdir(self, path: str) -> bool:
        self.asked["name"] += 1
        return super().mkdir(path)

    def rename(self, source: str, target: str) -> None:
        self.asked["rename"] += 1
        super().rename(source, target)


class Place:
    """A server on a disk that counts, with somebody who has stored things and an outsider."""

    def __init__(self, site: Site, disk: Disk, owner: Person, outsider: Person) -> None:
        self.site = site
        self.disk = disk
        self.owner = owner
        self.outsider = outsider
        self._made = 0

    def content(self, size_bytes: int) -> bytes:
        """Bytes that were never there before."""
        self._made += 1
        return hashlib.shake_256(self._made.to_bytes(4)).digest(size_bytes)

    async def ask(self, who: Person, method: str, path: str, **options: Any) -> Answer:
        headers = {**who.headers, **options.pop("headers", {})}
        answer = await self.site.ask(method, path, headers=headers, **options)
        assert answer.status in (200, 201, 204), answer.body
        return answer


@asynccontextmanager
async def placed(root: Path) -> AsyncIterator[tuple[Place, Counting]]:
    disk = Counting()
    with notes_wait():
        async with opened(root, disk=disk) as store, serving(store, AUTHENTICATED) as site:
            owner = await make_person(store, "owner")
            yield Place(site, disk, owner, await make_person(store, "outsider")), disk


Door = Callable[[Place, bytes, str], Awaitable[Answer]]


async def put_blob(place: Place, content: bytes, name: str) -> Answer:
    path = f"/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    return await place.ask(place.outsider, "PUT", path, data=content)


async def put_blob_without_a_length(place: Place, content: bytes, name: str) -> Answer:
    async def pieces() -> AsyncIterator[bytes]:
        yield content

    path = f"/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    return await place.ask(place.outsider, "PUT", path, data=pieces())


async def put_file(place: Place, content: bytes, name: str) -> Answer:
    return await place.ask(place.outsider, "PUT", f"/models/outsider~m/{name}/f", data=content)


async def put_tar(place: Place, content: bytes, name: str) -> Answer:
    path, body = f"/models/outsider~m/{name}.tar", tar_of({"f": content})
    return await place.ask(place.outsider, "PUT", path, data=body)


async def put_many_blobs(place: Place, content: bytes, name: str) -> Answer:
    body = tar_of({hashlib.sha256(content).hexdigest(): content})
    return await place.ask(place.outsider, "PUT", "/api/v1/blobs.tar", data=body)


async def post_multipart(place: Place, content: bytes, name: str) -> Answer:
    form = FormData()
    form.add_field("metadata", f'{{"label":"{name}"}}', content_type="application/json")
    form.add_field("f", io.BytesIO(content), filename="f")
    path = "/api/v1/models/outsider~m/versions"
    return await place.ask(place.outsider, "POST", path, data=form)


async def continue_upload(place: Place, content: bytes, name: str) -> Answer:
    tus = {"Tus-Resumable": "1.0.0"}
    length = {"Upload-Length": str(len(content))}
    made = await place.ask(place.outsider, "POST", "/uploads", headers={**tus, **length})
    half = len(content) // 2
    patch = {**tus, "Content-Type": "application/offset+octet-stream"}
    for start, piece in ((0, content[:half]), (half, content[half:])):
        headers = {**patch, "Upload-Offset": str(start)}
        path = made.headers["Location"]
        answer = await place.ask(place.outsider, "PATCH", path, headers=headers, data=piece)
    return answer


async def import_archive(place: Place, content: bytes, name: str) -> Answer:
    async with opened(None) as other, serving(other) as site:
        put = await site.ask("PUT", "/models/there~m/v1.tar", data=tar_of({"f": content}))
        assert put.status == 201, put.body
        exported = await site.ask("GET", "/api/v1/models/there~m/export")
        assert exported.status == 200, exported.body
    path = f"/api/v1/imports?name=outsider%2F{name}"
    return await place.ask(
        place.outsider,
        "POST",
        path,
        data=exported.body,
        headers={"Content-Type": "application/x-tar"},
    )


DOORS: Final[dict[str, tuple[Door, int]]] = {
    "blob": (put_blob, SMALL),
    "large blob": (put_blob, LARGE),
    "blob without a length": (put_blob_without_a_length, SMALL),
    "file of a draft": (put_file, SMALL),
    "large file of a draft": (put_file, LARGE),
    "archive": (put_tar, SMALL),
    "archive of a large file": (put_tar, LARGE),
    "blobs in an archive": (put_many_blobs, SMALL),
    "large blobs in an archive": (put_many_blobs, LARGE),
    "multipart": (post_multipart, SMALL),
    "large multipart": (post_multipart, LARGE),
    "upload session": (continue_upload, SMALL),
    "import": (import_archive, SMALL),
}


class Work(msgspec.Struct, frozen=True):
    """What a request made the server do."""

    statements: int
    disk: dict[str, int]


async def work_of(place: Place, disk: Counting, door: Door, content: bytes, name: str) -> Work:
    store = place.site.store
    await store.ingest.close()
    disk.asked.clear()
    before = store.index.statement_count()
    await door(place, content, name)
    work = Work(store.index.statement_count() - before, dict(disk.asked))
    await store.ingest.close()
    return work


async def compared(place: Place, disk: Counting, door: Door, size: int, name: str) -> str:
    """How hidden bytes differ from new ones; housekeeping may run a statement beside one of them"""
    difference = ""
    for attempt in range(3):
        secret = place.content(size)
        path = f"/blobs/sha256:{hashlib.sha256(secret).hexdigest()}"
        await place.ask(place.owner, "PUT", path, data=secret)
        new = await work_of(place, disk, door, place.content(size), f"{name}n{attempt}")
        hidden = await work_of(place, disk, door, secret, f"{name}h{attempt}")
        assert new.disk["sync_directory"] > 1
        assert new.disk["name"] > 1
        if new == hidden:
            return ""
        difference = f"{hidden} but {new}"
    return difference


async def test_hidden_bytes_are_as_much_work_as_new_ones(tmp_path: Path) -> None:
    differences = []
    async with placed(tmp_path / "data") as (place, disk):
        await place.ask(place.outsider, "POST", "/api/v1/models", json={"name": "outsider/m"})
        for number, (name, (door, size)) in enumerate(DOORS.items()):
            await door(place, place.content(size), f"warm{number}")
            if difference := await compared(place, disk, door, size, f"d{number}"):
                differences.append(f"{name}: {difference}")
    assert differences == []
