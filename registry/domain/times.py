"""Times as everybody outside wants them: RFC 3339 in UTC with ``Z``, of microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WITHOUT_ZONE: Final = datetime(1970, 1, 1)


def microseconds(moment: datetime) -> int:
    """A moment with its zone as we keep times."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """A time of ours as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def rfc3339(microseconds: int) -> str:
    """``2026-11-20T08:15:00.123456Z``, always with six decimals, so that text sorts like time."""
    at = _EPOCH_WITHOUT_ZONE + timedelta(microseconds=microseconds)
    return at.isoformat(timespec="microseconds") + "Z"
