"""The collection plan that was made last, kept so that what was shown is what is applied."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from registry.errors import NotFound
from store.gc import CollectionPlan, PlannedBlob
from store.index import state
from store.index.transactions import Index

SHOWN_BLOBS: Final = 20

_PLAN: Final = "operation.plan"


class PlanSummary(msgspec.Struct, frozen=True):
    """A collection plan without its hundred thousand lines; `largest` shows some of them."""

    plan: str
    made_at: int
    grace_seconds: int
    blobs: int
    bytes: int
    is_complete: bool
    stored_blobs: int
    stored_bytes: int
    refused: str | None
    largest: list[PlannedBlob]


async def keep_plan(index: Index, plan: CollectionPlan) -> None:
    """Put a plan in the place of the last one."""
    text = msgspec.json.encode(plan).decode()
    await index.run(partial(state.put_state, key=_PLAN, value=text))


async def kept_plan(index: Index, plan_id: str) -> CollectionPlan:
    """The plan of that id; raises `NotFound` when another took its place or it was applied."""
    text = await index.read(partial(state.get_state, key=_PLAN))
    plan = None if text is None else msgspec.json.decode(text, type=CollectionPlan)
    if plan is None or plan.id != plan_id:
        raise NotFound("plan", plan_id)
    return plan


async def forget_plan(index: Index) -> None:
    """Let go of the plan: it was applied."""
    await index.run(partial(state.put_state, key=_PLAN, value=None))


def summary_of(plan: CollectionPlan) -> PlanSummary:
    """What is shown of a plan."""
    largest = sorted(plan.blobs, key=lambda blob: -blob.size_bytes)[:SHOWN_BLOBS]
    return PlanSummary(
        plan=plan.id,
        made_at=plan.made_at,
        grace_seconds=plan.grace_seconds,
        blobs=len(plan.blobs),
        bytes=plan.bytes,
        is_complete=plan.is_complete,
        stored_blobs=plan.stored_blobs,
        stored_bytes=plan.stored_bytes,
        refused=plan.refused,
        largest=largest,
    )
