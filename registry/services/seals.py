"""Seal the audit log, and find out what was done to it behind our back.

Entries are written without any chain, so that changes do not wait for each other. Once a second the
leader seals what was committed since: a **seal** has a number, covers a range of entries, and is
HMAC-SHA256 with a sub-key of the root key over its own facts, the seal before, and every entry of
the range in canonical form. The number and value of the newest seal are the **head**, which goes to
the log of the server and to whoever asks.

**What verifying proves.** No sealed entry was edited, removed, added or moved, and no seal was
removed from the middle: each is computed anew. Against a head that was kept elsewhere it proves
that the log was not cut off before that head, nor written anew.

**What it cannot prove.** Entries of the last second are not sealed yet. Without a head from
elsewhere, a log whose newest seals and entries were all removed is a shorter log. Whoever has the
root key and can write the index can make any log; keep heads where they cannot write. And a change
made past the registry, straight in the index, was never written down at all.

**The key.** The index remembers which root key made which seals. If that key is gone or another
one is in its place, the server refuses to start rather than seal on as if nothing had happened:
the old key comes back from a backup, or somebody begins again on purpose (`Seals.begin_again`),
which the log then shows. Seals of a key that is gone can be verified no more, and `verify` says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from registry.auth.keys import (
    ROOT_FILE,
    RootKey,
    load_root_key,
    make_root_key,
    set_root_key_aside,
)
from registry.catalog.audit import (
    Entry,
    count_between,
    entries_between,
    last_id,
    record,
)
from registry.catalog.seals import (
    NO_SEAL,
    Seal,
    SealKey,
    canonical,
    canonical_entry,
    checkpoint,
    insert_seal,
    last_seal,
    put_seal_keys,
    seal_keys,
)
from registry.domain.principals import Principal
from registry.errors import Invalid
from registry.services.verifying import CHECKPOINT_LABEL, PAGE_ENTRIES, Check, Verdict
from store.errors import StoreRefused
from store.index.transactions import Tx
from store.opening import Store

LABEL: Final = "audit seal"

SEALED_AT_ONCE: Final = 5000
"""Entries under one seal at most: what has to be read again to check one entry."""

_HEAD: Final = re.compile(r"([1-9][0-9]{0,17})\.([0-9a-f]{64})\Z")
_EVERYTHING: Final = 2**62

logger = structlog.get_logger()


class Head(msgspec.Struct, frozen=True):
    """The newest seal, if there is one, and how many entries wait for the next."""

    seal: Seal | None
    unsealed: int


class Seals:
    """The seals of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = store.index
        self._root: RootKey | None = None
        self._loading = asyncio.Lock()
        self._last: Seal | None = None

    async def root_key(self) -> RootKey:
        """The root key of the store, made if nothing was ever sealed.

        Raises `StoreRefused` if seals were made with another.
        """
        async with self._loading:
            if self._root is None:
                keys = await self._index.read(seal_keys)
                self._root = await asyncio.to_thread(_load, self._store.settings.root, keys)
            return self._root

    async def seal(self) -> Seal | None:
        """Seal what was committed since the last seal; returns the newest seal. For the leader."""
        root = await self.root_key()
        key = root.sub_key(LABEL)
        while True:
            last, made = await self._index.read(partial(_next_seal, key=key))
            if made is not None:
                last = await self._index.run(partial(_insert, made=made, key_id=root.id))
            self._compare(last)
            if made is None or last is None or last.seal != made.seal:
                return last  # all is sealed, or another leader was first
            logger.info("audit log sealed", head=made.head, through=made.last, entries=made.entries)

    def _compare(self, last: Seal | None) -> None:
        """Say so if seals that this very process made are there no more."""
        before, self._last = self._last, last
        if before is not None and (
            last is None
            or last.number < before.number
            or (last.number == before.number and last.seal != before.seal)
        ):
            logger.error(
                "seals of the audit log were removed or replaced",
                expected=before.head,
                found=None if last is None else last.head,
            )

    async def head(self) -> Head:
        """The newest seal."""

        async def unit(tx: Tx) -> Head:
            seal = await last_seal(tx)
            after = 0 if seal is None else seal.last
            return Head(seal, await count_between(tx, after, _EVERYTHING))

        return await self._index.read(unit)

    async def verify(self, since: str | None = None, *, only_after: bool = False) -> Verdict:
        """Compute every seal anew, page by page.

        `since` is a head that was kept elsewhere: it must still be there. With `only_after` only
        what was sealed after it is read again, which is for those who verified up to there before.
        Raises `Invalid` for what is no head.
        """
        root = await self.root_key()
        while True:
            reached = await self._index.read(checkpoint)
            check = Check(
                self._index,
                root.sub_key(LABEL),
                root.id,
                await self._index.read(seal_keys),
                root.sub_key(CHECKPOINT_LABEL),
            )
            if since is not None:
                await check.require(*parse_head(since))
            if since is not None and only_after:
                await check.begin_after(parse_head(since)[0])
            verdict = await check.run()
            if verdict.is_intact or await self._index.read(checkpoint) == reached:
                return verdict  # else retention removed what was being read

    async def begin_again(self, principal: Principal) -> RootKey:
        """Go on with a new root key because the old one is lost; the log says so. Server stopped.

        Everything sealed so far can be verified no more.
        """
        root = self._store.settings.root
        async with self._loading:
            if root is None:
                made = RootKey.fresh()
            else:
                await asyncio.to_thread(set_root_key_aside, root)
                made = await asyncio.to_thread(make_root_key, root)
            await self._index.run(partial(_change_key, principal=principal, key_id=made.id))
            self._root = made
        return made


