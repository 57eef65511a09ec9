"""Compute the seals of the audit log anew and say what is not as it was sealed.

What this proves and what it cannot is said in `registry.services.seals`. Seals and entries are read
in pages and hashed in the reader's thread, so memory and the event loop do not feel their number.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec

from registry.catalog.audit import count_between, entries_between
from registry.catalog.seals import (
    NO_SEAL,
    Checkpoint,
    Seal,
    SealKey,
    canonical,
    canonical_checkpoint,
    canonical_entry,
    checkpoint,
    find_seal,
    last_seal,
    seals_after,
)
from store.index.transactions import Index, Tx

PAGE_ENTRIES: Final = 200
"""Entries in memory at once; each is up to 130 KiB."""

PAGE_SEALS: Final = 500
MOST_FINDINGS: Final = 100

_EVERYTHING: Final = 2**62

FindingKind: TypeAlias = Literal[
    "entries_changed",
    "entries_missing",
    "entries_added",
    "seal_missing",
    "chain_broken",
    "head_missing",
    "head_differs",
    "key_missing",
    "checkpoint_changed",
]

CHECKPOINT_LABEL: Final = "audit checkpoint"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was sealed: at which seal, and which entries it covers."""

    kind: FindingKind
    seal: int
    first: int
    last: int
    detail: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What verifying found; `findings` are the first of `findings_total`."""

    is_intact: bool
    head: Seal | None
    seals: int
    entries: int
    unsealed: int
    removed_through: int
    """The last entry that retention removed; 0 if none was."""
    findings: list[Finding]
    findings_total: int


class Check:
    """One run over the seals; memory does not grow with their number."""

    def __init__(
        self, index: Index, key: bytes, root_id: str, keys: list[SealKey], checkpoint_key: bytes
    ) -> None:
        self._checkpoint_key = checkpoint_key
        self._index = index
        self._key = key
        self._known_from = max((known.since for known in keys if known.id == root_id), default=1)
        self._is_known = not keys or keys[-1].id == root_id
        self._root_id = root_id
        self._checkpoint: Checkpoint | None = None
        self._before: Seal | None = None
        self._number = 0
        self._seals = 0
        self._entries = 0
        self._findings: list[Finding] = []
        self._total = 0

    async def require(self, number: int, value: bytes) -> None:
        """A head that was kept elsewhere is still in the chain."""
        found = await self._index.read(partial(find_seal, number=number))
        if found is None:
            last = await self._index.read(last_seal)
            newest = "there is none" if last is None else f"the newest is {last.number}"
            self._find("head_missing", number, 0, 0, f"no seal {number}; {newest}")
        elif found.seal != value:
            self._find(
                "head_differs", number, found.first, found.last, "the log was sealed differently"
            )

    async def begin_after(self, number: int) -> None:
        """Leave out what was verified before; everything, if that head is gone."""
        self._before = await self._index.read(partial(find_seal, number=number))
        self._number = 0 if self._before is None else number

    async def run(self) -> Verdict:
        """Look at every seal and every entry."""
        await self._read_checkpoint()
        removed = 0 if self._checkpoint is None else self._checkpoint.last
        if self._before is None:
            below = await self._index.read(partial(count_between, after=-_EVERYTHING, last=removed))
            if below:
                self._find("entries_added", 0, 0, 0, f"{below} entries stand before the first")
        while page := await self._index.read(
            partial(seals_after, number=self._number, limit=PAGE_SEALS)
        ):
            for seal in page:
                await self._check(seal)
        if self._checkpoint is not None and self._number < self._checkpoint.number:
            self._find("seal_missing", self._checkpoint.number, 0, 0, "entries of it were removed")
        last = 0 if self._before is None else self._before.last
        return Verdict(
            is_intact=not self._total,
            head=self._before,
            seals=self._seals,
            entries=self._entries,
            unsealed=await self._index.read(partial(count_between, after=last, last=_EVERYTHING)),
            removed_through=removed,
            findings=self._findings,
            findings_total=self._total,
        )

    async def _read_checkpoint(self) -> None:
        """What retention removed; a checkpoint that does not hold excuses nothing."""
        found = await self._index.read(checkpoint)
        if found is None:
            return
        value = checkpoint_value(self._checkpoint_key, found).hex()
        if found.key_id != self._root_id:
            self._find("key_missing", found.number, 0, found.last, "the checkpoint's key is gone")
        elif not hmac.compare_digest(value, found.value):
            self._find("checkpoint_changed", found.number, 0, found.last, "is not what was written")
        else:
            self._checkpoint = found

    async def _check(self, seal: Seal) -> None:
        before = self._before
        if seal.number != self._number + 1:
            self._find(
                "seal_missing",
                self._number + 1,
                0,
                0,
                f"seals {self._number + 1} to {seal.number - 1} are not there",
            )
        elif seal.previous != (NO_SEAL if before is None else before.seal) or seal.first != (
            1 if before is None else before.last + 1
        ):
            self._find("chain_broken", seal.number, seal.first, seal.last, "does not follow")
        reached = self._checkpoint
        if reached is None or seal.number > reached.number:
            await self._check_entries(seal)
        elif seal.number == reached.number and (seal.seal.hex(), seal.last) != (
            reached.seal,
            reached.last,
        ):
            self._find(
                "chain_broken", seal.number, seal.first, seal.last, "is not that of the checkpoint"
            )
        self._before, self._number = seal, seal.number
        self._seals += 1

    async def _check_entries(self, seal: Seal) -> None:
        running = hmac.new(self._key, canonical(seal), hashlib.sha256)
        after, count = seal.first - 1, 0
        while True:
            read = await self._index.read(
                partial(_hashed, after=after, last=seal.last, running=running)
            )
            if read is None:
                break
            running, after = read.running, read.after
            count += read.count
        self._entries += count
        if count < seal.entries:
            self._find(
                "entries_missing",
                seal.number,
                seal.first,
                seal.last,
                f"{seal.entries - count} of {seal.entries} entries are not there",
            )
        elif count > seal.entries:
            self._find(
                "entries_added",
                seal.number,
                seal.first,
                seal.last,
                f"{count - seal.entries} entries were not there when it was sealed",
            )
        elif not self._is_known or seal.number < self._known_from:
            self._find(
                "key_missing",
                seal.number,
                seal.first,
                seal.last,
                "was made with a root key that is not here, and cannot be verified",
            )
        elif not hmac.compare_digest(running.digest(), seal.seal):
            self._find(
                "entries_changed",
                seal.number,
                seal.first,
                seal.last,
                "the entries or the seal are not what was sealed",
            )

    def _find(self, kind: FindingKind, seal: int, first: int, last: int, detail: str) -> None:
        self._total += 1
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(Finding(kind, seal, first, last, detail))


def checkpoint_value(key: bytes, made: Checkpoint) -> bytes:
    """What proves a checkpoint, under the sub-key for `CHECKPOINT_LABEL`."""
    return hmac.digest(key, canonical_checkpoint(made), hashlib.sha256)


class _Hashed(msgspec.Struct, frozen=True):
    """How far a page has brought the hash of a seal."""

    running: hmac.HMAC
    after: int
    count: int


async def _hashed(tx: Tx, after: int, last: int, running: hmac.HMAC) -> _Hashed | None:
    """Hash one page, in the reader's thread; `running` itself is left as it is."""
    page = await entries_between(tx, after, last, PAGE_ENTRIES)
    if not page:
        return None
    ahead = running.copy()
    for entry in page:
        ahead.update(canonical_entry(entry))
    return _Hashed(ahead, page[-1].id, len(page))
