"""Collection takes what nobody needs, by a plan that stays safe, and can be undone."""

from __future__ import annotations

import asyncio
from functools import partial

import msgspec
import pytest

from store.clock import SECOND
from store.digest import Digest
from store.errors import CollectionRefused
from store.gc import COLLECTION_OFF, CollectionPlan, Collector, _announce
from store.index import blobs as rows
from store.index import claims, state
from store.opening import Store
from tests.store.conftest import ManualClock
from tests.support.storing import OWNER, content_of, put, release, row_of

CONTENT = b"nobody needs this"
DIGEST = Digest.of(CONTENT)
KEPT = Digest.of(b"kept")


async def unclaimed(store: Store, clock: ManualClock, content: bytes = CONTENT) -> Digest:
    """A blob that nobody has claimed for longer than the grace period, beside one that is kept."""
    await put(store, b"kept")
    digest = await put(store, content)
    await release(store, digest)
    clock.advance(store.settings.grace_seconds + 1)
    return digest


def named(plan: CollectionPlan) -> set[str]:
    return {blob.digest for blob in plan.blobs}


async def test_what_nobody_needs_is_planned_and_taken(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)

    plan = await store.collector.plan()
    report = await store.collector.apply(plan)

    assert {str(DIGEST)} == named(plan)
    assert (1, len(CONTENT), 0) == (report.collected, report.bytes, report.skipped)
    assert await row_of(store, DIGEST) is None
    assert [info.digest async for page in store.blobs.list() for info in page] == [KEPT]
    assert (await store.collector.status()).collected == 1


