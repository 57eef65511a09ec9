"""Sends one blob under its digest: small ones in one request, large ones over tus.

A large blob is one ``PATCH`` from where the server stands to the end; what a broken one delivered
counts. The server is the judge of where it stands: after every failure it is asked.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from registry.client.connection import Again, Connection, Silence, masked, without_user
from registry.client.errors import ClientError, NotARegistry, Refused, SourceChanged
from registry.client.sources import Hashed, open_source
from registry.client.transfer import PIECE_BYTES, Meter, in_thread
from registry.client.unfinished import Session, Slot, Unfinished

LARGE_BYTES: Final = 16 << 20
"""From here on a file is worth a session of its own."""

_TUS: Final[Mapping[str, str]] = {"Tus-Resumable": "1.0.0"}
_TOO_LARGE: Final = 413
_GONE: Final = frozenset((404, 410))
_STANDS_ELSEWHERE: Final = frozenset(("offset_conflict", "upload_taken", "upload_finished"))


async def send_blob(
    connection: Connection, blob: Hashed, meter: Meter, unfinished: Unfinished
) -> None:
    """Bring one blob to the server, which verifies it and pins it for the sender."""
    try:
        if blob.source.size_bytes < LARGE_BYTES:
            await connection.repeated(lambda: _send_small(connection, blob, meter))
            return
        with unfinished.slot(without_user(connection.url), blob.digest) as slot:
            await _Large(connection, blob, meter, slot).send()
    except Refused as error:
        if error.status != _TOO_LARGE:
            raise
        # Of all refusals this one is about the file, and says nothing of which.
        said = f"{blob.source.local}: {error}"
        raise Refused(error.status, error.code, said, error.details) from error


async def _send_small(connection: Connection, blob: Hashed, meter: Meter) -> None:
    body = _Body(blob, 0, meter)
    headers = {"Content-Length": str(blob.source.size_bytes)}
    try:
        async with connection.answered(
            "PUT", f"/blobs/{blob.digest}", headers=headers, data=body.pieces(), silence=Silence()
        ):
            pass
    except BaseException as error:
        meter.add(-body.sent)
        body.explain(error)
        raise


class _Body:
    """The bytes of a file from an offset on, for one request."""

    def __init__(self, blob: Hashed, offset: int, meter: Meter) -> None:
        self._blob = blob
        self._offset = offset
        self._meter = meter
        self._fault: ClientError | None = None
        self.sent = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            descriptor = await in_thread(open_source, self._blob.source, undo=os.close)
            try:
                async for piece in self._read(descriptor):
                    yield piece
            finally:
                os.close(descriptor)
        except ClientError as error:
            self._fault = error
            raise

    async def _read(self, descriptor: int) -> AsyncIterator[bytes]:
        at, size = self._offset, self._blob.source.size_bytes
        while at < size:
            wanted = min(PIECE_BYTES, size - at)
            piece = await in_thread(os.pread, descriptor, wanted, at)
            if not piece:
                raise SourceChanged(str(self._blob.source.local))
            yield piece
            at += len(piece)
            self.sent += len(piece)
            self._meter.add(len(piece))

    def explain(self, error: BaseException) -> None:
        """Raise what went wrong here, if that is why the request failed with `error`.

        The HTTP library words it as a broken connection.
        """
        if self._fault is not None:
            raise self._fault from error
        if isinstance(error, Refused) and error.code == "digest_mismatch":
            raise SourceChanged(str(self._blob.source.local)) from error


class _Large:
    """One upload session, made or found again, until the blob is stored."""

    def __init__(self, connection: Connection, blob: Hashed, meter: Meter, slot: Slot) -> None:
        self._connection = connection
        self._blob = blob
        self._meter = meter
        self._slot = slot
        self._offset: int | None = None
        self._was_broken = slot.session is not None
        self._counted = 0

    async def send(self) -> None:
        was_continued = self._slot.session is not None
        while True:
            try:
                await self._connection.repeated(self._attempt, lambda: self._counted)
                self._slot.forget()
                return
            except SourceChanged:
                self._start_over()
                # What was sent in an earlier run may have been of a file that changed meanwhile.
                if not was_continued:
                    raise
                was_continued = False

    async def _attempt(self) -> None:
        if self._slot.session is None:
            await self._create()
        elif self._offset is None:
            await self._find()
        if self._slot.session is None:
            raise Again("the upload has expired")
        if self._offset is not None:
            await self._append(self._slot.session.path, self._offset)

    async def _create(self) -> None:
        digest = str(self._blob.digest)
        headers = {
            **_TUS,
            "Upload-Length": str(self._blob.source.size_bytes),
            "Upload-Metadata": f"digest {b64encode(digest.encode()).decode()}",
        }
        async with self._connection.answered("POST", "/uploads", headers=headers) as answer:
            path = self._path_of(answer.headers.get("Location", ""))
            session = Session(without_user(self._connection.url), digest, path)
            await in_thread(self._slot.save, session)
        self._stands_at(0)

    async def _find(self) -> None:
        """Ask where the upload stands; it may be finished, or gone."""
        assert self._slot.session is not None
        try:
            async with self._connection.answered(
                "HEAD", self._slot.session.path, headers=_TUS
            ) as answer:
                offset = _number(answer.headers.get("Upload-Offset"))
                length = _number(answer.headers.get("Upload-Length"))
        except Refused as error:
            if error.status == 422:  # it has every byte, and they are not what was promised
                raise SourceChanged(str(self._blob.source.local)) from error
            if error.status not in _GONE:
                raise
            self._start_over()
            return
        if offset is None or length != self._blob.source.size_bytes or offset > length:
            self._start_over()
            return
        self._stands_at(offset)

    async def _append(self, path: str, offset: int) -> None:
        """Send the rest. Where all is there an empty request makes the server finish."""
        self._offset = None  # whatever happens now, the server knows better
        body = _Body(self._blob, offset, self._meter)
        rest = self._blob.source.size_bytes - offset
        headers = {
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(rest),
        }
        try:
            async with self._connection.answered(
                "PATCH",
                path,
                headers=headers,
                data=body.pieces(),
                silence=Silence(),
                # The end of a broken request may still be on its way to the disk: where the server
                # says it stands can be behind, and what is sent from there would be for nothing.
                asks_first=self._was_broken,
            ) as answer:
                reached = _number(answer.headers.get("Upload-Offset"))
                made = answer.headers.get("Repr-Digest")
        except BaseException as error:
            self._was_broken = True
            self._counted += body.sent
            body.explain(error)
            if isinstance(error, Refused):
                self._take(error)
            raise
        self._counted += body.sent
        if reached != self._blob.source.size_bytes:
            raise Again(f"the server stands at {reached}")
        if made is not None and made != f"sha-256=:{b64encode(self._blob.digest.raw).decode()}:":
            raise SourceChanged(str(self._blob.source.local))

    def _take(self, error: Refused) -> None:
        """Turn answers that only say where the upload stands into another try."""
        if error.code in _STANDS_ELSEWHERE or error.status == 423:
            raise Again(str(error)) from error
        if error.status in _GONE:
            self._start_over()
            raise Again(str(error)) from error

    def _start_over(self) -> None:
        self._slot.forget()
        self._offset = None
        self._meter.add(-self._counted)
        self._counted = 0

    def _stands_at(self, offset: int) -> None:
        self._meter.add(offset - self._counted)
        self._offset = self._counted = offset

    def _path_of(self, location: str) -> str:
        """Where the session is, below the server's own address; raises `NotARegistry`."""
        base = without_user(self._connection.url)
        found = urljoin(f"{base}/uploads", location)
        if not location or not found.startswith(f"{base}/") or urlsplit(found).fragment:
            raise NotARegistry(masked(self._connection.url), f"it made an upload at {location!r}")
        return found.removeprefix(base)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None
