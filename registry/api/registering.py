"""Register versions: of blobs that are stored, of a base with changes, of a source elsewhere."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from registry.api.asking import Nothing
from registry.api.errors import ADAPTER
from registry.api.parts import register_parts
from registry.api.versions import made_answer
from registry.api.wire import Urls
from registry.api.wire_versions import (
    BatchAnswer,
    BatchBody,
    RegisterBody,
    RegisteredAnswer,
    registered_answer,
    registration_of,
    registrations_of,
)
from registry.auth.policy import allows
from registry.domain.references import ModelReference, parse_model
from registry.errors import Denied
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.multipart import is_multipart
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Media, Route
from registry.http.targets import decoded, raw_segments
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.register import Registered, register_version, register_versions


async def post_version(request: web.Request) -> web.StreamResponse:
    """Make a version, or with ``"publish": false`` a draft, of blobs that are stored already.

    All or nothing: blobs that are missing, or not the caller's to read, are 409
    ``content_missing`` with all of them. The model is made if it is not there. A repeat is answered
    with the version that is there, 200.

    As ``multipart/form-data`` the same JSON is the part ``metadata``, and each part with a file
    name is a file at that path; a part ``path`` before a file says its path instead. Both ways may
    be mixed: files of the body lie over those that are named by digest, and over ``base``.
    """
    read_query(request, Nothing)
    model = model_of(request)
    if is_multipart(request):
        urls = Urls(request)
        return await answer_once(
            request,
            lambda: register_parts(request, model),
            lambda done: made_answer(urls, done),
            is_streamed=True,
        )
    body = await read_json(request, RegisterBody)
    if body.publish and not allows(request[PRINCIPAL], "version.publish"):
        raise Denied("version.publish", request.path)
    wish = await registration_of(body)
    urls = Urls(request)
    return await answer_once(
        request,
        lambda: register_version(
            request.app[STORE],
            request[PRINCIPAL],
            model,
            wish,
            most_files=request.app[CONFIG].limits.version_files,
        ),
        lambda done: made_answer(urls, done),
    )


async def post_versions(request: web.Request) -> web.StreamResponse:
    """Register up to 1,000 versions or drafts of any models, all or none.

    The refusal lists every one that cannot be made. Those that are there already, just as asked
    for, are answered like those that are made; 201 if anything was made.
    """
    read_query(request, Nothing)
    batch = await read_json(request, BatchBody)
    if any(one.publish for one in batch.versions) and not allows(
        request[PRINCIPAL], "version.publish"
    ):
        raise Denied("version.publish", request.path)
    wishes = await registrations_of(batch.versions)
    urls = Urls(request)

    def render(done: list[Registered]) -> web.Response:
        return json_answer(
            BatchAnswer([registered_answer(urls, one) for one in done]),
            status=201 if any(one.is_new for one in done) else 200,
        )

    return await answer_once(
        request,
        lambda: register_versions(
            request.app[STORE],
            request[PRINCIPAL],
            wishes,
            most_files=request.app[CONFIG].limits.version_files,
        ),
        render,
    )


def model_of(request: web.Request) -> ModelReference:
    _, _, _, model, *_ = raw_segments(request, 5)
    return parse_model(decoded(model, field="model"))


_ACCEPTED: Final = Media(
    "multipart/form-data",
    "A part `metadata` with the JSON, and a part for each file, whose name is its path.",
    also=RegisterBody,
)

ROUTES: Final = [
    Route(
        method="POST",
        path="/api/v1/models/{model:[^/]+}/versions",
        handler=post_version,
        permission="content.write",
        adapter=ADAPTER,
        body="json or multipart",
        summary="Register a version from stored blobs, or with its files",
        tag="versions",
        query=Nothing,
        accepts=_ACCEPTED,
        answers={200: RegisteredAnswer, 201: RegisteredAnswer},
        problems=(404, 409, 422),
    ),
    Route(
        method="POST",
        path="/api/v1/versions/batch",
        handler=post_versions,
        permission="content.write",
        adapter=ADAPTER,
        body="json",
        summary="Register many versions, all or none",
        tag="versions",
        query=Nothing,
        accepts=BatchBody,
        answers={200: BatchAnswer, 201: BatchAnswer},
        problems=(404, 409),
    ),
]
