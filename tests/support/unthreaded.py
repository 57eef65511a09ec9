"""Work for threads is done at once by whoever asks for it.

For tests that wait for every call anyway: a hop to a thread and back costs a tenth of a millisecond
of processor time and two switches, and opening, repairing and closing a store takes two hundred.
What is to be seen under concurrency runs as it always does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import aiosqlite

from store.index.database import Database
from store.index.driver import TimeLimit
from store.index.transactions import Unit

T = TypeVar("T")


def run_unthreaded(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` for work that needs no threads of its own."""
    with unthreaded():
        return asyncio.run(work)


@contextmanager
def unthreaded() -> Iterator[None]:
    """Let pools and database threads of this process do nothing; their callers do it."""
    pool: Any = ThreadPoolExecutor
    connection: Any = aiosqlite.Connection
    index: Any = Database
    kept = pool.submit, connection._execute, index.read_blocking
    pool.submit, connection._execute, index.read_blocking = _submit, _execute, _read_blocking
    try:
        yield
    finally:
        pool.submit, connection._execute, index.read_blocking = kept


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
