"""Processes that go through files find what this one would, and nothing is missed if they end."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from blake3 import blake3

from store.backends import walking
from store.digest import Digest
from store.errors import Unavailable
from store.hands import Hands, Page, _Process
from store.layout import blob_key
from store.threads import Threads

CONTENTS = [b"%d" % number for number in range(300)]
DIGESTS = sorted(Digest.of(content) for content in CONTENTS)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for content in CONTENTS:
        path = tmp_path / blob_key(Digest.of(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content) * 1000))
    return str(tmp_path / "blobs/sha256")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were."""
    monkeypatch.setattr("store.hands.WORTH_FILES", 1)


async def listed(hands: Hands) -> list[Page]:
    return [page async for page in hands.pages()]


def names(pages: list[Page]) -> list[Digest]:
    return [info.digest for page in pages for info in page.infos()]


async def test_processes_find_what_this_one_would(
    folder: str, threads: Threads, many: None
) -> None:
    alone, hands = Hands(folder, threads, most=1), Hands(folder, threads, most=2)
    asked = [(digest.hex, 3) for digest in DIGESTS]
    asked[5] = (asked[5][0], 0)
    asked[7] = ("0" * 64, 3)
    try:
        pages = await listed(hands)
        hashed = await hands.hash(asked)

        assert (alone.count, hands.count) == (1, 2)
        assert pages == await listed(alone)
        assert names(pages) == DIGESTS
        assert {len(str(info.size_bytes)) for page in pages for info in page.infos()} == {1}
        assert all(info.modified_at == info.size_bytes for page in pages for info in page.infos())
        assert hashed == await alone.hash(asked)
        assert [hashed[5], hashed[7]] == [None, None]
        content = next(one for one in CONTENTS if Digest.of(one) == DIGESTS[0])
        assert hashed[0] == blake3(content).digest()
    finally:
        await hands.close()
        await alone.close()


async def test_what_processes_that_end_were_asked_is_done_here(
    folder: str, threads: Threads, many: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "store")  # a command in this process may have silenced it
    hands = Hands(folder, threads, most=2)
    found = []
    try:
        async for page in hands.pages():
            found.append(page)
            if hands.count > 1:
                for process in hands._processes:
                    process._process.kill()

        assert names(found) == DIGESTS
        assert None not in await hands.hash([(digest.hex, 3) for digest in DIGESTS])
        assert "has ended" in caplog.text
    finally:
        await hands.close()


async def test_where_no_process_can_be_started_this_one_does_it(
    folder: str, threads: Threads, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    hands = Hands(folder, threads, most=2)

    assert names(await listed(hands)) == DIGESTS
    assert hands.count == 1


async def test_few_files_are_not_worth_a_process(folder: str, threads: Threads) -> None:
    hands = Hands(folder, threads, most=2)

    assert names(await listed(hands)) == DIGESTS
    assert hands.count == 1


async def test_a_directory_that_cannot_be_listed_is_no_empty_one(
    folder: str, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: str) -> walking.Listing:
        raise OSError(errno.EIO, "bad medium")

    monkeypatch.setattr(walking, "listed", fails)

    with pytest.raises(Unavailable):
        await listed(Hands(folder, threads, most=1))


def test_a_process_says_when_it_cannot(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked does it himself then, and sees why."""
    answers = io.BytesIO()
    questions = b"list ../..\nforget everything\nhash many\n"
    monkeypatch.setattr(walking, "directories", _fails)

    walking.serve(folder, io.BytesIO(questions), answers)

    assert answers.getvalue() == walking.LENGTH.pack(-1) * 3


def _fails(path: str) -> list[str]:
    raise OSError(errno.EIO, "bad medium", path)


def test_pages_are_bounded(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr(walking, "PAGE_FILES", 2)
    listing = walking.Listing()
    for number in range(5):
        listing.lines.append(f"{number:064x} {number}")
        listing.modified.append(number)

    pages = [Page(*page) for page in walking.unpacked(walking.packed(listing))]

    assert [page.count for page in pages] == [2, 2, 1]
    assert [info.size_bytes for page in pages for info in page.infos()] == list(range(5))
    assert pages[0].last == bytes(31) + b"\1"


async def test_whoever_stops_listing_leaves_no_process(
    folder: str, threads: Threads, many: None
) -> None:
    hands = Hands(folder, threads, most=2)
    async with aclosing(hands.pages()) as pages:
        async for _ in pages:
            if hands.count > 1:
                break
    processes = [process._process for process in hands._processes]

    await hands.close()

    assert [process.returncode is not None for process in processes] == [True, True]


async def test_whoever_is_cancelled_while_a_process_is_started_leaves_none(
    folder: str, threads: Threads, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, started = _Process.__init__, list[subprocess.Popen[bytes]]()
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(self: _Process, folder: str) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(60)
        begin(self, folder)
        started.append(self._process)

    monkeypatch.setattr(_Process, "__init__", slowly)
    hands = Hands(folder, threads, most=2)
    listing = asyncio.create_task(listed(hands))
    await begun.wait()
    listing.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await listing

    await hands.close()

    assert [process.returncode is not None for process in started] == [True]
