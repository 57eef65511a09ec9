"""The store as a door over HTTP: the application on a real socket, asked as its clients ask.

Bodies are written by hand, piece by piece as the caller gives them: a client library would hide
what matters here, a body that ends early, a client that leaves, an answer that comes first.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec

from registry.config import Config, LimitsConfig
from registry.keys import DRAIN, UPLOAD_SESSIONS
from store.batches import Source
from store.digest import Digest
from store.opening import Store
from store.uploads import Checksum
from tests.support import doors
from tests.support.doors import Part, Pin, Session
from tests.support.serving import Answer, Site, head, serving

_WORDS: dict[str, type[doors.Refused]] = {
    "blob_not_found": doors.NotFound,
    "upload_not_found": doors.NotFound,
    "size_mismatch": doors.WrongSize,
    "body_too_large": doors.TooLarge,
    "upload_too_large": doors.TooLarge,
    "range_not_satisfiable": doors.OutsideRange,
    "blob_damaged": doors.Damaged,
    "unavailable": doors.Unavailable,
    "upload_locked": doors.Unavailable,
    "upload_taken": doors.Taken,
    "upload_finished": doors.Finished,
    "upload_expired": doors.Expired,
    "checksum_mismatch": doors.WrongChecksum,
}
_WITHOUT_WORDS = {404: doors.NotFound, 410: doors.Expired}
"""What a status says where an answer has no body, to HEAD."""


class HttpStore:
    """A `tests.support.doors.Door` over a served application."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = site.store

    # Blobs.

    async def put(
        self, source: Source, *, expected: Digest | None = None, size: int | None = None
    ) -> Digest:
        method, path = ("POST", "/blobs") if expected is None else ("PUT", f"/blobs/{expected}")
        status, _, content = await self._send(method, path, {}, source, size)
        _check(status, content)
        return _stored(content)

    async def offer(self, content: bytes) -> bool:
        digest = Digest.of(content)
        reader, writer = await self.site.connect()
        try:
            fields = {"Expect": "100-continue", "Content-Length": str(len(content))}
            writer.write(_request("PUT", f"/blobs/{digest}", fields))
            first = await reader.readuntil(b"\r\n\r\n")
            must_travel = first.startswith(b"HTTP/1.1 100 ")
            if must_travel:
                writer.write(content)
                first = b""
            status, _, answer = head(first + await reader.read())
        finally:
            writer.close()
        _check(status, answer)
        assert _stored(answer) == digest
        return must_travel

    async def read(self, digest: Digest, part: Part | None = None) -> bytes:
        fields = {} if part is None else {"Range": _range(part)}
        answer = await self.site.ask("GET", f"/blobs/{digest}", headers=fields)
        _check(answer.status, answer.body)
        assert answer.status == (200 if part is None else 206)
        assert answer.headers["Repr-Digest"] == _repr_digest(digest)
        return answer.body

    @asynccontextmanager
    async def open(self, digest: Digest) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.site.session.get(f"{self.site.url}/blobs/{digest}") as response:
            if response.status != 200:
                _check(response.status, await response.read())
            yield _pieces(response)

    async def size(self, digest: Digest) -> int:
        answer = await self._bare("HEAD", f"/blobs/{digest}")
        return int(answer.headers["Content-Length"])

    async def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        question = {"digests": [str(digest) for digest in digests]}
        answer = await self._json("POST", "/api/v1/blobs/missing", json=question)
        return [Digest.parse(text) for text in answer["missing"]]

    # Pins.

    async def keep(self, digest: Digest) -> None:
        await self._json("POST", "/api/v1/pins", json={"digest": str(digest)})

    async def release(self, digest: Digest) -> None:
        answer = await self.site.ask("DELETE", f"/blobs/{digest}")
        _check(answer.status, answer.body)

    async def pages(self, limit: int) -> AsyncIterator[list[Pin]]:
        query = f"limit={limit}"
        while True:
            page = await self._json("GET", f"/api/v1/pins?{query}")
            yield [
                Pin(item["kind"], Digest.parse(item["digest"]), item["size"])
                for item in page["items"]
            ]
            if page["next"] is None:
                return
            query = f"limit={limit}&after={page['next']}"

    # Sessions.

    async def begin(self, length: int | None, *, expected: Digest | None = None) -> str:
        fields = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        if expected is not None:
            encoded = base64.b64encode(str(expected).encode()).decode()
            fields["Upload-Metadata"] = f"digest {encoded}"
        answer = await self._bare("POST", "/uploads", fields)
        return answer.headers["Location"].rpartition("/")[2]

    async def append(
        self,
        session: str,
        offset: int,
        source: Source,
        *,
        checksum: Checksum | None = None,
        length: int | None = None,
    ) -> Session:
        fields = {
            "Tus-Resumable": "1.0.0",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
        }
        if checksum is not None:
            encoded = base64.b64encode(checksum.expected).decode()
            fields["Upload-Checksum"] = f"{checksum.algorithm} {encoded}"
        if length is not None:
            fields["Upload-Length"] = str(length)
        status, headers, content = await self._send(
            "PATCH", f"/uploads/{session}", fields, source, None
        )
        _check(status, content)
        return _session(session, headers)

    async def session(self, session: str) -> Session:
        answer = await self._bare("HEAD", f"/uploads/{session}")
        return _session(session, {name.lower(): value for name, value in answer.headers.items()})

    async def cancel(self, session: str) -> None:
        await self._bare("DELETE", f"/uploads/{session}")

    async def settle(self) -> None:
        # The server takes connections in their order: once this one is answered, every request
        # that was sent before has begun, whether or not its client is still there.
        await self.site.raw(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        await self.site.until(lambda: self.site.app[DRAIN].in_flight == 0)
        await self.store.ingest.close()
        await self.store.reading.settle()

    # The wire.

    async def _bare(self, method: str, path: str, fields: Mapping[str, str] = {}) -> Answer:
        headers = {"Tus-Resumable": "1.0.0", **fields}
        answer = await self.site.ask(method, path, headers=headers)
        if method == "HEAD" and answer.status in _WITHOUT_WORDS:
            raise _WITHOUT_WORDS[answer.status]
        _check(answer.status, answer.body)
        return answer

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = await self.site.ask(method, path, **options)
        _check(answer.status, answer.body)
        return answer.json

    async def _send(
        self, method: str, path: str, fields: Mapping[str, str], source: Source, size: int | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a body in the pieces of `source`; leave at once when it raises or ends short."""
        framing = (
            ("Transfer-Encoding", "chunked") if size is None else ("Content-Length", str(size))
        )
        reader, writer = await self.site.connect()
        answering = asyncio.create_task(_everything(reader))
        try:
            writer.write(_request(method, path, {**fields, framing[0]: framing[1]}))
            sent = await _write_body(writer, source, answering, is_chunked=size is None)
            if size is not None and sent < size and not answering.done():
                writer.write_eof()
            raw = await answering
        except BaseException as error:
            writer.transport.abort()
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            if isinstance(error, ConnectionError):
                raise doors.Interrupted from error
            raise
        finally:
            writer.close()
        if not raw:
            raise doors.Interrupted
        return head(raw)


@asynccontextmanager
async def http_door(store: Store, limit: int) -> AsyncIterator[HttpStore]:
    config = Config(limits=LimitsConfig(blob_bytes=limit))
    async with serving(store, config) as site:
        # How long somebody may take to finish before a question does it; nobody here is that slow.
        site.app[UPLOAD_SESSIONS].finish_wait_seconds = 0.1
        yield HttpStore(site)


async def _write_body(
    writer: asyncio.StreamWriter,
    source: Source,
    answering: asyncio.Task[bytes],
    *,
    is_chunked: bool,
) -> int:
    """Write until the source or the server has had enough; return how many bytes that were."""
    sent = 0
    async for piece in source:
        if answering.done():
            return sent
        if piece:
            sent += len(piece)
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            with suppress(ConnectionError):  # the server has closed; its answer says why
                await writer.drain()
    if is_chunked:
        writer.write(b"0\r\n\r\n")
    return sent


async def _everything(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes, in whichever way."""
    received = b""
    with suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            received += piece
    return received


def _request(method: str, path: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in response.content.iter_chunked(1 << 16):
            yield piece
    except aiohttp.ClientError as error:
        raise doors.Interrupted from error


def _check(status: int, content: bytes) -> None:
    """Raise the word for a problem document."""
    if status < 400:
        return
    problem = msgspec.json.decode(content)
    assert problem["status"] == status
    code = problem["code"]
    if code == "digest_mismatch":
        raise doors.Mismatch(Digest.parse(problem["actual"]))
    if code == "offset_conflict":
        raise doors.OffsetConflict(problem["offset"])
    assert code in _WORDS, problem
    raise _WORDS[code](problem["detail"])


def _stored(content: bytes) -> Digest:
    return Digest.parse(msgspec.json.decode(content)["digest"])


def _session(session: str, fields: Mapping[str, str]) -> Session:
    place = fields.get("content-location")
    digest = None if place is None else Digest.parse(place.removeprefix("/blobs/"))
    if digest is not None:
        assert fields["repr-digest"] == _repr_digest(digest)
    return Session(session, int(fields["upload-offset"]), digest)


def _range(part: Part) -> str:
    first = "" if part.first is None else part.first
    last = "" if part.last is None else part.last
    return f"bytes={first}-{last}"


def _repr_digest(digest: Digest) -> str:
    return f"sha-256=:{base64.b64encode(digest.raw).decode()}:"
