"""Rows of deliveries, and the place up to which the audit log has become deliveries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import and_, bindparam, case, delete, func, insert, null, select, tuple_, update

from registry.catalog.audit import AuditEntry
from registry.catalog.schema import audit, deliveries, experiments, models, runs, webhooks
from registry.catalog.webhooks import heard_since
from registry.domain.webhooks import Delivery
from store.index.state import get_state, put_state
from store.index.transactions import Row, Statement, Tx

MOST_COUNTED: Final = 10_000
"""Waiting deliveries are counted up to here."""

_FIRST_TOLD = Statement(lambda: select(func.min(deliveries.c.entry)))
_PLACE: Final = "webhooks.entry"
_AUDIT: Final = tuple(audit.c[name] for name in AuditEntry.__struct_fields__)

# What an entry belongs to: its model, else the experiment that it speaks of or its run is part of.
# Entries of experiments and of policies say themselves where they are, or were; a run that is gone,
# and was part of no model, belongs to nothing any more.
_of_experiment = experiments.alias("of_experiment")
_said = func.coalesce(audit.c.after, audit.c.before)
_said_namespace = case(
    (audit.c.kind == "experiment", func.json_extract(_said, bindparam("namespace"))),
    (audit.c.kind == "policy", func.json_extract(_said, bindparam("namespace_id"))),
)
_FOLLOWED = Statement(
    lambda: (
        select(
            audit.c.id,
            audit.c.kind,
            audit.c.action,
            audit.c.entity,
            audit.c.name,
            models.c.namespace,
            func.coalesce(_of_experiment.c.namespace, _said_namespace),
            models.c.name,
        )
        .select_from(
            audit.outerjoin(models, models.c.id == audit.c.model)
            .outerjoin(runs, and_(audit.c.kind == "run", runs.c.id == audit.c.entity))
            .outerjoin(
                _of_experiment,
                # An id of another kind is no experiment's.
                _of_experiment.c.id == func.coalesce(runs.c.experiment, audit.c.entity),
            )
        )
        .where(audit.c.id > bindparam("after"), audit.c.id <= bindparam("last"))
        .order_by(audit.c.id)
        .limit(bindparam("most"))
    )
)

_COLUMNS: Final = (
    deliveries.c.webhook,
    deliveries.c.entry,
    deliveries.c.model_name,
    deliveries.c.state,
    deliveries.c.attempts,
    deliveries.c.due_at,
    deliveries.c.ended_at,
    deliveries.c.attempted_at,
    deliveries.c.status,
    deliveries.c.error,
    deliveries.c.milliseconds,
    deliveries.c.created_at,
)
_SELECT: Final = select(*_COLUMNS, audit.c.kind, audit.c.action, audit.c.created_at).join(
    audit, audit.c.id == deliveries.c.entry
)
_ONE: Final = (
    deliveries.c.webhook == bindparam("webhook_"),
    deliveries.c.entry == bindparam("entry_"),
)
_INSERT = Statement(
    lambda: insert(deliveries).values(
        webhook=bindparam("webhook"),
        entry=bindparam("entry"),
        model_name=bindparam("model_name"),
        state="waiting",
        attempts=0,
        due_at=bindparam("now"),
        error=bindparam("nothing"),
        response=bindparam("nothing"),
        created_at=bindparam("now"),
    )
)
_FIND = Statement(lambda: _SELECT.add_columns(deliveries.c.response).where(*_ONE))
_FIRST_DUE: Final = (
    select(func.min(deliveries.c.due_at))
    .where(deliveries.c.webhook == webhooks.c.id, deliveries.c.due_at <= bindparam("now"))
    .scalar_subquery()
)
_CALLED: Final = (
    webhooks.c.url,
    webhooks.c.secret,
    webhooks.c.former_secret,
    webhooks.c.former_until,
    webhooks.c.active,
)
_WEBHOOKS_DUE = Statement(
    lambda: (
        select(webhooks.c.id)
        .where(webhooks.c.namespace.is_not(None), _FIRST_DUE.is_not(None))
        .order_by(_FIRST_DUE, webhooks.c.id)
    )
)
_DUE = Statement(
    lambda: (
        select(*_COLUMNS, *_CALLED, *_AUDIT)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook)
        .join(audit, audit.c.id == deliveries.c.entry)
        .where(
            deliveries.c.webhook == bindparam("webhook"), deliveries.c.due_at <= bindparam("now")
        )
        .order_by(deliveries.c.due_at, deliveries.c.entry)
        .limit(bindparam("most"))
    )
)
_FINISH = Statement(
    lambda: (
        update(deliveries)
        # Two leaders may have sent the same; only the first to say so is heard.
        .where(*_ONE, deliveries.c.state == "waiting", deliveries.c.attempts == bindparam("before"))
        .values(
            state=bindparam("state"),
            attempts=bindparam("before") + 1,
            due_at=bindparam("due_at"),
            ended_at=bindparam("ended_at"),
            attempted_at=bindparam("attempted_at"),
            status=bindparam("status"),
            error=bindparam("error"),
            response=bindparam("response"),
            milliseconds=bindparam("milliseconds"),
        )
    )
)
_REDELIVER = Statement(
    lambda: (
        update(deliveries)
        .where(*_ONE)
        .values(state="waiting", attempts=0, due_at=bindparam("now"), ended_at=null())
    )
)
_EXPIRE = Statement(
    lambda: delete(deliveries).where(
        tuple_(deliveries.c.webhook, deliveries.c.entry).in_(
            select(deliveries.c.webhook, deliveries.c.entry)
            .where(deliveries.c.ended_at <= bindparam("until"))
            .order_by(deliveries.c.ended_at)
            .limit(bindparam("most"))
        )
    )
)
_WAITING = Statement(
    lambda: select(func.count()).select_from(
        select(deliveries.c.webhook)
        .where(deliveries.c.due_at.is_not(None))
        .limit(bindparam("most"))
        .subquery("waiting")
    )
)


class FollowedEntry(msgspec.Struct, frozen=True):
    """An audit entry, and to which namespace it belongs so far as rows tell."""

    id: int
    kind: str
    action: str
    entity: str
    name: str
    namespace_of_model: str | None
    namespace_of_experiment: str | None
    model_name: str | None


class ListedDelivery(msgspec.Struct, frozen=True):
    """A delivery with the kind, the action and the time of its entry."""

    delivery: Delivery
    kind: str
    action: str
    happened_at: int


class DueDelivery(msgspec.Struct, frozen=True):
    """All that an attempt needs; secrets are encrypted, the former one signs until it ends."""

    delivery: Delivery
    url: str
    secret: bytes
    former_secret: bytes | None
    former_until: int | None
    is_active: bool
    entry: AuditEntry

    def __repr__(self) -> str:
        return f"DueDelivery({self.delivery.webhook_id}, {self.delivery.entry})"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, and what becomes of its delivery."""

    state: str
    due_at: int | None = None
    ended_at: int | None = None
    attempted_at: int
    status: int | None = None
    error: str = ""
    response: str = ""
    milliseconds: float | None = None


