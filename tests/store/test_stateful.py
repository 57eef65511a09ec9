"""The store against a dictionary: whatever is done in whatever order, both agree.

The model knows what is stored, claimed, damaged, quarantined and uploading, and shares no code with
the store. After every step the store is also judged from the outside. It runs on a directory, where
it may be closed and opened anew at any time, and in memory. `DIGESTRY_TESTS_LONG=1` runs longer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from store import opening
from store.digest import Digest
from store.errors import (
    BlobNotFound,
    ChecksumMismatch,
    CollectionRefused,
    Corrupt,
    DigestMismatch,
    OffsetConflict,
    UploadExpired,
    UploadFinished,
    UploadNotFound,
    UploadTooLarge,
)
from store.index import blobs as rows
from store.index import claims
from store.opening import Store, StoreSettings, open_store
from store.segments import SEGMENT_BYTES
from store.uploads import Checksum
from tests.support.clock import ManualClock
from tests.support.scenarios import may_go
from tests.support.soundness import NOTHING, Picture, assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import body, broken, damage, lose, pinned, spoil_archived
from tests.support.unthreaded import unthreaded

T = TypeVar("T")
LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"

STEP_SECONDS = 10
"""No step takes as long, unless it never ends."""

GRACE = 100
UNDO_WINDOW = 1000
SESSION_LIFE = 5000


class Sample(bytes):
    """Bytes that do not fill pages when a step is printed."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


CONTENTS = tuple(
    map(Sample, (b"", b"a", b"some bytes" * 9, b"more bytes" * 99, b"z" * (SEGMENT_BYTES + 7)))
)
OWNERS = ("usr_one", "usr_two")

contents = st.sampled_from(CONTENTS)
ANCHOR = Sample(b"claimed all the time, so that collection does not refuse to work")
ANCHORED = "usr_anchor"
owners = st.sampled_from(OWNERS)
harms = st.sampled_from(["rotten", "short", "lost"])


class Stored(msgspec.Struct):
    """What the model knows of one digest that has a row."""

    state: str
    """whole; rotten, short, lost (nobody has noticed yet); damaged (noticed)."""
    claimed_at: int
    is_cold: bool = False

    @property
    def is_present(self) -> bool:
        return self.state != "damaged"


class Aside(msgspec.Struct):
    """A file in quarantine."""

    content: bytes
    state: str
    moved_at: int
    collection: str | None
    is_cold: bool = False


class Session(msgspec.Struct):
    """An upload under way or finished."""

    content: bytes
    owner: str
    length: int | None
    offset: int
    expires_at: int
    is_finished: bool = False


