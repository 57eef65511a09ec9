"""Seals: what verifying finds, what it cannot, and what happens to a root key that is lost."""

from __future__ import annotations

import asyncio
import hmac
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.auth.keys import ROOT_FILE, RootKey, load_root_key, make_root_key
from registry.catalog.audit import Entry, Wanted, record
from registry.catalog.seals import Seal, canonical, canonical_entry
from registry.domain.principals import LOCAL
from registry.keys import SEALS
from registry.services import seals as sealing
from registry.services import verifying
from registry.services.audit import search_audit_log
from registry.services.seals import Seals
from registry.services.verifying import Verdict, _hashed
from store.errors import StoreRefused
from store.index.transactions import Statement, Tx
from store.opening import Store
from tests.support.builders import running_registry
from tests.support.serving import opened


@pytest.fixture
def sealed(store: Store) -> Seals:
    return Seals(store)


async def write(store: Store, *names: str) -> None:
    """An entry for each name, in transactions of their own."""

    async def one(name: str) -> None:
        async def unit(tx: Tx) -> None:
            entry = Entry(action="create", kind="model", id=name, name=name, after={"of": name})
            await record(tx, LOCAL, entry)

        await store.index.run(unit)

    for name in names:
        await one(name)


async def sql(store: Store, *statements: str) -> None:
    """What somebody does who has the index open beside us."""

    async def unit(tx: Tx) -> None:
        for statement in statements:
            await tx.run(Statement(text(statement)))

    await store.index.run(unit)


async def filled(store: Store, seals: Seals) -> list[Seal]:
    """Three seals over nine entries."""
    made = []
    for group in ("abc", "def", "ghi"):
        await write(store, *group)
        seal = await seals.seal()
        assert seal is not None
        made.append(seal)
    return made


def kinds(verdict: Verdict) -> list[tuple[str, int]]:
    return [(finding.kind, finding.seal) for finding in verdict.findings]


async def test_an_untouched_log_is_intact(store: Store, sealed: Seals) -> None:
    one, two, three = await filled(store, sealed)
    await write(store, "j")
    verdict = await sealed.verify(one.head)

    assert [(seal.first, seal.last, seal.entries) for seal in (one, two, three)] == [
        (1, 3, 3),
        (4, 6, 3),
        (7, 9, 3),
    ]
    assert (verdict.is_intact, verdict.findings) == (True, [])
    assert (verdict.seals, verdict.entries, verdict.unsealed) == (3, 9, 1)
    assert verdict.head == three


async def test_an_empty_log_is_intact_and_has_no_head(store: Store, sealed: Seals) -> None:
    assert await sealed.seal() is None
    verdict = await sealed.verify()

    assert verdict.is_intact
    assert verdict.head is None
    assert (await sealed.head()).seal is None


async def test_sealing_nothing_new_makes_no_seal(store: Store, sealed: Seals) -> None:
    made = await filled(store, sealed)
    commits = store.index.stats.commits

    assert await sealed.seal() == made[-1]
    assert store.index.stats.commits == commits


_EDITS = [
    ("UPDATE audit SET actor = 'usr_other' WHERE id = 5", "entries_changed"),
    ("UPDATE audit SET after = NULL WHERE id = 5", "entries_changed"),
    ("UPDATE audit SET after = '' WHERE id = 5", "entries_changed"),
    ("UPDATE audit SET created_at = created_at + 1 WHERE id = 5", "entries_changed"),
    # What one field loses the next one gains.
    ("UPDATE audit SET kind = 'mode', entity = 'l' || entity WHERE id = 5", "entries_changed"),
    ("DELETE FROM audit WHERE id = 5", "entries_missing"),
    ("DELETE FROM audit WHERE id BETWEEN 4 AND 6", "entries_missing"),
    ("UPDATE audit_seals SET created_at = created_at + 1 WHERE number = 2", "entries_changed"),
    ("UPDATE audit_seals SET entries = 2 WHERE number = 2", "entries_added"),
    ("UPDATE audit_seals SET entries = 4 WHERE number = 2", "entries_missing"),
]


