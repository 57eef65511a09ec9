"""Register versions: of blobs that are stored, of a base with changes, of a source elsewhere."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec
from aiohttp import web

from registry.api.asking import Nothing
from registry.api.asking import model_of as model_called
from registry.api.errors import ADAPTER
from registry.api.parts import register_parts
from registry.api.versions import made_answer, made_headers
from registry.api.wire import Urls
from registry.api.wire_versions import (
    FEW_FILES,
    BatchAnswer,
    BatchBody,
    RegisterBody,
    RegisteredAnswer,
    registered_answer,
    registration_at_once,
    registration_of,
    registrations_of,
)
from registry.auth.policy import allows
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.errors import Denied, RegistryError
from registry.http.answers import json_answer
from registry.http.bodies import parse_json, read_json
from registry.http.multipart import is_multipart
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Media, Route, Taken, Taker
from registry.http.targets import raw_segments
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.register import (
    Registered,
    begin_registering,
    register_version,
    register_versions,
)
from store.errors import StoreError

_VERSIONS: Final = re.compile(r"/api/v1/models/([^/?#]+)/versions\Z")
_encode: Final = msgspec.json.Encoder().encode


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


def _begin(
    app: web.Application, address: str, principal: Principal, content: bytes
) -> asyncio.Future[Registered] | None:
    """Register a version, as `post_version` would."""
    named, limits = _VERSIONS.match(address), app[CONFIG].limits
    if named is None or not address.isascii() or len(content) > limits.json_bytes:
        return None
    try:
        body = parse_json(content, RegisterBody)
        if len(body.files) > FEW_FILES or not (
            body.publish and allows(principal, "version.publish")
        ):
            return None
        model, wish = model_called(named[1]), registration_at_once(body)
        return begin_registering(
            app[STORE], principal, model, wish, most_files=limits.version_files
        )
    except (RegistryError, StoreError):  # the handler says why
        return None


def _taken(done: Registered, base: str) -> Taken:
    """What `made_answer` answers."""
    urls = Urls(base)
    return Taken(
        201 if done.is_new else 200,
        "".join(f"{name}: {value}\r\n" for name, value in made_headers(urls, done).items()),
        _encode(registered_answer(urls, done)),
    )


def model_of(request: web.Request) -> ModelReference:
    _, _, _, model, *_ = raw_segments(request, 5)
    return model_called(model)


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
        takes=Taker(_begin, _taken),
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
