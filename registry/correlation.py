"""The request that a line of the log belongs to, wherever in the code it is written.

The id lies in a context variable, so that code below the handlers need not know of requests. Work
that a request started and that goes on after it keeps its id; what works for many at once, such as
the writer of the index, has that of whoever woke it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final

CURRENT_REQUEST: Final[ContextVar[str]] = ContextVar("current_request", default="")


def add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: name the request, unless whoever writes the line did."""
    found = CURRENT_REQUEST.get()
    if found and "request_id" not in event:
        event["request_id"] = found
    return event
