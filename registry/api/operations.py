"""Collection, scrub and check of a live store, as operations that run in the background.

A request that starts one is answered 202 at once with the operation and its address; reading that
address tells how far it is and, in the end, what it found. Any worker can be asked.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.http.answers import json_answer
from registry.http.bodies import parse_json, read_all
from registry.http.routing import Body, Handler, Route
from registry.http.times import rfc3339
from registry.keys import CONFIG, OPERATIONS, PRINCIPAL
from registry.services.operations import Failure, Group, Operation, Progress
from store.digest import Digest
from store.gc import CollectionStatus

T = TypeVar("T")


class ScrubQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to verify, and how fast; nothing given means everything at full speed."""

    rate_bytes_per_second: Annotated[int, msgspec.Meta(ge=1)] | None = None
    digests: Annotated[list[str], msgspec.Meta(max_length=10_000)] = []


class FsckQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    repair: bool = False


class ApplyQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without a plan a new one is made and applied."""

    plan: str | None = None


class UndoQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    collection: str


class PurgeQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``everything`` does not wait for the undo window."""

    everything: bool = False


class OperationAnswer(msgspec.Struct, frozen=True):
    """An operation as the API shows it; ``report`` is there when it succeeded."""

    id: str
    group: Group
    verb: str
    state: str
    url: str
    actor: str
    started_at: str
    ended_at: str | None
    progress: Progress | None
    findings: int
    report: msgspec.Raw
    failure: Failure | None


class CollectionAnswer(msgspec.Struct, frozen=True):
    """What quarantine holds, why collection is off if it is, and the last operation."""

    quarantine: CollectionStatus
    operation: OperationAnswer | None


async def get_gc(request: web.Request) -> web.Response:
    operations, principal = request.app[OPERATIONS], request[PRINCIPAL]
    last = await operations.latest(principal, "gc")
    status = await operations.collection_status(principal)
    return json_answer(CollectionAnswer(status, None if last is None else _answer(last)))


async def post_gc_plan(request: web.Request) -> web.Response:
    return _started(await request.app[OPERATIONS].plan_collection(request[PRINCIPAL]))


async def post_gc_apply(request: web.Request) -> web.Response:
    asked = await _question(request, ApplyQuestion)
    operations = request.app[OPERATIONS]
    return _started(await operations.apply_collection(request[PRINCIPAL], asked.plan))


async def post_gc_undo(request: web.Request) -> web.Response:
    asked = await _question(request, UndoQuestion)
    operations = request.app[OPERATIONS]
    return _started(await operations.undo_collection(request[PRINCIPAL], asked.collection))


async def post_gc_purge(request: web.Request) -> web.Response:
    asked = await _question(request, PurgeQuestion)
    operations = request.app[OPERATIONS]
    return _started(
        await operations.purge_collected(request[PRINCIPAL], everything=asked.everything)
    )


async def post_gc_confirm(request: web.Request) -> web.Response:
    await request.app[OPERATIONS].confirm_collection(request[PRINCIPAL])
    return web.Response(status=204)


async def post_scrub(request: web.Request) -> web.Response:
    asked = await _question(request, ScrubQuestion)
    return _started(
        await request.app[OPERATIONS].scrub(
            request[PRINCIPAL],
            rate_bytes_per_second=asked.rate_bytes_per_second,
            only=[Digest.parse(text) for text in asked.digests],
        )
    )


async def post_fsck(request: web.Request) -> web.Response:
    asked = await _question(request, FsckQuestion)
    return _started(await request.app[OPERATIONS].fsck(request[PRINCIPAL], repair=asked.repair))


async def get_scrub(request: web.Request) -> web.Response:
    return await _latest(request, "scrub")


async def get_fsck(request: web.Request) -> web.Response:
    return await _latest(request, "fsck")


async def get_operation(request: web.Request) -> web.Response:
    wanted = request.match_info["operation"]
    return json_answer(_answer(await request.app[OPERATIONS].find(request[PRINCIPAL], wanted)))


async def delete_operation(request: web.Request) -> web.Response:
    """Ask a running operation to stop; its state says when it has."""
    wanted = request.match_info["operation"]
    found = await request.app[OPERATIONS].cancel(request[PRINCIPAL], wanted)
    return json_answer(_answer(found), status=202)


async def _latest(request: web.Request, group: Group) -> web.Response:
    found = await request.app[OPERATIONS].latest(request[PRINCIPAL], group)
    return json_answer({"operation": None if found is None else _answer(found)})


async def _question(request: web.Request, kind: type[T]) -> T:
    """The body as `kind`; no body asks for the defaults."""
    content = await read_all(request, limit_bytes=request.app[CONFIG].limits.json_bytes)
    return parse_json(content or b"{}", kind)


def _started(operation: Operation) -> web.Response:
    answer = _answer(operation)
    return json_answer(answer, status=202, headers={hdrs.LOCATION: answer.url})


def _answer(operation: Operation) -> OperationAnswer:
    ended = operation.ended_at
    return OperationAnswer(
        id=operation.id,
        group=operation.group,
        verb=operation.verb,
        state=operation.state,
        url=f"/api/v1/operations/{operation.id}",
        actor=operation.actor,
        started_at=rfc3339(operation.started_at),
        ended_at=None if ended is None else rfc3339(ended),
        progress=operation.progress,
        findings=operation.findings,
        report=operation.report,
        failure=operation.failure,
    )


def _route(method: str, path: str, handler: Handler, body: Body = "none") -> Route:
    return Route(
        method=method, path=path, handler=handler, permission="ops", adapter=ADAPTER, body=body
    )


ROUTES: Final = [
    _route("GET", "/api/v1/gc", get_gc),
    _route("POST", "/api/v1/gc/plan", post_gc_plan),
    _route("POST", "/api/v1/gc/apply", post_gc_apply, "json"),
    _route("POST", "/api/v1/gc/undo", post_gc_undo, "json"),
    _route("POST", "/api/v1/gc/purge", post_gc_purge, "json"),
    _route("POST", "/api/v1/gc/confirm", post_gc_confirm),
    _route("POST", "/api/v1/scrub", post_scrub, "json"),
    _route("GET", "/api/v1/scrub", get_scrub),
    _route("POST", "/api/v1/fsck", post_fsck, "json"),
    _route("GET", "/api/v1/fsck", get_fsck),
    _route("GET", "/api/v1/operations/{operation}", get_operation),
    _route("DELETE", "/api/v1/operations/{operation}", delete_operation),
]
