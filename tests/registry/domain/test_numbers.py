"""Values of metrics: a column for what is finite, a word for what is not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.numbers import SPECIALS, Number, columns_of, number_of


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(SPECIALS))
def test_a_number_is_what_its_columns_say(number: Number) -> None:
    value, special = columns_of(number)

    assert (value is None) != (special is None)
    assert number_of(value, special) == number


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_kept_by_its_word_only(value: float) -> None:
    with pytest.raises(ValueError, match="travels as a word"):
        columns_of(value)


@pytest.mark.parametrize("special", [None, "nan", "Infinite"])
def test_columns_that_say_nothing_are_no_number(special: str | None) -> None:
    with pytest.raises(ValueError, match="neither"):
        number_of(None, special)
