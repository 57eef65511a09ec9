"""Sends small blobs together: hundreds in one request, as an archive that is made while it is sent.

Each file of it is called by its digest, which the server verifies; see ``/api/v1/blobs.tar`` in
`registry/API.md`. What arrived whole counts, wherever the archive breaks off: the server is asked
what it lacks of it, and only that is sent again.

A file is read in one go and must be what it was when it was hashed; otherwise the archive is broken
off, and the error names the file. In memory is a piece of each archive under way.

A server, or a proxy before it, that takes no such archive gets every blob by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from registry.client.connection import Connection, Silence, masked
from registry.client.errors import ClientError, NotARegistry, Refused, SourceChanged
from registry.client.missing import missing_of
from registry.client.sources import GROUPED, Hashed, in_groups, read_source
from registry.client.transfer import PIECE_BYTES, Meter, each, in_thread
from registry.client.unfinished import Unfinished
from registry.client.uploading import send_blob
from registry.domain import tars

BUNDLED_BYTES: Final = 64 << 10
"""Files up to this size go together; a server takes them in without a file for each."""

BUNDLE_BYTES: Final = 7 << 20
BUNDLE_FILES: Final = 2_000
"""So much is in one archive. A server that refuses it throws so many bytes away before it hangs up,
which lets its answer be heard."""

BUNDLES_AT_ONCE: Final = 3
OF_A_BUNDLE_AT_ONCE: Final = 3
"""Of each archive that is not taken as one."""

_PATH: Final = "/api/v1/blobs.tar"
_NOT_TOGETHER: Final = frozenset((400, 404, 405, 413, 415, 501))
"""Answers that may mean the archive and not what is in it."""


class _Taken(msgspec.Struct):
    blobs: int
    size: int


class Bundles:
    """Sends blobs in archives, and remembers whether the server takes any."""

    def __init__(self, connection: Connection, meter: Meter, unfinished: Unfinished) -> None:
        self._connection = connection
        self._meter = meter
        self._unfinished = unfinished
        self._goes_singly = False

    async def send(self, blobs: Sequence[Hashed]) -> None:
        """Bring blobs to the server, which verifies and pins each."""
        bundle = _Bundle(self._connection, blobs, self._meter)
        if len(blobs) > 1 and not self._goes_singly:
            try:
                await self._connection.repeated(bundle.attempt, lambda: bundle.arrived_bytes)
                return
            except Refused as error:
                if error.status not in _NOT_TOGETHER:
                    raise
            self._goes_singly = True
            await bundle.look()
        await each(bundle.left, self._send_alone, at_once=OF_A_BUNDLE_AT_ONCE)

    async def _send_alone(self, blob: Hashed) -> None:
        await send_blob(self._connection, blob, self._meter, self._unfinished)


def bundles_of(blobs: Iterable[Hashed]) -> Iterator[list[Hashed]]:
    """Blobs in the archives that they are sent in."""
    return in_groups(blobs, _entry_size, most_bytes=BUNDLE_BYTES, most=BUNDLE_FILES)


class _Bundle:
    """One archive, and after a failure the one of what did not arrive."""

    def __init__(self, connection: Connection, blobs: Sequence[Hashed], meter: Meter) -> None:
        self._connection = connection
        self._meter = meter
        self._was_sent = False
        self._counted = 0
        self._fault: ClientError | None = None
        self.left = list(blobs)
        self.arrived_bytes = 0

    async def attempt(self) -> None:
        if self._was_sent:
            await self.look()
        if self.left:
            self._was_sent = True
            await self._send()

    async def look(self) -> None:
        """Ask what of it did not arrive."""
        found = await missing_of(self._connection, [blob.digest for blob in self.left])
        missing = set(found)
        arrived = [blob for blob in self.left if blob.digest not in missing]
        self.left = [blob for blob in self.left if blob.digest in missing]
        size = _size(arrived)
        self.arrived_bytes += size
        self._meter.add(size)

    async def _send(self) -> None:
        size = _size(self.left)
        length = len(tars.END) + sum(map(_entry_size, self.left))
        self._counted, self._fault = 0, None
        try:
            async with self._connection.answered(
                "PUT",
                _PATH,
                headers={"Content-Length": str(length), "Content-Type": "application/x-tar"},
                data=self._pieces(),
                silence=Silence(),
            ) as answer:
                content = await answer.content.read()
        except BaseException as error:
            self._meter.add(-self._counted)
            self._explain(error)
            raise
        try:
            taken = msgspec.json.decode(content, type=_Taken)
        except msgspec.DecodeError as error:
            raise NotARegistry(masked(self._connection.url), str(error)) from error
        if (taken.blobs, taken.size) != (len(self.left), size):
            reason = f"of {len(self.left)} blobs that were sent it has taken {taken.blobs}"
            raise NotARegistry(masked(self._connection.url), reason)
        self.left = []

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            groups = in_groups(
                self.left,
                lambda blob: blob.source.size_bytes,
                most_bytes=PIECE_BYTES,
                most=GROUPED,
            )
            for group in groups:
                yield await in_thread(_packed, group)
                size = _size(group)
                self._counted += size
                self._meter.add(size)
            yield tars.END
        except ClientError as error:
            self._fault = error
            raise

    def _explain(self, error: BaseException) -> None:
        """Raise what went wrong here, if that is why the request failed with `error`.

        The HTTP library words it as a broken connection.
        """
        if self._fault is not None:
            raise self._fault from error
        if isinstance(error, Refused) and error.code == "digest_mismatch":
            expected = error.details.get("expected")
            for blob in self.left:
                if str(blob.digest) == expected:
                    raise SourceChanged(str(blob.source.local)) from error


def _size(blobs: Iterable[Hashed]) -> int:
    return sum(blob.source.size_bytes for blob in blobs)


def _entry_size(blob: Hashed) -> int:
    """How much of an archive a blob takes."""
    return tars.entry_size(blob.digest.hex, blob.source.size_bytes)


def _packed(blobs: Sequence[Hashed]) -> bytes:
    """The entries of some files. Blocking."""
    parts: list[bytes] = []
    for blob in blobs:
        content = read_source(blob.source)
        size = len(content)
        parts += (
            tars.header_of(blob.digest.hex, size),
            content,
            bytes(tars.padded(size) - size),
        )
    return b"".join(parts)
