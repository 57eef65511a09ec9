"""``digestry archive`` on a free directory and through a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.cli import archive as work
from registry.cli import commands, offices
from registry.cli.presence import Presence
from store.clock import SECOND
from tests.registry.cli.shells import Shell
from tests.support.clock import ManualClock
from tests.support.deploying import publish
from tests.support.retaining import done, policy, retained

LONG_AGO = 1_700_000_000 * SECOND


async def filled(root: Path) -> None:
    """Three versions of which two are retired."""
    async with retained(root, ManualClock(LONG_AGO)) as registry:
        await publish(registry, 3)
        await policy(registry, purge_after_days=None)
        await done(registry)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    asyncio.run(filled(root))
    return root


@pytest.fixture
def shell(data: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell("archive", data, capsys)


def test_what_is_retired_is_moved_and_told(shell: Shell) -> None:
    assert shell.json("status")["versions"] == 0

    assert "2 versions went cold: 2 blobs" in shell.run("run")

    assert "cold: 2 versions" in shell.run("status")
    found = shell.json("status")
    assert (found["versions"], found["blobs"], found["problem"]) == (2, 2, None)
    assert found["operation"]["state"] == "succeeded"
    assert "0 versions went cold" in shell.run("run")


def test_an_archive_that_is_away_is_a_finding_with_the_way_out(shell: Shell, data: Path) -> None:
    shell.run("run")
    (data / "archive").rename(data / "away")

    assert "mount the disk" in shell.run("status", code=1)
    assert "mount the disk" in shell.run("adopt", code=3)


def test_an_archive_is_adopted_by_an_index_that_does_not_know_it(
    shell: Shell, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the data directory, so nobody takes it for ours without being told."""
    shell.run("run")
    (data / "archive").rename(tmp_path / "cold")
    monkeypatch.setenv("DIGESTRY_STORE_ARCHIVE", str(tmp_path / "cold"))
    monkeypatch.setenv("DIGESTRY_COLLECTION_GRACE_SECONDS", "0")
    assert shell.json("status")["problem"] is None
    assert commands.run_command(["fsck", "--rebuild", "--data", str(data)]) in (0, 1)
    assert "digestry archive adopt" in shell.run("status", code=1)

    assert "is this store's archive" in shell.run("adopt")

    assert shell.json("status")["problem"] is None
    assert commands.run_command(["fsck", "--repair", "--data", str(data)]) == 1
    assert shell.json("status")["blobs"] == 2


async def test_the_same_through_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retained(tmp_path / "data", ManualClock(LONG_AGO)) as registry:
        await publish(registry, 3)
        await policy(registry, purge_after_days=None)
        await done(registry)
        presence = Presence(1, registry.url, "secret")

        @contextmanager
        def remote(**_: Any) -> Iterator[offices.RemoteOffice]:
            yield offices.RemoteOffice(presence)

        monkeypatch.setattr(work, "open_office", remote)
        monkeypatch.setattr(offices, "authorization", lambda _: "")  # the open mode
        shell = Shell("archive", tmp_path / "data", capsys)
        ran = await asyncio.to_thread(shell.run, "run")
        status = await asyncio.to_thread(shell.json, "status")
        adopted = await asyncio.to_thread(shell.run, "adopt")

    assert "2 versions went cold" in ran
    assert (status["versions"], status["every_minutes"]) == (2, 10)
    assert "is this store's archive" in adopted
