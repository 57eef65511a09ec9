"""Work that arrives while other work is being done, and is done together afterwards.

A batch is of work with one key, and of each name once. While one of a key is done the next of that
key gathers, so that whoever comes meanwhile shares one look, its hops and one commit: two at a time
of a key were half as large, and their threads took turns at the interpreter. Batches of different
keys do not wait for each other, up to a bound.

One alone goes when a turn of the event loop has brought nobody else, so nobody waits for company
that is not there. But what one batch answers, its senders follow up within some turns, and if the
first of them went at once all others would wait for the next: two groups would keep overtaking each
other, each half as large as could be. So a batch that has company waits for a few empty turns.

Each is answered for itself, after its batch has been done. Where a batch cannot be done as one,
each of it is done alone, and is refused or done for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from registry.errors import RegistryError
from store.errors import StoreError

W = TypeVar("W")
R = TypeVar("R")

MOST: Final = 64
"""Work of a batch; more would make the first of it wait too long."""

WAYS: Final = 8
"""Keys whose batches are done at a time."""

TURNS: Final = 64
"""So many turns of the loop a batch waits at most while they bring more."""

EMPTY_TURNS: Final = 8
"""So many that bring nothing, and a batch that has company goes."""


class NotTogether(Exception):
    """This work cannot be done as one; each may say why when it is done alone."""


class Together(Generic[W, R]):
    """Does work in batches: `together` as many as came, in their order; `alone` one of them."""

    def __init__(
        self,
        together: Callable[[Sequence[W]], Awaitable[Sequence[R]]],
        alone: Callable[[W], Awaitable[R]],
    ) -> None:
        self._together = together
        self._alone = alone
        self._waiting: dict[Hashable, dict[Hashable, _Waiting[W, R]]] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._under_way: set[Hashable] = set()

    async def do(self, key: Hashable, work: W, *, name: Hashable = None) -> R:
        """What becomes of this piece of work; without a name it differs from all other."""
        begun = self.begin(key, work, name=name)
        # One of two of a name that come at once is the last; they must not be one.
        return await (self._alone(work) if begun is None else begun)

    def begin(self, key: Hashable, work: W, *, name: Hashable = None) -> asyncio.Future[R] | None:
        """The same for whoever is told later; None if work of that name waits, too."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting[W, R](work, loop.create_future())
        batch = self._waiting.setdefault(key, {})
        if name is None:
            name = waiting
        elif name in batch:
            return None
        batch[name] = waiting
        self._go()
        return waiting.done

    async def close(self) -> None:
        """Wait until all is done."""
        while self._batches:
            await asyncio.gather(*self._batches, return_exceptions=True)

    def _go(self) -> None:
        """Have what waits done, as far as there are ways for it."""
        free = WAYS - len(self._under_way)
        if not free:
            return
        for key in [key for key in self._waiting if key not in self._under_way][:free]:
            self._under_way.add(key)
            # Of no request's context: it does the work of many.
            batch = asyncio.get_running_loop().create_task(self._do_batch(key), context=Context())
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _do_batch(self, key: Hashable) -> None:
        batch = await self._gather(key)
        try:
            results = await self._together([one.work for one in batch])
        except (NotTogether, RegistryError, StoreError):
            await asyncio.gather(*(self._do_alone(one) for one in batch))
        except BaseException as error:
            for one in batch:
                one.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            for one, result in zip(batch, results, strict=True):
                one.settle(result)
        finally:
            self._under_way.remove(key)
            self._go()

    async def _gather(self, key: Hashable) -> list[_Waiting[W, R]]:
        """The next batch of a key, those who wait longest, when nobody else seems to come."""
        waiting = self._waiting[key]
        empty = 0
        for _ in range(TURNS):
            before = len(waiting)
            await asyncio.sleep(0)
            empty = empty + 1 if len(waiting) == before else 0
            if len(waiting) >= MOST or empty == (EMPTY_TURNS if before > 1 else 1):
                break
        del self._waiting[key]
        found = list(waiting.items())
        if len(found) > MOST:
            self._waiting[key] = dict(found[MOST:])  # behind those with other keys
        return [one for _, one in found[:MOST]]

    async def _do_alone(self, one: _Waiting[W, R]) -> None:
        try:
            result = await self._alone(one.work)
        except BaseException as error:
            one.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            one.settle(result)


class _Waiting(Generic[W, R]):
    """A piece of work, and who waits for it; whoever does may have left."""

    __slots__ = ("done", "work")

    def __init__(self, work: W, done: asyncio.Future[R]) -> None:
        self.work = work
        self.done = done

    def settle(self, result: R) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
