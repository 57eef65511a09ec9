"""A whole version as one archive: ``/models/{model}/{version}.tar``."""

from __future__ import annotations

from aiohttp import hdrs, web

from registry.api.asking import (
    ARCHIVE,
    Nothing,
    label_of,
    refuse_partial,
    tar_limits,
    version_target,
)
from registry.api.counting import counted
from registry.api.wire import PublishedAnswer, Urls, version_answer
from registry.auth.policy import allows
from registry.domain.downloads import ARCHIVE_PATH
from registry.domain.references import parse_reference
from registry.errors import Denied
from registry.http.answers import json_answer
from registry.http.blobs import Cache
from registry.http.conditional import ETAG
from registry.http.queries import read_query
from registry.http.receiving import body
from registry.http.tars import etag_of_archive, send_archive
from registry.keys import PRINCIPAL, STORE
from registry.services.archives import outgoing, plan_archive
from registry.services.publish import Publication
from registry.services.resolve import DraftFiles, Tree, resolve_version
from registry.services.tars import import_archive


async def put_archive(request: web.Request) -> web.StreamResponse:
    """Publish the files of an archive under a label, all at once."""
    model, version = version_target(request)
    refuse_partial(request)
    read_query(request, Nothing)
    label = label_of(version.removesuffix(ARCHIVE))
    if not allows(request[PRINCIPAL], "version.publish"):
        raise Denied("version.publish", request.path)
    publication = await import_archive(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        label,
        body(request),
        tar_limits(request),
    )
    return published_answer(request, publication)


async def get_archive(request: web.Request) -> web.StreamResponse:
    """Send all files of a version as one archive, the same bytes each time."""
    model, version = version_target(request)
    store = request.app[STORE]
    reference = parse_reference(version.removesuffix(ARCHIVE))
    place = await resolve_version(store, request[PRINCIPAL], model, reference)
    archive = outgoing(store, await plan_archive(store, place))
    name = f"{place.model.name.replace('/', '-')}-{place.name}{ARCHIVE}"
    cache = cache_of(place)
    return await counted(
        request,
        place,
        ARCHIVE_PATH,
        etag_of_archive(archive),
        lambda: send_archive(request, store, archive, filename=name, cache=cache),
    )


def cache_of(place: Tree | DraftFiles) -> Cache:
    """A draft is never kept, an alias asked about each time, a published version kept for good."""
    if isinstance(place, DraftFiles):
        return "no-store"
    return "revalidate" if place.is_movable else "immutable"


def published_answer(request: web.Request, publication: Publication) -> web.Response:
    """The version, 201 if this request made it."""
    urls = Urls(request)
    version = version_answer(urls, publication.model, publication.version)
    return json_answer(
        PublishedAnswer(model=publication.model.name, state="published", version=version),
        status=201 if publication.is_new else 200,
        headers={
            hdrs.LOCATION: version.url,
            ETAG: f'"{publication.version.tree}"',
        },
    )