async def followed_place(tx: Tx) -> int:
    """The last audit entry that was looked at."""
    return int(await get_state(tx, _PLACE) or 0)


async def first_needed_entry(tx: Tx) -> int | None:
    """The oldest entry that a delivery tells of, or that is still to be looked at; None for none.

    What nobody listens for need not be looked at.
    """
    since = await heard_since(tx)
    row = await tx.one(_FIRST_TOLD)
    first = None if row is None or row[0] is None else int(row[0])
    if since is None:
        return first
    unread = max(await followed_place(tx), since) + 1
    return unread if first is None else min(first, unread)


async def put_followed_place(tx: Tx, entry: int) -> None:
    await put_state(tx, _PLACE, str(entry))


async def entries_to_follow(tx: Tx, after: int, last: int, limit: int) -> list[FollowedEntry]:
    return [
        FollowedEntry(*row)
        for row in await tx.all(
            _FOLLOWED,
            after=after,
            last=last,
            most=limit,
            namespace="$.namespace",
            namespace_id="$.namespace_id",
        )
    ]


async def insert_deliveries(tx: Tx, told: Iterable[tuple[str, int, str | None]]) -> None:
    """Deliveries that are due at once: webhook, entry, and what its model is called."""
    await tx.run_many(
        _INSERT,
        [
            {
                "webhook": webhook,
                "entry": entry,
                "model_name": model_name,
                "now": tx.now,
                "nothing": "",
            }
            for webhook, entry, model_name in told
        ],
    )


