"""The search for secrets in the output of all tests finds what it looks for."""

from __future__ import annotations

import pytest

from registry.auth.local_secret import authorization
from registry.auth.tokens import new_token
from tests.support.secrecy import leaks

SECRETS = [
    f"Authorization: Bearer {new_token()}",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c3JfeCJ9.c2lnbmF0dXJlLWhlcmU",
    authorization("0" * 64),
    "$argon2id$v=19$m=8",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "GET /models/x?signature=WyJ1c3JfeCIsMV0.c2lnbmF0dXJlLWhlcmU",
]


@pytest.mark.parametrize("text", SECRETS, ids=map(str, range(len(SECRETS))))
def test_a_secret_is_found_and_not_told_again(text: str) -> None:
    [found] = leaks(f"somebody wrote {text} here")

    assert text not in found


@pytest.mark.parametrize(
    "text", ["", "dgt_ab12cd34", "tok_01kagz6y5n8s3v0c4t7x9b2d1f", "admin-token", "signature=…"]
)
def test_what_is_no_secret_may_be_told(text: str) -> None:
    assert leaks(text) == []
