"""Parts of paths: what is taken as it is needs no escaping, and comes out as it went in."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.http.targets import decoded, encoded

TEXTS = st.text() | st.text(st.sampled_from("aZ09_.~@+:/-% #?&=\u00fc"))


@pytest.mark.parametrize("keep", ["", "/"])
@given(text=TEXTS)
def test_a_text_that_is_left_as_it_is_needed_no_escaping(keep: str, text: str) -> None:
    if text.isascii():
        assert encoded(text, keep=keep) == quote(text, safe=keep + "~@+:")


@given(text=TEXTS)
def test_what_was_escaped_is_read_again(text: str) -> None:
    if "\ud800" <= max(text, default="") <= "\udfff":
        return  # no text of a request
    raw = encoded(text)
    assert decoded(raw, field="path") == unquote(raw) == text
