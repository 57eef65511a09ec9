"""Versions as JSON: what is known of one, publish a draft, bring a deleted one back."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry.api.archives import published_answer
from registry.api.asking import Proofs, completeness, label_of
from registry.api.errors import ADAPTER
from registry.api.wire import Urls, draft_answer, version_answer
from registry.domain.references import parse_model, parse_reference
from registry.errors import Invalid, NotFound
from registry.http.answers import json_answer
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.publish import publish_draft
from registry.services.removal import restore_version
from registry.services.resolve import DraftFiles, resolve_version


async def publish_version(request: web.Request) -> web.StreamResponse:
    """Make a draft a version; repeating it answers the same."""
    _, _, _, model, _, label, *_ = raw_segments(request, 7)
    asked = read_query(request, Proofs)
    publication = await publish_draft(
        request.app[STORE],
        request[PRINCIPAL],
        parse_model(decoded(model, field="model")),
        label_of(decoded(label, field="version")),
        completeness(asked),
    )
    return published_answer(request, publication)


async def get_version(request: web.Request) -> web.StreamResponse:
    """What is known of a version or a draft, without its files."""
    _, _, _, model, _, version = raw_segments(request, 6)
    place = await resolve_version(
        request.app[STORE],
        request[PRINCIPAL],
        parse_model(decoded(model, field="model")),
        parse_reference(decoded(version, field="version")),
    )
    urls = Urls(request)
    if isinstance(place, DraftFiles):
        answer: msgspec.Struct = draft_answer(urls, place.model, place.draft)
    elif place.version is None:
        raise NotFound("version", decoded(version, field="version"), code="version_not_found")
    else:
        answer = version_answer(urls, place.model, place.version)
    return json_answer(
        answer,
        headers={
            hdrs.CACHE_CONTROL: "no-store" if isinstance(place, DraftFiles) else "private, no-cache"
        },
    )


async def restore(request: web.Request) -> web.StreamResponse:
    """Bring a deleted version back, by its number."""
    _, _, _, model, _, number, *_ = raw_segments(request, 7)
    text = decoded(number, field="version")
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Invalid("version", "a deleted version is restored by its number")
    reference = parse_model(decoded(model, field="model"))
    store, principal = request.app[STORE], request[PRINCIPAL]
    version = await restore_version(store, principal, reference, int(text))
    place = await resolve_version(store, principal, reference, parse_reference(text))
    return json_answer(version_answer(Urls(request), place.model, version))


_VERSION: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_VERSION,
        handler=get_version,
        permission="model.read",
        adapter=ADAPTER,
    ),
    Route(
        method="POST",
        path=_VERSION + "/publish",
        handler=publish_version,
        permission="version.publish",
        adapter=ADAPTER,
    ),
    Route(
        method="POST",
        path=_VERSION + "/restore",
        handler=restore,
        permission="model.write",
        adapter=ADAPTER,
    ),
]
