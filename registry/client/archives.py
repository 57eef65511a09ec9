"""Fetch a model as one archive, and send one.

**Fetching.** What breaks goes on by ``Range`` as long as the model says the same, told by its
``ETag``; if it changed meanwhile that is an error, since what was written already may have been
piped away. A file is written beside its place as ``.part`` and renamed when it is whole and synced.

**Sending** carries an ``Idempotency-Key``, so a lost answer does not make a second model. A file is
sent again when the connection breaks; a pipe cannot be.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from registry.client.connection import Again, Connection, Silence, part
from registry.client.errors import Damaged, NotARegistry, SourceRefused, TargetRefused, WriteFailed
from registry.client.transfer import PIECE_BYTES, Meter, Watch, in_thread

MEDIA_TYPE: Final = "application/x-tar"
_ANSWER_BYTES: Final = 16 << 20


class Exported(msgspec.Struct, frozen=True):
    """An archive that was fetched."""

    model: str
    size: int


class _Model(msgspec.Struct, frozen=True):
    name: str


class Imported(msgspec.Struct, frozen=True):
    """A model that was made of an archive; `left_out` counts what is not in it."""

    model: _Model
    versions: int
    burnt: int
    left_out: dict[str, int]


async def fetch_archive(
    connection: Connection, model: str, versions: Sequence[str], target: Path, watch: Watch
) -> Exported:
    """Write an export to a file that is not there yet, which is whole when this returns."""
    beginning = target.with_name(target.name + ".part")
    try:
        abandon = partial(_abandon, beginning)
        file = await in_thread(_begin, target, beginning, undo=abandon)
        try:
            exported = await stream_archive(connection, model, versions, file, watch)
        except BaseException:
            await in_thread(abandon, file)
            raise
        await in_thread(_finish, file, beginning, target)
    except OSError as error:
        raise WriteFailed(str(target), error.strerror or str(error)) from error
    return exported


def _begin(target: Path, beginning: Path) -> BinaryIO:
    if target.exists():
        raise TargetRefused(str(target), "is there already")
    return beginning.open("wb")


def _abandon(beginning: Path, file: BinaryIO) -> None:
    file.close()
    beginning.unlink()


def _finish(file: BinaryIO, beginning: Path, target: Path) -> None:
    """Give a whole file its name, once it is on the disk."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    beginning.replace(target)


async def stream_archive(
    connection: Connection, model: str, versions: Sequence[str], sink: BinaryIO, watch: Watch
) -> Exported:
    """Write an export to anything that takes bytes in order."""
    fetching = _Fetching(model, versions, sink, watch)
    await connection.repeated(lambda: fetching.go_on(connection), lambda: fetching.written)
    return Exported(model, fetching.written)


class _Fetching:
    def __init__(self, model: str, versions: Sequence[str], sink: BinaryIO, watch: Watch) -> None:
        query = "&".join(f"version={part(one)}" for one in versions)
        self._path = f"/api/v1/models/{part(model)}/export" + (f"?{query}" if query else "")
        self._name = model
        self._sink = sink
        self._watch = watch
        self._etag: str | None = None
        self._meter: Meter | None = None
        self.written = 0

    async def go_on(self, connection: Connection) -> None:
        headers = {}
        if self.written and self._etag is not None:
            headers = {"Range": f"bytes={self.written}-", "If-Range": self._etag}
        async with connection.answered("GET", self._path, headers=headers) as answer:
            if self.written and answer.status != 206:
                raise Damaged(self._name, "changed while it was exported; start over")
            self._etag = answer.headers.get("ETag")
            total = self.written + (answer.content_length or 0)
            if self._meter is None:
                self._meter = Meter("exporting", total, self._watch)
            async for piece in answer.content.iter_chunked(PIECE_BYTES):
                await in_thread(self._sink.write, piece)
                self.written += len(piece)
                self._meter.add(len(piece))
            if self.written < total:
                raise Again(f"the export ended after {self.written} of {total} bytes")


async def send_archive(
    connection: Connection, source: Path, name: str | None, watch: Watch
) -> Imported:
    """Import a file, again if the connection breaks."""
    key = secrets.token_hex(16)

    async def attempt() -> Imported:
        try:
            file, size = await in_thread(_open, source, undo=lambda opened: opened[0].close())
        except OSError as error:
            raise SourceRefused(str(source), error.strerror or str(error)) from error
        with file:
            return await _send(connection, file, name, key, Meter("importing", size, watch), size)

    return await connection.repeated(attempt)


def _open(source: Path) -> tuple[BinaryIO, int]:
    file = source.open("rb")
    return file, os.fstat(file.fileno()).st_size


async def send_stream(
    connection: Connection, source: BinaryIO, name: str | None, watch: Watch
) -> Imported:
    """Import what is piped in; if it breaks the pipe has to be filled anew."""
    try:
        return await _send(
            connection, source, name, secrets.token_hex(16), Meter("importing", 0, watch), None
        )
    except Again as again:
        raise SourceRefused("-", f"cannot be read twice, and sending broke off: {again}") from again


async def _send(
    connection: Connection,
    file: BinaryIO,
    name: str | None,
    key: str,
    meter: Meter,
    size: int | None,
) -> Imported:
    headers = {"Idempotency-Key": key, "Content-Type": MEDIA_TYPE}
    if size is not None:
        headers["Content-Length"] = str(size)

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await in_thread(file.read, PIECE_BYTES):
            yield piece
            meter.add(len(piece))

    path = "/api/v1/imports" + ("" if name is None else f"?name={part(name)}")
    async with connection.answered(
        "POST", path, headers=headers, data=pieces(), silence=Silence()
    ) as answer:
        content = await answer.content.read(_ANSWER_BYTES)
    try:
        return msgspec.json.decode(content, type=Imported)
    except msgspec.DecodeError as error:
        raise NotARegistry(connection.url, str(error)) from error
