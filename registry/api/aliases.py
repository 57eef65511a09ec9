"""Aliases: movable names of versions, where they point, and where they pointed."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.wire import Urls, VersionAnswer, version_answer
from registry.domain.names import parse_alias
from registry.domain.references import ModelReference, parse_model, parse_reference
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.bodies import decode_json
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.aliases import (
    Move,
    PlacedAlias,
    alias_history,
    get_alias,
    list_aliases,
    point_alias,
    remove_alias,
)

MOST_LISTED: Final = 1000


class AliasMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an alias shall point; ``expected`` is the revision it must point at now."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=160)]
    reason: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    expected: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")] | None = None


class AliasAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``held``: moved by hand, so only the next eligible publish moves it again."""

    name: str
    revision: str
    version: VersionAnswer | None
    held: bool
    moved_at: str
    moved_by: str


class AliasList(msgspec.Struct, frozen=True):
    aliases: list[AliasAnswer]
    next: str | None


class AliasEventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    from_revision: str | None
    to_revision: str | None
    actor: str
    reason: str
    time: str


class AliasHistory(msgspec.Struct, frozen=True):
    """Every move, newest first."""

    events: list[AliasEventAnswer]


async def put_alias(request: web.Request) -> web.StreamResponse:
    """Point an alias at a version."""
    model, name = _target(request)
    limits = request.app[CONFIG].limits
    wish = await decode_json(request, AliasMove, limit_bytes=limits.json_bytes)
    move = Move(parse_reference(wish.version), wish.reason, wish.expected)
    placed, is_new = await point_alias(
        request.app[STORE], request[PRINCIPAL], model, parse_alias(name), move
    )
    return json_answer(_answer(request, placed), status=201 if is_new else 200)


async def get_one_alias(request: web.Request) -> web.StreamResponse:
    """Where an alias points."""
    model, name = _target(request)
    placed = await get_alias(request.app[STORE], request[PRINCIPAL], model, parse_alias(name))
    return json_answer(_answer(request, placed))


async def delete_alias(request: web.Request) -> web.StreamResponse:
    """Remove an alias; its history stays."""
    model, name = _target(request)
    await remove_alias(request.app[STORE], request[PRINCIPAL], model, parse_alias(name))
    return web.Response(status=204)


async def get_aliases(request: web.Request) -> web.StreamResponse:
    """The aliases of a model, in order of name."""
    model, _ = _target(request)
    after = request.query.get("after", "")
    found = await list_aliases(
        request.app[STORE], request[PRINCIPAL], model, after=after, limit=MOST_LISTED + 1
    )
    shown = [_answer(request, placed) for placed in found[:MOST_LISTED]]
    return json_answer(AliasList(shown, shown[-1].name if len(found) > MOST_LISTED else None))


async def get_alias_history(request: web.Request) -> web.StreamResponse:
    """Where an alias pointed and who moved it."""
    model, name = _target(request)
    before = request.query.get("before", str(2**62))
    if not (before.isascii() and before.isdecimal() and len(before) < 20):
        raise Invalid("before", "is not the id of an event")
    events = await alias_history(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        parse_alias(name),
        before=min(int(before), 2**62),
        limit=MOST_LISTED,
    )
    return json_answer(
        AliasHistory(
            [
                AliasEventAnswer(
                    id=event.id,
                    from_revision=event.from_revision,
                    to_revision=event.to_revision,
                    actor=event.actor,
                    reason=event.reason,
                    time=rfc3339(event.created_at),
                )
                for event in events
            ]
        )
    )


def _answer(request: web.Request, placed: PlacedAlias) -> AliasAnswer:
    alias, version = placed.alias, placed.version
    return AliasAnswer(
        name=alias.name,
        revision=alias.revision,
        version=None if version is None else version_answer(Urls(request), placed.model, version),
        held=alias.is_held,
        moved_at=rfc3339(alias.moved_at),
        moved_by=alias.moved_by,
    )


def _target(request: web.Request) -> tuple[ModelReference, str]:
    _, _, _, model, _, *rest = raw_segments(request, 7)
    name = decoded(rest[0], field="alias") if rest else ""
    return parse_model(decoded(model, field="model")), name


_ALIASES: Final = "/api/v1/models/{model:[^/]+}/aliases"
_ALIAS: Final = _ALIASES + "/{alias:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_ALIASES,
        handler=get_aliases,
        permission="model.read",
        adapter=ADAPTER,
    ),
    Route(
        method="GET",
        path=_ALIAS,
        handler=get_one_alias,
        permission="model.read",
        adapter=ADAPTER,
    ),
    Route(
        method="GET",
        path=_ALIAS + "/history",
        handler=get_alias_history,
        permission="model.read",
        adapter=ADAPTER,
    ),
    Route(
        method="PUT",
        path=_ALIAS,
        handler=put_alias,
        permission="alias.move",
        adapter=ADAPTER,
        body="json",
    ),
    Route(
        method="DELETE",
        path=_ALIAS,
        handler=delete_alias,
        permission="alias.move",
        adapter=ADAPTER,
    ),
]
