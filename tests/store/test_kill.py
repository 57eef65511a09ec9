"""Two processes on one directory are killed at random moments; nothing acknowledged is lost.

Each worker puts, appends, finishes, releases and claims all at once, one of them collects. What was
acknowledged goes to a file of its own, one line a fact, written before the next operation on the
same bytes. After every kill the directory is opened anew and compared with those files; the workers
of the next round go on with what they find. `DIGESTRY_TESTS_LONG=1` does so for ten minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.digest import Digest
from store.index import blobs as rows
from store.index import claims
from store.opening import Store, initialize, open_store
from tests.support import killed
from tests.support.killed import Fact, content_of, owner_of
from tests.support.servers import environment
from tests.support.soundness import AFTER_CRASH, Tolerance, assert_store_is_sound

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
SECONDS = 600 if LONG else 25
ROUNDS_AT_LEAST = 5
LEFT = Tolerance(strays=True, lost_asides=True)
"""What only `fsck` sweeps, or the next purge."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if the machine has such a place: what is killed are processes, not machines."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="kill-", dir=memory if memory.is_dir() else tmp_path))
    yield made
    shutil.rmtree(made)


class Pair:
    """Two worker processes on one directory and the files of what they acknowledged."""

    def __init__(self, folder: Path, number: int) -> None:
        self.logs = [folder / f"facts-{number}-{worker}" for worker in range(2)]
        self.processes = [
            _start(folder, log, f"{number}-{worker}", worker)
            for worker, log in enumerate(self.logs)
        ]

    def wait_for_facts(self, count: int) -> None:
        """Until both have acknowledged something, so that no round is empty."""
        deadline = time.monotonic() + 30
        while any(not log.exists() or len(log.read_bytes()) < 40 * count for log in self.logs):
            assert time.monotonic() < deadline, "the workers do nothing"
            assert all(one.poll() is None for one in self.processes), "a worker gave up"
            time.sleep(0.005)

    def kill(self, *which: int) -> None:
        for one in which or range(2):
            if self.processes[one].poll() is None:
                os.kill(self.processes[one].pid, signal.SIGKILL)
        for one in which or range(2):
            assert self.processes[one].wait(10) == -signal.SIGKILL

    def facts(self) -> list[Fact]:
        return [fact for log in self.logs for fact in killed.read(log)]


def _start(folder: Path, log: Path, name: str, worker: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", killed.__name__, str(folder / "data"), str(log), name]
    with (folder / f"errors-{name}").open("wb") as errors:
        return subprocess.Popen([*command, str(worker)], env=environment(), stderr=errors)


def test_nothing_acknowledged_is_lost_when_workers_are_killed(folder: Path) -> None:
    root = folder / "data"
    root.mkdir()
    initialize(root)
    chance = random.Random()
    expected = Expected()
    started = time.monotonic()
    rounds = 0
    while rounds < ROUNDS_AT_LEAST or time.monotonic() - started < SECONDS:
        pair = Pair(folder, rounds)
        try:
            pair.wait_for_facts(1)
            time.sleep(chance.uniform(0, 0.8))
            if chance.random() < 0.3:  # one goes on for a while beside what the other left
                pair.kill(chance.randrange(2))
                time.sleep(chance.uniform(0, 0.4))
        finally:
            pair.kill()
        for errors in folder.glob("errors-*"):
            assert errors.read_text() == ""
        expected.learn(pair.facts())
        asyncio.run(_check(root, expected))
        rounds += 1
    asyncio.run(_sweep(root))
    assert expected.facts > 100


class Expected:
    """What must be so, from all facts so far."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bool] = {}
        """Owner and name of the bytes: True if acknowledged, False if perhaps released."""
        self.sessions: dict[str, Fact] = {}
        self.facts = 0

    def learn(self, facts: list[Fact]) -> None:
        self.facts += len(facts)
        for fact in facts:
            match fact.kind:
                case "kept":
                    self.kept[fact.owner, fact.name] = True
                case "releasing":
                    self.kept[fact.owner, fact.name] = False
                case "session":
                    self.sessions[fact.session] = fact
                case "finishing":
                    self.sessions.pop(fact.session, None)


async def _check(root: Path, expected: Expected) -> None:
    """What the next process finds, before and after it has put things in order."""
    assert_store_is_sound(root, AFTER_CRASH)
    store = await open_store(killed.settings(root))
    try:
        await store.quarantine.settle()
        assert_store_is_sound(root, LEFT)
        for (owner, name), is_kept in expected.kept.items():
            if is_kept:
                await _assert_kept(store, owner, name)
        for fact in expected.sessions.values():
            session = await store.uploads.get(fact.session)
            assert session.offset >= fact.offset, "an acknowledged offset is lost"
            content = content_of(fact.name)
            rest = killed.body(content[session.offset :])
            after = await store.uploads.append(fact.session, session.offset, rest)
            assert after.digest == Digest.of(content)
        expected.sessions.clear()
    finally:
        await store.close()


async def _sweep(root: Path) -> None:
    """After `fsck` nothing at all is left over."""
    store = await open_store(killed.settings(root))
    try:
        report = await store.fsck.run(repair=True)
        assert not [f for f in report.findings if f.problem.startswith(("missing", "dangling"))]
    finally:
        await store.close()
    assert_store_is_sound(root)


async def _assert_kept(store: Store, owner: str, name: str) -> None:
    content = content_of(name)
    digest = Digest.of(content)
    row = await store.index.look(lambda tx: rows.find_blob(tx, digest))
    assert row is not None, f"{name} of {owner} is absent"
    assert row.is_present, f"{name} of {owner} is {row.state}"
    assert store.blobs.read_blocking(digest, 0, len(content) + 1) == content
    assert await store.index.look(lambda tx: claims.owner_holds(tx, digest, owner_of(owner)))
