"""Times as the wire wants them, see `registry.domain.times`."""

from __future__ import annotations

from registry.domain.times import microseconds, rfc3339

__all__ = ["microseconds", "rfc3339"]