@pytest.mark.parametrize(("edit", "kind"), _EDITS, ids=[edit for edit, _ in _EDITS])
async def test_an_edit_is_found_at_its_seal(
    store: Store, sealed: Seals, edit: str, kind: str
) -> None:
    await filled(store, sealed)
    await sql(store, edit)
    verdict = await sealed.verify()

    assert not verdict.is_intact
    assert kinds(verdict) == [(kind, 2)]
    assert (verdict.findings[0].first, verdict.findings[0].last) == (4, 6)


async def test_every_field_of_an_entry_is_sealed(store: Store, sealed: Seals) -> None:
    await write(store, "a")
    await sealed.seal()
    columns = [
        "actor", "actor_name", "request", "action", "kind", "entity", "name", "model", "before",
        "after", "reason",
    ]  # fmt: skip
    for column in columns:
        await sql(store, f"UPDATE audit SET {column} = coalesce({column}, '') || 'x'")
        changed = await sealed.verify()
        await sql(store, f"UPDATE audit SET {column} = substr({column}, 1, length({column}) - 1)")
        await sql(store, "UPDATE audit SET model = NULL, before = NULL")

        assert kinds(changed) == [("entries_changed", 1)], column
        assert (await sealed.verify()).is_intact


async def test_entries_that_change_places_are_found(store: Store, sealed: Seals) -> None:
    await filled(store, sealed)
    await sql(
        store,
        "UPDATE audit SET id = 100 WHERE id = 4",
        "UPDATE audit SET id = 4 WHERE id = 8",
        "UPDATE audit SET id = 8 WHERE id = 100",
    )

    assert kinds(await sealed.verify()) == [("entries_changed", 2), ("entries_changed", 3)]


async def test_an_entry_put_in_between_is_found(store: Store, sealed: Seals) -> None:
    await filled(store, sealed)
    columns = "created_at, actor, actor_name, request, action, kind, entity, name, reason"
    await sql(
        store,
        "DELETE FROM audit WHERE id = 5",
        f"INSERT INTO audit (id, {columns}) SELECT 5, {columns} FROM audit WHERE id = 4",
    )
    replaced = await sealed.verify()
    await sql(store, f"INSERT INTO audit (id, {columns}) SELECT -7, {columns} FROM audit LIMIT 1")
    before_the_first = await sealed.verify()

    assert kinds(replaced) == [("entries_changed", 2)]
    assert ("entries_added", 0) in kinds(before_the_first)


async def test_a_seal_that_is_gone_is_found(store: Store, sealed: Seals) -> None:
    await filled(store, sealed)
    await sql(store, "DELETE FROM audit_seals WHERE number = 2")

    assert kinds(await sealed.verify()) == [("seal_missing", 2)]


async def test_a_log_renumbered_over_a_gap_is_found(store: Store, sealed: Seals) -> None:
    """Without the key nobody can make the chain close again."""
    one, _, _ = await filled(store, sealed)
    await sql(
        store,
        "DELETE FROM audit_seals WHERE number = 2",
        "DELETE FROM audit WHERE id BETWEEN 4 AND 6",
        f"UPDATE audit_seals SET number = 2, first = 4, previous = x'{one.seal.hex()}' "
        "WHERE number = 3",
    )

    assert kinds(await sealed.verify()) == [("entries_changed", 2)]


async def test_a_chain_that_does_not_follow_is_found(store: Store, sealed: Seals) -> None:
    await filled(store, sealed)
    await sql(store, f"UPDATE audit_seals SET previous = x'{'00' * 32}' WHERE number = 2")

    assert kinds(await sealed.verify()) == [("chain_broken", 2), ("entries_changed", 2)]


