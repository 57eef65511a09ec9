"""Many blobs in one request: ``/api/v1/blobs.tar``."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from registry.api.asking import Nothing, refuse_partial, tar_limits
from registry.api.errors import ADAPTER
from registry.http.answers import json_answer
from registry.http.queries import read_query
from registry.http.receiving import body
from registry.http.routing import Media, Route
from registry.keys import PRINCIPAL, STORE
from registry.services.blob_tars import receive_blobs


class StoredBlobsAnswer(msgspec.Struct, frozen=True):
    """How many blobs came and are stored and pinned, and how many were not the caller's before."""

    blobs: int
    size: int
    new: int


async def put_blobs(request: web.Request) -> web.StreamResponse:
    """Store and pin every file of an archive, which is called by its digest.

    Each is verified. Where something is wrong on the way, all that was right before it is stored.
    """
    refuse_partial(request)
    read_query(request, Nothing)
    arrived = await receive_blobs(
        request.app[STORE], request[PRINCIPAL], body(request), tar_limits(request)
    )
    return json_answer(StoredBlobsAnswer(arrived.blobs, arrived.size_bytes, arrived.new))


ROUTES: Final = [
    Route(
        method="PUT",
        path="/api/v1/blobs.tar",
        handler=put_blobs,
        permission="content.write",
        adapter=ADAPTER,
        body="bytes",
        summary="Store many blobs that come as one archive",
        tag="blobs",
        accepts=Media(
            "*/*",
            "An uncompressed tar (ustar, pax or GNU) of files that are called by their digests.",
        ),
        answers={200: StoredBlobsAnswer},
        problems=(415, 422),
    ),
]
