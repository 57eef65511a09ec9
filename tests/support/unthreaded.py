"""Work for threads is done at once by whoever asks for it.

For tests that wait for every call anyway: a hop to a thread and back costs a tenth of a millisecond
of processor time and two switches, and opening, repairing and closing a store takes two hundred.
What is to be seen under concurrency runs as it always does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import aiosqlite

from store.index.database import Database
from store.index.driver import TimeLimit
from store.index.transactions import Unit

T = TypeVar("T")


def run_unthreaded(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` for work that needs no threads of its own.

    `asyncio.run` itself starts a thread to wait for the threads of the loop's executor.
    """
    with unthreaded():
        loop = asyncio.new_event_loop()
        try:
            try:
                return loop.run_until_complete(work)
            finally:
                _end_tasks(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


@contextmanager
def unthreaded() -> Iterator[None]:
    """Let pools and database threads of this process do nothing; their callers do it.

    A database that is opened here is closed here: it has no thread.
    """
    index: Any = Database
    with ExitStack() as stack:
        for owner, name, work in (
            (ThreadPoolExecutor, "submit", _submit),
            (aiosqlite.Connection, "__await__", _connect),
            (aiosqlite.Connection, "_execute", _execute),
            (aiosqlite.Connection, "close", _close),
            (index, "read_blocking", _read_blocking),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, work)
        yield


def _submit(
    pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **named: Any
) -> Any:
    """A future of the loop itself where there is one: waiting for it then takes no turn."""
    try:
        done: Any = asyncio.get_running_loop().create_future()
    except RuntimeError:
        done = Future()
    try:
        done.set_result(function(*args, **named))
    except Exception as error:
        done.set_exception(error)
    return done


def _connect(connection: Any) -> Generator[Any, None, Any]:
    connection._connection = connection._connector()
    return connection
    yield


async def _close(connection: Any) -> None:
    opened, connection._connection = connection._connection, None
    if opened is not None:
        opened.close()


async def _execute(
    connection: aiosqlite.Connection, function: Callable[..., T], *args: Any, **named: Any
) -> T:
    return function(*args, **named)


def _read_blocking(index: Database, unit: Unit[T]) -> T:
    """A thread would ask the loop for what is in memory; here the loop itself waits for this."""
    limit = TimeLimit(index._read_seconds)
    if index._files is None:
        return index._read_memory_blocking(unit, limit)
    return index._files.readers.run_blocking(unit, limit)
