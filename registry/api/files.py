"""Files of models, one line of curl each: put, get, list, check, publish, delete.

``/models/{model}/{version}/{path}`` is a file. The model is written with ``~`` (or an escaped
slash) for each slash in its name; the version is a label, a number, an alias, ``@`` and an alias, a
tree, a revision or an id; a ``PUT`` takes a label only. Archives are in `registry.api.archives`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.archives import cache_of, get_archive, put_archive
from registry.api.asking import (
    ARCHIVE,
    PutQuestion,
    expected_digest,
    file_target,
    label_of,
    model_of,
    refuse_partial,
    version_target,
    wants_publish,
)
from registry.api.counting import counted
from registry.api.errors import ADAPTER
from registry.api.wire import (
    FileAnswer,
    FileInVersion,
    ListingAnswer,
    PublishedAnswer,
    Urls,
    draft_answer,
    version_answer,
)
from registry.domain.media import media_type
from registry.domain.models import Draft, Version
from registry.domain.paths import differing_in_case, parse_path
from registry.domain.principals import Principal
from registry.domain.references import (
    parse_reference,
)
from registry.errors import Invalid, NotFound
from registry.http.answers import json_answer
from registry.http.blobs import Presentation, send_blob
from registry.http.conditional import (
    ETAG,
    condition_on_bytes,
    etag_of,
    expected_rows,
    repr_digest_of,
)
from registry.http.lists import Listed, prefers_plain, send_list
from registry.http.queries import read_query
from registry.http.receiving import arrived, body, expects_continue
from registry.http.routing import ANYTHING, Media, Route, Taken, Taker
from registry.http.targets import decoded
from registry.keys import CONFIG, DRAFT_BATCHES, PRINCIPAL, STORE
from registry.services.draft_batches import MOST_BYTES
from registry.services.drafts import Body, FilePut, Target, claim_file, put_file, remove_draft_file
from registry.services.files import (
    SUMS_NAME,
    FoundFile,
    all_files,
    checksums,
    checksums_size,
    find_file,
    find_only_file,
    list_files,
)
from registry.services.removal import delete_version
from registry.services.resolve import DraftFiles, Tree, resolve_version

MOST_LISTED: Final = 10_000
"""How many files one answer lists; more are asked for with ``after``."""

_MODELS: Final = "/models/"

_encode = msgspec.json.Encoder().encode


class FilesPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files to list, where the path ends with a slash."""

    after: Annotated[str, msgspec.Meta(description="List the files behind this path.")] = ""
    limit: Annotated[
        int, msgspec.Meta(ge=1, le=MOST_LISTED, description="How many files at most.")
    ] = MOST_LISTED


async def put_model_file(request: web.Request) -> web.StreamResponse:
    """Put one file under a label; with ``?publish=true`` the draft becomes a version with it."""
    model, version, path = file_target(request)
    refuse_partial(request)
    asked = read_query(request, PutQuestion)
    target = Target(model, label_of(version), parse_path(path), condition_on_bytes(request))
    publish = wants_publish(request, asked)
    expected, size = expected_digest(request, asked), request.content_length
    store, principal = request.app[STORE], request[PRINCIPAL]
    if expected is not None and expects_continue(request):
        put = await claim_file(store, principal, target, expected, size_bytes=size, publish=publish)
        if put is not None:
            return _file_stored(request, put)
    limit = request.app[CONFIG].limits.blob_bytes or None
    most = MOST_BYTES if limit is None else min(limit, MOST_BYTES)
    if publish is None and target.condition is None and size is not None and size <= most:
        whole = arrived(request)
        if whole is not None:
            batches = request.app[DRAFT_BATCHES]
            return _file_stored(request, await batches.put(principal, target, whole, expected))
    content = Body(body(request), expected, size, limit)
    put = await put_file(store, principal, target, content, publish=publish)
    return _file_stored(request, put)


def _begin(
    app: web.Application, address: str, principal: Principal, content: bytes
) -> asyncio.Future[FilePut] | None:
    """Put a small file into a draft, as `put_model_file` would."""
    limit = app[CONFIG].limits.blob_bytes or MOST_BYTES
    if not address.startswith(_MODELS) or len(content) > min(limit, MOST_BYTES):
        return None
    _, _, model, version, raw = address.split("/", 4)
    if not raw.isascii() or "#" in raw:
        return None
    try:
        path = parse_path(decoded(raw, field="path"))
    except Invalid:
        return None
    # What they are was asked by whoever was let in there.
    target = Target(model_of(model), label_of(decoded(version, field="version")), path)
    return app[DRAFT_BATCHES].begin(principal, target, content)


