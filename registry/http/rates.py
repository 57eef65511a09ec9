"""How often a principal may ask: so many requests a minute for each class of routes.

The classes are ``read`` (methods that change nothing), ``write`` (all others) and ``login`` (routes
that look at passwords, counted by address whoever asks). Who shows nothing, or what does not
hold, and everybody in open mode, is told apart by address.

A limit is a bucket that holds a minute's requests and fills up evenly (the generic cell rate
algorithm: one number for each principal and class). Each worker keeps its own buckets, so a server
of several workers lets through up to that many times the limit: it protects against a runaway
client, and counts nothing that anybody pays for. A refused request costs nothing of the limit.

Answers say where their principal stands by ``RateLimit`` and ``RateLimit-Policy`` as the IETF draft
``draft-ietf-httpapi-ratelimit-headers`` has them; a refusal is 429 with ``Retry-After``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

RateClass: TypeAlias = Literal["read", "write", "login"]

WINDOW_SECONDS: Final = 60.0
MOST_BUCKETS: Final = 20_000
"""So many principals and addresses are told apart; then the full buckets are forgotten."""


class Standing(msgspec.Struct, frozen=True):
    """Where somebody stands after a request."""

    rate: RateClass
    limit: int
    remaining: int
    reset_seconds: int
    """After so long the bucket is full again."""
    retry_seconds: int
    """0 for a request that is let through, else after how long one would be."""

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.rate}";q={self.limit};w={WINDOW_SECONDS:.0f}',
            "RateLimit": f'"{self.rate}";r={self.remaining};t={self.reset_seconds}',
        }


class Rates:
    """The buckets of one worker. `limits` are requests a minute; a class without one, or with 0,
    is not limited."""

    def __init__(
        self, limits: Mapping[RateClass, int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits: dict[RateClass, int] = {
            rate: limit for rate, limit in limits.items() if limit > 0
        }
        self._now = now
        # When the bucket of a principal and class will be full: empty is a minute from now.
        self._full_at: dict[tuple[str, RateClass], float] = {}

    def counts(self, rate: RateClass) -> bool:
        """Whether requests of this class are counted at all."""
        return rate in self._limits

    def take(self, who: str, rate: RateClass) -> Standing:
        """Count a request of a class that is limited."""
        limit, now = self._limits[rate], self._now()
        each = WINDOW_SECONDS / limit
        full_at = max(self._full_at.get((who, rate), now), now)
        wait = full_at + each - now - WINDOW_SECONDS
        # A rounding error must not refuse the last request of a bucket.
        if wait > each * 1e-6:
            return Standing(rate, limit, 0, math.ceil(full_at - now), max(1, math.ceil(wait)))
        full_at += each
        self._keep((who, rate), full_at, now)
        remaining = math.floor((WINDOW_SECONDS - (full_at - now)) / each + 1e-6)
        return Standing(rate, limit, remaining, math.ceil(full_at - now), 0)

    def _keep(self, key: tuple[str, RateClass], full_at: float, now: float) -> None:
        if len(self._full_at) >= MOST_BUCKETS and key not in self._full_at:
            self._full_at = {one: at for one, at in self._full_at.items() if at > now}
            if len(self._full_at) >= MOST_BUCKETS:
                self._full_at.clear()  # better let some through than keep everybody in memory
        self._full_at[key] = full_at
