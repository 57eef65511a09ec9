"""Rows of the audit log: who did what to which entity, before and after, for which request.

An entry is written by `record` in the transaction of the change itself, so that neither is ever
there without the other. No statement here changes an entry, and only
retention removes any.

**Secrets.** What stands under a name like password, secret, token or key is replaced before it is
written, see `registry.domain.masking`.

**Size.** `before` and `after` are at most `MOST_JSON_BYTES` of JSON each; a larger one is replaced
by an object that says so, with its size, its SHA-256 and its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Text, bindparam, delete, func, or_, select, union
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import (
    audit,
    experiments,
    guards,
    models,
    retention_policies,
    runs,
    webhooks,
)
from registry.catalog.visible import counted, few_lead, newest_of_few
from registry.domain.masking import MASK, masked, names_secret
from registry.domain.principals import Principal
from store.clock import SECOND
from store.digest import Digest
from store.index.transactions import Row, Rows, Statement, Tx

MOST_JSON_BYTES: Final = 64 << 10

_SIMPLE: Final = frozenset((str, int, bool, type(None)))
"""An object of these alone, as most are, needs no look inside."""

MOST_REASON: Final = 1024
"""Characters; the table demands it too."""

_BEGINNING_BYTES: Final = 30_000
"""Of JSON that was too long; escaped once more it can double."""

_TOLD = (
    audit.c.created_at,
    audit.c.actor,
    audit.c.actor_name,
    audit.c.request,
    audit.c.action,
    audit.c.kind,
    audit.c.entity,
    audit.c.name,
    audit.c.model,
    audit.c.before,
    audit.c.after,
    audit.c.reason,
)
_ENTRIES = Rows(*_TOLD)
_COLUMNS = (audit.c.id, *_TOLD)
_BETWEEN = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(audit.c.id > bindparam("after"), audit.c.id <= bindparam("last"))
        .order_by(audit.c.id)
        .limit(bindparam("most"))
    )
)
_DELETE = Statement(lambda: delete(audit).where(audit.c.id <= bindparam("last")))
_LAST_ID = Statement(lambda: select(audit.c.id).order_by(audit.c.id.desc()).limit(1))
_COUNT = Statement(
    lambda: (
        select(func.count())
        .select_from(audit)
        .where(audit.c.id > bindparam("after"), audit.c.id <= bindparam("last"))
    )
)
_TIME_FROM = Statement(
    lambda: (
        select(audit.c.id, audit.c.created_at)
        .where(audit.c.id >= bindparam("id"))
        .order_by(audit.c.id)
        .limit(1)
    )
)

_SAME = Statement(
    lambda: (
        select(audit.c.id)
        .where(
            audit.c.entity == bindparam("entity"),
            func.coalesce(audit.c.action, audit.c.action) == bindparam("action"),
            audit.c.after == bindparam("after"),
            audit.c.created_at >= bindparam("since"),
        )
        .limit(1)
    )
)

_CLOCK_STEP: Final = 3600 * SECOND
"""By how much the clock may have been set back without hiding entries from a search by time."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did to one entity; `before` and `after` are JSON-encodable, None for nothing.

    `model` is the id of the model it belongs to. `name` is what the entity was called then.
    """

    action: str
    kind: str
    id: str
    name: str = ""
    model: str | None = None
    before: Any = None
    after: Any = None
    reason: str = ""


async def record(tx: Tx, principal: Principal, entry: Entry) -> None:
    """Write `entry` as done by `principal`, in the transaction of what it speaks of."""
    await tx.append(
        _ENTRIES,
        (
            tx.now,
            principal.id,
            principal.name,
            principal.request_id,
            entry.action,
            entry.kind,
            entry.id,
            entry.name,
            entry.model,
            _json(entry.before),
            _json(entry.after),
            entry.reason[:MOST_REASON],
        ),
    )


async def record_all(tx: Tx, entries: Iterable[tuple[Principal, Entry]]) -> None:
    """`record` each, in order."""
    for principal, entry in entries:
        await record(tx, principal, entry)


async def is_recorded(tx: Tx, entry: Entry, *, since: int) -> bool:
    """Whether the same was said of the same entity since that moment."""
    said = {"entity": entry.id, "action": entry.action, "after": _json(entry.after)}
    return await tx.one(_SAME, **said, since=since) is not None


def _json(value: Any) -> str | None:
    """`value` as JSON without secrets and within bounds."""
    if value is None:
        return None
    encoded = msgspec.json.encode(_shown(value))
    if len(encoded) > MOST_JSON_BYTES:
        encoded = msgspec.json.encode(
            {
                "truncated": True,
                "size": len(encoded),
                "digest": f"sha256:{hashlib.sha256(encoded).hexdigest()}",
                "beginning": encoded[:_BEGINNING_BYTES].decode(errors="ignore"),
            }
        )
    return encoded.decode()


def _shown(value: Any) -> Any:
    """The same in plain values, without secrets."""
    if (
        type(value) is dict
        and _SIMPLE.issuperset(map(type, value.values()))
        and "key" not in value  # which may be a pair
        and all(type(name) is str for name in value)
    ):
        return {
            name: MASK if said is not None and names_secret(name) else said
            for name, said in value.items()
        }
    return masked(_plain(value))


def _plain(value: Any) -> Any:
    """Structs as objects, with digests as everybody writes them."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


