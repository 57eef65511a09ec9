"""Paths are computed from parsed values alone, and read back only where they fit."""

from __future__ import annotations

import pytest

from store import layout
from store.digest import Digest

DIGEST = Digest("0123" + "f" * 60)


def test_blobs_are_sharded_by_their_first_digits() -> None:
    assert f"blobs/sha256/01/23/{DIGEST.hex}" == layout.blob_key(DIGEST)
    assert f"segments/sha256/01/23/{DIGEST.hex}" == layout.segments_key(DIGEST)


def test_names_read_back() -> None:
    assert layout.parse_blob_name("01/23", DIGEST.hex) == DIGEST
    assert layout.parse_aside_name(
        layout.quarantine_key(DIGEST, 42).removeprefix("quarantine/")
    ) == (DIGEST, 42)


@pytest.mark.parametrize(
    ("shard", "name"),
    [
        ("01/24", DIGEST.hex),
        ("01/23", DIGEST.hex.upper()),
        ("01/23", DIGEST.hex + ".tmp"),
        ("01/23", "README"),
    ],
)
def test_other_names_are_no_blobs(shard: str, name: str) -> None:
    assert layout.parse_blob_name(shard, name) is None


@pytest.mark.parametrize("name", [DIGEST.hex, f"{DIGEST.hex}.", f"{DIGEST.hex}.x", "a.1", ".1"])
def test_other_names_are_not_in_quarantine(name: str) -> None:
    assert layout.parse_aside_name(name) is None


@pytest.mark.parametrize(
    "session", ["", "..", "a/b/c/d/e/f", "UPL_12345678", "upl_1234\n", "short"]
)
def test_session_ids_cannot_leave_the_directory(session: str) -> None:
    assert not layout.is_session(session)
    with pytest.raises(ValueError, match="session id"):
        layout.upload_key(session)