async def test_planning_changes_nothing(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    before = await row_of(store, DIGEST)

    await store.collector.plan()

    assert before == await row_of(store, DIGEST)
    assert await content_of(store, DIGEST) == CONTENT


async def test_references_keep(store: Store, clock: ManualClock) -> None:
    await put(store, CONTENT)
    clock.advance(10**9)

    assert set() == named(await store.collector.plan())


async def test_leases_keep_until_they_expire(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    lease = partial(
        claims.add_lease, digest=DIGEST, holder="work_1", expires_at=clock() + 60 * SECOND
    )
    await store.index.run(lease)

    assert set() == named(await store.collector.plan())
    clock.advance(61)
    assert {str(DIGEST)} == named(await store.collector.plan())


async def test_youth_keeps(store: Store, clock: ManualClock) -> None:
    """The grace age counts from the last claim, given up or not."""
    await put(store, CONTENT)
    clock.advance(10**6)
    await release(store, DIGEST)
    clock.advance(store.settings.grace_seconds - 1)
    assert set() == named(await store.collector.plan())
    clock.advance(1)

    assert {str(DIGEST)} == named(await store.collector.plan())


async def test_an_old_plan_takes_nothing_that_was_claimed_since(
    store: Store, clock: ManualClock
) -> None:
    await unclaimed(store, clock)
    await unclaimed(store, clock, b"leased")
    await unclaimed(store, clock, b"touched")
    plan = await store.collector.plan()
    await put(store, CONTENT)
    await store.index.run(
        partial(
            claims.add_lease,
            digest=Digest.of(b"leased"),
            holder="w",
            expires_at=clock() + SECOND,
        )
    )
    await put(store, b"touched")
    await release(store, Digest.of(b"touched"))

    report = await store.collector.apply(plan)

    assert (report.collected, report.skipped) == (0, 3)
    assert await content_of(store, DIGEST) == CONTENT


async def test_an_old_plan_does_not_know_a_new_generation(store: Store, clock: ManualClock) -> None:
    """Collected, stored again and given up again: the plan named another blob."""
    await unclaimed(store, clock)
    plan = await store.collector.plan()
    await store.collector.apply(plan)
    await unclaimed(store, clock)

    assert (await store.collector.apply(plan)).skipped == 1
    assert await content_of(store, DIGEST) == CONTENT


async def test_plans_travel_as_json(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    plan = await store.collector.plan()

    again = msgspec.json.decode(msgspec.json.encode(plan), type=CollectionPlan)

    assert plan == again
    assert (await store.collector.apply(again)).collected == 1


async def test_undo_brings_everything_back(store: Store, clock: ManualClock) -> None:
    digests = [await unclaimed(store, clock, b"%d" % n) for n in range(250)]
    plan = await store.collector.plan()
    await store.collector.apply(plan)

    report = await store.collector.undo(plan.id)

    assert (report.returned, report.superseded) == (250, 0)
    assert {KEPT, *digests} == {info.digest async for page in store.blobs.list() for info in page}
    for digest in digests[:5]:
        row = await row_of(store, digest)
        assert row is not None
        assert row.is_present
    assert (await store.collector.status()).collected == 0


async def test_undo_leaves_what_was_stored_again(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    plan = await store.collector.plan()
    await store.collector.apply(plan)
    await put(store, CONTENT)
    before = await row_of(store, DIGEST)

    report = await store.collector.undo(plan.id)

    assert (report.returned, report.superseded) == (0, 1)
    assert before == await row_of(store, DIGEST)
    assert await content_of(store, DIGEST) == CONTENT
    assert [aside async for aside in store.blobs.list_aside()] == []


async def test_purging_waits_for_the_undo_window(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    plan = await store.collector.plan()
    await store.collector.apply(plan)
    clock.advance(store.settings.undo_seconds - 1)
    assert (await store.collector.purge()).purged == 0
    clock.advance(1)

    report = await store.collector.purge()

    assert (1, len(CONTENT)) == (report.purged, report.bytes)
    assert [aside async for aside in store.blobs.list_aside()] == []
    assert (await store.collector.undo(plan.id)).returned == 0


async def test_damaged_blobs_nobody_needs_lose_their_row(store: Store, clock: ManualClock) -> None:
    await unclaimed(store, clock)
    row = await row_of(store, DIGEST)
    assert row is not None
    await store.quarantine.convict(DIGEST, row.generation)

    assert (await store.collector.apply(await store.collector.plan())).collected == 1
    assert await row_of(store, DIGEST) is None


def strict(store: Store, share: float) -> Collector:
    return Collector(
        store.blobs,
        store.index,
        store.quarantine,
        store_id=store.store_id,
        identify=store.collector._identify,
        grace_seconds=store.settings.grace_seconds,
        undo_seconds=store.settings.undo_seconds,
        max_share=share,
    )


async def refused(collector: Collector) -> str:
    plan = await collector.plan()
    with pytest.raises(CollectionRefused) as caught:
        await collector.apply(plan)
    assert plan.refused == caught.value.reason
    return caught.value.reason


async def test_too_large_a_share_is_refused(store: Store, clock: ManualClock) -> None:
    await put(store, bytes(len(CONTENT) - len(b"kept")))
    await unclaimed(store, clock)

    assert "50 %" in await refused(strict(store, 0.49))
    assert (await strict(store, 0.5).apply(await strict(store, 0.5).plan())).collected == 1


async def test_a_directory_of_another_store_is_refused(store: Store, clock: ManualClock) -> None:
    async def somebody_else() -> str:
        return "sto_other"

    await put(store, b"x" * 100)
    await unclaimed(store, clock)
    collector = strict(store, 1.0)
    collector._identify = somebody_else

    assert "sto_other" in await refused(collector)


async def test_an_unconfirmed_index_is_refused(store: Store, clock: ManualClock) -> None:
    await put(store, b"x" * 100)
    await unclaimed(store, clock)
    await store.index.run(partial(state.put_state, key=COLLECTION_OFF, value="look first"))

    assert await refused(store.collector) == "look first"
    await store.collector.confirm()
    assert (await store.collector.apply(await store.collector.plan())).collected == 1


async def test_an_index_without_references_is_refused(store: Store, clock: ManualClock) -> None:
    """It looks like one whose references were lost, and everything would go."""
    await unclaimed(store, clock)
    await release(store, KEPT)
    clock.advance(store.settings.grace_seconds + 1)

    assert "no reference" in await refused(strict(store, 1.0))


async def test_a_plan_of_another_store_is_refused(store: Store) -> None:
    plan = await store.collector.plan()
    with pytest.raises(CollectionRefused):
        await store.collector.apply(msgspec.structs.replace(plan, store_id="sto_other"))


@pytest.mark.parametrize("stage", ["announced", "moved", "lost"])
async def test_interrupted_moves_are_settled(store: Store, clock: ManualClock, stage: str) -> None:
    """Before the file moved: present again. After: collected. In neither place: damaged."""
    await unclaimed(store, clock)
    plan = await store.collector.plan()
    row = await row_of(store, DIGEST)
    assert row is not None
    await store.index.run(partial(_announce, batch=plan.blobs, before=clock(), collection=plan.id))
    if stage != "announced":
        await store.blobs.set_aside(DIGEST, row.generation)
    if stage == "lost":
        await store.blobs.discard_aside(DIGEST, row.generation)

    assert await store.quarantine.settle() == 1

    after = await row_of(store, DIGEST)
    states = {"announced": rows.PRESENT, "moved": None, "lost": rows.DAMAGED}
    assert states[stage] == (None if after is None else after.state)
    assert (stage == "moved") == ((await store.collector.status()).collected == 1)
    assert await store.quarantine.settle() == 0


async def test_uploads_run_on_while_collecting(store: Store, clock: ManualClock) -> None:
    for n in range(300):
        await unclaimed(store, clock, b"%d" % n)
    plan = await store.collector.plan()

    _, *digests = await asyncio.gather(
        store.collector.apply(plan), *(put(store, b"new %d" % n) for n in range(20))
    )

    present = {info.digest async for page in store.blobs.list() for info in page}
    assert {KEPT, *digests} == present
    assert await store.index.read(lambda tx: claims.owner_holds(tx, digests[0], OWNER))


async def test_progress_is_told(store: Store, clock: ManualClock) -> None:
    for n in range(150):
        await unclaimed(store, clock, b"%d" % n)
    told: list[tuple[int, int]] = []

    await store.collector.apply(
        await store.collector.plan(), lambda done, total: told.append((done, total))
    )

    assert told == [(100, 150), (150, 150)]
