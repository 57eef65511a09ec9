"""Decode a JSON body into a struct, within a limit, naming every field that is wrong.

The body is read piece by piece and given up as soon as it passes the limit, whatever its
Content-Length says. That a JSON route got a JSON media type was checked before the handler ran.

What is accepted is RFC 8259 and no more: UTF-8 without a byte order mark, no NaN, no lone
surrogates, at most `MOST_DEPTH` levels; and no U+0000 in any text, where databases end it or refuse
it. Of a name that comes twice in one object the last counts, as in JavaScript; both values are
validated.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgspec
from aiohttp import web

from registry.errors import BodyMalformed, BodyTooLarge
from registry.http.receiving import arrived, body
from registry.http.validation import UNEXPLAINED, refusal
from registry.keys import BODY, CONFIG

T = TypeVar("T")

MOST_DEPTH: Final = 64
"""Levels of arrays and objects in a body; decoders, encoders and readers recurse for each."""

MOST_EXPLAINED_BYTES: Final = 4 << 20
"""Of a larger body that is refused only the first bad field is told."""

_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}
_ANY_DECODER: Final = msgspec.json.Decoder(float_hook=float)  # else 1e400 ends the decoding

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


async def read_json(request: web.Request, kind: type[T], *, is_optional: bool = False) -> T:
    """The body as `kind`, within ``limits.json_bytes``; an optional one that is absent is ``{}``.

    Raises `BodyTooLarge`, `BodyMalformed`, or `Invalid` with every bad field.
    """
    content = await read_all(request, limit_bytes=request.app[CONFIG].limits.json_bytes)
    return parse_json(b"{}" if is_optional and not content else content, kind)


async def read_all(request: web.Request, *, limit_bytes: int) -> bytes:
    """The whole body of at most `limit_bytes`; for bodies that are small by nature."""
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    content = arrived(request)
    if content is None:
        content = await _read_rest(request, limit_bytes)
    request[BODY] = content
    return content


async def _read_rest(request: web.Request, limit_bytes: int) -> bytes:
    collected = bytearray()
    async for piece in body(request):
        collected += piece
        if len(collected) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
    return bytes(collected)


def parse_json(content: bytes, kind: type[T]) -> T:
    """Decode and validate; raises `BodyMalformed`, or `Invalid` with every bad field."""
    _check_text(content)
    try:
        return cast(T, _decoder(kind).decode(content))
    except msgspec.ValidationError as error:
        raise refusal(_untyped(content), kind, error, whole="body") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyMalformed(f"not well-formed JSON: {error}") from error


def _check_text(content: bytes) -> None:
    """What the decoder would pass over in fields that nobody reads, or die of."""
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise BodyMalformed(f"not UTF-8: {error}") from error
    if b"\\u0000" in content and b"\\u0000" in content.replace(b"\\\\", b""):
        raise BodyMalformed("holds U+0000, which no text may")
    if content.count(b"[") + content.count(b"{") > MOST_DEPTH and _is_too_deep(content):
        raise BodyMalformed(f"nested more than {MOST_DEPTH} levels deep")


def _is_too_deep(content: bytes) -> bool:
    """Take the innermost pairs of brackets away until none is left, counting how often.

    Without a loop over the characters, because this runs on the event loop. What is not well formed
    keeps brackets that never pair; it is the decoder's to refuse.
    """
    unescaped = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(_AS_SQUARE, _NOT_BRACKETS)
    for _ in range(MOST_DEPTH):
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            return False
        brackets = rest
    return b"[]" in brackets


def _untyped(content: bytes) -> Any:
    """The body as plain values, so that its fields can be looked at one by one."""
    if len(content) > MOST_EXPLAINED_BYTES:
        return UNEXPLAINED
    try:
        return _ANY_DECODER.decode(content)
    except msgspec.ValidationError:  # a number that nothing can hold; msgspec has named it
        return UNEXPLAINED
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyMalformed(f"not well-formed JSON: {error}") from error


def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return decoder
