"""A thread at work keeps what it works on, however often whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from registry.client import push as pushing
from registry.client import uploading
from registry.client.push import Publication, push
from registry.client.transfer import in_thread
from registry.client.unfinished import Unfinished
from registry.domain.names import parse_model_name
from tests.registry.client.conftest import Connect
from tests.support.builders import Registry


class Thread:
    """A blocking call that lasts until it is let go; `result` is what it returns or raises."""

    def __init__(self, result: Any = None) -> None:
        self.has_begun = asyncio.Event()
        self.has_ended = False
        self._loop = asyncio.get_running_loop()
        self._may_end = threading.Event()
        self._result = result

    def __call__(self, *args: Any) -> Any:
        self._loop.call_soon_threadsafe(self.has_begun.set)
        assert self._may_end.wait(10)
        self.has_ended = True
        if isinstance(self._result, Exception):
            raise self._result
        return self._result(*args) if callable(self._result) else self._result

    def let_go(self) -> None:
        self._may_end.set()


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What the loop said that nobody looked at."""
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    yield said
    loop.set_exception_handler(None)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel, and let everybody have a turn."""
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_is_cancelled_again_and_again_waits_for_the_thread() -> None:
    thread = Thread()
    task = asyncio.create_task(in_thread(thread))
    await thread.has_begun.wait()
    for _ in range(3):
        await cancel(task)
    was_left = task.done()
    thread.let_go()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (was_left, thread.has_ended) == (False, True)


async def test_what_nobody_can_be_given_any_more_is_undone() -> None:
    thread, undone = Thread("an open file"), list[str]()
    task = asyncio.create_task(in_thread(thread, undo=undone.append))
    await thread.has_begun.wait()
    await cancel(task)
    thread.let_go()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert undone == ["an open file"]


async def test_what_failed_after_nobody_wanted_it_is_neither_undone_nor_complained_about(
    complaints: list[str],
) -> None:
    thread, undone = Thread(OSError("no")), list[str]()
    task = asyncio.create_task(in_thread(thread, undo=undone.append))
    await thread.has_begun.wait()
    await cancel(task)
    thread.let_go()
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()

    assert (undone, complaints) == ([], [])


@pytest.mark.parametrize("is_large", [False, True], ids=["in one request", "over tus"])
async def test_a_push_that_is_interrupted_closes_no_file_that_is_being_read(
    registry: Registry,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_large: bool,
) -> None:
    for module in (uploading, pushing):
        monkeypatch.setattr(module, "LARGE_BYTES", 0 if is_large else 1 << 20)
    source = tmp_path / "weights"
    source.write_bytes(b"weights")
    complaints: list[str] = []

    async def interrupted() -> None:
        """As `asyncio.run` does on Ctrl-C: cancel what runs, then whatever that left behind."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
        thread = Thread(os.pread)
        monkeypatch.setattr(uploading, "os", SimpleNamespace(pread=thread, close=os.close))
        async with connect(registry.url) as connection:
            task = asyncio.create_task(
                push(
                    connection,
                    [source],
                    Publication(model=parse_model_name("interrupted")),
                    unfinished=Unfinished.of({"XDG_STATE_HOME": str(tmp_path / "state")}),
                    watch=lambda _: None,
                )
            )
            await thread.has_begun.wait()
            loop.call_later(0.01, thread.let_go)
            await cancel(task)

    await asyncio.to_thread(asyncio.run, interrupted())
    gc.collect()

    assert complaints == []