# Reading.


class AuditEntry(msgspec.Struct, frozen=True):
    """An entry as it stands in the log; `before` and `after` are JSON."""

    id: int
    created_at: int
    actor: str
    actor_name: str
    request: str
    action: str
    kind: str
    entity: str
    name: str
    model: str | None
    before: str | None
    after: str | None
    reason: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to find; None where it does not matter. `until` is not included."""

    kind: str | None = None
    entity: str | None = None
    actor: str | None = None
    model: str | None = None
    action: str | None = None
    since: int | None = None
    until: int | None = None
    places: str | None = None
    """JSON of the namespaces and models whose entries may be read; None for all entries."""


MOST_SUBJECTS: Final = 10_000
"""So many things of a reader's places are looked up one by one; a page of theirs takes 0.1 s."""

_EQUAL: Final = ("entity", "model", "kind", "action", "actor")
"""What can be asked for, the most selective first: the index of the first one asked is used."""


async def find_entries(
    tx: Tx, wanted: Wanted, *, before: int | None, limit: int
) -> list[AuditEntry]:
    """The newest entries, at most `limit`, of those older than the entry `before`."""
    equal = tuple(name for name in _EQUAL if getattr(wanted, name) is not None)
    low, high = await _ids_between(tx, wanted.since, wanted.until)
    bound = {name: getattr(wanted, name) for name in equal}
    sight = await _sight(tx, wanted.places, equal, bound)
    rows = await tx.all(
        _search(equal, next(iter(sight), "")),
        **bound,
        **sight,
        low=low,
        high=high if before is None else min(high, before - 1),
        since=-(2**62) if wanted.since is None else wanted.since,
        until=2**62 if wanted.until is None else wanted.until,
        limit=limit,
    )
    return [_entry(row) for row in rows]


async def _sight(
    tx: Tx, places: str | None, equal: tuple[str, ...], bound: dict[str, Any]
) -> dict[str, str]:
    """What a search binds for its reader, first what leads: the few subjects of their places."""
    if places is None:
        return {}
    rows = await tx.all(_SUBJECTS, places=places, limit=MOST_SUBJECTS + 1)
    if len(rows) <= MOST_SUBJECTS:
        few = msgspec.json.encode([row[0] for row in rows]).decode()
        others = _entries_of(equal[0]) if equal else None
        if await few_lead(tx, few, audit.c.model, others, **bound):
            return {"few": few, "places": places}
    return {"places": places}


@cache
def _entries_of(name: str) -> Statement:
    return counted(audit.c[name] == bindparam(name))


@cache
def _search(equal: tuple[str, ...], restriction: str) -> Statement:
    # Without statistics SQLite takes any index of several; an expression keeps it from the others.
    led = 0 if restriction == "few" else 1
    tests: list[ColumnElement[bool]] = [
        *(audit.c[name] == bindparam(name) for name in equal[:led]),
        *(func.coalesce(audit.c[name], audit.c[name]) == bindparam(name) for name in equal[led:]),
        audit.c.id.between(bindparam("low"), bindparam("high")),
        audit.c.created_at >= bindparam("since"),
        audit.c.created_at < bindparam("until"),
    ]
    if restriction == "places":
        tests.append(_lies_in_places())
    if restriction == "few":
        # What a model among the subjects owns lies in the reader's places.
        tests = [newest_of_few({audit.c.model: tests, audit.c.entity: [*tests, _lies_in_places()]})]
    question = select(*_COLUMNS).where(*tests).order_by(audit.c.id.desc())
    return Statement(question.limit(bindparam("limit")))


