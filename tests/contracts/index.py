"""What every index must do; run on SQLite in a file and in memory, later on PostgreSQL.

`Twice` belongs here too: an index that runs each unit of work twice, the first time rolled back, so
that a unit that leans on having run once is found out. Other suites may put it before their index.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

import pytest
from sqlalchemy import bindparam, column, delete, func, insert, literal, select, update

from store.errors import IndexConflict, StorageFull, Unavailable
from store.index.database import Database
from store.index.driver import Transaction, sqlite
from store.index.schema import counters, store_state
from store.index.stats import Committed
from store.index.transactions import Rows, Statement, Tx, Unit

T = TypeVar("T")

PUT = Statement(insert(store_state).values(key=bindparam("key"), value=bindparam("value")))
STATES = Rows(store_state.c.key, store_state.c.value)
GET = Statement(select(store_state.c.value).where(store_state.c.key == bindparam("key")))
DROP = Statement(delete(store_state).where(store_state.c.key == bindparam("key")))
KEYS = Statement(select(store_state.c.key).order_by(store_state.c.key))
COUNT = Statement(select(func.count()).select_from(store_state))
BEGIN_COUNTING = Statement(
    insert(counters).values(name=bindparam("name"), value=bindparam("value"))
)
RAISE = Statement(
    update(counters)
    .where(counters.c.name == bindparam("counter"))
    .values(value=counters.c.value + 1)
    .returning(counters.c.value)
)

_steps = select(literal(1).label("n")).cte("steps", recursive=True)
ENDLESS = Statement(
    select(func.count()).select_from(_steps.union_all(select(column("n") + 1).select_from(_steps)))
)

OpenIndex = Callable[..., AbstractAsyncContextManager[Database]]


def put(key: str, value: str = "") -> Unit[int]:
    return lambda tx: tx.run(PUT, key=key, value=value)


def drop(key: str) -> Unit[int]:
    return lambda tx: tx.run(DROP, key=key)


def get(key: str) -> Unit[Any]:
    return lambda tx: tx.one(GET, key=key)


async def keys(index: Database) -> list[str]:
    return [key for (key,) in await index.read(lambda tx: tx.all(KEYS))]


class Twice:
    """Runs every writing unit twice: rolled back, then for good; reading units as they are."""

    def __init__(self, index: Database) -> None:
        self.index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    async def run(self, unit: Unit[T]) -> T:
        class RolledBackOnPurpose(Exception):
            pass

        async def rehearsal(tx: Tx) -> None:
            await unit(tx)
            raise RolledBackOnPurpose

        # What the unit itself raises it raises again in the run that counts.
        with suppress(Exception):
            await self.index.run(rehearsal)
        return await self.index.run(unit)


async def around_hops(
    index: Database,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    run: Callable[[Unit[int]], Awaitable[int]],
) -> None:
    """Commit by `run` before or after one of three hops that an unnoticed write makes."""
    hop, hops = index._writer.hop, 0

    async def watched(function: Callable[[], Any]) -> Any:
        nonlocal hops
        number, hops = hops, hops + 1
        if place == 2 * number:
            await other()
        result = await hop(function)
        if place == 2 * number + 1:
            await other()
        return result

    async def other() -> None:
        monkeypatch.setattr(index._writer, "hop", hop)
        await run(put("other"))
        monkeypatch.setattr(index._writer, "hop", watched)

    monkeypatch.setattr(index._writer, "hop", watched)
    await index.run_unnoticed(put("unnoticed"))
    monkeypatch.setattr(index._writer, "hop", hop)
    assert hops == 3


class Refused(Exception):
    """What units of these tests raise."""


class IndexContract:
    """A subclass gives `open_index`: a factory that opens its index, empty at first, as a context.

    The factory takes the keywords of `Database.open`.
    """

    @pytest.fixture
    async def index(self, open_index: OpenIndex) -> AsyncIterator[Database]:
        async with open_index() as index:
            yield index

    # Writing

    async def test_a_unit_returns_its_result_and_its_rows_stay(self, index: Database) -> None:
        """What `run` returned is committed and seen by every kind of read."""
        assert await index.run(put("a", "1")) == 1

        assert await index.read(get("a")) == ("1",)
        assert await index.look(get("a")) == ("1",)
        assert await asyncio.to_thread(index.read_blocking, get("a")) == ("1",)

    async def test_what_is_begun_is_committed_when_its_future_is_done(
        self, index: Database
    ) -> None:
        begun = index.begin(put("begun"))
        refused = index.begin(lambda tx: tx.run(PUT, key=None, value=""))
        await asyncio.wait([begun, refused])

        assert begun.result() == 1
        assert isinstance(refused.exception(), IndexConflict)
        assert "begun" in await keys(index)

    async def test_a_unit_that_raises_is_rolled_back_whole(self, index: Database) -> None:
        """Its exception reaches the caller unchanged; nothing of it stays."""
        refused = Refused()

        async def unit(tx: Tx) -> None:
            await tx.run(PUT, key="a", value="")
            await tx.run(PUT, key="b", value="")
            raise refused

        with pytest.raises(Refused) as caught:
            await index.run(unit)

        assert caught.value is refused
        assert await keys(index) == []

    async def test_a_unit_may_run_twice(self, index: Database) -> None:
        """A rolled-back first run leaves no trace that the second one could meet."""
        twice = Twice(index)

        async def unit(tx: Tx) -> int:
            await tx.run(BEGIN_COUNTING, name="n", value=0)
            row = await tx.one(RAISE, counter="n")
            assert row is not None
            return int(row[0])

        assert await twice.run(unit) == 1

    async def test_one_failing_unit_of_a_batch_harms_no_other(self, index: Database) -> None:
        async def fail(tx: Tx) -> None:
            await tx.run(PUT, key="failed", value="")
            raise Refused

        outcomes = await asyncio.gather(
            *(index.run(fail if number == 3 else put(f"k{number}")) for number in range(8)),
            return_exceptions=True,
        )

        assert [number for number, got in enumerate(outcomes) if isinstance(got, Refused)] == [3]
        assert await keys(index) == [f"k{number}" for number in range(8) if number != 3]
        assert index.stats.largest_batch > 1

    async def test_what_raises_unchanged_makes_no_other_run_again(self, index: Database) -> None:
        """Most refusals come of looking; they cost those of their batch nothing."""
        runs: list[str] = []

        async def fail(tx: Tx) -> None:
            await tx.one(GET, key="k0")
            raise Refused

        outcomes = await asyncio.gather(
            *(index.run(fail if n == 3 else self._told(runs, f"k{n}")) for n in range(8)),
            return_exceptions=True,
        )

        assert [number for number, got in enumerate(outcomes) if isinstance(got, Refused)] == [3]
        assert len(runs) == len(await keys(index)) == 7

    async def test_those_who_fail_make_others_run_again_but_once(self, index: Database) -> None:
        """After it, units are held apart as they run, however many of them fail."""
        runs: list[str] = []

        async def fail(tx: Tx) -> None:
            await tx.run(PUT, key="failed", value="")
            raise Refused

        for batch in range(3):
            units = [self._told(runs, f"{batch}{n}") for n in range(4)]
            await asyncio.gather(
                *(index.run(unit) for unit in (*units, fail, fail)), return_exceptions=True
            )

        assert len(await keys(index)) == 12
        assert len(runs) <= 12 + 4

    async def test_rows_written_by_a_statement_left_half_read_go_too(self, index: Database) -> None:
        """A unit may look at the first row of several that it changed, and raise then."""
        await asyncio.gather(*(index.run(put(f"k{number}", "old")) for number in range(3)))
        change = Statement(update(store_state).values(value="new").returning(store_state.c.key))

        async def fail(tx: Tx) -> None:
            await tx.one(change)
            raise Refused

        await asyncio.gather(
            index.run(put("a")), index.run(fail), index.run(put("b")), return_exceptions=True
        )

        assert await index.look(get("k0")) == ("old",)
        assert await keys(index) == ["a", "b", "k0", "k1", "k2"]

    async def test_what_is_appended_is_there_before_it_is_asked_for(self, index: Database) -> None:
        """Rows of a table stay in order; few statements write them, none before one is needed."""

        async def unit(tx: Tx) -> tuple[int, int, Any]:
            counted = index.statement_count()
            for number in range(20):
                await tx.append(STATES, (f"k{number:02}", str(number)))
            await tx.run(BEGIN_COUNTING, name="n", value=0)
            unasked = index.statement_count() - counted
            row = await tx.one(COUNT)
            await tx.append(STATES, ("later", ""))
            return unasked, index.statement_count() - counted, row

        assert await index.run(unit) == (1, 5, (20,))
        assert await keys(index) == [*(f"k{number:02}" for number in range(20)), "later"]
        assert await index.look(get("k07")) == ("7",)

    async def test_a_unit_that_raises_appends_nothing(self, index: Database) -> None:
        async def fail(tx: Tx) -> None:
            await tx.append(STATES, ("failed", ""))
            raise Refused

        async def conflict(tx: Tx) -> None:
            await tx.append(STATES, ("a", ""))

        outcomes = await asyncio.gather(
            *(index.run(unit) for unit in (put("a"), fail, put("b"), conflict)),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [int, Refused, int, IndexConflict]
        assert await keys(index) == ["a", "b"]
        with pytest.raises(RuntimeError, match="may only read"):
            await index.read(lambda tx: tx.append(STATES, ("read", "")))

    @staticmethod
    def _told(runs: list[str], key: str) -> Unit[int]:
        async def unit(tx: Tx) -> int:
            runs.append(key)
            return await tx.run(PUT, key=key, value="")

        return unit

    async def test_many_writers_share_commits(self, index: Database) -> None:
        """64 concurrent writers all commit, in far fewer commits than units."""
        await asyncio.gather(*(index.run(put(f"{number:02}")) for number in range(64)))

        assert len(await keys(index)) == 64
        assert index.stats.units == 64
        assert index.stats.commits < 32

    async def test_more_units_than_a_batch_holds_all_commit(self, index: Database) -> None:
        await asyncio.gather(*(index.run(put(f"{number:03}")) for number in range(600)))

        assert await index.read(lambda tx: tx.one(COUNT)) == (600,)
        assert index.stats.commits >= 3

    async def test_units_of_a_batch_see_those_before_them(self, index: Database) -> None:
        """Units run in the order in which they came, each on the work of those before."""
        await index.run(lambda tx: tx.run(BEGIN_COUNTING, name="n", value=0))

        raised = await asyncio.gather(
            *(index.run(lambda tx: tx.one(RAISE, counter="n")) for _ in range(20))
        )

        assert raised == [(number,) for number in range(1, 21)]

    async def test_a_broken_rule_of_the_schema_is_a_conflict(self, index: Database) -> None:
        await index.run(put("a"))

        with pytest.raises(IndexConflict) as caught:
            await index.run(put("a"))

        assert "store_state" in caught.value.constraint

    async def test_a_unit_may_answer_a_conflict_itself(self, index: Database) -> None:
        """A refused statement undoes itself alone; the unit may go on."""
        await index.run(put("a"))

        async def unit(tx: Tx) -> str:
            try:
                await tx.run(PUT, key="a", value="")
            except IndexConflict:
                await tx.run(PUT, key="b", value="")
                return "other"
            return "same"

        assert await index.run(unit) == "other"
        assert await keys(index) == ["a", "b"]

    async def test_a_unit_that_awaits_anything_else_is_refused(self, index: Database) -> None:
        """It would hold the database; it is told so and rolled back."""

        async def unit(tx: Tx) -> None:
            await tx.run(PUT, key="a", value="")
            await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="awaited something other"):
            await index.run(unit)

        assert await keys(index) == []

    async def test_now_is_the_clock_at_the_start(self, open_index: OpenIndex) -> None:
        readings = iter((100, 200, 300, 400))

        async def now(tx: Tx) -> int:
            return tx.now

        async with open_index(clock=lambda: next(readings)) as index:
            assert await index.run(now) == 100
            assert await index.read(now) == 200
            assert await index.look(now) == 300

    # Failing

    async def test_a_failed_commit_fails_every_unit(
        self, index: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody of the batch is told of success, nothing of it shows, the next batch works."""
        with monkeypatch.context() as patch:
            fail_commits(patch, sqlite.SQLITE_IOERR, times=1)
            outcomes = await asyncio.gather(
                *(index.run(put(f"k{number}")) for number in range(5)), return_exceptions=True
            )

        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5
        assert await keys(index) == []
        await index.run(put("k0"))
        assert await keys(index) == ["k0"]

    async def test_a_conflict_at_commit_fails_only_who_made_it(
        self, index: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A constraint that is checked at the commit sends the batch through one by one."""
        with monkeypatch.context() as patch:
            fail_commits(patch, sqlite.SQLITE_CONSTRAINT, times=1)
            await asyncio.gather(*(index.run(put(f"k{number}")) for number in range(5)))

        assert len(await keys(index)) == 5

    async def test_when_nothing_fits_any_more_deletes_still_do(self, index: Database) -> None:
        """In one batch, what needs room fails with `StorageFull` and deletes succeed."""
        for number in range(20):
            await index.run(put(f"k{number}", "v" * 2000))
        await stop_growth(index)

        outcomes = await asyncio.gather(
            index.run(put("large", "v" * 1_000_000)),
            *(index.run(drop(f"k{number}")) for number in range(5)),
            return_exceptions=True,
        )

        assert isinstance(outcomes[0], StorageFull)
        assert outcomes[1:] == [1] * 5
        assert len(await keys(index)) == 15

    async def test_a_unit_cannot_go_on_outside_a_lost_transaction(self, index: Database) -> None:
        """Whatever a unit swallows, it either commits whole or leaves nothing."""
        await stop_growth(index)

        async def unit(tx: Tx) -> None:
            await tx.run(PUT, key="before", value="")
            try:
                await tx.run(PUT, key="large", value="v" * 1_000_000)
            except StorageFull:
                await tx.run(PUT, key="after", value="")

        try:
            await index.run(unit)
        except (StorageFull, Unavailable):
            expected = []
        else:
            expected = ["after", "before"]

        assert await keys(index) == expected

    # Cancelling and closing

    async def test_cancelled_callers_do_not_break_their_batch(self, index: Database) -> None:
        """The others commit; the cancelled one's unit is kept whole or not at all."""
        tasks = [asyncio.create_task(index.run(put(f"k{number}"))) for number in range(6)]
        await asyncio.sleep(0)  # all are queued
        await asyncio.sleep(0)  # the batch is on its way
        tasks[2].cancel()

        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes].count(asyncio.CancelledError) == 1
        assert set(await keys(index)) >= {f"k{number}" for number in range(6) if number != 2}
        await index.run(put("after"))

    async def test_a_caller_cancelled_before_its_batch_leaves_nothing(
        self, index: Database
    ) -> None:
        tasks = [asyncio.create_task(index.run(put(f"k{number}"))) for number in range(2)]
        await asyncio.sleep(0)  # queued, not begun
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert await keys(index) == ["k1"]

    async def test_closing_commits_what_is_queued_and_refuses_the_rest(
        self, open_index: OpenIndex
    ) -> None:
        async with open_index() as index:
            tasks = [asyncio.create_task(index.run(put(f"k{number}"))) for number in range(300)]
            await asyncio.sleep(0)
            await index.close()

            assert await asyncio.gather(*tasks) == [1] * 300
            for refused in (index.run, index.read, index.look):
                with pytest.raises(Unavailable):
                    await refused(get("k1"))
            with pytest.raises(Unavailable):
                index.change_counter()
            await index.close()

    async def test_closing_interrupts_reads(self, open_index: OpenIndex) -> None:
        """A read that would go on for ever does not keep the process alive."""
        async with open_index() as index:
            begun = threading.Event()

            async def unit(tx: Tx) -> Any:
                begun.set()
                return await tx.one(ENDLESS)

            reading = asyncio.create_task(index.read(unit))
            await asyncio.to_thread(begun.wait)
            await index.close()

            with pytest.raises(Unavailable):
                await reading

    # Reading

    async def test_a_unit_that_reads_cannot_write(self, index: Database) -> None:
        """Through whichever method and door it tries."""

        async def sly(tx: Tx) -> Any:
            return await tx.one(RAISE, counter="n")

        await index.run(lambda tx: tx.run(BEGIN_COUNTING, name="n", value=0))
        for unit in (put("a"), sly):
            for door in (index.read, index.look):
                with pytest.raises(RuntimeError, match="tried to write"):
                    await door(unit)

        assert await keys(index) == []
        assert await index.run(sly) == (1,)

    async def test_a_read_takes_a_bounded_time(self, open_index: OpenIndex) -> None:
        """An endless statement is interrupted, and the reader works on."""
        async with open_index(read_seconds=0.05, readers=1) as index:
            with pytest.raises(Unavailable):
                await index.read(lambda tx: tx.one(ENDLESS))
            with pytest.raises(Unavailable):
                await asyncio.to_thread(index.read_blocking, lambda tx: tx.one(ENDLESS))

            index._read_seconds = 30  # a hop alone may take longer than the others were given
            assert await index.read(lambda tx: tx.one(COUNT)) == (0,)

    async def test_many_short_statements_count_as_one_read(self, open_index: OpenIndex) -> None:
        async def unit(tx: Tx) -> None:
            while True:
                await tx.one(COUNT)

        async with open_index(read_seconds=0.05) as index:
            with pytest.raises(Unavailable):
                await index.read(unit)

    async def test_a_cancelled_read_gives_its_thread_back(self, open_index: OpenIndex) -> None:
        """With one reader, the next read would otherwise wait for ever."""
        async with open_index(readers=1) as index:
            begun = threading.Event()

            async def unit(tx: Tx) -> Any:
                begun.set()
                return await tx.one(ENDLESS)

            reading = asyncio.create_task(index.read(unit))
            await asyncio.to_thread(begun.wait)
            reading.cancel()

            assert await index.read(lambda tx: tx.one(COUNT)) == (0,)
            with pytest.raises(asyncio.CancelledError):
                await reading

    async def test_worker_threads_read_side_by_side(self, index: Database) -> None:
        await index.run(put("a", "1"))

        got = await asyncio.gather(
            *(asyncio.to_thread(index.read_blocking, get("a")) for _ in range(20))
        )

        assert got == [("1",)] * 20

    async def test_an_exception_of_a_reading_unit_passes(self, index: Database) -> None:
        async def unit(tx: Tx) -> None:
            await tx.one(COUNT)
            raise Refused

        for door in (index.read, index.look):
            with pytest.raises(Refused):
                await door(unit)
        with pytest.raises(Refused):
            await asyncio.to_thread(index.read_blocking, unit)

        assert await index.look(lambda tx: tx.one(COUNT)) == (0,)

    # Watching

    async def test_the_change_counter_moves_with_every_commit(self, index: Database) -> None:
        before = index.change_counter()
        await index.look(get("a"))
        await index.read(get("a"))

        assert index.change_counter() == before
        await index.run(put("a"))
        assert index.change_counter() != before

    async def test_what_goes_unnoticed_leaves_the_counter(self, index: Database) -> None:
        before = index.change_counter()
        assert await index.run_unnoticed(put("a")) == 1
        assert await index.run_unnoticed(put("b")) == 1

        assert index.change_counter() == before
        assert await index.look(get("b")) == ("",)
        await index.run(put("c"))
        noticed = index.change_counter()
        assert noticed != before
        await index.run_unnoticed(put("d"))
        assert index.change_counter() == noticed

    async def test_until_it_is_known_to_have_been_alone_no_number_is_the_one_before(
        self, index: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, hide, seen = index.change_counter(), index._hide, []

        async def watched(*arguments: Any) -> None:
            seen.append(index.change_counter())
            await hide(*arguments)

        monkeypatch.setattr(index, "_hide", watched)
        await index.run_unnoticed(put("a"))

        assert seen[0] < 0
        assert index.change_counter() == before

    async def test_what_is_committed_with_it_is_noticed(self, index: Database) -> None:
        for door in (index.run, index.run_unnoticed):
            before = index.change_counter()
            await asyncio.gather(index.run_unnoticed(put("a")), door(put("b")))

            assert index.change_counter() != before
            await index.run(drop("a"))
            await index.run(drop("b"))

    async def test_of_two_at_once_one_is_like_any_other(
        self, index: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks, look = 0, index._writer.committed_blocking

        def watched() -> Committed:
            nonlocal looks
            looks += 1
            return look()

        monkeypatch.setattr(index._writer, "committed_blocking", watched)
        first = asyncio.create_task(index.run_unnoticed(put("a")))
        while index._settled is None:
            await asyncio.sleep(0)
        await asyncio.gather(first, index.run_unnoticed(put("b")))

        assert looks == 2

    async def test_what_should_go_unnoticed_and_fails_hides_nothing_later(
        self, index: Database
    ) -> None:
        async def unit(tx: Tx) -> None:
            raise Refused

        before = index.change_counter()
        with pytest.raises(Refused):
            await index.run_unnoticed(unit)

        assert index.change_counter() == before
        await index.run(put("a"))
        assert index.change_counter() not in (before, -before)

    @pytest.mark.parametrize("place", [0, 1, 4, 5])
    async def test_whoever_commits_around_it_is_noticed(
        self, index: Database, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        before = index.change_counter()
        await around_hops(index, monkeypatch, place, index.run)

        assert await index.look(get("other")) == ("",)
        assert index.change_counter() != before

    async def test_the_observer_sees_each_commit_with_its_content(
        self, open_index: OpenIndex
    ) -> None:
        """It is called in the database thread after the commit and may copy what is there."""
        seen: list[tuple[str, int]] = []

        def observe(event: str, connection: sqlite.Connection) -> None:
            copy = sqlite.connect(":memory:")
            connection.backup(copy)
            seen.append((event, copy.execute("SELECT count(*) FROM store_state").fetchone()[0]))
            copy.close()

        async with open_index(observer=observe) as index:
            await index.run(put("a"))
            await asyncio.gather(index.run(put("b")), index.run(put("c")))

        assert seen == [("commit", 1), ("commit", 3)]

    async def test_statements_of_all_doors_are_counted(self, index: Database) -> None:
        before = index.statement_count()
        await index.run(put("a"))
        await index.read(get("a"))
        await index.look(get("a"))

        assert index.statement_count() == before + 3


async def stop_growth(index: Database) -> None:
    """Let SQLite have no page more than it has."""
    await index._writer.hop(
        lambda: index._writer.connection.execute("PRAGMA max_page_count=1").fetchall()
    )


def fail_commits(patch: pytest.MonkeyPatch, code: int, *, times: int) -> None:
    """Make the driver answer COMMIT with an error, the transaction still open."""
    control = Transaction.control
    left = [times]

    def failing(self: Transaction, sql: str) -> None:
        if sql == "COMMIT" and left[0]:
            left[0] -= 1
            raise driver_error(code)
        control(self, sql)

    patch.setattr(Transaction, "control", failing)


def driver_error(code: int) -> sqlite.Error:
    kind = sqlite.IntegrityError if code == sqlite.SQLITE_CONSTRAINT else sqlite.OperationalError
    error = kind("made up")
    error.sqlite_errorcode = code
    return error
