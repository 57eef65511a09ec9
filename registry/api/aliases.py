"""Aliases: movable names of versions, where they point, and where they pointed.

The ``ETag`` of an alias changes with each move and when it is held or let go; ``If-Match`` and
``expected`` both make a move conditional, the one on all that was seen of the alias, the other on
where it points. ``If-None-Match: *`` only makes a new one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.domain.models import Model, Version
from registry.domain.names import fold, parse_alias
from registry.domain.references import ModelReference, parse_model, parse_reference
from registry.errors import Invalid, PreconditionFailed
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, Verdict, check_preconditions
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.aliases import (
    Condition,
    Move,
    PastAlias,
    PlacedAlias,
    Rollback,
    alias_history,
    get_alias,
    get_alias_at,
    list_aliases,
    list_aliases_at,
    point_alias,
    remove_alias,
    roll_back_alias,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Reason = Annotated[str, Meta(max_length=1024)]
Expected = Annotated[
    str,
    Meta(pattern="^[0-9a-f]{40}$", description="The revision that it must point at now; else 412."),
]
At = Annotated[
    datetime, Meta(tz=True, description="The time to tell of, to the microsecond and included.")
]


class AliasMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an alias shall point."""

    version: Annotated[str, Meta(min_length=1, max_length=160)]
    reason: Reason = ""
    expected: Expected | None = None


class AliasRollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far back: so many targets (one without either), or to what an event of it led to."""

    to: Annotated[int, Meta(ge=1, lt=1 << 62, description="The id of an event.")] | None = None
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    reason: Reason = ""
    expected: Expected | None = None


class AliasQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When: now without it."""

    at: At | None = None


class AliasesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The aliases there are, or those there were."""

    at: At | None = None


class RemovalQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why it goes, for its history."""

    reason: Reason = ""


class PointedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What never changes of the version that an alias points at."""

    id: str
    number: int
    label: str | None
    tree: str
    url: str


class AliasAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alias points, or pointed at the time `at`.

    `version` is null where the revision was never published, or its version is deleted by now.
    `held` says that it was moved by hand, so that only an eligible publish moves it again; of the
    past that is not known. `event` is the move that led here, by its id in the history.
    """

    name: str
    revision: str
    version: PointedVersion | None
    held: bool | None
    moved_at: str
    moved_by: str
    reason: str
    event: int
    at: str | None


class AliasEventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One move. `restored` is the event whose target a rollback brought back."""

    id: int
    name: str
    from_revision: str | None
    to_revision: str | None
    version: PointedVersion | None
    actor: str
    reason: str
    time: str
    restored: int | None


async def put_alias(request: web.Request) -> web.StreamResponse:
    """Point an alias at a version, or make it; an eligible publish moves it on."""
    model, name = _target(request)
    wish = await read_json(request, AliasMove)
    move = Move(parse_reference(wish.version), wish.reason, wish.expected)
    placed, is_new = await point_alias(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        parse_alias(name),
        move,
        _condition(request),
    )
    return _present(Urls(request), placed, status=201 if is_new else 200)


async def roll_back(request: web.Request) -> web.StreamResponse:
    """Point an alias where it pointed before, and hold it there.

    Each rollback goes to the target before the one it finds, so two in a row end two targets ago.
    `to` goes to what one event of its history led to, forwards too. What is deleted cannot be gone
    back to: 409 `version_deleted` names it, and `steps` or `to` lead past it.
    """
    model, name = _target(request)
    wish = await read_json(request, AliasRollback, is_optional=True)
    if wish.to is not None and wish.steps is not None:
        raise Invalid("steps", "and to exclude each other")
    rollback = Rollback(wish.to, wish.steps or 1, wish.reason, wish.expected)
    store, principal, urls = request.app[STORE], request[PRINCIPAL], Urls(request)
    alias, condition = parse_alias(name), _condition(request)
    return await answer_once(
        request,
        lambda: roll_back_alias(store, principal, model, alias, rollback, condition),
        lambda placed: _present(urls, placed),
    )


async def get_one_alias(request: web.Request) -> web.StreamResponse:
    """Where an alias points; with `at` where it pointed then, also if it is gone by now."""
    model, name = _target(request)
    store, principal, alias = request.app[STORE], request[PRINCIPAL], parse_alias(name)
    at = read_query(request, AliasQuery).at
    if at is not None:
        moment = _microseconds(at)
        past = await get_alias_at(store, principal, model, alias, moment)
        return json_answer(_past(Urls(request), past, moment))
    placed = await get_alias(store, principal, model, alias)
    if is_unmodified(request, f'"{placed.tag}"'):
        return web.Response(status=304, headers=_headers(placed))
    return _present(Urls(request), placed)


async def delete_alias(request: web.Request) -> web.StreamResponse:
    """Remove an alias; its history stays."""
    model, name = _target(request)
    await remove_alias(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        parse_alias(name),
        read_query(request, RemovalQuery).reason,
        _condition(request),
    )
    return web.Response(status=204)


async def get_aliases(request: web.Request) -> web.StreamResponse:
    """The aliases of a model in order of name; with `at` those there were, where they pointed."""
    model, _ = _target(request)
    query, scope, urls = read_query(request, AliasesQuery), str(model), Urls(request)
    (after,) = place_after(query, tuple[str], scope=scope) or ("",)
    store, principal, most = request.app[STORE], request[PRINCIPAL], query.limit + 1
    if query.at is None:
        placed = await list_aliases(store, principal, model, after=after, limit=most)
        items = [_answer(urls, one) for one in placed]
    else:
        at = _microseconds(query.at)
        past = await list_aliases_at(store, principal, model, at, after=after, limit=most)
        items = [_past(urls, one, at) for one in past]
    shown = items[: query.limit]
    is_last = len(items) <= query.limit
    return page_answer(
        request, shown, None if is_last else cursor(query, fold(shown[-1].name), scope=scope)
    )


async def get_alias_history(request: web.Request) -> web.StreamResponse:
    """Every move of an alias and who made it, newest first; the history of one that is gone too."""
    model, name = _target(request)
    query, scope, urls = read_query(request, PageQuery), f"{model} {fold(name)}", Urls(request)
    (before,) = place_after(query, tuple[int], scope=scope) or (1 << 62,)
    events = await alias_history(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        parse_alias(name),
        before=before,
        limit=query.limit + 1,
    )
    shown = [_event(urls, past) for past in events[: query.limit]]
    is_last = len(events) <= query.limit
    return page_answer(
        request, shown, None if is_last else cursor(query, shown[-1].id, scope=scope)
    )


def _target(request: web.Request) -> tuple[ModelReference, str]:
    _, _, _, model, _, *rest = raw_segments(request, 7)
    name = decoded(rest[0], field="alias") if rest else ""
    return parse_model(decoded(model, field="model")), name


def _condition(request: web.Request) -> Condition:
    if_match = request.headers.get(hdrs.IF_MATCH)
    if_none_match = request.headers.get(hdrs.IF_NONE_MATCH)

    def check(tag: str | None) -> None:
        etag = None if tag is None else f'"{tag}"'
        verdict = check_preconditions(
            etag, if_match=if_match, if_none_match=if_none_match, is_read=False
        )
        if verdict is Verdict.FAILED:
            raise PreconditionFailed(hdrs.IF_NONE_MATCH if if_match is None else hdrs.IF_MATCH)

    return check


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _headers(placed: PlacedAlias) -> dict[str, str]:
    return {ETAG: f'"{placed.tag}"', hdrs.CACHE_CONTROL: "private, no-cache"}


def _present(urls: Urls, placed: PlacedAlias, *, status: int = 200) -> web.Response:
    return json_answer(_answer(urls, placed), status=status, headers=_headers(placed))


def _answer(urls: Urls, placed: PlacedAlias) -> AliasAnswer:
    alias = placed.alias
    return AliasAnswer(
        name=alias.name,
        revision=alias.revision,
        version=_pointed(urls, placed.model, placed.version),
        held=alias.is_held,
        moved_at=rfc3339(alias.moved_at),
        moved_by=alias.moved_by,
        reason=placed.last.reason,
        event=placed.last.id,
        at=None,
    )


def _past(urls: Urls, past: PastAlias, at: int) -> AliasAnswer:
    event = past.event
    assert event.to_revision is not None, "it was there then"
    return AliasAnswer(
        name=event.name,
        revision=event.to_revision,
        version=_pointed(urls, past.model, past.version),
        held=None,
        moved_at=rfc3339(event.created_at),
        moved_by=event.actor,
        reason=event.reason,
        event=event.id,
        at=rfc3339(at),
    )


def _event(urls: Urls, past: PastAlias) -> AliasEventAnswer:
    event = past.event
    return AliasEventAnswer(
        id=event.id,
        name=event.name,
        from_revision=event.from_revision,
        to_revision=event.to_revision,
        version=_pointed(urls, past.model, past.version),
        actor=event.actor,
        reason=event.reason,
        time=rfc3339(event.created_at),
        restored=event.restored,
    )


def _pointed(urls: Urls, model: Model, version: Version | None) -> PointedVersion | None:
    if version is None:
        return None
    return PointedVersion(
        id=version.id,
        number=version.number,
        label=version.label,
        tree=str(version.tree),
        url=urls.version(model, version.name) + "/",
    )


_ALIASES: Final = "/api/v1/models/{model:[^/]+}/aliases"
_ALIAS: Final = _ALIASES + "/{alias:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_ALIASES,
        handler=get_aliases,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the aliases of a model",
        tag="aliases",
        query=AliasesQuery,
        answers={200: Page[AliasAnswer]},
    ),
    Route(
        method="GET",
        path=_ALIAS,
        handler=get_one_alias,
        permission="model.read",
        adapter=ADAPTER,
        summary="Where an alias points, or pointed",
        tag="aliases",
        query=AliasQuery,
        answers={200: AliasAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="GET",
        path=_ALIAS + "/history",
        handler=get_alias_history,
        permission="model.read",
        adapter=ADAPTER,
        summary="The moves of an alias",
        tag="aliases",
        query=PageQuery,
        answers={200: Page[AliasEventAnswer]},
    ),
    Route(
        method="PUT",
        path=_ALIAS,
        handler=put_alias,
        permission="alias.move",
        adapter=ADAPTER,
        body="json",
        summary="Point an alias at a version",
        tag="aliases",
        accepts=AliasMove,
        answers={200: AliasAnswer, 201: AliasAnswer},
        headers={"If-None-Match": "With `*` it is only made, never moved."},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_ALIAS,
        handler=delete_alias,
        permission="alias.move",
        adapter=ADAPTER,
        summary="Remove an alias",
        tag="aliases",
        query=RemovalQuery,
        answers={204: None},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_ALIAS + "/rollback",
        handler=roll_back,
        permission="alias.move",
        adapter=ADAPTER,
        body="json",
        summary="Point an alias where it pointed before",
        tag="aliases",
        accepts=AliasRollback,
        is_body_optional=True,
        answers={200: AliasAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
]
