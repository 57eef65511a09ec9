"""The first administrator of a registry that asks who you are."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from registry.catalog import identity
from registry.cli.serve import first_try
from registry.config import ADMIN_TOKEN_FILE, AuthConfig, Config, StoreConfig
from registry.services import first_admin
from registry.services.first_admin import ensure_administrator
from store.durable import Disk
from tests.support.people import AUTHENTICATED, make_person
from tests.support.serving import opened, serving


async def test_the_token_in_the_file_administers(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store, serving(store, AUTHENTICATED) as site:
        path = await ensure_administrator(store)
        assert path == tmp_path / "data" / ADMIN_TOKEN_FILE
        token = path.read_text().strip()
        answer = await site.ask(
            "GET", "/api/v1/audit", headers={"Authorization": f"Bearer {token}"}
        )

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert answer.status == 200
    kinds = [(entry["kind"], entry["action"]) for entry in answer.json["items"]]
    assert sorted(kinds) == [("token", "create"), ("user", "create")]
    assert token not in answer.body.decode()


async def test_it_is_made_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        first = await ensure_administrator(store)
        assert first is not None
        token = first.read_text()

        assert await ensure_administrator(store) is None
        assert first.read_text() == token


async def test_nobody_is_made_where_somebody_administers(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        await make_person(store, "anna", is_admin=True)

        assert await ensure_administrator(store) is None
        assert not (tmp_path / "data" / ADMIN_TOKEN_FILE).exists()


async def test_a_user_who_is_called_admin_does_not_become_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store, serving(store, AUTHENTICATED) as site:
        plain = await make_person(store, "admin")
        path = await ensure_administrator(store)
        assert path is not None
        theirs = await site.ask("GET", "/api/v1/gc", headers=plain.headers)

    assert theirs.status == 403


async def test_a_crash_leaves_no_administrator_whose_token_nobody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails under the file: the next start makes both."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk failed")

    async with opened(tmp_path / "data") as store:
        with monkeypatch.context() as patched:
            patched.setattr(Disk, "write_file", fail)
            with pytest.raises(OSError, match="the disk failed"):
                await ensure_administrator(store)
        assert not await store.index.look(identity.is_administered)

        with monkeypatch.context() as patched:
            patched.setattr(first_admin, "insert_token", fail)
            with pytest.raises(OSError, match="the disk failed"):
                await ensure_administrator(store)
        assert not await store.index.look(identity.is_administered)

        assert await ensure_administrator(store) is not None


async def test_a_store_in_memory_gets_none() -> None:
    async with opened(None) as store:
        assert await ensure_administrator(store) is None


def test_the_greeting_is_a_line_that_works(tmp_path: Path) -> None:
    """Of the token the path alone is told, also where the log is too quiet to tell it."""
    url, data = "http://127.0.0.1:8080", tmp_path / "my data"
    data.mkdir()
    asking = Config(auth=AuthConfig(mode="authenticated"), store=StoreConfig(data=str(data)))

    assert first_try(Config(), url) == f"curl -T model.safetensors {url}/blobs/"
    assert first_try(asking, url) == f"digestry login {url}"
    (data / ADMIN_TOKEN_FILE).write_text("dgt_secret\n")
    assert first_try(asking, url) == f"digestry login {url} --token-stdin < '{data}/admin-token'"