async def webhooks_due(tx: Tx) -> list[str]:
    """Webhooks with deliveries that are due, whoever waits longest first."""
    return [row[0] for row in await tx.all(_WEBHOOKS_DUE, now=tx.now)]


async def due_deliveries(tx: Tx, webhook_id: str, limit: int) -> list[DueDelivery]:
    """The deliveries of a webhook that are due, in order."""
    rows = await tx.all(_DUE, webhook=webhook_id, now=tx.now, most=limit)
    size = len(_COLUMNS)
    found = []
    for row in rows:
        url, secret, former, until, is_active = row[size : size + len(_CALLED)]
        entry = AuditEntry(*row[size + len(_CALLED) :])
        one = _delivery(row[:size])
        found.append(DueDelivery(one, url, secret, former, until, bool(is_active), entry))
    return found


async def finish_attempt(tx: Tx, delivery: Delivery, outcome: Outcome) -> bool:
    """Take down how an attempt went; False if another leader did, or it was asked for anew."""
    changed = await tx.run(
        _FINISH,
        webhook_=delivery.webhook_id,
        entry_=delivery.entry,
        before=delivery.attempts,
        **msgspec.structs.asdict(outcome),
    )
    return changed > 0


async def find_delivery(tx: Tx, webhook_id: str, entry: int) -> ListedDelivery | None:
    """One delivery, with what was answered."""
    row = await tx.one(_FIND, webhook_=webhook_id, entry_=entry)
    if row is None:
        return None
    listed = _listed(row[:-1])
    full = msgspec.structs.replace(listed.delivery, response=row[-1])
    return msgspec.structs.replace(listed, delivery=full)


async def redeliver(tx: Tx, webhook_id: str, entry: int) -> None:
    """Begin anew with a delivery, at once."""
    await tx.run(_REDELIVER, webhook_=webhook_id, entry_=entry, now=tx.now)


async def deliveries_before(
    tx: Tx, webhook_id: str, state: str | None, before: int | None, limit: int
) -> list[ListedDelivery]:
    """A page of a webhook's deliveries, the newest entry first, without what was answered."""
    given: dict[str, Any] = {"state": state, "before": before}
    values = {name: value for name, value in given.items() if value is not None}
    rows = await tx.all(_page(tuple(values)), webhook=webhook_id, limit=limit, **values)
    return [_listed(row) for row in rows]


@cache
def _page(given: Sequence[str]) -> Statement:
    """Which entries they are is found within one index, and only those rows are read.

    Asked in one go, SQLite would walk along the primary key past all of another state.
    """
    some = deliveries.alias("some")
    found = select(some.c.entry).where(some.c.webhook == bindparam("webhook"))
    if "state" in given:
        found = found.where(some.c.state == bindparam("state"))
    if "before" in given:
        found = found.where(some.c.entry < bindparam("before"))
    found = found.order_by(some.c.entry.desc()).limit(bindparam("limit"))
    return Statement(
        _SELECT.where(
            deliveries.c.webhook == bindparam("webhook"), deliveries.c.entry.in_(found)
        ).order_by(deliveries.c.entry.desc())
    )


async def expire_deliveries(tx: Tx, until: int, most: int) -> int:
    """Remove up to `most` that ended by `until`, the oldest first."""
    return await tx.run(_EXPIRE, until=until, most=most)


async def count_waiting(tx: Tx) -> int:
    """How many wait, up to `MOST_COUNTED`."""
    row = await tx.one(_WAITING, most=MOST_COUNTED)
    assert row is not None, "a count"
    return int(row[0])


def _delivery(row: Row) -> Delivery:
    names = ("webhook_id", *(column.name for column in _COLUMNS[1:]))
    return Delivery(**dict(zip(names, row, strict=True)))


def _listed(row: Row) -> ListedDelivery:
    return ListedDelivery(_delivery(row[:-3]), *row[-3:])
