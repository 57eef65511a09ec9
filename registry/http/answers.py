"""JSON answers: encoded straight from structs, never cached unless the caller says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import hdrs, web

_encode = msgspec.json.Encoder().encode


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`value` as JSON; anything msgspec can encode."""
    answer = web.Response(body=_encode(value), status=status, headers=headers)
    answer.headers[hdrs.CONTENT_TYPE] = "application/json"
    answer.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    return answer
