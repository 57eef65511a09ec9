"""Register versions: of blobs that are stored, of a base with changes, of a source elsewhere."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.asking import Nothing
from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.api.wire_versions import (
    RegisterBody,
    RegisteredAnswer,
    registered_answer,
    registration_of,
)
from registry.auth.policy import allows
from registry.domain.references import ModelReference, parse_model
from registry.errors import Denied
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.register import Registered, register_version


async def post_version(request: web.Request) -> web.StreamResponse:
    """Make a version, or with ``"publish": false`` a draft, of blobs that are stored already.

    All or nothing: blobs that are missing, or not the caller's to read, are 409
    ``content_missing`` with all of them. The model is made if it is not there. A repeat is answered
    with the version that is there, 200.
    """
    read_query(request, Nothing)
    model = model_of(request)
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
        lambda done: _answered(urls, done),
    )


def model_of(request: web.Request) -> ModelReference:
    _, _, _, model, *_ = raw_segments(request, 5)
    return parse_model(decoded(model, field="model"))


def _answered(urls: Urls, done: Registered) -> web.Response:
    version, draft = done.version, done.draft
    headers: dict[str, str] = {}
    if version is not None:
        headers[hdrs.LOCATION] = urls.about(done.model, version.name)
        headers[ETAG] = etag_of_row(version.id, version.changes)
    elif draft is not None:
        headers[hdrs.LOCATION] = urls.about(done.model, draft.label)
    return json_answer(
        registered_answer(urls, done), status=201 if done.is_new else 200, headers=headers
    )


ROUTES: Final = [
    Route(
        method="POST",
        path="/api/v1/models/{model:[^/]+}/versions",
        handler=post_version,
        permission="content.write",
        adapter=ADAPTER,
        body="json",
        summary="Register a version from stored blobs",
        tag="versions",
        query=Nothing,
        accepts=RegisterBody,
        answers={200: RegisteredAnswer, 201: RegisteredAnswer},
        problems=(404, 409),
    ),
]