_places: Final = func.json_each(bindparam("places", type_=Text)).table_valued("value", name="place")


def _subjects() -> Statement:
    """Of what entries in the bound places speak: those, and what lies there now."""
    here = select(_places.c.value)
    found: list[Select[Any]] = [
        select(table.c.id).where(table.c.namespace.in_(here)).limit(bindparam("limit"))
        for table in (models, experiments, guards, webhooks, retention_policies)
    ]
    of_no_model = func.coalesce(runs.c.model, literal("NULL")).is_(None)
    found.append(
        select(runs.c.id).where(runs.c.owner.in_(here), of_no_model).limit(bindparam("limit"))
    )
    parts = [select(one.subquery("some").c.id) for one in found]
    return Statement(union(select(_places.c.value), *parts))


_SUBJECTS: Final = _subjects()


def _lies_in_places() -> ColumnElement[bool]:
    """Whether an entry is of a model or a namespace in the bound places, or of what lies there."""
    here = select(_places.c.value)
    of_model = select(models.c.id).where(models.c.id == audit.c.model, models.c.namespace.in_(here))
    of_others = (
        select(table.c.id).where(
            audit.c.kind == literal(f"'{kind}'"),
            table.c.id == audit.c.entity,
            table.c.namespace.in_(here),
        )
        for kind, table in (
            ("experiment", experiments),
            ("guard", guards),
            ("webhook", webhooks),
            ("policy", retention_policies),
        )
    )
    of_run = (
        select(runs.c.id)
        .join(experiments, experiments.c.id == runs.c.experiment)
        .where(
            audit.c.kind == literal("'run'"),
            runs.c.id == audit.c.entity,
            runs.c.model.is_(None),  # else it lies where its model does
            experiments.c.namespace.in_(here),
        )
    )
    return or_(
        func.coalesce(audit.c.model, literal("''")).in_(here),
        func.coalesce(audit.c.entity, literal("''")).in_(here),
        of_model.exists(),
        of_run.exists(),
        *(one.exists() for one in of_others),
    )


async def _ids_between(tx: Tx, since: int | None, until: int | None) -> tuple[int, int]:
    """Between which ids entries of that time lie, found by halving.

    Ids grow with time but for steps of the clock, so the bounds are wider than asked by as much as
    a clock may reasonably step; the search itself compares times.
    """
    last = await last_id(tx)
    low, high = 1, last
    if since is not None:
        low = await _first_from(tx, since - _CLOCK_STEP, last)
    if until is not None:
        high = await _first_from(tx, until + _CLOCK_STEP, last)
    return low, high


async def _first_from(tx: Tx, moment: int, last: int) -> int:
    """The lowest id whose entry is not before `moment`, or one more than the last."""
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        row = await tx.one(_TIME_FROM, id=middle)
        if row is None or row[1] >= moment:
            high = middle
        else:
            low = int(row[0]) + 1
    return low


async def entries_between(tx: Tx, after: int, last: int, limit: int) -> list[AuditEntry]:
    """Entries behind the id `after` up to `last`, in order of their making."""
    return [_entry(row) for row in await tx.all(_BETWEEN, after=after, last=last, most=limit)]


async def count_between(tx: Tx, after: int, last: int) -> int:
    row = await tx.one(_COUNT, after=after, last=last)
    assert row is not None, "a count is always one row"
    return int(row[0])


async def delete_through(tx: Tx, last: int) -> int:
    """Remove the oldest entries, for `registry.services.audit_retention`; returns how many."""
    return await tx.run(_DELETE, last=last)


async def last_id(tx: Tx) -> int:
    """The id of the newest entry, 0 if there is none."""
    row = await tx.one(_LAST_ID)
    return 0 if row is None else int(row[0])


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(*row)