async def test_a_log_that_was_cut_off_is_found_against_a_head_only(
    store: Store, sealed: Seals
) -> None:
    *_, head = await filled(store, sealed)
    await sql(
        store,
        "DELETE FROM audit_seals WHERE number = 3",
        "DELETE FROM audit WHERE id > 6",
    )

    assert (await sealed.verify()).is_intact
    assert kinds(await sealed.verify(head.head)) == [("head_missing", 3)]


async def test_a_log_that_was_written_anew_is_found_against_a_head(
    store: Store, sealed: Seals
) -> None:
    """The server itself sealed the second history: only the head tells."""
    *_, head = await filled(store, sealed)
    await sql(
        store,
        "DELETE FROM audit_seals",
        "UPDATE audit SET actor = 'usr_other' WHERE id = 8",
    )
    await filled(store, sealed)

    assert (await sealed.verify()).is_intact
    [finding] = (await sealed.verify(head.head)).findings
    assert (finding.kind, finding.seal) == ("head_differs", 3)


async def test_only_after_a_head_reads_only_what_is_newer(store: Store, sealed: Seals) -> None:
    one, two, _ = await filled(store, sealed)
    await sql(store, "UPDATE audit SET actor = 'usr_other' WHERE id = 2")
    newer = await sealed.verify(one.head, only_after=True)
    await sql(store, "UPDATE audit SET actor = 'usr_other' WHERE id = 8")
    edited = await sealed.verify(two.head, only_after=True)

    assert (newer.is_intact, newer.seals, newer.entries) == (True, 2, 6)
    assert kinds(edited) == [("entries_changed", 3)]


async def test_after_a_head_that_is_gone_everything_is_read(store: Store, sealed: Seals) -> None:
    *_, head = await filled(store, sealed)
    await sql(
        store,
        "DELETE FROM audit_seals WHERE number = 3",
        "UPDATE audit SET actor = 'usr_other' WHERE id = 2",
    )
    verdict = await sealed.verify(head.head, only_after=True)

    assert kinds(verdict) == [("head_missing", 3), ("entries_changed", 1)]


async def test_many_findings_are_counted_and_the_first_are_told(
    store: Store, sealed: Seals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "MOST_FINDINGS", 2)
    await filled(store, sealed)
    await sql(store, "UPDATE audit SET actor = 'usr_other'")
    verdict = await sealed.verify()

    assert kinds(verdict) == [("entries_changed", 1), ("entries_changed", 2)]
    assert verdict.findings_total == 3


async def test_a_seal_covers_a_bounded_number_of_entries(
    store: Store, sealed: Seals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that comes late catches up in several seals, page by page."""
    monkeypatch.setattr(sealing, "SEALED_AT_ONCE", 4)
    monkeypatch.setattr(sealing, "PAGE_ENTRIES", 3)
    monkeypatch.setattr(verifying, "PAGE_ENTRIES", 3)
    monkeypatch.setattr(verifying, "PAGE_SEALS", 2)
    await write(store, *"abcdefghij")
    last = await sealed.seal()
    verdict = await sealed.verify()

    assert last is not None
    assert (last.number, last.first, last.last) == (3, 9, 10)
    assert (verdict.is_intact, verdict.seals, verdict.entries) == (True, 3, 10)


async def test_a_gap_in_the_numbers_does_not_stop_sealing(
    store: Store, sealed: Seals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other databases leave gaps, and so does a removed tail that was not sealed yet."""
    monkeypatch.setattr(sealing, "SEALED_AT_ONCE", 4)
    await write(store, "a")
    await sealed.seal()
    await sql(store, "UPDATE sqlite_sequence SET seq = 1000 WHERE name = 'audit'")
    await write(store, *"bc")
    await sealed.seal()
    verdict = await sealed.verify()

    assert verdict.is_intact
    assert (verdict.seals, verdict.entries, verdict.unsealed) == (3, 3, 0)


async def test_two_leaders_do_no_harm(store: Store, sealed: Seals) -> None:
    rival = Seals(store)
    if store.settings.root is None:
        rival._root = await sealed.root_key()  # in memory there is no file to share
    for group in ("abc", "def"):
        await write(store, *group)
        await asyncio.gather(*(one.seal() for one in (sealed, rival) * 3))
    verdict = await rival.verify()

    assert verdict.is_intact
    assert (verdict.entries, verdict.unsealed) == (6, 0)


@pytest.mark.parametrize("first_gone", [1, 2, 3])
async def test_seals_that_vanish_under_a_running_leader_are_logged(
    store: Store, sealed: Seals, capsys: pytest.CaptureFixture[str], first_gone: int
) -> None:
    """The leader seals anew what lies open, with as many seals or fewer."""
    await filled(store, sealed)
    await sql(store, f"DELETE FROM audit_seals WHERE number >= {first_gone}")
    await sealed.seal()

    assert "seals of the audit log were removed or replaced" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["", "1", "1.abc", f"0.{'0' * 64}", f"1.{'A' * 64}", "latest"])
