"""Calls that the server makes of its own accord: what is asked, what came back, why nothing did.

Services are given a `Send` and do not know how a call travels; the one client that does is in
`registry.outbound`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from registry.domain.addresses import Target

Failure: TypeAlias = Literal["refused", "unresolved", "unreachable", "untrusted", "late", "broken"]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request; `total_seconds` is for all of it, `most_bytes` is what is kept of the answer."""

    method: str
    target: Target
    headers: Mapping[str, str] = {}
    body: bytes = b""
    total_seconds: float
    most_bytes: int

    def __repr__(self) -> str:
        return f"Call({self.method} {self.target.origin}/…)"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, whatever its status; `body` is its beginning if it `is_truncated`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_truncated: bool


class CallFailed(Exception):
    """There was no answer. The sentence says why, in our words, without the URL.

    ``refused``: the address may not be called. ``unresolved``: the name has none. ``unreachable``:
    nobody listens there. ``untrusted``: TLS failed. ``late``: the time was over. ``broken``: what
    came was no HTTP, or ended early.
    """

    def __init__(self, failure: Failure, sentence: str) -> None:
        self.failure = failure
        super().__init__(sentence)


Send: TypeAlias = Callable[[Call], Awaitable[Reply]]
"""Make a call; raises `CallFailed`. It follows no redirects and sends no cookies."""
