"""A digest that was parsed is a digest; everything else is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.digest import EMPTY, Digest, InvalidDigest

HEX = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256:",
        f"sha256:{HEX}0",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        f" sha256:{HEX}",
        f"sha256:{HEX}\n",
        f"sha256:{'g' * 64}",
        f"sha256:{chr(0x660) * 64}",  # digits of another script
        "sha256:../../../../etc/passwd",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@given(st.binary(max_size=1000))
def test_parsing_and_formatting_are_inverse(content: bytes) -> None:
    digest = Digest.of(content)

    assert hashlib.sha256(content).hexdigest() == digest.hex
    assert digest == Digest.parse(str(digest)) == Digest.from_raw(digest.raw)


def test_digests_sort_like_their_bytes() -> None:
    digests = [Digest.of(b"%d" % n) for n in range(50)]

    assert sorted(digests, key=lambda digest: digest.raw) == sorted(digests)


def test_the_digest_of_nothing() -> None:
    assert EMPTY.hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_raw_digests_have_32_bytes() -> None:
    with pytest.raises(InvalidDigest):
        Digest.from_raw(b"short")
