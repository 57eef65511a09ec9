"""One version as JSON: what is known of it, what is said of it, and whether it is there."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.asking import Nothing, Proofs, completeness, label_of
from registry.api.errors import ADAPTER
from registry.api.wire import DraftAnswer, Urls, draft_answer
from registry.api.wire_versions import (
    DetailedAnswer,
    PatchBody,
    ReasonQuery,
    RegisteredAnswer,
    SaidBody,
    StatusBody,
    change_of,
    detailed_answer,
    frozen_named,
    registered_answer,
    stated_in,
)
from registry.domain.ids import VERSION, is_id
from registry.domain.references import (
    ModelReference,
    VersionReference,
    parse_model,
    parse_reference,
)
from registry.errors import Invalid, NotFound
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row, expected_rows
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.register import Registered, publish_labelled
from registry.services.removal import delete_version, purge_version, restore_version
from registry.services.resolve import DraftFiles
from registry.services.versions import (
    Change,
    FullVersion,
    change_version,
    get_version_by_id,
)
from registry.services.versions import get_version as find_version


async def get_version(request: web.Request) -> web.StreamResponse:
    """Everything that is known of a version, or of a draft, but its files.

    Where the name is an alias, the answer is the version that it points at now.
    """
    read_query(request, Nothing)
    model, reference = target_of(request)
    place = await find_version(request.app[STORE], request[PRINCIPAL], model, reference)
    if isinstance(place, DraftFiles):
        return json_answer(draft_answer(Urls(request), place.model, place.draft))
    return full_answer(request, place)


async def get_by_id(request: web.Request) -> web.StreamResponse:
    """A version of whichever model, by its own id."""
    read_query(request, Nothing)
    _, _, _, raw = raw_segments(request, 4)
    id = decoded(raw, field="id")
    if not is_id(id, VERSION):
        raise NotFound("version", id[:80], code="version_not_found")
    full = await get_version_by_id(request.app[STORE], request[PRINCIPAL], id)
    return full_answer(request, full)


async def patch_version(request: web.Request) -> web.StreamResponse:
    """Say something else of a version: what is absent stays, null takes back.

    Members of the free objects are merged one by one. Number, label, files and source never change.
    A ``status`` must be one that is allowed next.
    """
    read_query(request, Nothing)
    try:
        body = await read_json(request, PatchBody)
    except Invalid as error:
        raise frozen_named(error) from error
    return await _changed(request, change_of(body))


async def put_status(request: web.Request) -> web.StreamResponse:
    """Give a version another status; one that is not allowed next is 409 with those that are."""
    read_query(request, Nothing)
    body = await read_json(request, StatusBody)
    return await _changed(request, Change(facts={}, status=body.status, reason=body.reason))


async def _changed(request: web.Request, wish: Change) -> web.StreamResponse:
    model, reference = target_of(request)
    full = await change_version(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        reference,
        wish,
        expected=expected_rows(request),
    )
    return json_answer(detailed_answer(Urls(request), full), headers=_headers(full))


async def delete_one(request: web.Request) -> web.StreamResponse:
    """Delete a version, restorable until it is purged, or discard a draft."""
    query = read_query(request, ReasonQuery)
    model, reference = target_of(request)
    await delete_version(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        reference,
        reason=query.reason,
        expected=expected_rows(request),
    )
    return web.Response(status=204)


async def restore(request: web.Request) -> web.StreamResponse:
    """Bring a deleted or retired version back as it was, by its number, label or id."""
    read_query(request, Nothing)
    model, reference = target_of(request)
    store, principal, urls = request.app[STORE], request[PRINCIPAL], Urls(request)
    return await answer_once(
        request,
        lambda: restore_version(store, principal, model, reference),
        lambda full: json_answer(detailed_answer(urls, full), headers=_headers(full)),
    )


async def purge(request: web.Request) -> web.StreamResponse:
    """Let go of a deleted version for good; its number and label stay burnt.

    Its files are referenced no more and go with the next collection, unless something else needs
    them. Only the very same files bring it back, registered under its label.
    """
    query = read_query(request, ReasonQuery)
    model, reference = target_of(request)
    store, principal, urls = request.app[STORE], request[PRINCIPAL], Urls(request)
    return await answer_once(
        request,
        lambda: purge_version(store, principal, model, reference, reason=query.reason),
        lambda full: json_answer(detailed_answer(urls, full), headers=_headers(full)),
    )


async def publish_version(request: web.Request) -> web.StreamResponse:
    """Make a draft a version, with what is said of it; repeating it answers the same."""
    asked = read_query(request, Proofs)
    _, _, _, model, _, label, *_ = raw_segments(request, 7)
    reference, name = parse_model(decoded(model, field="model")), decoded(label, field="version")
    stated = stated_in(await read_json(request, SaidBody, is_optional=True))
    store, principal, urls = request.app[STORE], request[PRINCIPAL], Urls(request)
    return await answer_once(
        request,
        lambda: publish_labelled(
            store, principal, reference, label_of(name), completeness(asked), stated
        ),
        lambda done: made_answer(urls, done),
    )


def target_of(request: web.Request) -> tuple[ModelReference, VersionReference]:
    """The model and the version that the path names."""
    _, _, _, model, _, version, *_ = raw_segments(request, 7)
    return (
        parse_model(decoded(model, field="model")),
        parse_reference(decoded(version, field="version")),
    )


def full_answer(request: web.Request, full: FullVersion) -> web.Response:
    """A version with its tag, or 304."""
    headers = {**_headers(full), hdrs.CACHE_CONTROL: "private, no-cache"}
    if is_unmodified(request, headers[ETAG]):
        return web.Response(status=304, headers=headers)
    return json_answer(detailed_answer(Urls(request), full), headers=headers)


def made_answer(urls: Urls, done: Registered) -> web.Response:
    """What was registered or published, 201 if this request made it."""
    status, headers = 201 if done.is_new else 200, made_headers(urls, done)
    return json_answer(registered_answer(urls, done), status=status, headers=headers)


def made_headers(urls: Urls, done: Registered) -> dict[str, str]:
    """The headers of that answer that are its own."""
    headers: dict[str, str] = {}
    if done.version is not None:
        headers = _headers(done.version)
        headers[hdrs.LOCATION] = urls.about(done.model, done.version.version.name)
    elif done.draft is not None:
        headers[hdrs.LOCATION] = urls.about(done.model, done.draft.label)
    return headers


def _headers(full: FullVersion) -> dict[str, str]:
    """What is answered names the model, so a rename makes it another answer."""
    return {ETAG: etag_of_row(full.version.id, full.version.changes, under=full.model.name)}


_VERSION: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}"
_CONDITION: Final = {str(hdrs.IF_NONE_MATCH): "Answer 304 if it still has this `ETag`."}

ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/versions/{id:[^/]+}",
        handler=get_by_id,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a version of whichever model",
        tag="versions",
        repeats=True,
        query=Nothing,
        answers={200: DetailedAnswer, 304: None},
        problems=(404,),
        headers=_CONDITION,
    ),
    Route(
        method="GET",
        path=_VERSION,
        handler=get_version,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a version or a draft",
        tag="versions",
        repeats=True,
        query=Nothing,
        answers={200: DetailedAnswer | DraftAnswer, 304: None},  # type: ignore[dict-item]  # a union is a type to msgspec
        problems=(404,),
        headers=_CONDITION,
    ),
    Route(
        method="PATCH",
        path=_VERSION,
        handler=patch_version,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Say something else of a version",
        tag="versions",
        query=Nothing,
        accepts=PatchBody,
        answers={200: DetailedAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="PUT",
        path=_VERSION + "/status",
        handler=put_status,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Give a version another status",
        tag="versions",
        query=Nothing,
        accepts=StatusBody,
        answers={200: DetailedAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_VERSION,
        handler=delete_one,
        permission="model.write",
        adapter=ADAPTER,
        summary="Delete a version or discard a draft",
        tag="versions",
        query=ReasonQuery,
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_VERSION + "/publish",
        handler=publish_version,
        permission="version.publish",
        adapter=ADAPTER,
        body="json",
        summary="Publish a draft",
        tag="versions",
        query=Proofs,
        accepts=SaidBody,
        is_body_optional=True,
        answers={200: RegisteredAnswer, 201: RegisteredAnswer},
        problems=(404, 409),
    ),
    Route(
        method="POST",
        path=_VERSION + "/restore",
        handler=restore,
        permission="model.write",
        adapter=ADAPTER,
        summary="Bring a version back",
        tag="versions",
        query=Nothing,
        answers={200: DetailedAnswer},
        problems=(404, 409),
    ),
    Route(
        method="POST",
        path=_VERSION + "/purge",
        handler=purge,
        permission="model.write",
        adapter=ADAPTER,
        summary="Let go of a deleted version for good",
        tag="versions",
        query=ReasonQuery,
        answers={200: DetailedAnswer},
        problems=(404, 409),
    ),
]
