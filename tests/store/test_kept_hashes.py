"""A running hash is continued only by who hashed every byte of the session, and had them last."""

from __future__ import annotations

import msgspec
import pytest

from store import kept_hashes
from store.hashing import RunningHash
from store.index.uploads import ASKED, RECEIVING, UploadRow
from store.kept_hashes import KeptHashes

ROW = UploadRow(
    id="upl_a",
    owner="usr_a",
    state=RECEIVING,
    length=None,
    offset=3,
    epoch=2,
    strict=False,
    boot="",
    expected=None,
    digest=None,
    metadata="",
    created_at=0,
    expires_at=0,
)


def at(epoch: int) -> UploadRow:
    return msgspec.structs.replace(ROW, epoch=epoch)


def kept(*names: str) -> KeptHashes:
    """What holds a hash of three bytes for each session, all at epoch 2."""
    hashes = KeptHashes()
    for name in names:
        running = RunningHash()
        running.update([b"abc"])
        hashes.keep(msgspec.structs.replace(ROW, id=name), running)
    return hashes


@pytest.mark.parametrize(
    ("epoch", "offset", "is_continued"),
    [
        (4, 3, True),  # the next taking
        (4 + 3 * ASKED, 3, True),  # and somebody has asked meanwhile, three times
        (6, 3, False),  # somebody else has taken the session, and may have cut it back
        (6 + ASKED, 3, False),
        (4, 2, False),  # not all that was hashed counts
        (4, 4, False),
    ],
)
def test_a_hash_is_continued_by_the_next_taking_alone(
    epoch: int, offset: int, is_continued: bool
) -> None:
    assert (kept("upl_a").take(at(epoch), offset) is not None) is is_continued


def test_what_was_taken_or_forgotten_is_not_kept() -> None:
    hashes = kept("upl_a")
    assert hashes.take(at(4), 3) is not None
    assert hashes.take(at(4), 3) is None

    hashes = kept("upl_a")
    hashes.forget("upl_a")
    hashes.forget("upl_b")

    assert hashes.take(at(4), 3) is None


def test_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_hashes, "HASHES_KEPT", 2)
    hashes = kept("upl_a", "upl_b", "upl_c")

    found = [hashes.take(msgspec.structs.replace(at(4), id=f"upl_{name}"), 3) for name in "abc"]

    assert [one is not None for one in found] == [False, True, True]