def hex_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to a store and to the model."""

    root: Path | None = None
    sessions = Bundle("sessions")
    collections = Bundle("collections")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.folder = self.make_folder()
        self.store: Store = None  # type: ignore[assignment] # the first rule opens it
        self.stored: dict[bytes, Stored] = {}
        self.refs: set[tuple[bytes, str]] = set()
        self.asides: list[Aside] = []
        self.litter: set[bytes] = set()
        """Short files left at their name after somebody noticed; no row says present."""
        self.spares: dict[bytes, list[str]] = {}
        """What files of the archive that no row names are like, the latest last."""
        self.uploads: dict[str, Session] = {}

    def make_folder(self) -> Path | None:
        raise NotImplementedError

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(self._settled(work))

    async def _settled(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await work
        finally:
            if self.store is not None:
                await self.store.ingest.close()
            self.clock.advance(1)

    def open(self) -> None:
        if self.folder is not None:
            opening.initialize(self.folder)
        settings = StoreSettings(
            root=self.folder,
            grace_seconds=GRACE,
            undo_seconds=UNDO_WINDOW,
            upload_seconds=SESSION_LIFE,
            reserve_bytes=0,
            reserve_share=0,
            max_share=1,
        )
        self.store = self.run(open_store(settings, clock=self.clock))

    def teardown(self) -> None:
        if self.store is not None:
            self.run(self.store.close())
        self.loop.close()
        if self.folder is not None:
            shutil.rmtree(self.folder)

    @property
    def now(self) -> int:
        return self.clock.now // 1_000_000

    # Blobs.

    @initialize(stored=st.sets(contents), claimed=st.sets(contents))
    def begin(self, stored: set[bytes], claimed: set[bytes]) -> None:
        """Some blobs, most of them claimed by nobody any more: what most steps are about."""
        self.open()
        self.put(ANCHOR, ANCHORED)
        for content in sorted(stored):
            self.put(content, OWNERS[0])
        for content in sorted(stored - claimed):
            self.release(content, OWNERS[0])

    @rule(content=contents, owner=owners)
    def put(self, content: bytes, owner: str) -> None:
        now = self.now
        stored, is_new = self.run(self.store.ingest.receive(body(content), pinned(owner)))

        assert (stored.digest.hex, stored.size_bytes) == (hex_of(content), len(content))
        assert is_new == ((content, owner) not in self.refs)
        self.now_stored(content, owner, now)

    def now_stored(self, content: bytes, owner: str, now: int) -> None:
        before = self.stored.get(content)
        if before is not None and before.is_cold:
            self.spare(content)
        # Rotten bytes of the right length look whole until somebody reads them.
        is_rotten = before is not None and before.state == "rotten" and not before.is_cold
        state = "rotten" if is_rotten else "whole"
        self.stored[content] = Stored(state, now)
        self.refs.add((content, owner))
        self.litter.discard(content)

    @rule(content=contents, other=contents, owner=owners)
    def put_wrong(self, content: bytes, other: bytes, owner: str) -> None:
        if content == other:
            return
        with pytest.raises(DigestMismatch):
            self.run(
                self.store.ingest.receive(
                    body(content), pinned(owner), expected=Digest(hex_of(other))
                )
            )

    @rule(content=contents, owner=owners)
    def claim(self, content: bytes, owner: str) -> None:
        now = self.now
        found = self.run(self.store.ingest.claim(Digest(hex_of(content)), pinned(owner)))

        before = self.stored.get(content)
        assert (found is not None) == (before is not None and before.state in ("whole", "rotten"))
        if found is not None and before is not None:
            before.claimed_at = now
            self.refs.add((content, owner))
        elif before is not None:
            self.litter |= {content} if before.state == "short" and not before.is_cold else set()
            self.damage_noticed(content)

    @rule(content=contents, owner=owners)
    def release(self, content: bytes, owner: str) -> None:
        now = self.now
        digest = Digest(hex_of(content))
        had = self.run(
            self.store.index.run(
                partial(claims.drop_ref, digest=digest, owner=owner, kind=claims.PIN, count=None)
            )
        )

        assert had == ((content, owner) in self.refs)
        if had:
            self.refs.discard((content, owner))
            if content in self.stored:
                self.stored[content].claimed_at = now

    @rule(content=contents)
    def read(self, content: bytes) -> None:
        digest = Digest(hex_of(content))
        row = self.run(self.store.index.look(partial(rows.find_blob, digest=digest)))
        known = self.stored.get(content)
        if known is None or known.state != "whole":
            return
        assert row is not None

        async def read() -> bytes:
            async with await self.store.reading.open(row) as blob:
                return b"".join([piece async for piece in blob.stream(0, row.size_bytes)])

        assert self.run(read()) == content

    @rule(content=contents, how=st.none() | harms)
    def abandon(self, content: bytes, how: str | None) -> None:
        for owner in OWNERS:
            self.release(content, owner)
        if how is not None:
            self.corrupt(content, how)

    @rule(content=contents)
    def collect_and_undo(self, content: bytes) -> None:
        self.abandon(content, None)
        collection = self.collect(GRACE)
        if isinstance(collection, str):
            self.undo(collection)

    # The archive.

    def spare(self, content: bytes) -> None:
        """The archive's file is no longer what the blob's row names."""
        known = self.stored[content]
        self.spares.setdefault(content, []).append(known.state)
        known.is_cold = False

    def damage_noticed(self, content: bytes) -> None:
        known = self.stored[content]
        if known.is_cold and known.state in ("short", "lost"):
            self.spare(content)
        known.state, known.is_cold = "damaged", False

    def convicted(self, content: bytes, now: int) -> None:
        """What scrub does about bytes that are not right."""
        known = self.stored[content]
        if known.state == "rotten" or (known.state == "short" and not known.is_cold):
            self.asides.append(Aside(content, known.state, now, None, known.is_cold))
        self.damage_noticed(content)

    def healed(self, content: bytes, now: int) -> bool:
        """Whether a spare file has the bytes; then the blob is cold."""
        spares = self.spares.get(content, [])
        if "whole" not in spares:
            return False
        spares.reverse()
        spares.remove("whole")
        spares.reverse()
        self.stored[content] = Stored("whole", now, is_cold=True)
        return True

    @rule(content=contents)
    def cool(self, content: bytes) -> None:
        known, now = self.stored.get(content), self.now
        outcome = self.run(self.store.archive.cool(Digest(hex_of(content)), may_go))

        if known is None or not known.is_present or known.is_cold:
            assert outcome == "kept"
        elif known.state == "whole":
            assert outcome == "moved"
            known.is_cold = True
        else:
            assert outcome == "lost"
            if known.state != "lost":
                self.convicted(content, now)

    @rule(content=contents)
    def thaw(self, content: bytes) -> None:
        known, now = self.stored.get(content), self.now
        thawing = self.store.archive.thaw(Digest(hex_of(content)))
        if known is None:
            with pytest.raises(BlobNotFound):
                self.run(thawing)
            return
        if known.is_cold and not self.is_claimed(content):
            with pytest.raises(BlobNotFound):  # thawing keeps nothing that nobody wants
                self.run(thawing)
            return
        was_lost = known.state in ("short", "lost")
        if known.is_cold and known.state != "whole":
            self.convicted(content, now)
            if not was_lost:
                self.healed(content, now)
        if not self.stored[content].is_present:
            with pytest.raises(Corrupt):
                self.run(thawing)
            return
        assert self.run(thawing) == self.stored[content].is_cold
        if self.stored[content].is_cold:
            self.spare(content)
            self.stored[content] = Stored("whole", now)
            self.litter.discard(content)

    @rule()
    def sweep(self) -> None:
        self.run(self.store.archive.spares.sweep(everything=True))
        self.spares.clear()

    # Collection.

    @rule(target=collections, seconds=st.sampled_from([0, GRACE, GRACE]))
    def collect(self, seconds: int) -> Any:
        self.clock.advance(seconds)
        now = self.now
        going = {
            content
            for content, known in self.stored.items()
            if not self.is_claimed(content) and known.claimed_at <= now - GRACE
        }
        plan = self.run(self.store.collector.plan())
        now = self.now
        try:
            report = self.run(self.store.collector.apply(plan))
        except CollectionRefused:
            assert not self.refs
            return multiple()
        assert {blob.digest.removeprefix("sha256:") for blob in plan.blobs} == set(
            map(hex_of, going)
        )
        assert report.collected == len(going)
        for content in going:
            known = self.stored.pop(content)
            if known.is_cold or known.state in ("whole", "rotten", "short"):
                self.asides.append(Aside(content, known.state, now, plan.id, known.is_cold))
        return plan.id

    def is_claimed(self, content: bytes) -> bool:
        return any((content, owner) in self.refs for owner in (*OWNERS, ANCHORED))

    @rule(collection=collections)
    def undo(self, collection: str) -> None:
        now = self.now
        report = self.run(self.store.collector.undo(collection))

        mine = [aside for aside in self.asides if aside.collection == collection]
        returned = 0
        for aside in mine:
            self.asides.remove(aside)
            known = self.stored.get(aside.content)
            is_there = not aside.is_cold or aside.state in ("whole", "rotten")
            if (known is None or not known.is_present) and is_there:
                self.stored[aside.content] = Stored(aside.state, now, aside.is_cold)
                if not aside.is_cold:
                    self.litter.discard(aside.content)
                returned += 1
            elif aside.is_cold:
                self.spares.setdefault(aside.content, []).append(aside.state)
        assert (report.returned, report.superseded) == (returned, len(mine) - returned)

    @rule(seconds=st.sampled_from([0, UNDO_WINDOW]))
    def purge(self, seconds: int) -> None:
        self.clock.advance(seconds)
        old = [aside for aside in self.asides if aside.moved_at <= self.now - UNDO_WINDOW]
        report = self.run(self.store.collector.purge())

        assert report.purged == len(old)
        for aside in old:
            self.asides.remove(aside)
            if aside.is_cold:
                self.spares.setdefault(aside.content, []).append(aside.state)

    # Damage.

    @rule(content=contents, how=harms)
    def corrupt(self, content: bytes, how: str) -> None:
        known = self.stored.get(content)
        if known is None or known.state != "whole" or not content:
            return
        digest = Digest(hex_of(content))
        if known.is_cold:
            self.run(spoil_archived(self.store, digest, how))
        elif how == "lost":
            self.run(lose(self.store, digest))
        else:
            bad = b"?" * (len(content) if how == "rotten" else len(content) - 1)
            self.run(damage(self.store, digest, bad))
        known.state = how

    @rule()
    def scrub(self) -> None:
        bad = [c for c, known in self.stored.items() if known.state in ("rotten", "short", "lost")]
        before = [c for c, known in self.stored.items() if not known.is_present]
        now = self.now
        report = self.run(self.store.scrub.run())

        for content in bad:
            self.convicted(content, now)
            self.healed(content, now)
        again = [content for content in before if self.healed(content, now)]
        assert {finding.digest for finding in report.findings} == {
            f"sha256:{hex_of(content)}" for content in (*bad, *again)
        }

    @rule(repair=st.booleans())
    def fsck(self, repair: bool) -> None:
        bad = [c for c, known in self.stored.items() if known.state in ("short", "lost")]
        left = self.litter - self.stored.keys()
        beside = {c for c in self.litter & self.stored.keys() if self.stored[c].is_cold}
        gone = [a for a in self.asides if a.is_cold and a.state in ("short", "lost")]
        now = self.now
        report = self.run(self.store.fsck.run(repair=repair))

        missing = {f.digest for f in report.findings if f.problem.startswith("missing")}
        assert missing == {f"sha256:{hex_of(content)}" for content in bad}
        dangling = [f for f in report.findings if f.problem.startswith("dangling")]
        orphans = {f.digest for f in report.findings if f.problem.startswith("orphan")}
        assert orphans == {f"sha256:{hex_of(content)}" for content in left}
        if repair:
            for content in left:
                self.asides.append(Aside(content, "short", now, None))
            for content in bad:
                self.convicted(content, now)
                self.healed(content, now)
            for aside in gone:
                self.asides.remove(aside)
            beside -= {c for c in beside if not self.stored[c].is_cold}
            self.litter -= left | beside
        claims = [c for c, _ in self.refs if not self.stored[c].is_present]
        assert len(dangling) == len(claims)
        leftovers = {f.digest for f in report.findings if f.problem.startswith("leftover")}
        assert leftovers == {f"sha256:{hex_of(content)}" for content in beside}
        others = len(missing) + len(dangling) + len(orphans) + len(leftovers)
        assert len(report.findings) == others + len(gone)

    # Uploads.

    @rule(
        target=sessions,
        content=contents,
        owner=owners,
        is_long=st.booleans(),
        expects=st.booleans(),
    )
    def begin_upload(self, content: bytes, owner: str, is_long: bool, expects: bool) -> str:
        length = len(content) if is_long else None
        expected = Digest(hex_of(content)) if expects else None
        now = self.now
        upload = self.run(self.store.uploads.create(owner, length=length, expected=expected))

        self.uploads[upload.id] = Session(content, owner, length, 0, now + SESSION_LIFE)
        return upload.id

    @rule(session=sessions, share=st.floats(0, 1), wrong=st.booleans(), checked=st.booleans())
    def append(self, session: str, share: float, wrong: bool, checked: bool) -> None:
        """A piece of the body, whole; the last one finishes."""
        known = self.expect_open(session)
        if known is None:
            return
        stop = known.offset + round(share * (len(known.content) - known.offset))
        piece = known.content[known.offset : stop]
        checksum = None
        if checked:
            checksum = Checksum("sha256", hashlib.sha256(piece + b"!" * wrong).digest())
        now = self.now
        sent = self.store.uploads.append(session, known.offset, body(piece), checksum=checksum)
        if checked and wrong:
            with pytest.raises(ChecksumMismatch):
                self.run(sent)
            return
        upload = self.run(sent)

        known.offset = stop
        known.expires_at = now + SESSION_LIFE
        self.maybe_finished(session, upload.is_finished, now)

    def maybe_finished(self, session: str, is_finished: bool, now: int) -> None:
        known = self.uploads[session]
        assert is_finished == (known.length == known.offset)
        if is_finished:
            known.is_finished = True
            self.now_stored(known.content, known.owner, now)

    @rule(session=sessions)
    def declare_length(self, session: str) -> None:
        known = self.expect_open(session)
        if known is None or known.length is not None:
            return
        now = self.now
        rest = known.content[known.offset :]
        upload = self.run(
            self.store.uploads.append(session, known.offset, body(rest), length=len(known.content))
        )

        known.length = known.offset = len(known.content)
        known.expires_at = now + SESSION_LIFE
        self.maybe_finished(session, upload.is_finished, now)

    @rule(session=sessions, share=st.floats(0, 0.99))
    def append_cut(self, session: str, share: float) -> None:
        """The client goes away; what arrived is kept."""
        known = self.expect_open(session)
        if known is None:
            return
        stop = known.offset + int(share * (len(known.content) - known.offset))
        now = self.now
        piece = known.content[known.offset : stop]
        with pytest.raises(ConnectionResetError):
            self.run(self.store.uploads.append(session, known.offset, broken(piece)))
        if stop > known.offset:
            known.expires_at = now + SESSION_LIFE
        known.offset = stop

    @rule(session=sessions, shift=st.integers(1, 9))
    def append_elsewhere(self, session: str, shift: int) -> None:
        known = self.expect_open(session)
        if known is None:
            return
        with pytest.raises(OffsetConflict) as caught:
            self.run(self.store.uploads.append(session, known.offset + shift, body(b"x")))
        assert caught.value.actual == known.offset

    @rule(session=sessions)
    def append_too_much(self, session: str) -> None:
        known = self.expect_open(session)
        if known is None or known.length is None:
            return
        rest = known.content[known.offset :] + b"more"
        if len(rest) > SEGMENT_BYTES:
            return
        with pytest.raises(UploadTooLarge):
            self.run(self.store.uploads.append(session, known.offset, body(rest)))

    @rule(session=consumes(sessions))
    def cancel(self, session: str) -> None:
        if session not in self.uploads:
            with pytest.raises(UploadNotFound):
                self.run(self.store.uploads.cancel(session))
            return
        self.run(self.store.uploads.cancel(session))
        del self.uploads[session]

    @rule()
    def expire(self) -> None:
        over = [name for name, known in self.uploads.items() if known.expires_at <= self.now]
        assert self.run(self.store.uploads.expire()) == len(over)
        for name in over:
            del self.uploads[name]

    def expect_open(self, session: str) -> Session | None:
        """The session if it can be continued; if it cannot, the store must say why."""
        known = self.uploads.get(session)
        why: type[Exception]
        if known is None:
            why = UploadNotFound
        elif known.expires_at <= self.now:
            why = UploadExpired
        elif known.is_finished:
            why = UploadFinished
        else:
            return known
        with pytest.raises(why):
            self.run(self.store.uploads.append(session, 0, body(b"")))
        return None

    # Time and life.

    @rule(seconds=st.sampled_from([10, GRACE, UNDO_WINDOW, SESSION_LIFE]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.folder is not None)
    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.open()
        assert self.run(self.store.quarantine.settle()) == 0

    # What both must agree on, always.

    @invariant()
    def agree(self) -> None:
        if self.store is None:
            return
        unnoticed = frozenset(
            hex_of(c) for c, known in self.stored.items() if known.state not in ("whole", "damaged")
        )
        tolerate = msgspec.structs.replace(
            NOTHING,
            rotten=unnoticed
            | frozenset(map(hex_of, self.litter))
            | frozenset(hex_of(aside.content) for aside in self.asides if aside.is_cold),
        )
        if self.folder is not None:
            picture = assert_store_is_sound(self.folder, tolerate)
        else:
            picture = self.run(assert_memory_is_sound(self.store, tolerate))
        self.compare(picture)

    def compare(self, picture: Picture) -> None:
        assert {row[0]: row[2] for row in picture.rows["blobs"]} == {
            hex_of(content): "present" if known.is_present else "damaged"
            for content, known in self.stored.items()
        }
        assert {(row[0], row[1]) for row in picture.rows["refs"]} == {
            (hex_of(content), owner) for content, owner in self.refs
        }
        assert sorted(digest for digest, _ in picture.asides) == sorted(
            hex_of(aside.content) for aside in self.asides if not aside.is_cold
        )
        assert sorted(digest for digest, _ in picture.rows["cold_asides"]) == sorted(
            hex_of(aside.content) for aside in self.asides if aside.is_cold
        )
        assert {digest for digest, _ in picture.rows["cold"]} == {
            hex_of(content) for content, known in self.stored.items() if known.is_cold
        }
        assert {row[0]: (row[1] == "finished", row[2]) for row in picture.rows["uploads"]} == {
            name: (known.is_finished, known.offset) for name, known in self.uploads.items()
        }
        assert set(picture.staged) == {
            name for name, known in self.uploads.items() if not known.is_finished
        }


class LocalMachine(StoreMachine):
    def make_folder(self) -> Path | None:
        memory = Path("/dev/shm")
        return Path(tempfile.mkdtemp(prefix="store-", dir=memory if memory.is_dir() else None))


class MemoryMachine(StoreMachine):
    def make_folder(self) -> Path | None:
        return None


@pytest.mark.parametrize("machine", [LocalMachine, MemoryMachine], ids=["local", "memory"])
@pytest.mark.timeout(0 if LONG else 300)
def test_the_store_agrees_with_a_dictionary(machine: type[StoreMachine]) -> None:
    with unthreaded():  # every step is waited for before the next
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=2000 if LONG else 100,
                stateful_step_count=60 if LONG else 40,
                deadline=None,
                derandomize=not LONG,
                # Making a failure small takes minutes; long runs take them.
                phases=list(Phase) if LONG else [Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
