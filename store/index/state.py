"""What the store remembers of itself: counters that only grow, and facts by name."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from store.index.schema import counters, store_state
from store.index.transactions import Statement, Tx

_COUNTER = Statement(lambda: select(counters.c.value).where(counters.c.name == bindparam("name")))
_NEXT = Statement(
    lambda: (
        insert(counters)
        .values(name=bindparam("name"), value=bindparam("step"))
        .on_conflict_do_update(
            index_elements=["name"], set_={"value": counters.c.value + bindparam("step")}
        )
        .returning(counters.c.value)
    )
)
_RAISE = Statement(
    lambda: (
        insert(counters)
        .values(name=bindparam("name"), value=bindparam("least"))
        .on_conflict_do_update(
            index_elements=["name"], set_={"value": func.max(counters.c.value, bindparam("least"))}
        )
    )
)
_GET_STATE = Statement(
    lambda: select(store_state.c.value).where(store_state.c.key == bindparam("key"))
)
_FIRST_STATE = Statement(
    lambda: (
        select(store_state.c.key, store_state.c.value)
        .where(store_state.c.key >= bindparam("least"), store_state.c.key < bindparam("below"))
        .order_by(store_state.c.key)
        .limit(1)
    )
)
_PUT_STATE = Statement(
    lambda: (
        insert(store_state)
        .values(key=bindparam("key"), value=bindparam("value"))
        .on_conflict_do_update(index_elements=["key"], set_={"value": bindparam("value")})
    )
)
_DROP_STATE = Statement(lambda: delete(store_state).where(store_state.c.key == bindparam("key_")))


async def counter(tx: Tx, name: str) -> int:
    row = await tx.one(_COUNTER, name=name)
    return 0 if row is None else int(row[0])


async def next_counter(tx: Tx, name: str, step: int = 1) -> int:
    """Raise a counter of the store and return it; a value never comes twice."""
    row = await tx.one(_NEXT, name=name, step=step)
    assert row is not None
    return int(row[0])


async def raise_counter(tx: Tx, name: str, least: int) -> None:
    """Make sure that the next value of a counter is above `least`."""
    await tx.run(_RAISE, name=name, least=least)


async def get_state(tx: Tx, key: str) -> str | None:
    row = await tx.one(_GET_STATE, key=key)
    return None if row is None else str(row[0])


async def first_state(tx: Tx, prefix: str) -> tuple[str, str] | None:
    """The first of the keys that begin with `prefix`, without it, and its value; all in ASCII."""
    row = await tx.one(_FIRST_STATE, least=prefix, below=f"{prefix}\x7f")
    return None if row is None else (str(row[0]).removeprefix(prefix), str(row[1]))


async def put_state(tx: Tx, key: str, value: str | None) -> None:
    """Remember a fact about the store; None forgets it."""
    if value is None:
        await tx.run(_DROP_STATE, key_=key)
    else:
        await tx.run(_PUT_STATE, key=key, value=value)
