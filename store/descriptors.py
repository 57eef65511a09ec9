"""Open files of blobs, shared between readers of one (digest, generation).

Idle descriptors are few and closed after a while, in a thread: closing the last descriptor of an
unlinked file of 1 GiB held the event loop for 150 ms. Another generation of a digest is another
file, so a descriptor never shows what replaced its file.

Everything but the opening and closing itself happens on the event loop's thread; no lock is needed.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

from store.digest import Digest
from store.durable import translated
from store.threads import Threads, hop

Key: TypeAlias = tuple[Digest, int]
"""A digest and the generation of its row."""

MOST_IDLE: Final = 128
IDLE_SECONDS: Final = 30.0


class WrongSize(Exception):
    """The file exists but is not as long as its row says."""


class Descriptor:
    """An open file and how many readers use it."""

    __slots__ = ("fileno", "idle_since", "key", "users")

    def __init__(self, key: Key, fileno: int) -> None:
        self.key = key
        self.fileno = fileno
        self.users = 1
        self.idle_since = 0.0


class Descriptors:
    """The open blob files of one process."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._shared: dict[Key, Descriptor] = {}
        self._idle: OrderedDict[Key, Descriptor] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Future[None]] = set()

    @property
    def in_use(self) -> int:
        """How many files are open for somebody."""
        return len(self._shared) - len(self._idle)

    @property
    def idle(self) -> int:
        """How many files are open for whoever comes next."""
        return len(self._idle)

    async def take(
        self, key: Key, path_of: Callable[[Digest], os.PathLike[str]], size_bytes: int
    ) -> Descriptor:
        """An open file for one more reader, who gives it back; its path is asked to open it.

        Raises `FileNotFoundError`, `WrongSize`, `TooManyOpenFiles` and `Unavailable`.
        """
        descriptor = self._shared.get(key)
        if descriptor is not None:
            descriptor.users += 1
            self._idle.pop(key, None)
            return descriptor
        fileno = await hop(
            self._threads.files, _open_blocking, os.fspath(path_of(key[0])), size_bytes
        )
        # If somebody opened it meanwhile, this one is used once and not shared.
        descriptor = Descriptor(key, fileno)
        self._shared.setdefault(key, descriptor)
        return descriptor

    def give_back(self, descriptor: Descriptor) -> None:
        """End one use; the last one leaves the file open for a while."""
        descriptor.users -= 1
        if descriptor.users:
            return
        if self._shared.get(descriptor.key) is not descriptor:
            self._close_later(descriptor.fileno)
            return
        loop = asyncio.get_running_loop()
        descriptor.idle_since = loop.time()
        self._idle[descriptor.key] = descriptor
        while len(self._idle) > MOST_IDLE:
            self._drop(next(iter(self._idle)))
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._close_idle)

    def forget(self, digest: Digest) -> None:
        """Close a digest's files as soon as nobody uses them, and share them no more."""
        for key in [key for key in self._shared if key[0] == digest]:
            if key in self._idle:
                self._drop(key)
            else:
                del self._shared[key]

    async def settle(self) -> None:
        """Wait until what is being closed is closed."""
        while self._closing:
            await asyncio.wait(list(self._closing))

    async def close(self) -> None:
        """Close every idle file."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for key in list(self._idle):
            self._drop(key)
        await self.settle()

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = None
        for key, descriptor in list(self._idle.items()):
            if loop.time() - descriptor.idle_since < IDLE_SECONDS:
                self._sweep = loop.call_later(IDLE_SECONDS, self._close_idle)
                return
            self._drop(key)

    def _drop(self, key: Key) -> None:
        descriptor = self._idle.pop(key)
        del self._shared[key]
        self._close_later(descriptor.fileno)

    def _close_later(self, fileno: int) -> None:
        closing = asyncio.ensure_future(hop(self._threads.files, os.close, fileno))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _open_blocking(path: str, size_bytes: int) -> int:
    with translated("opening a blob"):
        fileno = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size_found = os.fstat(fileno).st_size
        except BaseException:
            os.close(fileno)
            raise
    if size_found != size_bytes:
        os.close(fileno)
        raise WrongSize
    return fileno
