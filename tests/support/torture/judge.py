"""What must be so after a kill: nothing acknowledged is lost, nothing half is seen.

`Expected` works out from all facts what was promised; `Judge` looks first from the outside, then as
the next process would, and last at what is left when everything was put in order.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec
import pysqlite3.dbapi2 as sqlite
import pytest

from registry.catalog.migrations import CHAINS
from registry.cli import directory
from registry.cli.exits import CommandError
from registry.cli.schema import SCHEMA_NUMBER
from store.backups.checking import verify_backup
from store.backups.directory import MARKER, read_marker
from store.backups.restoring import restore_backup
from store.digest import Digest
from store.index import blobs as rows
from store.index import claims
from store.opening import Store, initialize, read_facts
from tests.support.builders import assert_claims_match
from tests.support.soundness import AFTER_CRASH, Tolerance, assert_store_is_sound
from tests.support.torture.copies import restores_in
from tests.support.torture.dying import Fuse
from tests.support.torture.facts import Fact, Log, body, content_of, facts_in, owner_of
from tests.support.torture.publishers import ALIAS, KEEP_LAST, RETAINED
from tests.support.torture.workers import opened

LEFT = Tolerance(strays=True, lost_asides=True)
"""What only `fsck` sweeps, or the next purge."""

_VERSIONS = """
SELECT m.name, v.label, v.number, v.deleted_at IS NOT NULL, v.purged_at IS NOT NULL,
       (SELECT group_concat(hex(f.digest), ' ') FROM
           (SELECT digest FROM tree_files WHERE tree = v.tree ORDER BY path) f)
FROM versions v JOIN models m ON m.id = v.model
"""
_ALIASES = """
SELECT m.name, v.label FROM aliases a JOIN models m ON m.id = a.model
JOIN versions v ON v.revision = a.revision WHERE a.name = ?
"""


class Version(msgspec.Struct):
    """What was said of a version: the names of its files, and in which states it may be."""

    names: str
    states: set[str]


class Found(msgspec.Struct, frozen=True):
    """A version as the index has it."""

    number: int
    state: str
    digests: str


_STATES = {
    "published": {"live"},
    "restored": {"live"},
    "deleted": {"deleted"},
    "purged": {"purged"},
    "deleting": {"live", "deleted"},
    "restoring": {"live", "deleted"},
    "purging": {"deleted", "purged"},
}


class Expected:
    """What must be so, from all facts so far."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.kept: dict[tuple[str, str], bool] = {}
        """Task and name of bytes: True if acknowledged, False if perhaps released."""
        self.sessions: dict[str, Fact] = {}
        self.versions: dict[tuple[str, str], Version] = {}
        self.aliases: dict[str, set[str]] = {}
        self.backups = 0
        self.restored: set[str] = set()
        self.facts = 0
        for fact in facts:
            self.facts += 1
            self._learn(fact)

    def _learn(self, fact: Fact) -> None:
        match fact.kind:
            case "kept":
                self.kept[fact.owner, fact.name] = True
            case "releasing":
                self.kept[fact.owner, fact.name] = False
            case "session":
                self.sessions[fact.at] = fact
            case "finishing":
                self.sessions.pop(fact.at, None)
            case "published":
                self.versions[fact.owner, fact.at] = Version(fact.name, {"live"})
            case "pointing":
                self.aliases.setdefault(fact.owner, {""}).add(fact.at)
            case "points":
                self.aliases[fact.owner] = {fact.at}
            case "backed up":
                self.backups = fact.offset
            case "restored" if not fact.owner:
                self.restored.add(fact.name)
            case kind:
                self.versions[fact.owner, fact.at].states = _STATES[kind]


