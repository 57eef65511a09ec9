"""The collection plan that was made last, kept so that what was shown is what is applied.

It may name a hundred thousand blobs, so it is kept in pieces: each is encoded, written and read in
a moment, and whoever waits for the event loop or to write is not kept waiting by the others. The
head is written last and names its pieces, which name their plan.
"""

from __future__ import annotations

import asyncio
from functools import partial
from heapq import nsmallest
from typing import Final

import msgspec

from registry.errors import NotFound
from store.gc import CollectionPlan, PlannedBlob
from store.index import state
from store.index.transactions import Index, Tx

SHOWN_BLOBS: Final = 20

PIECE_BLOBS: Final = 2_000

_HEAD: Final = "operation.plan.head"
_PIECE: Final = "operation.plan.piece"


class _Head(msgspec.Struct, frozen=True):
    """A plan without its blobs, and how many pieces have them."""

    plan: CollectionPlan
    pieces: int


class _Piece(msgspec.Struct, frozen=True):
    plan: str
    blobs: list[PlannedBlob]


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
    await forget_plan(index)
    starts = range(0, len(plan.blobs), PIECE_BLOBS)
    for number, start in enumerate(starts):
        piece = _Piece(plan.id, plan.blobs[start : start + PIECE_BLOBS])
        await _put(index, _piece_key(number), piece)
    await _put(index, _HEAD, _Head(msgspec.structs.replace(plan, blobs=[]), len(starts)))


async def kept_plan(index: Index, plan_id: str) -> CollectionPlan:
    """The plan of that id; raises `NotFound` when another took its place or it was applied."""
    head = await index.read(_read_head)
    if head is None or head.plan.id != plan_id:
        raise NotFound("plan", plan_id)
    blobs: list[PlannedBlob] = []
    for number in range(head.pieces):
        piece = await index.read(partial(_read_piece, key=_piece_key(number)))
        if piece is None or piece.plan != plan_id:
            raise NotFound("plan", plan_id)
        blobs += piece.blobs
    return msgspec.structs.replace(head.plan, blobs=blobs)


async def forget_plan(index: Index) -> None:
    """Let go of the plan: it was applied, or another takes its place."""
    await index.run(partial(state.put_state, key=_HEAD, value=None))
    while (found := await index.read(partial(state.first_state, prefix=_PIECE))) is not None:
        await index.run(partial(state.put_state, key=_PIECE + found[0], value=None))


def _piece_key(number: int) -> str:
    return f"{_PIECE}.{number:06d}"


async def _put(index: Index, key: str, value: _Head | _Piece) -> None:
    text = msgspec.json.encode(value).decode()
    await index.run(partial(state.put_state, key=key, value=text))


async def _read_head(tx: Tx) -> _Head | None:
    text = await state.get_state(tx, _HEAD)
    return None if text is None else msgspec.json.decode(text, type=_Head)


async def _read_piece(tx: Tx, key: str) -> _Piece | None:
    """Decoded where it is read, which is not on the event loop."""
    text = await state.get_state(tx, key)
    return None if text is None else msgspec.json.decode(text, type=_Piece)


async def summarised(plan: CollectionPlan) -> PlanSummary:
    """What is shown of a plan; looked for in a thread, as there may be many blobs."""
    return await asyncio.to_thread(summary_of, plan)


def summary_of(plan: CollectionPlan) -> PlanSummary:
    """What is shown of a plan."""
    largest = nsmallest(SHOWN_BLOBS, plan.blobs, key=lambda blob: -blob.size_bytes)
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