def _taken(put: FilePut, base: str) -> Taken:
    """What `_file_stored` answers."""
    answer = _stored_answer(put, Urls(base))
    digest = put.file.digest
    fields = (
        f"Location: {answer.url}\r\nETag: {etag_of(digest)}\r\n"
        f"Repr-Digest: {repr_digest_of(digest)}\r\n"
    )
    return Taken(201 if put.outcome == "created" else 200, fields, _encode(answer))


def _file_stored(request: web.Request, put: FilePut) -> web.Response:
    answer = _stored_answer(put, Urls(request))
    return json_answer(
        answer,
        status=201 if put.outcome == "created" else 200,
        headers={
            hdrs.LOCATION: answer.url,
            ETAG: etag_of(put.file.digest),
            "Repr-Digest": repr_digest_of(put.file.digest),
        },
    )


def _stored_answer(put: FilePut, urls: Urls) -> FileAnswer:
    url = urls.file(put.model, put.label, put.file.path)
    return FileAnswer(
        model=put.model.name,
        label=put.label,
        path=put.file.path,
        digest=str(put.file.digest),
        size=put.file.size_bytes,
        url=url,
        state="draft" if put.version is None else "published",
        version=None if put.version is None else version_answer(urls, put.model, put.version),
        publish_url=urls.publish(put.model, put.label) if put.version is None else None,
    )


async def get_model_file(request: web.Request) -> web.StreamResponse:
    """Send a file, or the list of files where the path ends with a slash."""
    model, version, path = file_target(request)
    asked = read_query(request, FilesPage)
    reference = parse_reference(version)
    store, principal = request.app[STORE], request[PRINCIPAL]
    if not path:
        place = await resolve_version(store, principal, model, reference)
        return await _list(request, place, asked)
    try:
        found = await find_file(store, principal, model, reference, parse_path(path))
    except NotFound as error:
        if path != SUMS_NAME or error.code != "file_not_found":
            raise
        place = await resolve_version(store, principal, model, reference)
        return await _send_sums(request, place)
    return await _send_file(request, found)


async def _send_file(request: web.Request, found: FoundFile) -> web.StreamResponse:
    path = found.file.path
    presentation = Presentation(
        filename=path.rpartition("/")[2],
        media_type=media_type(path),
        cache=cache_of(found.place),
    )
    reading, etag = request.app[STORE].reading, etag_of(found.file.digest)
    return await counted(
        request,
        found.place,
        path,
        etag,
        lambda: send_blob(request, found.row, reading, presentation),
    )


async def _list(
    request: web.Request, place: Tree | DraftFiles, asked: FilesPage
) -> web.StreamResponse:
    store = request.app[STORE]
    if prefers_plain(request):
        lines = (
            "".join(f"{file.path}\n" for file in page).encode()
            async for page in all_files(store, place)
        )
        return await send_list(request, Listed(lines, cache=_list_cache(place)))
    listing = await list_files(store, place, after=asked.after, limit=asked.limit)
    urls = Urls(request)
    version, draft, tree = None, None, None
    if isinstance(place, DraftFiles):
        draft = draft_answer(urls, place.model, place.draft)
    else:
        tree = str(place.digest)
        if place.version is not None:
            version = version_answer(urls, place.model, place.version)
    answer = ListingAnswer(
        model=place.model.name,
        version=version,
        draft=draft,
        tree=tree,
        count=listing.files,
        size=listing.size_bytes,
        files=[FileInVersion(f.path, str(f.digest), f.size_bytes) for f in listing.items],
        differing_in_case=[
            list(group) for group in differing_in_case(f.path for f in listing.items)
        ],
        next=listing.next,
    )
    return json_answer(answer, headers={hdrs.CACHE_CONTROL: _list_cache(place)})


def _list_cache(place: Tree | DraftFiles) -> str:
    return "no-store" if isinstance(place, DraftFiles) else "private, no-cache"


async def _send_sums(request: web.Request, place: Tree | DraftFiles) -> web.StreamResponse:
    store = request.app[STORE]
    lines = checksums(store, place)
    if isinstance(place, DraftFiles):
        return await send_list(request, Listed(lines, cache="no-store"))
    size = await checksums_size(store, place)
    listed = Listed(
        lines, cache="private, no-cache", size_bytes=size, etag=f'"{place.digest}.sums"'
    )
    return await send_list(request, listed)


