"""Old entries go by a checkpoint, what is left is still proven, and nobody is overtaken."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from registry.catalog import deliveries
from registry.catalog.seals import Seal
from registry.catalog.standings import Heads, changes_since
from registry.services import audit_retention
from registry.services.audit_retention import remove_old_entries
from registry.services.seals import Seals
from store.index.transactions import Tx
from store.opening import Store
from tests.registry.test_seals import filled, kinds, sql, write
from tests.support.clock import ManualClock
from tests.support.serving import opened

CHECKPOINT = "UPDATE store_state SET value = {} WHERE key = 'audit.checkpoint'"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[Store]:
    async with opened(None, clock=clock) as store:
        yield store


@pytest.fixture
def sealed(store: Store) -> Seals:
    return Seals(store)


@pytest.fixture
async def made(store: Store, sealed: Seals, clock: ManualClock) -> list[Seal]:
    """Three old seals over nine entries, and one of today over one."""
    old = await filled(store, sealed)
    clock.advance(100 * 86_400)
    await write(store, "j")
    last = await sealed.seal()
    assert last is not None
    return [*old, last]


@pytest.mark.parametrize("at_once", [1, 4, 1000])
async def test_what_is_left_is_still_proven(
    store: Store,
    sealed: Seals,
    made: list[Seal],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_retention, "AT_ONCE", at_once)
    assert await remove_old_entries(store, sealed, days=101) == 0
    assert await remove_old_entries(store, sealed, days=90) == 9
    assert await remove_old_entries(store, sealed, days=90) == 0

    for head in (None, made[0].head, made[2].head, made[3].head):
        found = await sealed.verify(head)
        assert (found.is_intact, found.findings) == (True, [])
        assert (found.removed_through, found.entries, found.seals) == (9, 1, 4)


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ("DELETE FROM store_state WHERE key = 'audit.checkpoint'", "entries_missing"),
        (CHECKPOINT.format("replace(value, '\"last\":9', '\"last\":10')"), "checkpoint_changed"),
        ("DELETE FROM audit WHERE id = 10", "entries_missing"),
        ("UPDATE audit SET id = 5 WHERE id = 10", "entries_added"),
        ("DELETE FROM audit_seals WHERE number = 2", "seal_missing"),
        ("UPDATE audit_seals SET seal = zeroblob(32) WHERE number = 3", "chain_broken"),
        ("DELETE FROM audit_seals WHERE number > 2", "seal_missing"),
    ],
)
async def test_what_a_checkpoint_does_not_say_is_found(
    store: Store, sealed: Seals, made: list[Seal], edit: str, found: str
) -> None:
    await remove_old_entries(store, sealed, days=90)
    await sql(store, edit)

    assert found in [kind for kind, _ in kinds(await sealed.verify())]


async def test_what_is_not_sealed_stays(store: Store, sealed: Seals, clock: ManualClock) -> None:
    await filled(store, sealed)
    await write(store, "j")
    clock.advance(100 * 86_400)

    assert await remove_old_entries(store, sealed, days=90) == 9
    assert (await sealed.verify()).unsealed == 1


async def test_webhooks_are_not_overtaken(
    store: Store, sealed: Seals, made: list[Seal], monkeypatch: pytest.MonkeyPatch
) -> None:

    async def since(_: Tx) -> int | None:
        return 5

    with monkeypatch.context() as listening:
        listening.setattr(deliveries, "heard_since", since)
        assert await remove_old_entries(store, sealed, days=90) == 3
    assert await remove_old_entries(store, sealed, days=90) == 6


async def test_a_gateway_that_slept_through_it_reads_everything_anew(
    store: Store, sealed: Seals, made: list[Seal]
) -> None:
    await remove_old_entries(store, sealed, days=90)

    async def since(tx: Tx, entry: int) -> bool:
        return await changes_since(tx, Heads(entry, 0), most=100) is None

    assert await store.index.read(lambda tx: since(tx, 8))
    assert not await store.index.read(lambda tx: since(tx, 9))