def parse_head(text: str) -> tuple[int, bytes]:
    """Number and value of a head; raises `Invalid`."""
    match = _HEAD.match(text)
    if match is None:
        raise Invalid("since", "is not a head: a number, a dot and 64 hexadecimal digits")
    return int(match[1]), bytes.fromhex(match[2])


def _load(root: Path | None, keys: list[SealKey]) -> RootKey:
    if root is None:
        return RootKey.fresh()
    found = load_root_key(root)
    if not keys:
        return found or make_root_key(root)
    if found is None or found.id != keys[-1].id:
        what = "is missing" if found is None else f"is another key ({found.id})"
        raise StoreRefused(
            f"{root / ROOT_FILE} {what}, and the audit log is sealed with key {keys[-1].id}: put "
            "that file back from a backup, or run `digestry audit rekey` to go on without being "
            "able to verify what was sealed so far"
        )
    return found


async def _next_seal(tx: Tx, key: bytes) -> tuple[Seal | None, Seal | None]:
    """The last seal, and the next over what none covers yet; None for that if it is nothing.

    Read in a snapshot: entries in it are committed, and later ones have higher ids.
    """
    before = await last_seal(tx)
    start = 0 if before is None else before.last
    found = await entries_between(tx, start, _EVERYTHING, 1)
    if not found:
        return before, None
    last = min(await last_id(tx), start + SEALED_AT_ONCE)
    if last < found[0].id:  # a gap wider than one seal
        last = found[0].id
    unsealed = Seal(
        number=1 if before is None else before.number + 1,
        first=start + 1,
        last=last,
        entries=await count_between(tx, start, last),
        previous=NO_SEAL if before is None else before.seal,
        seal=NO_SEAL,
        created_at=tx.now,
    )
    running = hmac.new(key, canonical(unsealed), hashlib.sha256)
    after = start
    while page := await entries_between(tx, after, last, PAGE_ENTRIES):
        for entry in page:
            running.update(canonical_entry(entry))
        after = page[-1].id
    return before, msgspec.structs.replace(unsealed, seal=running.digest())


async def _insert(tx: Tx, made: Seal, key_id: str) -> Seal | None:
    """Write a seal if it still follows the last one; returns what the last one is then."""
    last = await last_seal(tx)
    end = (0, NO_SEAL) if last is None else (last.number, last.seal)
    if end != (made.number - 1, made.previous):
        return last
    if not await seal_keys(tx):
        await put_seal_keys(tx, [SealKey(key_id, made.number)])
    await insert_seal(tx, made)
    return made


async def _change_key(tx: Tx, principal: Principal, key_id: str) -> None:
    last, keys = await last_seal(tx), await seal_keys(tx)
    since = 1 if last is None else last.number + 1
    before = keys[-1].id if keys else None
    kept = [known for known in keys if known.since < since]
    await put_seal_keys(tx, [*kept, SealKey(key_id, since)])
    await record(
        tx,
        principal,
        Entry(
            action="rekey",
            kind="audit",
            id="audit",
            before=None if before is None else {"root": before},
            after={"root": key_id, "since_seal": since},
        ),
    )
