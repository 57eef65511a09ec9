"""A worker from its start to its end, in this process."""

from __future__ import annotations

import asyncio
import gc
import socket
from concurrent.futures import Executor
from contextlib import closing

import msgspec
import pytest

from registry.cli import serve, worker
from registry.cli.imports import terminal_libraries_hidden
from registry.cli.serve import Assignment
from registry.config import Config


async def test_a_worker_gives_memory_back_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def give_back(pool: Executor) -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    monkeypatch.setattr(worker, "give_back", give_back)
    monkeypatch.setattr(worker, "_settle_memory", lambda: None)  # it is for a process's whole life
    default = Config()
    config = msgspec.structs.replace(
        default, store=msgspec.structs.replace(default.store, backend="memory")
    )
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        assignment = Assignment(config, listener, "http://127.0.0.1", "secret")
        at_work = asyncio.create_task(worker._work(assignment, theirs))
        async with asyncio.timeout(10):
            await asyncio.wait(
                {at_work, asyncio.create_task(began.wait())}, return_when="FIRST_COMPLETED"
            )
            ours.send(b"close\n")
            await at_work

    assert ended.is_set()


def test_garbage_is_looked_for_once_the_worker_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while it imports, and again as soon as what is here to stay has been set aside."""
    was_enabled = list[bool]()

    def work(_: Assignment, channel: socket.socket) -> int:
        was_enabled.append(gc.isenabled())
        worker._settle_memory()
        was_enabled.append(gc.isenabled())
        return 0

    monkeypatch.setattr(worker, "work", work)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # it is for a process's whole life
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs), terminal_libraries_hidden():
        assert serve._work(Assignment(Config(), ours, "http://127.0.0.1", "secret"), theirs) == 0

    assert was_enabled == [False, True]