async def test_what_is_no_head_is_refused(head: str) -> None:
    async with running_registry(None) as registry:
        answer = await registry.get(f"/api/v1/audit/verify?since={head}")

    assert (answer.status, answer.code) == (400, "invalid")


def test_canonical_bytes_are_fixed() -> None:
    """Seals of today must be verifiable for ever: these bytes never change."""
    seal = Seal(2, 4, 6, 3, b"p" * 32, b"s" * 32, 1_700_000_000_000_000)

    assert canonical(seal).hex() == (
        b"digestry-audit-seal-1\n".hex()
        + "01" + "0000000000000002"
        + "01" + "0000000000000004"
        + "01" + "0000000000000006"
        + "01" + "0000000000000003"
        + "01" + "00060a24181e4000"
        + "70" * 32
    )  # fmt: skip


async def test_canonical_entries_are_fixed(store: Store) -> None:
    await write(store, "é")
    [entry] = await search_audit_log(store, LOCAL, Wanted())

    assert canonical_entry(entry) == b"".join(
        (
            b"\x01" + (1).to_bytes(8, "big"),
            b"\x01" + entry.created_at.to_bytes(8, "big"),
            b"\x02\0\0\0\0\0\0\0\x09usr_local",
            b"\x02\0\0\0\0\0\0\0\x05local",
            b"\x02\0\0\0\0\0\0\0\x00",
            b"\x02\0\0\0\0\0\0\0\x06create",
            b"\x02\0\0\0\0\0\0\0\x05model",
            b"\x02\0\0\0\0\0\0\0\x02\xc3\xa9",
            b"\x02\0\0\0\0\0\0\0\x02\xc3\xa9",
            b"\x00",
            b"\x00",
            b'\x02\0\0\0\0\0\0\0\x0b{"of":"\xc3\xa9"}',
            b"\x02\0\0\0\0\0\0\0\x00",
        )
    )


# Over HTTP.


async def test_head_and_verdict_over_http() -> None:
    async with running_registry(None) as registry:
        empty = (await registry.get("/api/v1/audit/head")).json
        await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
        unsealed = (await registry.get("/api/v1/audit/head")).json
        seal = await registry.site.app[SEALS].seal()
        assert seal is not None
        head = (await registry.get("/api/v1/audit/head")).json
        intact = await registry.get(f"/api/v1/audit/verify?since={head['seal']['head']}")
        await sql(registry.store, "UPDATE audit SET actor = 'usr_other' WHERE id = 1")
        edited = (await registry.get("/api/v1/audit/verify")).json

    assert empty == {"seal": None, "unsealed": 0}
    assert unsealed["unsealed"] == seal.entries
    assert head["unsealed"] == 0
    assert head["seal"]["head"] == seal.head == f"1.{seal.seal.hex()}"
    assert intact.json["is_intact"] is True
    assert edited["is_intact"] is False
    assert [one["kind"] for one in edited["findings"]] == ["entries_changed"]


