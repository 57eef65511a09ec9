"""Statements are compiled once; transactions run them to their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Select, bindparam, case, delete, func, select, text, update

from store.index.database import Database
from store.index.schema import counters, store_state
from store.index.transactions import Row, Statement, Tx
from tests.contracts.index import BEGIN_COUNTING, KEYS, PUT, RAISE, Twice, put


@pytest.fixture
async def index() -> AsyncIterator[Database]:
    index = await Database.open(None)
    yield index
    await index.close()


# Statements


def test_a_statement_is_compiled_once() -> None:
    made = []

    def construct() -> Select[Any]:
        made.append(select(store_state.c.key))
        return made[-1]

    statement = Statement(construct)
    assert not made, "not before it is asked for"

    assert statement.sqlite is statement.sqlite
    assert statement.numbered == Statement(construct()).numbered
    assert len(made) == 2


def test_constants_of_the_author_are_part_of_the_text() -> None:
    statement = Statement(
        select(case((counters.c.value > 3, "many"), else_="few")).where(counters.c.name == "n")
    )

    assert "'many'" in statement.sqlite
    assert "> 3" in statement.sqlite
    assert "= 'n'" in statement.sqlite


@pytest.mark.parametrize("constant", ["it's", "two words", bytes(3)])
def test_only_numbers_and_plain_words_are_constants(constant: str | bytes) -> None:
    """Anything else might be a caller's value that somebody forgot to bind."""
    statement = Statement(select(store_state.c.key).where(store_state.c.value == constant))

    with pytest.raises((TypeError, ValueError), match="use bindparam"):
        _ = statement.sqlite


def test_parameters_are_numbered_by_their_first_place() -> None:
    """Each name has one number; what is quoted has none."""
    statement = Statement(text("SELECT :b, ':a', \":c\", :a, :b, 'it''s :d'"))

    assert statement.numbered == "SELECT ?1, ':a', \":c\", ?2, ?1, 'it''s :d'"
    assert statement.bound({"a": 1, "b": 2, "more": 3}) == (2, 1)


@pytest.mark.parametrize(("sql", "bound"), [("SELECT 1", ()), ("SELECT :a, :a", (7,))])
def test_few_parameters_are_a_row_too(sql: str, bound: Row) -> None:
    assert Statement(text(sql)).bound({"a": 7, "b": 8}) == bound


async def test_values_come_back_as_they_went(index: Database) -> None:
    """Those that the driver is told how to take, too."""
    values = {"a": None, "b": b"\x00\xff", "c": "text", "d": 2**40, "e": 0.5, "f": b""}
    statement = Statement(text("SELECT :a, :b, :c, :d, :e, :f"))

    assert await index.read(lambda tx: tx.one(statement, **values)) == tuple(values.values())


# Transactions


async def test_one_is_the_first_row_or_none(index: Database) -> None:
    async def unit(tx: Tx) -> list[Any]:
        before = await tx.one(KEYS)
        await tx.run_many(PUT, [{"key": key, "value": ""} for key in ("b", "a", "c")])
        return [before, await tx.one(KEYS)]

    assert await index.run(unit) == [None, ("a",)]


async def test_all_are_all_rows(index: Database) -> None:
    await index.run(lambda tx: tx.run_many(PUT, ({"key": key, "value": ""} for key in ("b", "a"))))

    assert await index.read(lambda tx: tx.all(KEYS)) == [("a",), ("b",)]


async def test_run_counts_changed_rows(index: Database) -> None:
    write = Statement(update(store_state).values(value=bindparam("new")))
    drop = Statement(delete(store_state))

    async def unit(tx: Tx) -> list[int]:
        return [
            await tx.run(PUT, key="a", value=""),
            await tx.run(PUT, key="b", value=""),
            await tx.run(write, new="x"),
            await tx.run(drop),
            await tx.run(drop),
        ]

    assert await index.run(unit) == [1, 1, 2, 2, 0]


async def test_run_counts_where_the_statement_begins_with_a_query(index: Database) -> None:
    """The driver's own count knows only statements that begin with the verb."""
    statement = Statement(
        text(
            "WITH old AS (SELECT key FROM store_state WHERE key < 'c') "
            "DELETE FROM store_state WHERE key IN old"
        )
    )
    await index.run(lambda tx: tx.run_many(PUT, ({"key": key, "value": ""} for key in "abcd")))

    assert await index.run(lambda tx: tx.run(statement)) == 2
    assert await index.run(lambda tx: tx.run(statement)) == 0


async def test_one_row_of_a_change_that_returns_many_still_changes_all(index: Database) -> None:
    both = Statement(update(counters).values(value=7).returning(counters.c.name))
    total = Statement(select(func.sum(counters.c.value)))
    for name in ("a", "b"):
        await index.run(partial(begin, name=name))

    assert await index.run(lambda tx: tx.one(both)) is not None
    assert await index.read(lambda tx: tx.one(total)) == (14,)


async def begin(tx: Tx, name: str) -> None:
    await tx.run(BEGIN_COUNTING, name=name, value=0)


async def test_units_may_call_units(index: Database) -> None:
    async def unit(tx: Tx) -> Any:
        await begin(tx, "n")
        await tx.one(RAISE, counter="n")
        return await tx.one(RAISE, counter="n")

    assert await index.run(unit) == (2,)


async def test_a_wrong_statement_is_the_programmers_error(index: Database) -> None:
    """It is not dressed up as a failure of the store, and harms nobody else."""
    with pytest.raises(Exception, match="no such table"):
        await index.run(lambda tx: tx.run(Statement(text("DELETE FROM nowhere"))))

    assert await index.run(put("a")) == 1


async def test_twice_shows_a_unit_that_leans_on_running_once(index: Database) -> None:
    runs = []

    async def unit(tx: Tx) -> int:
        runs.append(tx.now)
        await tx.run(PUT, key="a", value="")
        return len(runs)

    assert await Twice(index).run(unit) == 2