async def get_model_version(request: web.Request) -> web.StreamResponse:
    """Send the archive, or the only file of a version, or lead to the archive of all."""
    model, version = version_target(request)
    if version.endswith(ARCHIVE):
        return await get_archive(request)
    place = await resolve_version(
        request.app[STORE], request[PRINCIPAL], model, parse_reference(version)
    )
    found = await find_only_file(request.app[STORE], place)
    if found is not None:
        return await _send_file(request, found)
    return web.Response(
        status=302,
        headers={
            hdrs.LOCATION: request.rel_url.raw_path + ARCHIVE,
            hdrs.CACHE_CONTROL: _list_cache(place),
        },
    )


async def put_model_version(request: web.Request) -> web.StreamResponse:
    """Take an archive in; anything else needs a path to be called by."""
    _, version = version_target(request)
    if version.endswith(ARCHIVE):
        return await put_archive(request)
    raise Invalid(
        "path",
        "name the file, as in /models/{model}/{version}/{path}, or send a directory to "
        "/models/{model}/{version}.tar",
        code="path_invalid",
    )


async def delete_model_file(request: web.Request) -> web.StreamResponse:
    """Take a file out of a draft."""
    model, version, path = file_target(request)
    target = Target(model, label_of(version), parse_path(path), condition_on_bytes(request))
    await remove_draft_file(request.app[STORE], request[PRINCIPAL], target)
    return web.Response(status=204)


async def delete_model_version(request: web.Request) -> web.StreamResponse:
    """Delete a version, restorable until it is purged, or discard a draft."""
    model, version = version_target(request)
    gone = await delete_version(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        parse_reference(version),
        expected=expected_rows(request),
    )
    assert isinstance(gone, Version | Draft)
    return web.Response(status=204)


_FILE: Final = "/models/{model:[^/]+}/{version:[^/]+}/{path:(?s:.*)}"
_VERSION: Final = "/models/{model:[^/]+}/{version:[^/]+}"

_READING: Final = {
    "Range": "",
    "If-Range": "",
    "If-Match": "Answer only if it still has this `ETag`; else 412.",
    "If-None-Match": "",
}
_ONLY_NEW: Final = {"If-None-Match": "`*`: only if no file is there; else 412."}
_PUTTING: Final = {"Repr-Digest": "", "Content-Digest": "", "Expect": ""}

ROUTES: Final = [
    Route(
        method="PUT",
        path=_FILE,
        handler=put_model_file,
        permission="content.write",
        adapter=ADAPTER,
        body="bytes",
        summary="Put a file into a draft",
        tag="files",
        query=PutQuestion,
        accepts=Media("*/*", "The file, as it shall be stored."),
        answers={200: FileAnswer, 201: FileAnswer},
        problems=(409, 422),
        takes_if_match=True,
        headers={**_PUTTING, **_ONLY_NEW},
        takes=Taker(_begin, _taken),
    ),
    *(
        Route(
            method=method,
            path=_FILE,
            handler=get_model_file,
            permission="content.read",
            adapter=ADAPTER,
            summary="Get a file, or the list of files",
            tag="files",
            query=FilesPage,
            answers={
                200: Media("*/*", "The file, or the list of all files.", also=ListingAnswer),
                206: ANYTHING,
                304: None,
            },
            problems=(404, 412, 416),
            headers={**_READING, "Accept": "`text/plain` for a list of lines."},
        )
        for method in ("GET", "HEAD")
    ),
    *(
        Route(
            method=method,
            path=_VERSION,
            handler=get_model_version,
            permission="content.read",
            adapter=ADAPTER,
            summary="Get the only file of a version, or all as an archive",
            tag="files",
            answers={
                200: Media("*/*", "The only file, or the archive."),
                206: ANYTHING,
                302: Media("", "There are several files.", {"Location": "The archive of all."}),
                304: None,
            },
            problems=(404, 412, 416),
            headers=_READING,
        )
        for method in ("GET", "HEAD")
    ),
    Route(
        method="PUT",
        path=_VERSION,
        handler=put_model_version,
        permission="content.write",
        adapter=ADAPTER,
        body="bytes",
        summary="Publish a directory as a tar archive",
        tag="files",
        accepts=Media("*/*", "An uncompressed tar (ustar, pax or GNU)."),
        answers={200: PublishedAnswer, 201: PublishedAnswer},
        problems=(409, 422),
    ),
    Route(
        method="DELETE",
        path=_FILE,
        handler=delete_model_file,
        permission="content.write",
        adapter=ADAPTER,
        summary="Take a file out of a draft",
        tag="files",
        answers={204: None},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_VERSION,
        handler=delete_model_version,
        permission="model.write",
        adapter=ADAPTER,
        summary="Delete a version or discard a draft",
        tag="files",
        answers={204: None},
        problems=(409,),
        takes_if_match=True,
    ),
]
