"""The index in a file keeps the contract, and what only files have: processes, locks, a WAL."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from itertools import chain, pairwise
from pathlib import Path
from statistics import mean
from typing import Any
from weakref import ref

import pytest

from store.errors import (
    IndexConflict,
    StorageFull,
    StorageReadOnly,
    StoreRefused,
    TooManyOpenFiles,
    Unavailable,
)
from store.index import driver, writer
from store.index.database import Database
from store.index.driver import sqlite
from store.index.readers import Reader
from store.index.reserve import FIRST_BYTES, FULL_BYTES, Reserve
from store.index.transactions import MakesRoom, Tx
from store.index.upgrade import STORE
from tests.contracts.index import (
    BEGIN_COUNTING,
    GET,
    KEYS,
    IndexContract,
    OpenIndex,
    around_hops,
    driver_error,
    drop,
    fail_commits,
    get,
    keys,
    put,
)
from tests.support.fresh import upgrade_like_new

WORKER = """
import asyncio, sys
from pathlib import Path
from store.index.database import Database
from tests.contracts.index import RAISE

async def main():
    index = await Database.open(Path(sys.argv[1]), writer_lock=Path(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    over, mine = asyncio.create_task(asyncio.to_thread(sys.stdin.readline)), []
    while not over.done():
        mine.append((await index.run(lambda tx: tx.one(RAISE, counter="n")))[0])
        if len(mine) == 400:
            print("enough", flush=True)
    await index.close()
    print(*mine, flush=True)

asyncio.run(main())
"""

FILL_A_SMALL_DISK = """
import asyncio, os, sys
from pathlib import Path
from store.errors import StorageFull
from store.index.database import Database
from store.index.upgrade import upgrade
from tests.contracts.index import drop, keys, put

async def fill_and_empty(index):
    count = 0
    try:
        while True:
            await index.run(put(f"k{count}", "v" * 20_000))
            count += 1
    except StorageFull:
        pass
    for number in range(count):
        assert await index.run(drop(f"k{number}")) == 1
    assert await keys(index) == []
    print("emptied", count)

async def main(root):
    upgrade(root / "index.sqlite3")
    index = await Database.open(root / "index.sqlite3", writer_lock=root / "writer.lock")
    try:
        await fill_and_empty(index)
    finally:
        await index.close()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "index.sqlite3"
    upgrade_like_new(path, (STORE,))
    return path


@pytest.fixture
def open_index(path: Path) -> OpenIndex:
    @asynccontextmanager
    async def open_index(**options: Any) -> AsyncIterator[Database]:
        index = await Database.open(path, writer_lock=path.with_name("writer.lock"), **options)
        try:
            yield index
        finally:
            await index.close()

    return open_index


@pytest.fixture
async def index(open_index: OpenIndex) -> AsyncIterator[Database]:
    async with open_index() as index:
        yield index


class TestFile(IndexContract):
    """The fixtures of this module serve the contract."""


# Several databases on one file


async def test_workers_never_see_a_locked_database_and_share_evenly(
    path: Path, index: Database
) -> None:
    """Two processes commit one unit at a time until each has had 400; each gets its share.

    But for a few long waits: the machine may let either stand still while the other goes on.
    """
    await index.run(lambda tx: tx.run(BEGIN_COUNTING, name="n", value=0))
    lock = str(path.with_name("writer.lock"))
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            str(path),
            lock,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"\n")
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"enough\n"
    outs = await asyncio.gather(*(worker.communicate(b"\n") for worker in workers))
    turns = [list(map(int, out.split())) for out, _ in outs]

    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(chain(*turns)) == list(range(1, len(turns[0]) + len(turns[1]) + 1))
    for mine in turns:
        waits = sorted(after - before for before, after in pairwise(mine))
        assert mean(waits[:-4]) < 5


async def test_a_batch_has_the_lock_from_before_it_begins_until_it_is_committed(
    index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for his turn waits for it, and not in SQLite, which starves one of two."""
    done: list[object] = []
    flock, control = fcntl.flock, driver.Transaction.control

    def locking(descriptor: int, mode: int) -> None:
        flock(descriptor, mode)
        done.append(mode)

    def noting(self: driver.Transaction, sql: str) -> None:
        control(self, sql)
        done.append(sql)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", locking)
        patch.setattr(driver.Transaction, "control", noting)
        await index.run(put("a"))

    assert done == [fcntl.LOCK_EX, "BEGIN IMMEDIATE", "COMMIT", fcntl.LOCK_UN]


async def test_databases_in_one_process_take_turns_too(open_index: OpenIndex) -> None:
    async with open_index() as one, open_index() as other:
        await asyncio.gather(
            *(one.run(put(f"a{number:03}")) for number in range(300)),
            *(other.run(put(f"b{number:03}")) for number in range(300)),
        )

        assert len(await keys(one)) == 600


async def test_a_change_by_another_database_moves_the_counter(open_index: OpenIndex) -> None:
    async with open_index() as one, open_index() as other:
        before = one.change_counter()
        await other.run(put("a"))

        assert one.change_counter() != before
        assert await one.look(get("a")) == ("",)


@pytest.mark.parametrize("place", range(6))
async def test_another_database_that_commits_around_what_goes_unnoticed_is_noticed(
    open_index: OpenIndex, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    async with open_index() as one, open_index() as other:
        before, elsewhere = one.change_counter(), other.change_counter()
        await around_hops(one, monkeypatch, place, other.run)

        assert one.change_counter() != before
        assert other.change_counter() != elsewhere


async def test_what_goes_unnoticed_is_noticed_by_other_databases(open_index: OpenIndex) -> None:
    async with open_index() as one, open_index() as other:
        before, elsewhere = one.change_counter(), other.change_counter()
        await one.run_unnoticed(put("a"))

        assert one.change_counter() == before
        assert other.change_counter() != elsewhere


async def test_a_stranger_holding_the_database_is_waited_for(path: Path, index: Database) -> None:
    """A tool that knows nothing of ``writer.lock`` delays a commit and does not fail it."""
    stranger = sqlite.connect(str(path), isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(index.run(put("a")))
    for _ in range(20):
        await asyncio.sleep(0)

    assert not writing.done()
    stranger.execute("ROLLBACK")
    stranger.close()
    assert await writing == 1


# Reading


async def test_a_reader_keeps_its_snapshot_while_others_commit(index: Database) -> None:
    begun, committed = threading.Event(), threading.Event()

    async def unit(tx: Tx) -> list[Any]:
        before = await tx.one(GET, key="a")
        begun.set()
        assert committed.wait(30)
        return [before, await tx.one(GET, key="a")]

    reading = asyncio.create_task(index.read(unit))
    await asyncio.to_thread(begun.wait)
    await index.run(put("a"))
    committed.set()

    assert await reading == [None, None]
    assert await index.read(get("a")) == ("",)


async def test_a_look_at_a_busy_database_goes_to_a_reader(
    index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await index.run(put("a", "1"))
    assert index._files is not None

    def busy(*_: object) -> None:
        raise driver_error(sqlite.SQLITE_BUSY)

    monkeypatch.setattr(index._files.looker, "run", busy)

    assert await index.look(get("a")) == ("1",)
    assert index.stats.looks_that_waited == 1


async def test_a_look_takes_no_thread(index: Database) -> None:
    async def where(tx: Tx) -> int:
        return threading.get_ident()

    assert await index.look(where) == threading.get_ident()
    assert await index.read(where) != threading.get_ident()


async def test_a_half_read_look_lets_the_wal_start_over(index: Database) -> None:
    """The first of many rows was enough, and still no snapshot stays open."""
    for number in range(10):
        await index.run(put(f"k{number}"))
    assert await index.look(lambda tx: tx.one(KEYS)) == ("k0",)
    assert (await index.checkpoint()).is_complete
    before = index.wal_bytes()
    for number in range(10):
        await index.run(drop(f"k{number}"))

    assert index.wal_bytes() == before


# The WAL


async def test_only_a_checkpoint_moves_frames(path: Path, index: Database) -> None:
    """SQLite's own threshold is 1000 pages; past it the database file is still untouched."""
    before = path.read_bytes()
    for number in range(60):
        await index.run(put(f"k{number}", "v" * 100_000))

    assert index.wal_bytes() > 4_000_000
    assert path.read_bytes() == before
    done = await index.checkpoint()
    assert done.is_complete
    assert done.frames > 1000
    assert path.stat().st_size > len(before)


async def test_a_long_wal_that_writers_keep_busy_is_finished_under_the_lock(
    index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.index.database._LONG_WAL_FRAMES", 0)
    begun, go_on = threading.Event(), threading.Event()

    async def unit(tx: Tx) -> None:
        await tx.one(GET, key="a")
        begun.set()
        assert go_on.wait(30)

    await index.run(put("a"))
    reading = asyncio.create_task(index.read(unit))
    await asyncio.to_thread(begun.wait)
    await index.run(put("b"))
    partial = await index.checkpoint()
    go_on.set()
    await reading

    assert not partial.is_complete
    assert (await index.checkpoint()).is_complete


async def test_units_that_come_until_the_thread_has_the_lock_share_its_next_commit(
    index: Database,
) -> None:
    go_on = threading.Event()
    held = asyncio.create_task(index._writer.hop(partial(go_on.wait, 30)))
    units = [asyncio.create_task(index.run(put("first")))]
    while index._writer._drainer is None:
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first is on its way, behind what holds the thread
    units += [asyncio.create_task(index.run(put(f"k{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(held, *units)

    assert (index.stats.commits, index.stats.largest_batch) == (1, 4)


async def test_where_a_batch_cannot_begin_those_that_wait_are_told_and_the_next_are_not(
    index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(driver, "wal_bytes", lambda _: 1 / 0)
        tried = [index.run(put(f"k{number}")) for number in range(3)]
        errors = await asyncio.gather(*tried, return_exceptions=True)

    assert {type(error) for error in errors} == {Unavailable}
    await index.run(put("later"))
    assert await keys(index) == ["later"]


async def test_writers_bound_a_wal_that_nobody_checkpoints(
    index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WAL_LIMIT_BYTES", 1_000_000)
    for number in range(100):
        await index.run(put(f"k{number}", "v" * 50_000))

    assert index.stats.forced_checkpoints > 0
    assert index.wal_bytes() < 1_500_000


async def test_every_connection_has_its_pragmas(path: Path) -> None:
    expected = {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
        "synchronous": 2,
    }
    for is_reader in (False, True):
        connection = driver.connect(path, busy_seconds=1, is_reader=is_reader)
        got = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in expected}
        only = connection.execute("PRAGMA query_only").fetchone()[0]
        connection.close()

        assert got == expected
        assert only == int(is_reader)


def kept_bytes() -> int:
    """What SQLite holds in this process, for all connections."""
    used = ctypes.CDLL(import_module("pysqlite3._sqlite3").__file__).sqlite3_memory_used
    used.restype = ctypes.c_int64
    return int(used())


async def test_pages_that_a_connection_keeps_are_bounded(path: Path) -> None:
    """However large the index and long its life; a soak that lets it grow relies on it."""
    connection = driver.connect(path, busy_seconds=1, cache_kib=512)
    connection.execute("CREATE TABLE pages (content)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO pages VALUES (zeroblob(?))", [(3900,)] * 800)
    connection.execute("COMMIT")
    writers = kept_bytes()
    reader = Reader.open(path)

    read = reader.connection.execute("SELECT sum(length(content)) FROM pages").fetchone()[0]

    readers = kept_bytes() - writers
    reader.connection.close()
    connection.close()
    slack = 300 << 10
    assert read > 3_000_000
    assert writers - kept_bytes() < (512 << 10) + slack
    assert 1 << 20 < readers < (2 << 20) + slack


async def test_relaxed_means_one_sync_less(open_index: OpenIndex) -> None:
    async with open_index(is_relaxed=True) as index:
        level = index._writer.connection.execute("PRAGMA synchronous").fetchone()[0]

        assert level == 1


# A full disk


async def test_the_reserve_is_held_and_released_and_held_again(
    path: Path, index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is released the file does not grow; with room again everything is as before."""
    reserve = path.with_name("index.sqlite3-reserve")
    await index.run(put("a"))
    assert reserve.stat().st_size == FIRST_BYTES

    with monkeypatch.context() as patch:
        patch.setattr(Reserve, "_take", lambda *_: None)  # the disk stays full
        fail_commits(patch, sqlite.SQLITE_FULL, times=1)
        await index.run(put("b"))
        assert reserve.stat().st_size == 0
        with pytest.raises(StorageFull):
            await index.run(put("large", "v" * 100_000))
        assert await index.run(drop("a")) == 1
        assert await index.run(MakesRoom(put("makes room", "v" * 100_000))) == 1
        with pytest.raises(StorageFull):
            await index.run(put("large", "v" * 100_000))
        with pytest.raises(StorageFull):
            await index.run(MakesRoom(put("very large", "v" * FIRST_BYTES)))

    await index.run(put("large", "v" * 100_000))
    assert reserve.stat().st_size == FIRST_BYTES


async def test_the_reserve_grows_with_the_wal(path: Path, index: Database) -> None:
    for number in range(20):
        await index.run(put(f"k{number}", "v" * 50_000))

    assert path.with_name("index.sqlite3-reserve").stat().st_size == FULL_BYTES


async def test_a_disk_without_plenty_of_room_is_used_without_a_reserve(
    path: Path, index: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.index.reserve._PLENTY", 1 << 40)

    assert await index.run(put("a")) == 1
    assert not path.with_name("index.sqlite3-reserve").exists()


def test_deletes_succeed_on_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a small file system of its own: fill it through the index, then empty the index."""
    script = 'mount -t tmpfs -o size=120m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", tmp_path, sys.executable, FILL_A_SMALL_DISK],
        capture_output=True,
        text=True,
        timeout=100,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")

    assert done.stderr == ""
    assert done.stdout.startswith("emptied")


# Opening and closing


async def test_a_file_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="upgrade it first"):
        await Database.open(tmp_path / "index.sqlite3")


async def test_something_else_than_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite3").write_bytes(b"this is no database at all" * 400)

    with pytest.raises(StoreRefused, match="damaged"):
        await Database.open(tmp_path / "index.sqlite3")


async def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await Database.open(tmp_path / "missing" / "index.sqlite3")


async def test_an_old_sqlite_is_refused_where_connections_are_several(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory there is one connection, and any SQLite will do."""
    monkeypatch.setattr(driver.sqlite, "sqlite_version_info", (3, 51, 2))

    with pytest.raises(StoreRefused, match=r"3\.51\.3 or newer"):
        await Database.open(path)
    index = await Database.open(None)
    await index.close()


async def test_closing_leaves_no_thread_and_no_descriptor(open_index: OpenIndex) -> None:
    async with open_index() as warm:
        await warm.read(get("a"))
    await asyncio.to_thread(int)  # the loop's own executor exists from here on
    descriptors = set(os.listdir("/proc/self/fd"))
    threads = {thread.name for thread in threading.enumerate()}

    async with open_index() as index:
        await index.run(put("a"))
        await index.read(get("a"))
        await index.look(get("a"))
        await asyncio.to_thread(index.read_blocking, get("a"))

    assert set(os.listdir("/proc/self/fd")) <= descriptors, "what others left may go meanwhile"
    left = {thread.name for thread in threading.enumerate()} - threads
    assert {name for name in left if "index" in name} == set()


@pytest.mark.parametrize("in_memory", [False, True])
async def test_connections_that_were_closed_are_let_go_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool
) -> None:
    """With all their statements, which no collection of garbage could free."""
    opened: list[ref[driver.Transaction]] = []
    bound_time = driver.bound_time

    def noting(connection: sqlite.Connection, transaction: driver.Transaction) -> None:
        bound_time(connection, transaction)
        opened.append(ref(transaction))

    monkeypatch.setattr(driver, "bound_time", noting)
    index = await Database.open(None if in_memory else path)
    await asyncio.to_thread(index.read_blocking, get("a"))
    await index.close()
    del index
    gc.collect()

    assert [one() for one in opened] == [None]


async def test_a_reader_that_outlives_the_database_is_closed_when_it_comes_back(
    open_index: OpenIndex,
) -> None:
    closed = []

    async with open_index() as index:
        begun, go_on = threading.Event(), threading.Event()
        assert index._files is not None

        async def unit(tx: Tx) -> None:
            begun.set()
            assert go_on.wait(30)

        reading = asyncio.create_task(asyncio.to_thread(index.read_blocking, unit))
        await asyncio.to_thread(begun.wait)
        (reader,) = index._files.readers._busy
        await index.close()
        go_on.set()
        await reading
        closed.append(is_closed(reader))

    assert closed == [True]


async def test_connections_that_only_a_crowd_of_readers_needed_are_closed(
    open_index: OpenIndex,
) -> None:
    """Each takes half a megabyte, so a crowd now and then must not leave one for each of it."""
    crowd = 5
    together = threading.Barrier(crowd)

    async def unit(tx: Tx) -> None:
        await tx.one(GET, key="a")
        together.wait(30)

    async with open_index() as index:
        assert index._files is not None
        readers = index._files.readers
        before = index.statement_count()
        with ThreadPoolExecutor(crowd) as threads:
            list(threads.map(index.read_blocking, [unit] * crowd))

        assert len(readers._idle) == 3
        assert not readers._busy
        assert index.statement_count() == before + crowd


def is_closed(reader: Reader) -> bool:
    try:
        reader.connection.execute("SELECT 1")
    except sqlite.ProgrammingError:
        return True
    return False


def test_the_interpreters_own_sqlite_stays_what_it_was() -> None:
    code = """
import asyncio, sqlite3, sys
from store.index.database import Database

async def main():
    index = await Database.open(None)
    kind = type(index._writer.connection)
    await index.close()
    assert kind.__module__.startswith("pysqlite3"), kind

before = dict(sys.modules)
asyncio.run(main())
assert sys.modules["sqlite3"] is sqlite3 is before["sqlite3"]
assert sqlite3.connect.__module__ != "pysqlite3._sqlite3"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite.SQLITE_CONSTRAINT, IndexConflict),
        (sqlite.SQLITE_FULL, StorageFull),
        (sqlite.SQLITE_READONLY, StorageReadOnly),
        (sqlite.SQLITE_CANTOPEN, Unavailable),
        (sqlite.SQLITE_IOERR, Unavailable),
        (sqlite.SQLITE_IOERR | 6 << 8, Unavailable),
        (sqlite.SQLITE_BUSY, Unavailable),
        (sqlite.SQLITE_INTERRUPT, Unavailable),
        (sqlite.SQLITE_CORRUPT, StoreRefused),
        (sqlite.SQLITE_NOTADB, StoreRefused),
        (sqlite.SQLITE_ERROR, sqlite.OperationalError),
    ],
)
def test_errors_of_the_driver_have_a_kind_of_the_store(
    code: int, kind: type[Exception], tmp_path: Path
) -> None:
    error = driver.translated(driver_error(code), "a test", tmp_path / "index.sqlite3")

    assert isinstance(error, kind)


def test_an_input_output_error_on_a_full_disk_means_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_is_full", lambda directory: True)

    error = driver.translated(driver_error(sqlite.SQLITE_IOERR), "a test", tmp_path / "i")

    assert isinstance(error, StorageFull)


def test_no_descriptor_left_means_too_many_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "made up")

    monkeypatch.setattr("store.index.driver.os.open", refuse)

    error = driver.translated(driver_error(sqlite.SQLITE_CANTOPEN), "a test", tmp_path / "i")

    assert isinstance(error, TooManyOpenFiles)