# The key.


async def test_the_key_is_made_with_the_first_need_and_found_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    async with opened(root) as store:
        made = await Seals(store).root_key()
        again = await Seals(store).root_key()

    assert (root / ROOT_FILE).exists()
    assert made.id == again.id


async def keyless(root: Path, lose: Callable[[Path], object]) -> None:
    """A store whose seals were made with a key that is then lost."""
    async with opened(root) as store:
        await filled(store, Seals(store))
    lose(root / ROOT_FILE)


def _replace(path: Path) -> None:
    path.unlink()
    make_root_key(path.parent.parent)


@pytest.mark.parametrize("lose", [Path.unlink, _replace], ids=["missing", "another"])
async def test_a_lost_key_is_never_replaced_silently(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    root = tmp_path / "data"
    await keyless(root, lose)
    before = load_root_key(root)
    async with opened(root) as store:
        with pytest.raises(StoreRefused, match="digestry audit rekey"):
            await Seals(store).root_key()
        with pytest.raises(StoreRefused):
            await Seals(store).verify()

    after = load_root_key(root)
    assert (None if before is None else before.id) == (None if after is None else after.id)


async def test_beginning_again_says_what_cannot_be_verified_any_more(tmp_path: Path) -> None:
    root = tmp_path / "data"
    await keyless(root, Path.unlink)
    async with opened(root) as store:
        seals = Seals(store)
        made = await seals.begin_again(LOCAL)
        await write(store, "j")
        await seals.seal()
        verdict = await seals.verify()
        await sql(store, "UPDATE audit SET actor = 'usr_other' WHERE id = 11")
        edited = await seals.verify()
        [told] = await search_audit_log(store, LOCAL, Wanted(action="rekey"))

    assert kinds(verdict) == [("key_missing", 1), ("key_missing", 2), ("key_missing", 3)]
    assert ("entries_changed", 4) in kinds(edited)
    assert made.id in (told.after or "")
    async with opened(root) as store:
        assert (await Seals(store).root_key()).id == made.id


async def test_beginning_again_keeps_the_key_that_was_there(tmp_path: Path) -> None:
    root = tmp_path / "data"
    async with opened(root) as store:
        seals = Seals(store)
        await filled(store, seals)
        old = await seals.root_key()
        new = await seals.begin_again(LOCAL)

    assert old.id != new.id
    kept = root / f"{ROOT_FILE}.{old.id}"
    assert RootKey(kept.read_bytes()).id == old.id


async def test_hashing_a_page_leaves_the_hash_as_it_was(store: Store) -> None:
    """A unit may run more than once."""
    await write(store, *"abc")
    running = hmac.new(b"key", b"", "sha256")
    before = running.digest()
    page = await store.index.read(partial(_hashed, after=0, last=9, running=running))

    assert page is not None
    assert page.running.digest() != before
    assert running.digest() == before


async def test_verifying_takes_memory_for_a_page_not_for_the_log(
    store: Store, sealed: Seals
) -> None:
    """Forty entries of 64 KiB at each side are 5 MB; a page of four is half of one."""

    async def unit(tx: Tx) -> None:
        for number in range(40):
            await record(
                tx,
                LOCAL,
                Entry(
                    action="update",
                    kind="card",
                    id=str(number),
                    before={"text": "b" * 60_000},
                    after={"text": "a" * 60_000},
                ),
            )

    await store.index.run(unit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "PAGE_ENTRIES", 4)
        patch.setattr(verifying, "PAGE_ENTRIES", 4)
        tracemalloc.start()
        try:
            await sealed.seal()
            verdict = await sealed.verify()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert verdict.is_intact
    assert peak < 2_500_000
