"""Rows of aliases and of every move they made.

Only `registry.services.moves` may call `write_move`, which is the one place that changes them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, delete, func, insert, select, union_all, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import alias_events, aliases
from registry.domain.models import Alias, AliasEvent
from registry.domain.names import RESERVED_ALIASES, fold
from store.index.transactions import Row, Rows, Statement, Tx

FIRST_PAGE: Final = 2**62
"""Above the id of every event."""

_COLUMNS = (
    aliases.c.name,
    aliases.c.revision,
    aliases.c.held,
    aliases.c.moved_at,
    aliases.c.moved_by,
)
_FIND = Statement(
    lambda: select(*_COLUMNS).where(
        aliases.c.model == bindparam("model"), aliases.c.folded == bindparam("folded")
    )
)
_RESERVED = Statement(
    lambda: union_all(
        *(
            select(aliases.c.folded, *_COLUMNS).where(
                aliases.c.model == bindparam("model"), aliases.c.folded == literal(f"'{name}'")
            )
            for name in sorted(RESERVED_ALIASES)
        )
    )
)
"""A list of names would be a table of its own each time."""

_PAGE = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(aliases.c.model == bindparam("model"), aliases.c.folded > bindparam("after"))
        .order_by(aliases.c.folded)
        .limit(bindparam("limit"))
    )
)
_OF_REVISION = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(aliases.c.revision == bindparam("revision"), aliases.c.model == bindparam("model"))
        .order_by(aliases.c.folded)
        .limit(1000)
    )
)
_INSERT = Statement(
    lambda: insert(aliases).values(
        model=bindparam("model"),
        folded=bindparam("folded"),
        name=bindparam("name"),
        revision=bindparam("revision"),
        held=bindparam("held"),
        moved_at=bindparam("now"),
        moved_by=bindparam("actor"),
    )
)
_UPDATE = Statement(
    lambda: (
        update(aliases)
        .where(aliases.c.model == bindparam("model_"), aliases.c.folded == bindparam("folded_"))
        .values(
            revision=bindparam("revision"),
            held=bindparam("held"),
            moved_at=bindparam("now"),
            moved_by=bindparam("actor"),
        )
    )
)
_DELETE = Statement(
    lambda: delete(aliases).where(
        aliases.c.model == bindparam("model_"), aliases.c.folded == bindparam("folded_")
    )
)
_MOVE = (
    alias_events.c.name,
    alias_events.c.from_revision,
    alias_events.c.to_revision,
    alias_events.c.actor,
    alias_events.c.reason,
    alias_events.c.created_at,
    alias_events.c.restored,
)
_EVENT_ROWS = Rows(alias_events.c.model, alias_events.c.folded, *_MOVE)
_OF_ALIAS = (
    alias_events.c.model == bindparam("model"),
    alias_events.c.folded == bindparam("folded"),
)
_EVENT_COLUMNS = (alias_events.c.id, *_MOVE)
_EVENTS = Statement(
    lambda: (
        select(*_EVENT_COLUMNS)
        .where(*_OF_ALIAS, alias_events.c.id < bindparam("before"))
        .order_by(alias_events.c.id.desc())
        .limit(bindparam("limit"))
    )
)
_LAST_TIME = Statement(
    lambda: (
        select(alias_events.c.created_at)
        .where(*_OF_ALIAS)
        .order_by(alias_events.c.id.desc())
        .limit(1)
    )
)
"""Without bounds that are bound: SQLite plans those anew each time, which took 25 of 32 us."""

_EVENT = Statement(
    lambda: select(*_EVENT_COLUMNS).where(*_OF_ALIAS, alias_events.c.id == bindparam("id"))
)
_EVENT_AT = Statement(
    lambda: (
        select(*_EVENT_COLUMNS)
        .where(*_OF_ALIAS, alias_events.c.created_at <= bindparam("at"))
        .order_by(alias_events.c.created_at.desc(), alias_events.c.id.desc())
        .limit(1)
    )
)
_TARGET_BEFORE = Statement(
    lambda: (
        select(*_EVENT_COLUMNS)
        .where(
            *_OF_ALIAS,
            alias_events.c.id < bindparam("before"),
            alias_events.c.to_revision.is_not(None),
            alias_events.c.to_revision != bindparam("revision"),
        )
        .order_by(alias_events.c.id.desc())
        .limit(1)
    )
)


def _events_at() -> Select[Any]:
    """The last event up to a time of each alias that ever was, by one index entry each.

    The names come one by one, each the smallest after the one before, so that long histories are
    stepped over and a page ends where its limit says.
    """
    first = select(func.min(alias_events.c.folded).label("folded")).where(
        alias_events.c.model == bindparam("model"), alias_events.c.folded > bindparam("after")
    )
    names = first.cte("names", recursive=True)
    following = (
        select(func.min(alias_events.c.folded))
        .where(alias_events.c.model == bindparam("model"), alias_events.c.folded > names.c.folded)
        .scalar_subquery()
    )
    names = names.union_all(select(following).where(names.c.folded.is_not(None)))
    last = (
        alias_events.select()
        .with_only_columns(alias_events.c.id)
        .where(
            alias_events.c.model == bindparam("model"),
            alias_events.c.folded == names.c.folded,
            alias_events.c.created_at <= bindparam("at"),
        )
        .order_by(alias_events.c.created_at.desc(), alias_events.c.id.desc())
        .limit(1)
        .correlate(names)
        .scalar_subquery()
    )
    return (
        select(*_EVENT_COLUMNS)
        .select_from(names.join(alias_events, and_(alias_events.c.id == last)))
        .where(alias_events.c.to_revision.is_not(None))
        .limit(bindparam("limit"))
    )


_EVENTS_AT = Statement(lambda: _events_at())


def _alias(row: Row) -> Alias:
    return Alias(row[0], row[1], bool(row[2]), row[3], row[4])


async def find_alias(tx: Tx, model_id: str, folded: str) -> Alias | None:
    row = await tx.one(_FIND, model=model_id, folded=folded)
    return None if row is None else _alias(row)


async def find_reserved_aliases(tx: Tx, model_id: str) -> dict[str, Alias]:
    """Those of `latest` and `main` that there are, by name."""
    return {row[0]: _alias(row[1:]) for row in await tx.all(_RESERVED, model=model_id)}


async def aliases_after(tx: Tx, model_id: str, after: str, limit: int) -> list[Alias]:
    """A page of a model's aliases in order of folded name; start with ``""``."""
    return [_alias(row) for row in await tx.all(_PAGE, model=model_id, after=after, limit=limit)]


