"""Signed URLs: a download or an upload handed to somebody who has no token."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import hdrs, web

from registry.api.blobs import parse_digest
from registry.api.errors import ADAPTER
from registry.auth.policy import allows
from registry.auth.signed_urls import PARAMETER, PURPOSES, Claim, sign
from registry.errors import Denied, Invalid
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.routing import Route
from registry.http.times import rfc3339
from registry.keys import ADDRESSES, PRINCIPAL, SEALS, STORE
from store.clock import SECOND
from store.digest import InvalidDigest

MOST_SECONDS: Final = 7 * 86400
PLACES: Final = ("/blobs/", "/models/")

_Target = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=4096,
        description="Path and query, as they will be asked for: of a blob or a file.",
        examples=["/models/nlp~bert/1.4.0/model.safetensors"],
    ),
]


class SigningBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be asked for, until when, and for uploads what the bytes must be."""

    path: _Target
    method: Literal["GET", "PUT"] = "GET"
    expires_in: Annotated[
        int, msgspec.Meta(ge=1, le=MOST_SECONDS, description="Seconds from now.")
    ] = 3600
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    digest: Annotated[str, msgspec.Meta(min_length=1, max_length=80)] | None = None


class SigningAnswer(msgspec.Struct, frozen=True):
    """A URL that needs no token; GET also allows HEAD."""

    url: str
    method: str
    expires_at: str


async def post_signed_url(request: web.Request) -> web.Response:
    """Sign one request, to be made by whoever has the URL.

    It opens what the signer may open when it is used, and ends with the signer's rights. A PUT may
    be bound to a size and a digest: then `Content-Length` and `Repr-Digest` must say the same.
    Nothing is kept of it, so it cannot be taken back but by taking rights from its signer.
    """
    asked = await read_json(request, SigningBody)
    if not asked.path.startswith(PLACES) or not asked.path.isascii() or "#" in asked.path:
        raise Invalid(
            "path", f"must begin with one of {', '.join(PLACES)}, with everything else escaped"
        )
    if f"{PARAMETER}=" in asked.path:
        raise Invalid("path", "is signed already")
    if asked.method == "GET" and (asked.size is not None or asked.digest is not None):
        raise Invalid("method", "GET has no size or digest to be bound to")
    principal = request[PRINCIPAL]
    if asked.method == "PUT" and not allows(principal, "content.write"):
        raise Denied("content.write", asked.path)
    ends = request.app[STORE].clock() // SECOND + asked.expires_in
    root = await request.app[SEALS].root_key()
    claim = Claim(principal.id, ends, asked.size, _digest(asked.digest))
    signature = sign(root, PURPOSES[asked.method], asked.path, claim)
    base = request.app[ADDRESSES].base_url(request)
    joint = "&" if "?" in asked.path else "?"
    url = f"{base}{asked.path}{joint}{PARAMETER}={signature}"
    answer = SigningAnswer(url, asked.method, rfc3339(ends * SECOND))
    return json_answer(answer, headers={hdrs.CACHE_CONTROL: "no-store"})


def _digest(text: str | None) -> str | None:
    try:
        return None if text is None else str(parse_digest(text))
    except InvalidDigest as error:
        raise Invalid("digest", str(error), code="invalid_digest") from error


ROUTES: Final = [
    Route(
        method="POST",
        path="/api/v1/signed-urls",
        handler=post_signed_url,
        permission="content.read",
        adapter=ADAPTER,
        body="json",
        summary="Sign a download or an upload",
        tag="files",
        accepts=SigningBody,
        answers={200: SigningAnswer},
    )
]
