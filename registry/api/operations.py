"""Collection, scrub and check of a live store, as operations that run in the background.

A request that starts one is answered 202 at once with the operation and its address; reading that
address tells how far it is and, in the end, what it found. Any worker can be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.domain.operations import Failure, Group, Operation, Progress, State
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.routing import Content, Handler, Route
from registry.http.times import rfc3339
from registry.keys import OPERATIONS, PRINCIPAL
from store.digest import Digest
from store.gc import CollectionStatus


class ScrubQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to verify, and how fast; nothing given means everything at full speed."""

    rate_bytes_per_second: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    digests: Annotated[
        list[Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]],
        msgspec.Meta(max_length=10_000),
    ] = []


class FsckQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``repair`` rebuilds rows and adopts orphans; without it the check only reports."""

    repair: bool = False


class ApplyQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without a plan a new one is made and applied."""

    plan: str | None = None


class UndoQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which collection to put back."""

    collection: str


class PurgeQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``everything`` does not wait for the undo window."""

    everything: bool = False


class OperationAnswer(msgspec.Struct, frozen=True):
    """An operation as the API shows it; ``report`` is there when it succeeded."""

    id: str
    group: Group
    verb: str
    state: State
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


class LatestAnswer(msgspec.Struct, frozen=True):
    """The last operation of a kind; null before the first."""

    operation: OperationAnswer | None


async def get_gc(request: web.Request) -> web.Response:
    """What quarantine holds, by reason, and why collection is off, if it is."""
    operations, principal = request.app[OPERATIONS], request[PRINCIPAL]
    last = await operations.latest(principal, "gc")
    status = await operations.collection_status(principal)
    return json_answer(CollectionAnswer(status, None if last is None else operation_answer(last)))


async def post_gc_plan(request: web.Request) -> web.Response:
    """Find what nothing refers to; nothing is moved. The report names the plan."""
    operations = request.app[OPERATIONS]
    return await start_operation(request, lambda: operations.plan_collection(request[PRINCIPAL]))


async def post_gc_apply(request: web.Request) -> web.Response:
    """Move what a plan showed, and is still unclaimed, to quarantine; without a plan, plan anew."""
    asked = await read_json(request, ApplyQuestion, is_optional=True)
    operations = request.app[OPERATIONS]
    return await start_operation(
        request, lambda: operations.apply_collection(request[PRINCIPAL], asked.plan)
    )


async def post_gc_undo(request: web.Request) -> web.Response:
    """Bring back from quarantine what a collection took."""
    asked = await read_json(request, UndoQuestion)
    operations = request.app[OPERATIONS]
    return await start_operation(
        request, lambda: operations.undo_collection(request[PRINCIPAL], asked.collection)
    )


async def post_gc_purge(request: web.Request) -> web.Response:
    """Remove for good what is past its undo window, or all that quarantine holds."""
    asked = await read_json(request, PurgeQuestion, is_optional=True)
    operations = request.app[OPERATIONS]
    return await start_operation(
        request,
        lambda: operations.purge_collected(request[PRINCIPAL], everything=asked.everything),
    )


async def post_gc_confirm(request: web.Request) -> web.Response:
    """Say that a restored or rebuilt index is right, so that collection may run again."""
    operations = request.app[OPERATIONS]
    return await answer_once(
        request,
        lambda: operations.confirm_collection(request[PRINCIPAL]),
        lambda _: web.Response(status=204),
    )


async def post_scrub(request: web.Request) -> web.Response:
    """Read stored blobs and set damaged ones aside."""
    asked = await read_json(request, ScrubQuestion, is_optional=True)
    operations = request.app[OPERATIONS]
    return await start_operation(
        request,
        lambda: operations.scrub(
            request[PRINCIPAL],
            rate_bytes_per_second=asked.rate_bytes_per_second,
            only=[Digest.parse(text) for text in asked.digests],
        ),
    )