async def aliases_of_revision(tx: Tx, model_id: str, revision: str) -> list[Alias]:
    return [_alias(row) for row in await tx.all(_OF_REVISION, model=model_id, revision=revision)]


async def write_move(
    tx: Tx,
    model_id: str,
    name: str,
    found: Alias | None,
    to: str | None,
    *,
    actor: str,
    reason: str,
    is_held: bool,
    restored: int | None = None,
) -> None:
    """Make the alias that was `found` point at `to`; its history grows only if that is elsewhere.

    An alias that was renamed by case keeps the spelling it was made with.
    """
    key = fold(name)
    before = None if found is None else found.revision
    if found is None:
        last = await tx.one(_LAST_TIME, model=model_id, folded=key)
        now = tx.now if last is None else max(tx.now, last[0])
    else:
        now = max(tx.now, found.moved_at)  # that of its last event, or later
    values = {"held": int(is_held), "now": now, "actor": actor}
    if to is None:
        await tx.run(_DELETE, model_=model_id, folded_=key)
    elif found is None:
        await tx.run(_INSERT, model=model_id, folded=key, name=name, revision=to, **values)
    else:
        await tx.run(_UPDATE, model_=model_id, folded_=key, revision=to, **values)
    if before == to:
        return
    called = name if found is None else found.name
    event = (model_id, key, called, before, to, actor, reason, now, restored)
    await tx.append(_EVENT_ROWS, event)


async def alias_events_before(
    tx: Tx, model_id: str, folded: str, before: int, limit: int
) -> list[AliasEvent]:
    """A page of an alias's history, newest first; start with `FIRST_PAGE`."""
    rows = await tx.all(_EVENTS, model=model_id, folded=folded, before=before, limit=limit)
    return [AliasEvent(*row) for row in rows]


async def last_alias_event(tx: Tx, model_id: str, folded: str) -> AliasEvent | None:
    found = await alias_events_before(tx, model_id, folded, FIRST_PAGE, 1)
    return found[0] if found else None


async def find_alias_event(tx: Tx, model_id: str, folded: str, id: int) -> AliasEvent | None:
    row = await tx.one(_EVENT, model=model_id, folded=folded, id=id)
    return None if row is None else AliasEvent(*row)


async def alias_event_at(tx: Tx, model_id: str, folded: str, at: int) -> AliasEvent | None:
    """The last event at or before a time."""
    row = await tx.one(_EVENT_AT, model=model_id, folded=folded, at=at)
    return None if row is None else AliasEvent(*row)


async def aliases_at(tx: Tx, model_id: str, at: int, after: str, limit: int) -> list[AliasEvent]:
    """What each alias of a model did last up to a time, in order of folded name.

    Aliases that were not there at that time are left out; start with ``""``.
    """
    rows = await tx.all(_EVENTS_AT, model=model_id, at=at, after=after, limit=limit)
    return [AliasEvent(*row) for row in rows]


async def alias_target_before(
    tx: Tx, model_id: str, folded: str, before: int, revision: str
) -> AliasEvent | None:
    """The newest event ahead of another that led to anything but `revision`."""
    row = await tx.one(
        _TARGET_BEFORE, model=model_id, folded=folded, before=before, revision=revision
    )
    return None if row is None else AliasEvent(*row)
