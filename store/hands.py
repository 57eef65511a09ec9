"""Processes beside this one that go through the files of a blob directory.

Listing and hashing many small files is mostly calls and little hashing, so threads would take turns
with the interpreter's lock, and with whoever compares what they find. Each process does one thing
at a time and answers with at most a 256th of the directory's names, so memory stays bounded.

They are started once there is enough to do. Where they cannot be, or die, this process does what
they were asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from store.backends import walking
from store.blobs import BlobInfo, BlobStore, SupportsLocalPath
from store.digest import EMPTY, Digest
from store.durable import translated
from store.threads import Threads, hop

log = logging.getLogger(__name__)

MOST: Final = 4
"""More would wait for each other's bytes, or for whoever compares."""

WORTH_FILES: Final = 4000
"""From so many files on the processes are worth their start, 30 ms of processor each."""

TRIED: Final = 8
"""How many of the 256 parts are listed before it is known how many files there may be."""


class Page(msgspec.Struct, frozen=True):
    """Some files in order of digest, as one text, since nearly all need no look of their own."""

    text: str
    """A line ``<64 hex> <size>`` for each."""
    modified: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.modified)

    @property
    def last(self) -> bytes:
        """The highest digest."""
        return bytes.fromhex(self.text[self.text.rfind("\n") + 1 :][:64])

    def infos(self) -> list[BlobInfo]:
        files = walking.parsed(self.text.split("\n")) if self.modified else []
        return [
            BlobInfo(Digest(name), size_bytes, modified_at)
            for (name, size_bytes), modified_at in zip(files, self.modified, strict=True)
        ]


NOTHING: Final = Page("", array("q"))


class _Process:
    """One of them; for one thread at a time."""

    def __init__(self, folder: str) -> None:
        # By its path, so that it finds itself whatever this process has on its path.
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-I", walking.__file__, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, question: bytes) -> bytes | None:
        """The answer, or None where there is none; raises `OSError` when the process is gone."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(question)
        asked.flush()
        head = answers.read(walking.LENGTH.size)
        if len(head) < walking.LENGTH.size:
            raise BrokenPipeError("a process that lists files has ended")
        (size_bytes,) = walking.LENGTH.unpack(head)
        if size_bytes < 0:
            return None
        answer = answers.read(size_bytes)
        if len(answer) < size_bytes:
            raise BrokenPipeError("a process that lists files has ended")
        return answer

    def close(self) -> None:
        """End it, in the middle of what it does if need be."""
        self._process.kill()
        self._process.communicate()


class Hands:
    """Lists and hashes, in processes once that is worth it. Make one with `working_on`."""

    def __init__(self, folder: str, threads: Threads, *, most: int) -> None:
        self._folder = folder
        self._threads = threads
        self._most = most
        self._pool: ThreadPoolExecutor | None = None
        self._processes: list[_Process] = []
        self._idle: asyncio.Queue[_Process | None] = asyncio.Queue()
        """None, for good, once one of them has ended: then this process does the rest."""

    @property
    def count(self) -> int:
        """How many things are done at once."""
        return len(self._processes) or 1

    async def pages(self) -> AsyncGenerator[Page, None]:
        """All files, in order of digest."""
        with translated("list"):
            firsts = await hop(self._threads.files, walking.directories, self._folder)
        waiting, coming = deque(firsts), deque[asyncio.Task[list[Page]]]()
        tried = seen = 0
        try:
            while waiting or coming:
                while waiting and len(coming) <= self.count:
                    coming.append(asyncio.create_task(self._list(waiting.popleft())))
                found = await coming.popleft()
                tried += 1
                seen += sum(page.count for page in found)
                if tried == TRIED and seen * len(firsts) >= tried * WORTH_FILES:
                    await self._start()
                for page in found:
                    yield page
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def hash(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """The BLAKE3 of each small file of this name and size, or None if it is not so."""
        share = -(-len(files) // self.count)
        shares = [files[start : start + share] for start in range(0, len(files), share or 1)]
        results = b"".join(await asyncio.gather(*map(self._hash, shares)))
        size = walking.RESULT_BYTES
        each = (results[start : start + size] for start in range(0, len(results), size))
        return [result[1:] if result[0] else None for result in each]

    async def close(self) -> None:
        """End the processes; nobody may be asking."""

        def end() -> None:
            for process in self._processes:
                process.close()
            if self._pool is not None:
                self._pool.shutdown()

        await hop(self._threads.files, end)  # all of them, even when cancelled

    async def _list(self, first: str) -> list[Page]:
        def here() -> bytes:
            with translated("list"):
                return walking.packed(walking.listed(self._folder, first))

        answer = await self._ask(f"list {first}\n".encode(), here)
        return [Page(*page) for page in walking.unpacked(answer)]

    async def _hash(self, files: Sequence[tuple[str, int]]) -> bytes:
        lines = "".join(f"{name} {size_bytes}\n" for name, size_bytes in files)
        question = f"hash {len(files)}\n{lines}".encode()
        return await self._ask(question, partial(walking.hashed, self._folder, files))

    async def _ask(self, question: bytes, here: Callable[[], bytes]) -> bytes:
        """Have a process do it, or do it in this one."""
        if self._pool is None:
            return await hop(self._threads.files, here)
        process = await self._idle.get()
        answer = None
        try:
            if process is not None:
                answer = await hop(self._pool, process.ask, question)
        except OSError as error:
            log.warning("a process that goes through files has ended: %s", error)
            process = None
        finally:
            self._idle.put_nowait(process)
        return await hop(self._pool, here) if answer is None else answer

    async def _start(self) -> None:
        """Start the processes, unless one alone would take turns with us."""

        def begin() -> None:  # whoever is cancelled meanwhile still knows of it
            self._processes.append(_Process(self._folder))

        if self._most < 2:
            return
        try:
            for _ in range(self._most):
                await hop(self._threads.files, begin)
                self._idle.put_nowait(self._processes[-1])
        except OSError as error:
            log.warning("no process to go through files beside this one: %s", error)
        if self._processes:
            self._pool = ThreadPoolExecutor(len(self._processes), "hands")


@asynccontextmanager
async def working_on(blobs: BlobStore, threads: Threads) -> AsyncIterator[Hands | None]:
    """What goes through the files of a store; None where they are no plain files."""
    if not isinstance(blobs, SupportsLocalPath):
        yield None
        return
    folder = blobs.path_of(EMPTY).parents[2]  # of the two shards
    most = min(MOST, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1
    hands = Hands(str(folder), threads, most=most)
    try:
        yield hands
    finally:
        await hands.close()


async def pages_of(
    blobs: BlobStore, hands: Hands | None, at_once: int
) -> AsyncGenerator[Page, None]:
    """All files of a store in order of digest, in pages of about so many."""
    together: list[Page] = []
    async with aclosing(_listed(blobs) if hands is None else hands.pages()) as found:
        async for page in found:
            together.append(page)
            if sum(one.count for one in together) >= at_once:
                yield _joined(together)
                together = []
    if together:
        yield _joined(together)


async def _listed(blobs: BlobStore) -> AsyncGenerator[Page, None]:
    async for infos in blobs.list():
        text = "\n".join(f"{info.digest.hex} {info.size_bytes}" for info in infos)
        yield Page(text, [info.modified_at for info in infos])


def _joined(pages: Sequence[Page]) -> Page:
    if len(pages) == 1:
        return pages[0]
    modified = [at for page in pages for at in page.modified]
    return Page("\n".join(page.text for page in pages if page.count), modified)
