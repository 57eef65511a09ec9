"""A registry on loopback with a client beside it, versions in one call, and archives of any kind.

`Registry.check` proves from outside that every file of every draft and version is claimed exactly
as often as it is named; the fixture `registry` of `tests.registry.conftest` calls it after each
test, on each backend.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import text
from yarl import URL

from registry.catalog.usage import miscounted
from registry.config import Config
from registry.keys import DRAIN
from store.index.transactions import Statement, Tx
from store.opening import Store
from tests.support.serving import Site, opened, serving
from tests.support.soundness import assert_memory_is_sound, assert_store_is_sound

_CLAIMS = Statement(
    text("SELECT lower(hex(digest)), owner, kind, count FROM refs WHERE kind IN ('folder', 'tree')")
)
_NAMED = Statement(
    text(
        "SELECT lower(hex(f.digest)), d.model, 'folder', count(*) FROM folder_files f "
        "JOIN folders d ON d.id = f.folder GROUP BY f.digest, d.model UNION ALL "
        "SELECT lower(hex(f.digest)), v.model, 'tree', count(*) FROM tree_files f "
        "JOIN versions v ON v.tree = f.tree WHERE v.purged_at IS NULL GROUP BY f.digest, v.model"
    )
)
_OTHERWISE_OPEN = Statement(
    text(
        "SELECT owner, realm, namespace, level, visibility FROM refs JOIN models "
        "ON models.id = owner WHERE realm IS NOT namespace OR level IS NOT visibility LIMIT 10"
    )
)
_LEFT = Statement(
    text("SELECT (SELECT count(*) FROM folder_uploads), (SELECT count(*) FROM leases)")
)


class Answer(msgspec.Struct):
    """A whole answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        found: str = self.json["code"]
        return found


class Registry:
    """A server with its store, and short words for what tests do to it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.store = site.store
        self.url = site.url
        self.session = site.session

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        expect100: bool = False,
    ) -> Answer:
        """Send `path` exactly as it is written."""
        target = URL(self.url + path, encoded=True)
        if isinstance(data, bytes):
            data = io.BytesIO(data)  # aiohttp warns about large bytes
        async with self.session.request(
            method,
            target,
            data=data,
            json=json,
            headers=headers,
            allow_redirects=False,
            expect100=expect100,
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("GET", path, headers=named)

    async def put(self, path: str, data: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("PUT", path, data=data, headers=named)

    async def publish(self, model: str, label: str, files: Mapping[str, bytes]) -> Any:
        """A version with these files; returns what the publishing answered of it."""
        for path, content in files.items():
            put = await self.put(f"/models/{model}/{label}/{path}", content)
            assert put.status in (200, 201), put.body
        answer = await self.send("POST", f"/api/v1/models/{model}/versions/{label}/publish")
        assert answer.status == 201, answer.body
        return answer.json["version"]

    async def rows(self, sql: str) -> list[Any]:
        """What the index says, in plain SQL."""
        statement = Statement(text(sql))

        async def unit(tx: Tx) -> list[Any]:
            return list(await tx.all(statement))

        return await self.store.index.read(unit)

    async def count(self, table: str) -> int:
        [(found,)] = await self.rows(f"SELECT count(*) FROM {table}")
        return int(found)

    async def check(self) -> None:
        """Every file is claimed as often as it is named; no upload or lease was forgotten."""
        drain = self.site.app[DRAIN]
        await self.site.until(lambda: not drain.in_flight)
        await self.store.ingest.close()

        await assert_claims_match(self.store)
        left = await self.store.index.read(lambda tx: tx.one(_LEFT))
        assert left is not None
        assert tuple(left) == (0, 0), "uploads registered and leases held"
        root = self.store.settings.root
        if root is None:
            await assert_memory_is_sound(self.store)
        else:
            assert_store_is_sound(root)


async def assert_claims_match(store: Store) -> None:
    """Drafts and versions claim every file as often as they name it, for readers of the model."""

    async def unit(tx: Tx) -> tuple[list[Any], list[Any], list[Any]]:
        return await tx.all(_CLAIMS), await tx.all(_NAMED), await tx.all(_OTHERWISE_OPEN)

    claims, named, otherwise_open = await store.index.read(unit)
    assert sorted(claims) == sorted(named)
    assert otherwise_open == [], "claims open to others than their model"
    assert await store.index.read(miscounted) == {}, "usage of namespaces"


@asynccontextmanager
async def running_registry(
    root: Path | None, *, config: Config | None = None
) -> AsyncIterator[Registry]:
    """A registry on a directory, or in memory."""
    async with opened(root) as store, serving(store, config) as site:
        yield Registry(site)


def tar_of(files: Mapping[str, bytes], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of plain files, as Python's `tarfile` writes it."""
    members = ((tarfile.TarInfo(path), content) for path, content in files.items())
    return tar_of_members(members, format=format)


def tar_of_members(
    members: Iterable[tuple[tarfile.TarInfo, bytes]], *, format: int = tarfile.PAX_FORMAT
) -> bytes:
    """An archive of whatever a test invents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if content else None)
    return buffer.getvalue()


def files_in(archive: bytes) -> dict[str, bytes]:
    """What Python's `tarfile` finds in an archive."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        for member in opened:
            assert member.isreg(), member
            extracted = opened.extractfile(member)
            assert extracted is not None
            found[member.name] = extracted.read()
    return found
