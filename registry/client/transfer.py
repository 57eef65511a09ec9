"""What sending and fetching have in common, and what they promise.

**Sending** (`registry.client.push`): every file is hashed first, the server is asked in bulk which
of the digests it lacks, and only those are sent; then one request makes the version, all or
nothing.

- *Retried*: see `registry.client.connection`. A large file goes on where the server says it
  stopped, also in a new process. Making the version carries an ``Idempotency-Key``.
- *Verified*: the server compares what it received with the digest that was computed here; a file
  that changes meanwhile is an error and not a version.
- *Left behind when interrupted*: at the server, blobs that nobody names yet (they are the sender's
  pins) and unfinished uploads, which expire; here, one small file for each unfinished large upload,
  see `registry.client.unfinished`. No version.

**Fetching** (`registry.client.pull`): the list of files is read, its digest compared with the
version's tree, then each file is fetched into a ``.part`` file beside its place, hashed on the way,
compared with the list, synced, and renamed.

- *Retried*: the same; a broken file goes on by ``Range`` at the length of its ``.part`` file.
- *Verified*: every byte, also those of a ``.part`` file from an earlier time; a file that turns out
  wrong is fetched once more from the start, and then given up.
- *Left behind when interrupted*: whole files under their names, and ``.part`` files, which the next
  run continues. A wrong or half a file never has its final name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

Item = TypeVar("Item")
T = TypeVar("T")

PIECE_BYTES: Final = 1 << 20
"""What is read, hashed, written or sent in one go."""


class Step(msgspec.Struct, frozen=True):
    """How far a transfer is, in bytes."""

    stage: str
    done: int
    total: int


Watch = Callable[[Step], None]
"""Told from time to time how far a transfer is."""


class Meter:
    """Counts the bytes of one stage and tells a watch."""

    def __init__(self, stage: str, total: int, watch: Watch) -> None:
        self._stage, self._total, self._watch = stage, total, watch
        self.done = 0
        self.add(0)

    def add(self, count: int) -> None:
        """`count` may be negative: what was counted turned out not to."""
        self.done += count
        self._watch(Step(self._stage, self.done, self._total))


class Halted(Exception):
    """Inside a thread: nobody waits for this any more."""


class Halt:
    """Asks a thread to stop; long work calls `check` for each piece."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def check(self) -> None:
        if self._is_set:
            raise Halted


async def in_thread(
    function: Callable[..., T],
    *args: Any,
    halt: Halt | None = None,
    undo: Callable[[T], object] | None = None,
) -> T:
    """Run a blocking function in a thread, and do not leave before it has, however often cancelled.

    Otherwise whoever is cancelled would close files under its hands. They are cancelled twice when
    a transfer is interrupted: by the group they are in, and by the loop that ends. What they then
    cannot be given goes to `undo`.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if halt is not None:
            halt.set()
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        # Looked at, or the loop would complain that nobody did.
        if future.exception() is None and undo is not None:
            undo(future.result())
        raise


async def each(
    items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, at_once: int
) -> None:
    """Do `work` for every item, some at a time; the first failure ends the rest and is raised."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    await together(*(worker() for _ in range(at_once)))


async def together(*tasks: Coroutine[Any, Any, None]) -> None:
    """Run all; the first failure cancels the others, waits for them and is raised."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
