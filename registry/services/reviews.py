"""Reviews of versions: written, found, changed and taken back by whoever wrote them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.reviews import (
    delete_review_row,
    find_review,
    insert_review,
    reviews_before,
    update_review,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import REVIEW, new_id
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.reviews import Review, Verdict, does_count, require_reviewer
from registry.errors import NotFound
from registry.services.change import change
from registry.services.resolve import require_model
from registry.services.run_places import require_version
from store.index.transactions import Tx
from store.opening import Store


class ReviewWish(msgspec.Struct, frozen=True):
    """A review to write."""

    verdict: Verdict
    comment: str = ""


class ReviewPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays."""

    verdict: Verdict | UnsetType = UNSET
    comment: str | UnsetType = UNSET


class ReviewPage(msgspec.Struct, frozen=True):
    items: list[Review]
    next: tuple[int, str] | None


class _Place(msgspec.Struct, frozen=True):
    model: Model
    version: Version


async def create_review(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    wish: ReviewWish,
) -> Review:
    """Write a review; raises `NotFound`, and `Denied`, code ``review_of_own_version``."""
    id = new_id(REVIEW, store.clock())

    async def unit(tx: Tx) -> Review:
        place = await _require(tx, principal, model, version)
        review = Review(
            id=id,
            version_id=place.version.id,
            reviewer=principal.id,
            verdict=wish.verdict,
            comment=wish.comment,
            counts=does_count(principal.id, place.version.created_by),
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await insert_review(tx, review)
        await record(tx, principal, _entry("create", place, review, after=_said(review)))
        return review

    return await change(store, principal, unit)


async def get_review(
    store: Store, principal: Principal, model: ModelReference, version: VersionReference, id: str
) -> Review:
    """One review of that version; raises `NotFound`."""

    async def unit(tx: Tx) -> Review:
        return (await _find(tx, principal, model, version, id))[1]

    return await store.index.look(unit)


async def list_reviews(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    *,
    verdict: Verdict | None,
    after: tuple[int, str] | None,
    limit: int,
) -> ReviewPage:
    """A page, the latest made first."""

    async def unit(tx: Tx) -> ReviewPage:
        place = await _require(tx, principal, model, version)
        found = await reviews_before(tx, place.version.id, after, limit + 1, verdict=verdict)
        last = found[limit - 1] if len(found) > limit else None
        return ReviewPage(found[:limit], None if last is None else (last.created_at, last.id))

    return await store.index.read(unit)


async def change_review(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    id: str,
    patch: ReviewPatch,
    expected: Expected = ANYTHING,
) -> Review:
    """Say something else; raises `Denied`, code ``review_of_another``, for others' reviews."""

    async def unit(tx: Tx) -> Review:
        place, before = await _find(tx, principal, model, version, id)
        require_reviewer(before, principal.id)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(
            before,
            verdict=before.verdict if patch.verdict is UNSET else patch.verdict,
            comment=before.comment if patch.comment is UNSET else patch.comment,
        )
        if after == before:
            return before
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_review(tx, after)
        await record(
            tx, principal, _entry("update", place, after, before=_said(before), after=_said(after))
        )
        return after

    return await change(store, principal, unit)


async def delete_review(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    id: str,
    expected: Expected = ANYTHING,
) -> None:
    """Take a review back; what it said stays in the audit log."""

    async def unit(tx: Tx) -> None:
        place, found = await _find(tx, principal, model, version, id)
        require_reviewer(found, principal.id)
        expected.require(found.id, found.changes)
        await delete_review_row(tx, found.id)
        await record(tx, principal, _entry("delete", place, found, before=_said(found)))

    await change(store, principal, unit)


async def _require(
    tx: Tx, principal: Principal, model: ModelReference, version: VersionReference
) -> _Place:
    found = await require_model(tx, principal, model)
    return _Place(*await require_version(tx, principal, found, version))


async def _find(
    tx: Tx, principal: Principal, model: ModelReference, version: VersionReference, id: str
) -> tuple[_Place, Review]:
    place = await _require(tx, principal, model, version)
    found = await find_review(tx, id)
    if found is None or found.version_id != place.version.id:
        name = f"{id} of {place.version.name} of {place.model.name}"
        raise NotFound("review", name, code="review_not_found")
    return place, found


def _said(review: Review) -> dict[str, Any]:
    return {
        "version": review.version_id,
        "reviewer": review.reviewer,
        "verdict": review.verdict,
        "comment": review.comment,
        "counts": review.counts,
    }


def _entry(
    action: str, place: _Place, review: Review, *, before: Any = None, after: Any = None
) -> Entry:
    return Entry(
        action=action,
        kind="review",
        id=review.id,
        name=place.version.name,
        model=place.model.id,
        before=before,
        after=after,
    )
