"""Models as archives: taken out of one registry and into another, see `registry.domain.exports`."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.asking import tar_limits
from registry.api.errors import ADAPTER
from registry.api.models import model_in_path
from registry.api.wire import Urls
from registry.api.wire_models import ModelAnswer, model_answer
from registry.api.wire_words import Name
from registry.auth.policy import allows
from registry.domain.names import parse_model_name
from registry.domain.references import parse_reference
from registry.errors import Denied
from registry.http.answers import json_answer
from registry.http.bodies import parse_json
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.receiving import body
from registry.http.routing import Media, Route
from registry.http.tars import MEDIA_TYPE, etag_of_archive, send_archive
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.exports import announce_export, outgoing_export, plan_export
from registry.services.import_writing import Imported
from registry.services.imports import ImportLimits, import_model

MOST_NAMED: Final = 1000


class ExportQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions come along."""

    version: Annotated[
        list[str],
        msgspec.Meta(
            max_length=MOST_NAMED,
            description="Only this version, however named; may come several times.",
        ),
    ] = msgspec.field(default_factory=list)


class ImportQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model shall be called."""

    name: Annotated[
        Name | None, msgspec.Meta(description="The name to have here; its own if absent.")
    ] = None


class ImportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A model that came in. ``left_out`` counts what of the archive is not here."""

    model: ModelAnswer
    versions: int
    burnt: int
    left_out: dict[str, int]


async def get_export(request: web.Request) -> web.StreamResponse:
    """Send a model as one archive: JSON documents, then the files of its versions, each once.

    The same model gives the same bytes, with `Content-Length`, `ETag` and ranges, so a broken
    download resumes. Deleted versions come along as names that stay burnt. Who takes a model is
    written into the audit log before the first byte.
    """
    query = read_query(request, ExportQuery)
    store, principal = request.app[STORE], request[PRINCIPAL]
    wanted = [parse_reference(text) for text in query.version]
    export = await plan_export(store, principal, model_in_path(request), wanted)
    archive = outgoing_export(store, export)
    if request.method != hdrs.METH_HEAD and not is_unmodified(request, etag_of_archive(archive)):
        await announce_export(store, principal, export)
    filename = f"{export.model.name.replace('/', '-')}.digestry.tar"
    return await send_archive(request, store, archive, filename=filename, cache="revalidate")


async def post_import(request: web.Request) -> web.StreamResponse:
    """Make a model of an archive that another registry exported, all of it or nothing.

    Every file is verified; what is stored already is not stored again. Numbers, labels, burnt ones
    too, aliases and their history are kept; the importer is the author of all of it, and the first
    one is told in `metadata.imported_from`. A model of that name is 409 `model_name_taken`.
    """
    query = read_query(request, ImportQuery)
    for word in ("version.publish", "alias.move"):
        if not allows(request[PRINCIPAL], word):
            raise Denied(word, request.path)
    limits, urls = request.app[CONFIG].limits, Urls(request)
    name = None if query.name is None else parse_model_name(query.name, field="name")

    def render(done: Imported) -> web.Response:
        model = model_answer(urls, done.full)
        answer = ImportAnswer(
            model=model, versions=done.versions, burnt=done.burnt, left_out=done.left_out
        )
        return json_answer(answer, status=201, headers={hdrs.LOCATION: model.url})

    return await answer_once(
        request,
        lambda: import_model(
            request.app[STORE],
            request[PRINCIPAL],
            body(request),
            name=name,
            limits=ImportLimits(
                tar=tar_limits(request),
                document_bytes=limits.json_bytes,
                version_files=limits.version_files,
            ),
            parse=parse_json,
        ),
        render,
        is_streamed=True,
    )


_ARCHIVE: Final = Media(MEDIA_TYPE, "The archive.")

ROUTES: Final = [
    *(
        Route(
            method=method,
            path="/api/v1/models/{model:[^/]+}/export",
            handler=get_export,
            permission="content.read",
            adapter=ADAPTER,
            summary="Export a model as one archive",
            tag="models",
            query=ExportQuery,
            answers={200: _ARCHIVE, 206: _ARCHIVE, 304: None},
            problems=(404, 412, 416),
        )
        for method in ("GET", "HEAD")
    ),
    Route(
        method="POST",
        path="/api/v1/imports",
        handler=post_import,
        permission="model.create",
        adapter=ADAPTER,
        body="bytes",
        summary="Import a model that was exported",
        tag="models",
        query=ImportQuery,
        accepts=Media("*/*", "An exported model, an uncompressed tar."),
        answers={201: ImportAnswer},
        problems=(403, 409, 422),
    ),
]
