"""Rows of reviews, lists of them, and the verdicts that count."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy import literal_column as constant

from registry.catalog.schema import reviews
from registry.domain.reviews import Review
from registry.domain.scoring.evidence import Reviews
from store.index.transactions import Row, Statement, Tx

_r = reviews.c
_FIELDS: Final = {
    "id": _r.id,
    "version_id": _r.version,
    "reviewer": _r.reviewer,
    "verdict": _r.verdict,
    "comment": _r.comment,
    "counts": _r.counts,
    "created_at": _r.created_at,
    "created_by": _r.created_by,
    "updated_at": _r.updated_at,
    "changes": _r.changes,
}
_COLUMNS: Final = tuple(_FIELDS.values())
_BY_ID = Statement(lambda: select(*_COLUMNS).where(_r.id == bindparam("id")))
_INSERT = Statement(
    lambda: insert(reviews).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_UPDATE = Statement(
    lambda: (
        update(reviews)
        .where(_r.id == bindparam("id_"))
        .values({name: bindparam(name) for name in ("verdict", "comment", "updated_at", "changes")})
    )
)
_DELETE = Statement(lambda: delete(reviews).where(_r.id == bindparam("id_")))
_ranked = (
    select(
        _r.verdict,
        func.row_number()
        .over(partition_by=_r.reviewer, order_by=(_r.created_at.desc(), _r.id.desc()))
        .label("rank"),
    )
    .where(
        _r.version == bindparam("version"),
        _r.counts == constant("1"),
        _r.verdict.in_((constant("'approve'"), constant("'reject'"))),
    )
    .subquery("ranked")
)
_VERDICTS = Statement(
    lambda: (
        select(_ranked.c.verdict, func.count())
        .where(_ranked.c.rank == constant("1"))
        .group_by(_ranked.c.verdict)
    )
)
_TOTALS = Statement(
    lambda: select(
        func.count(), func.coalesce(func.sum(constant("1") - _r.counts), constant("0"))
    ).where(_r.version == bindparam("version"))
)
_some = reviews.alias("some")
_DELETE_SOME = Statement(
    lambda: delete(reviews).where(
        _r.id.in_(
            select(_some.c.id)
            .where(_some.c.version == bindparam("version_"))
            .limit(bindparam("limit"))
        )
    )
)


def _review(row: Row) -> Review:
    values = dict(zip(_FIELDS, row, strict=True))
    return Review(**{**values, "counts": bool(values["counts"])})


async def find_review(tx: Tx, id: str) -> Review | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _review(row)


async def insert_review(tx: Tx, review: Review) -> None:
    await tx.run(_INSERT, **{**msgspec.structs.asdict(review), "counts": int(review.counts)})


async def update_review(tx: Tx, review: Review) -> None:
    """Write verdict and comment."""
    await tx.run(
        _UPDATE,
        id_=review.id,
        verdict=review.verdict,
        comment=review.comment,
        updated_at=review.updated_at,
        changes=review.changes,
    )


async def delete_review_row(tx: Tx, id: str) -> None:
    await tx.run(_DELETE, id_=id)


@cache
def _page(*, has_verdict: bool, has_place: bool) -> Statement:
    found = select(*_COLUMNS).where(_r.version == bindparam("version"))
    if has_verdict:
        found = found.where(_r.verdict == bindparam("verdict"))
    if has_place:
        place = tuple_(bindparam("after"), bindparam("id"))
        found = found.where(tuple_(_r.created_at, _r.id) < place)
    return Statement(found.order_by(_r.created_at.desc(), _r.id.desc()).limit(bindparam("limit")))


async def reviews_before(
    tx: Tx, version_id: str, place: tuple[int, str] | None, limit: int, *, verdict: str | None
) -> list[Review]:
    """A page, the latest made first, behind a place: its time and its id."""
    given: dict[str, Any] = {}
    if verdict is not None:
        given["verdict"] = verdict
    if place is not None:
        given["after"], given["id"] = place
    statement = _page(has_verdict=verdict is not None, has_place=place is not None)
    rows = await tx.all(statement, version=version_id, limit=limit, **given)
    return [_review(row) for row in rows]


async def count_verdicts(tx: Tx, version_id: str) -> Reviews:
    """Reviewers by their newest verdict that counts, and how many reviews there are."""
    verdicts: dict[str, int] = dict(await tx.all(_VERDICTS, version=version_id))
    totals = await tx.one(_TOTALS, version=version_id)
    assert totals is not None, "an aggregate"
    return Reviews(
        approvals=verdicts.get("approve", 0),
        rejections=verdicts.get("reject", 0),
        total=totals[0],
        uncounted=totals[1],
    )


async def delete_some_reviews(tx: Tx, version_id: str, limit: int) -> int:
    """Remove some of a version's reviews; how many."""
    return await tx.run(_DELETE_SOME, version_=version_id, limit=limit)
