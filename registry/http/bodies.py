"""Decode a JSON body into a struct, within a limit, naming every field that is wrong.

The body is read piece by piece and given up as soon as it passes the limit, whatever its
Content-Length says. That a JSON route got a JSON media type was checked before the handler ran.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast

import msgspec
from aiohttp import web

from registry.errors import BodyMalformed, BodyTooLarge, Invalid
from registry.http.receiving import body
from registry.keys import CONFIG

T = TypeVar("T")

_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_WHERE = re.compile(r"(.*?)(?: - at `\$(.*)`)?\Z", re.DOTALL)


async def read_json(request: web.Request, kind: type[T], *, is_optional: bool = False) -> T:
    """The body as `kind`, within ``limits.json_bytes``; an optional one that is absent is ``{}``.

    Raises `BodyTooLarge`, `BodyMalformed`, or `Invalid` with every bad field.
    """
    content = await read_all(request, limit_bytes=request.app[CONFIG].limits.json_bytes)
    return parse_json(b"{}" if is_optional and not content else content, kind)


async def decode_json(request: web.Request, kind: type[T], *, limit_bytes: int) -> T:
    """Read and validate the body; raises `BodyTooLarge`, `BodyMalformed` or `Invalid`."""
    return parse_json(await read_all(request, limit_bytes=limit_bytes), kind)


async def read_all(request: web.Request, *, limit_bytes: int) -> bytes:
    """The whole body of at most `limit_bytes`; for bodies that are small by nature."""
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    collected = bytearray()
    async for piece in body(request):
        collected += piece
        if len(collected) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(collected)


def parse_json(content: bytes, kind: type[T]) -> T:
    """Decode and validate; the path of the first bad field is written as ``files[3].digest``."""
    try:
        return cast(T, _decoder(kind).decode(content))
    except msgspec.ValidationError as error:
        field, reason = _field_and_reason(str(error))
        raise Invalid(field, reason) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyMalformed(f"not well-formed JSON: {error}") from error


def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return decoder


def _field_and_reason(sentence: str) -> tuple[str, str]:
    match = _WHERE.match(sentence)
    if match is None or match[2] is None:
        return "body", sentence
    return match[2].lstrip(".") or "body", match[1]
