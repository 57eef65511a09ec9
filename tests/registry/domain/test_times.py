"""Times are written in one way whatever they are, so that their text sorts like them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.times import microseconds, moment, rfc3339

_FIRST = microseconds(datetime(1000, 1, 1, tzinfo=UTC))
_LAST = microseconds(datetime(9999, 12, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_763_626_500_123_456, "2025-11-20T08:15:00.123456Z"),
        (1_763_626_500_000_000, "2025-11-20T08:15:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_has_six_decimals_and_is_of_utc(time: int, text: str) -> None:
    assert rfc3339(time) == text


@settings(deadline=None)
@given(st.integers(_FIRST, _LAST), st.integers(_FIRST, _LAST))
def test_text_sorts_like_time_and_says_the_same(one: int, other: int) -> None:
    assert (rfc3339(one) < rfc3339(other)) == (one < other)
    assert microseconds(datetime.fromisoformat(rfc3339(one))) == one
    assert moment(one) == datetime.fromisoformat(rfc3339(one))
