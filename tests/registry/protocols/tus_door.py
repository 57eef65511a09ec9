"""The tus routes of a whole application over one store, and a client that speaks tus."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import ClientSession, web

from registry.app import create_app
from registry.config import Config
from registry.domain.principals import LOCAL, Principal
from registry.keys import UPLOAD_SESSIONS
from registry.protocols.tus import wire
from registry.services.uploads import UploadLimits, UploadSessions
from store.digest import Digest
from store.index import blobs as rows
from store.index import claims
from store.opening import Store

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
LARGE = bytes(range(256)) * 16_000
"""About four of the batches in which the store writes."""
LARGE_DIGEST = Digest.of(LARGE)
NOW = 1_700_000_000_000_000
DAY = 86_400 * 1_000_000
LIFETIME_SECONDS = 7 * 86_400
CONFIG = Config()
STRANGER = Principal("usr_stranger", "stranger", kind="service")  # has no quota of pins
TUS_HEADERS = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": wire.CONTENT_TYPE}


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def sha1(content: bytes) -> str:
    return f"sha1 {b64(hashlib.sha1(content).digest())}"


class ManualClock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Door:
    """The tus routes over one store; requests may come from whoever a test wants."""

    def __init__(self, store: Store, clock: ManualClock, limits: UploadLimits) -> None:
        self.store = store
        self.clock = clock
        self.sessions = UploadSessions(store.uploads, store.index, limits)
        self.sessions.finish_wait_seconds = 0
        self.client: ClientSession | None = None
        self.port = 0

    def app(self) -> web.Application:
        app = create_app(CONFIG, self.store)
        app[UPLOAD_SESSIONS] = self.sessions
        return app

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        """Status, headers and problem document of one request; tus headers are added."""
        assert self.client is not None
        sent = {**TUS_HEADERS, **(headers or {})}
        async with self.client.request(
            method,
            path,
            headers={k: v for k, v in sent.items() if v},
            data=io.BytesIO(body) if isinstance(body, bytes) else body,
        ) as answer:
            text = await answer.read()
            return answer.status, answer.headers, msgspec.json.decode(text) if text else {}

    async def begin(
        self, length: int | None = len(CONTENT), *, expected: Digest | None = None
    ) -> str:
        upload = await self.sessions.create_upload(LOCAL, length=length, expected=expected)
        return upload.id

    async def patch(
        self, session: str, offset: int, body: Any, **headers: str
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(
            "PATCH",
            f"/uploads/{session}",
            headers={**BYTES, "Upload-Offset": str(offset), **more},
            body=body,
        )

    async def offset(self, session: str) -> int:
        status, headers, _ = await self.send("HEAD", f"/uploads/{session}")
        assert status == 200
        return int(headers["Upload-Offset"])

    async def stored(self, digest: Digest) -> bytes | None:
        """The blob's bytes if its row is present and its owner holds a pin."""

        async def unit(tx: Any) -> tuple[rows.BlobRow | None, bool]:
            row = await rows.find_blob(tx, digest)
            return row, await claims.owner_holds(tx, digest, LOCAL.id)

        row, is_held = await self.store.index.read(unit)
        if row is None or not row.is_present:
            return None
        assert is_held, "a visible blob that nobody keeps"
        return b"".join([piece async for piece in self.store.blobs.open(digest)])

    async def staged(self) -> list[str]:
        return [info.session async for info in self.store.blobs.list_staged()]
