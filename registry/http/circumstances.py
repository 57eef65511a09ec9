"""What an answer may depend on besides the index and the address asked: who asks, where and how.

For answers that are made without a handler (`registry.http.repeating`, `registry.http.taking`).
Only plain requests have such circumstances: those without any header that means something else.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple, TypeAlias

PLAIN: Final = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"connection",
        b"host",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
    )
)
"""Headers that no such answer depends on, but for who asks and what they call the server."""

_TOKEN_SHOWN: Final = b"Bearer dgt_"
_LOCAL_SHOWN: Final = b"digestry-local"

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


class Circumstances(NamedTuple):
    """Who asks, where and how."""

    credential: bytes
    """The hash of the token shown; empty where nothing is, or all are the same."""
    host: bytes
    program: bytes
    """Downloads are counted by it."""
    is_secure: bool


def circumstances_of(
    headers: Headers, *, plain: frozenset[bytes] = PLAIN, is_secure: bool, is_open: bool
) -> tuple[Circumstances | None, str | None]:
    """What these headers mean, if they are plain, and the id that the client gave."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered not in plain or lowered in found:
            return None, None
        found[lowered] = value
    shown, host = found.get(b"authorization"), found.get(b"host")
    if not host:
        return None, None
    credential = b""
    if shown is not None:
        if shown.lower().startswith(_LOCAL_SHOWN):
            return None, None
        if not is_open:
            if not shown.startswith(_TOKEN_SHOWN):
                return None, None
            credential = hashlib.sha256(shown).digest()
    given = found.get(b"x-request-id")
    id = None if given is None else given.decode("utf-8", "surrogateescape")
    return Circumstances(credential, host, found.get(b"user-agent", b""), is_secure), id
