"""The audit log: who did what, and whether the log is still what was written."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from registry.api.errors import ADAPTER
from registry.catalog.audit import AuditEntry, Wanted
from registry.catalog.seals import Seal
from registry.domain.principals import Principal
from registry.domain.references import parse_model
from registry.http.answers import json_answer
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.times import microseconds, rfc3339
from registry.keys import PRINCIPAL, SEALS, STORE
from registry.services.audit import LOG, WORD, search_audit_log
from registry.services.authority import require_everywhere
from registry.services.seals import Head
from registry.services.verifying import Finding, Verdict
from store.opening import Store

_Word = Annotated[str, Meta(min_length=1, max_length=300)]
_Moment = Annotated[datetime, Meta(tz=True)]


class AuditQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries to list; what is not given does not matter."""

    kind: Annotated[
        _Word | None, Meta(description="What was changed: model, version, draft, alias, pin, …")
    ] = None
    entity: Annotated[_Word | None, Meta(description="The id of what was changed.")] = None
    actor: Annotated[_Word | None, Meta(description="The id of who changed it.")] = None
    model: Annotated[
        _Word | None, Meta(description="The model it belongs to, by id, or by its name now.")
    ] = None
    action: Annotated[
        _Word | None, Meta(description="What was done: create, update, delete, publish, move, …")
    ] = None
    since: Annotated[_Moment | None, Meta(description="From this moment on.")] = None
    until: Annotated[_Moment | None, Meta(description="Before this moment.")] = None


class AuditEntryAnswer(msgspec.Struct, frozen=True):
    """Who did what to which entity, when, and for which request.

    ``before`` and ``after`` hold what changed, null where there was or is nothing; secrets in them
    read ``(masked)``, and what is too long says ``truncated``.
    """

    id: int
    time: str
    actor: str
    actor_name: str
    action: str
    kind: str
    entity: str
    name: str
    model: str | None
    before: msgspec.Raw
    after: msgspec.Raw
    reason: str
    request_id: str


class SealAnswer(msgspec.Struct, frozen=True):
    """A seal over the entries from ``first`` to ``last``."""

    head: Annotated[str, Meta(description="Number and value of the seal: keep it elsewhere.")]
    number: int
    first: int
    last: int
    entries: int
    time: str


class HeadAnswer(msgspec.Struct, frozen=True):
    """The newest seal, null before the first, and how many entries wait for the next."""

    seal: SealAnswer | None
    unsealed: int


class VerifyQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: Annotated[
        str | None, Meta(description="A head that was kept elsewhere: it must still be there.")
    ] = None
    only_after: Annotated[
        bool, Meta(description="Read again only what was sealed after that head.")
    ] = False


class VerdictAnswer(msgspec.Struct, frozen=True):
    """What verifying found; ``findings`` are the first hundred of ``findings_total``."""

    is_intact: bool
    seal: SealAnswer | None
    seals: int
    entries: int
    unsealed: int
    removed_through: Annotated[
        int, Meta(description="The last entry that retention removed, or 0.")
    ]
    findings: list[Finding]
    findings_total: int


async def list_audit_log(request: web.Request) -> web.Response:
    """Entries of the audit log, newest first.

    Who may not read all of it gets the entries of the models and namespaces where they may, and of
    what lies there.
    """
    asked = read_query(request, AuditQuery)
    items, following = await find_page(request.app[STORE], request[PRINCIPAL], asked)
    return page_answer(request, items, following)


async def find_page(
    store: Store, principal: Principal, asked: AuditQuery
) -> tuple[list[AuditEntryAnswer], str | None]:
    """A page of the log as it is shown, and the cursor of the next one."""
    place = place_after(asked, tuple[int])
    found = await search_audit_log(
        store,
        principal,
        Wanted(
            kind=asked.kind,
            entity=asked.entity,
            actor=asked.actor,
            action=asked.action,
            since=None if asked.since is None else microseconds(asked.since),
            until=None if asked.until is None else microseconds(asked.until),
        ),
        model=None if asked.model is None else parse_model(asked.model),
        before=None if place is None else place[0],
        limit=asked.limit + 1,
    )
    items = found[: asked.limit]
    following = cursor(asked, items[-1].id) if len(found) > asked.limit else None
    return [show_entry(entry) for entry in items], following


async def get_audit_head(request: web.Request) -> web.Response:
    """The newest seal of the audit log.

    Its ``head`` belongs where nobody who can write the index can change it: against it, `verify`
    finds that the log was cut off or written anew. It is of the whole log, so it is for those who
    may read all of it.
    """
    require_everywhere(request[PRINCIPAL], WORD, LOG)
    return json_answer(show_head(await request.app[SEALS].head()))


def show_head(head: Head) -> HeadAnswer:
    return HeadAnswer(None if head.seal is None else _seal(head.seal), head.unsealed)


async def verify_audit_log(request: web.Request) -> web.Response:
    """Compute every seal of the audit log anew.

    Finds entries that were edited, removed, added or moved since they were sealed, and, with
    ``since``, that the log was cut off or written anew. Entries of the last second are not sealed.
    For those who may read the whole log.
    """
    require_everywhere(request[PRINCIPAL], WORD, LOG)
    asked = read_query(request, VerifyQuery)
    seals = request.app[SEALS]
    return json_answer(show_verdict(await seals.verify(asked.since, only_after=asked.only_after)))


def show_verdict(found: Verdict) -> VerdictAnswer:
    return VerdictAnswer(
        is_intact=found.is_intact,
        seal=None if found.head is None else _seal(found.head),
        seals=found.seals,
        entries=found.entries,
        unsealed=found.unsealed,
        removed_through=found.removed_through,
        findings=found.findings,
        findings_total=found.findings_total,
    )


def show_entry(entry: AuditEntry) -> AuditEntryAnswer:
    return AuditEntryAnswer(
        id=entry.id,
        time=rfc3339(entry.created_at),
        actor=entry.actor,
        actor_name=entry.actor_name,
        action=entry.action,
        kind=entry.kind,
        entity=entry.entity,
        name=entry.name,
        model=entry.model,
        before=_raw(entry.before),
        after=_raw(entry.after),
        reason=entry.reason,
        request_id=entry.request,
    )


def _raw(text: str | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if text is None else text.encode())


def _seal(seal: Seal) -> SealAnswer:
    return SealAnswer(
        head=seal.head,
        number=seal.number,
        first=seal.first,
        last=seal.last,
        entries=seal.entries,
        time=rfc3339(seal.created_at),
    )


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/audit",
        handler=list_audit_log,
        permission="audit.read",
        adapter=ADAPTER,
        summary="List the audit log, newest first",
        tag="audit",
        query=AuditQuery,
        answers={200: Page[AuditEntryAnswer]},
        problems=(404,),
    ),
    Route(
        method="GET",
        path="/api/v1/audit/head",
        handler=get_audit_head,
        permission="audit.read",
        adapter=ADAPTER,
        summary="The newest seal of the audit log",
        tag="audit",
        answers={200: HeadAnswer},
    ),
    Route(
        method="GET",
        path="/api/v1/audit/verify",
        handler=verify_audit_log,
        permission="audit.read",
        adapter=ADAPTER,
        summary="Verify the audit log",
        tag="audit",
        query=VerifyQuery,
        answers={200: VerdictAnswer},
    ),
]
