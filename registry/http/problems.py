"""The native error body: an RFC 9457 problem with a stable code and the request's id.

``type`` is ``urn:digestry:problem:<code>``; ``code`` repeats the word alone. Extra members carry
the facts of one kind of problem (the computed digest, the true offset), so that no client has to
read prose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

MEDIA_TYPE: Final = "application/problem+json"

_encode = msgspec.json.Encoder().encode


class FieldProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One bad field of the request, and what would be accepted where that can be said."""

    field: str
    reason: str
    accepted: str | None = None


def problem(
    status: int,
    code: str,
    title: str,
    detail: str = "",
    *,
    request_id: str = "",
    errors: Sequence[FieldProblem | tuple[str, ...]] = (),
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Build the answer; members that RFC 9457 or we define cannot be overridden by `members`."""
    body: dict[str, Any] = {
        "type": f"urn:digestry:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "code": code,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = [
            entry if isinstance(entry, FieldProblem) else FieldProblem(*entry) for entry in errors
        ]
    for name, value in (members or {}).items():
        body.setdefault(name, value)
    answer = web.Response(status=status, body=_encode(body), headers=headers)
    answer.headers["Content-Type"] = MEDIA_TYPE
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
