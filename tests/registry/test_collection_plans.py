"""The plan that was shown is the plan that is applied, however many pieces it is kept in."""

from __future__ import annotations

import pytest

from registry.errors import NotFound
from registry.services import plans
from registry.services.plans import forget_plan, keep_plan, kept_plan, summarised
from store.digest import Digest
from store.gc import CollectionPlan, PlannedBlob
from store.opening import Store
from tests.support.builders import Registry


def plan_of(id: str, count: int) -> CollectionPlan:
    blobs = [
        PlannedBlob(str(Digest.of(b"%d" % number)), 1, number, "present", 0)
        for number in range(count)
    ]
    return CollectionPlan(
        id=id,
        store_id="sto_x",
        made_at=1,
        grace_seconds=2,
        blobs=blobs,
        bytes=3,
        is_complete=True,
        stored_blobs=count,
        stored_bytes=4,
        refused=None,
    )


async def pieces_in(registry: Registry) -> int:
    rows = await registry.rows("SELECT count(*) FROM store_state WHERE key LIKE '%plan%'")
    return int(rows[0][0])


@pytest.fixture
def index(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(plans, "PIECE_BLOBS", 3)
    return registry.store


@pytest.mark.parametrize("count", [0, 1, 3, 10])
async def test_a_plan_is_kept_whole(registry: Registry, index: Store, count: int) -> None:
    plan = plan_of("col_a", count)
    await keep_plan(index.index, plan)

    assert await kept_plan(index.index, "col_a") == plan
    assert await pieces_in(registry) == 1 + -(-count // 3)


async def test_another_plan_takes_its_place_and_leaves_nothing(
    registry: Registry, index: Store
) -> None:
    await keep_plan(index.index, plan_of("col_a", 10))
    await keep_plan(index.index, plan_of("col_b", 2))

    with pytest.raises(NotFound):
        await kept_plan(index.index, "col_a")
    assert len((await kept_plan(index.index, "col_b")).blobs) == 2
    await forget_plan(index.index)
    assert await pieces_in(registry) == 0


async def test_a_plan_whose_pieces_are_others_is_none(registry: Registry, index: Store) -> None:
    """As a crash leaves it that came while another plan was being kept."""
    await keep_plan(index.index, plan_of("col_a", 10))
    piece = plans._Piece("col_b", [])
    await plans._put(index.index, plans._piece_key(2), piece)

    with pytest.raises(NotFound):
        await kept_plan(index.index, "col_a")


async def test_the_largest_blobs_are_shown(index: Store) -> None:
    shown = await summarised(plan_of("col_a", 100))

    assert [blob.size_bytes for blob in shown.largest] == list(range(99, 79, -1))
    assert shown.blobs == 100