class Judge:
    """Judges one directory after one kill; `log` is for what the judge itself gets promised."""

    def __init__(self, folder: Path, number: int, log: Log) -> None:
        self._folder = folder
        self._root = folder / "data"
        self._number = number
        self._log = log
        self.expected = Expected(facts_in(folder))
        self._read: set[str] = set()

    async def judge(self, *, puts_in_order: bool) -> None:
        """Raises `AssertionError` for whatever was lost or is half."""
        assert_store_is_sound(self._root, AFTER_CRASH)
        await asyncio.to_thread(initialize, self._root, CHAINS)
        store = await opened(self._root, self._number, Fuse(None))
        try:
            await store.quarantine.settle()
            assert_store_is_sound(self._root, LEFT)
            for (owner, name), is_kept in self.expected.kept.items():
                if is_kept:
                    await self._check_kept(store, owner, name)
            await self._check_versions(store)
            await assert_claims_match(store)
            for fact in self.expected.sessions.values():
                await self._finish(store, fact)
            await self._fsck(store, repair=puts_in_order)
        finally:
            await store.close()
        if puts_in_order:
            assert_store_is_sound(self._root)

    async def _check_kept(self, store: Store, owner: str, name: str) -> None:
        digest = Digest.of(content_of(name))
        holds = await store.index.look(
            partial(claims.owner_holds, digest=digest, owner=owner_of(owner))
        )
        assert holds, f"the claim of {owner} on {name} is gone"
        await self._check_bytes(store, name)

    async def _check_bytes(self, store: Store, name: str) -> None:
        """Named bytes are read back whole by their digest, each once."""
        if name in self._read:
            return
        self._read.add(name)
        content = content_of(name)
        row = await store.index.look(partial(rows.find_blob, digest=Digest.of(content)))
        assert row is not None, f"{name} is absent"
        assert row.is_present, f"{name} is {row.state}"
        async with await store.reading.open(row) as blob:
            pieces = [piece async for piece in blob.stream(0, row.size_bytes)]
        assert b"".join(pieces) == content, f"{name} has other bytes"

    async def _check_versions(self, store: Store) -> None:
        versions, aliases = self._in_the_index()
        for (model, label), version in self.expected.versions.items():
            found = versions.get(model, {}).get(label)
            assert found is not None, f"{model} {label} is gone"
            if model.startswith(RETAINED):
                self._check_retained(versions[model], found, aliases.get(model), f"{model} {label}")
            else:
                assert found.state in version.states, f"{model} {label} is {found.state}"
            digests = [Digest.of(content_of(name)).hex for name in version.names.split()]
            assert found.digests.lower().split() == digests, f"{model} {label} has other files"
            if found.state != "purged":
                for name in version.names.split():
                    await self._check_bytes(store, name)
        for model, labels in self.expected.aliases.items():
            assert aliases.get(model, "") in labels, f"{ALIAS} of {model}: {aliases.get(model)}"

    def _check_retained(
        self, versions: dict[str, Found], found: Found, alias: str | None, name: str
    ) -> None:
        if found.state == "live":
            return
        newer = sum(one.number > found.number for one in versions.values())
        assert newer >= KEEP_LAST, f"{name} is {found.state} and among the newest"
        assert versions.get(alias or "") is not found, f"{name} is {found.state} and aliased"

    def _in_the_index(self) -> tuple[dict[str, dict[str, Found]], dict[str, str]]:
        versions: dict[str, dict[str, Found]] = {}
        connection = sqlite.connect(str(self._root / "index.sqlite3"), timeout=10)
        try:
            for model, label, number, is_deleted, is_purged, digests in connection.execute(
                _VERSIONS
            ):
                state = "purged" if is_purged else "deleted" if is_deleted else "live"
                found = Found(number, state, digests or "")
                versions.setdefault(model, {})[label] = found
            aliases = dict(connection.execute(_ALIASES, (ALIAS,)).fetchall())
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        finally:
            connection.close()
        return versions, aliases

    async def _finish(self, store: Store, fact: Fact) -> None:
        """A client asks how far its session is, and sends the rest."""
        session = await store.uploads.get(fact.at)
        assert session.offset >= fact.offset, f"session {fact.at} went back to {session.offset}"
        content = content_of(fact.name)
        self._log.note(Fact("finishing", fact.name, fact.owner, fact.at))
        rest = body(content[session.offset :])
        after = await store.uploads.append(fact.at, session.offset, rest)
        assert after.digest == Digest.of(content)
        self._log.note(Fact("kept", fact.name, fact.owner))

    async def _fsck(self, store: Store, *, repair: bool) -> None:
        """It finds nothing that was lost, and nothing at all once it has put things in order."""
        report = await store.fsck.run(repair=repair)
        lost = ("missing", "dangling", "orphan: the bytes", "lost upload", "unsettled")
        assert [f for f in report.findings if f.problem.startswith(lost)] == []
        if repair:
            assert (await store.fsck.run(repair=False)).findings == []


def judge_backups(folder: Path, target: Path) -> None:
    """Every finished generation is whole, and the last one acknowledged is there or a later one."""
    acknowledged = Expected(facts_in(folder)).backups
    marker = read_marker(target) if (target / MARKER).exists() else None
    numbers = [] if marker is None else [one.number for one in marker.generations]
    assert max(numbers, default=0) >= acknowledged
    for number in numbers:
        verdict = verify_backup(target, number=number, at_once=1)
        assert verdict.found == 0, verdict.problems


async def judge_restores(folder: Path, source: Path, number: int) -> None:
    """A directory is refused, or whole; then one that was refused is finished."""
    finished = Expected(facts_in(folder)).restored
    for root in restores_in(folder):
        if read_facts(root) is None:
            assert root.name not in finished, f"{root.name} was acknowledged and is not whole"
            if any(root.iterdir()):
                with pytest.raises(CommandError, match="restore that was not finished"):
                    directory.check(root)
            restore_backup(source, root, newest=SCHEMA_NUMBER, at_once=2)
        assert_store_is_sound(root)
        await asyncio.to_thread(initialize, root, CHAINS)
        store = await opened(root, number, Fuse(None))
        try:
            assert (await store.fsck.run(repair=False)).findings == []
            assert (await store.scrub.run()).findings == []
            await assert_claims_match(store)
        finally:
            await store.close()
        shutil.rmtree(root)