async def post_fsck(request: web.Request) -> web.Response:
    """Compare the index with the directory of blobs."""
    asked = await read_json(request, FsckQuestion, is_optional=True)
    operations = request.app[OPERATIONS]
    return await start_operation(
        request, lambda: operations.fsck(request[PRINCIPAL], repair=asked.repair)
    )


async def get_scrub(request: web.Request) -> web.Response:
    """The last scrub, running or ended."""
    return await _latest(request, "scrub")


async def get_fsck(request: web.Request) -> web.Response:
    """The last check, running or ended."""
    return await _latest(request, "fsck")


async def get_operation(request: web.Request) -> web.Response:
    """State, progress, and in the end the report of one operation; any worker can be asked."""
    wanted = request.match_info["operation"]
    return json_answer(
        operation_answer(await request.app[OPERATIONS].find(request[PRINCIPAL], wanted))
    )


async def delete_operation(request: web.Request) -> web.Response:
    """Ask a running operation to stop; its state says when it has."""
    wanted = request.match_info["operation"]
    found = await request.app[OPERATIONS].cancel(request[PRINCIPAL], wanted)
    return json_answer(operation_answer(found), status=202)


async def _latest(request: web.Request, group: Group) -> web.Response:
    found = await request.app[OPERATIONS].latest(request[PRINCIPAL], group)
    return json_answer(LatestAnswer(None if found is None else operation_answer(found)))


async def start_operation(
    request: web.Request, begin: Callable[[], Awaitable[Operation]]
) -> web.Response:
    """Begin once, however often it is asked with the same ``Idempotency-Key``."""
    return await answer_once(request, begin, _started)


def _started(operation: Operation) -> web.Response:
    answer = operation_answer(operation)
    return json_answer(answer, status=202, headers={hdrs.LOCATION: answer.url})


def operation_answer(operation: Operation) -> OperationAnswer:
    """An operation as every route shows it."""
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


def _route(
    method: Literal["GET", "DELETE"],
    path: str,
    handler: Handler,
    summary: str,
    answers: dict[int, Content],
) -> Route:
    return Route(
        method=method,
        path="/api/v1/" + path,
        handler=handler,
        permission="ops",
        adapter=ADAPTER,
        summary=summary,
        tag="operations",
        answers=answers,
    )


def _starts(
    path: str, handler: Handler, summary: str, accepts: type[Any] | None, *, needs: bool = False
) -> Route:
    """A POST that begins an operation; `needs` says that its body may not be left out."""
    return Route(
        method="POST",
        path="/api/v1/" + path,
        handler=handler,
        permission="ops",
        adapter=ADAPTER,
        body="none" if accepts is None else "json",
        summary=summary,
        tag="operations",
        accepts=accepts,
        is_body_optional=not needs,
        answers={202: OperationAnswer},
        problems=(404, 409),
    )


ROUTES: Final = [
    _route("GET", "gc", get_gc, "What quarantine holds", {200: CollectionAnswer}),
    _starts("gc/plan", post_gc_plan, "Plan a collection", None),
    _starts("gc/apply", post_gc_apply, "Collect", ApplyQuestion),
    _starts("gc/undo", post_gc_undo, "Put a collection back", UndoQuestion, needs=True),
    _starts("gc/purge", post_gc_purge, "Remove collected blobs for good", PurgeQuestion),
    Route(
        method="POST",
        path="/api/v1/gc/confirm",
        handler=post_gc_confirm,
        permission="ops",
        adapter=ADAPTER,
        summary="Allow collection again",
        tag="operations",
        answers={204: None},
    ),
    _starts("scrub", post_scrub, "Verify stored blobs", ScrubQuestion),
    _route("GET", "scrub", get_scrub, "The last scrub", {200: LatestAnswer}),
    _starts("fsck", post_fsck, "Compare index and directory", FsckQuestion),
    _route("GET", "fsck", get_fsck, "The last check", {200: LatestAnswer}),
    _route("GET", "operations/{operation}", get_operation, "One operation", {200: OperationAnswer}),
    _route(
        "DELETE",
        "operations/{operation}",
        delete_operation,
        "Ask an operation to stop",
        {202: OperationAnswer},
    ),
]
