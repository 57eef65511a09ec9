"""Tables of judgement: the scores of versions, and what reviewers say of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)

from registry.catalog.schema.base import (
    COUNTER,
    changed,
    fact,
    made,
    metadata,
    one_of,
    within,
)

VERDICTS: Final = ("approve", "reject", "comment")

scores = Table(
    "scores",
    metadata,
    # Never given out twice, so that the highest of a metric is the latest.
    Column("id", COUNTER, primary_key=True),
    # What was computed together has one rating.
    Column("rating", Text, nullable=False),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    Column("metric", Text, nullable=False),
    # NULL: there is no evidence to say anything by, and `reason` says which is missing.
    Column("value", Float),
    Column("reason", Text, nullable=False),
    # What it was computed from, a JSON object.
    Column("evidence", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    *made(),
    within("metric", 40, "score_metric", least=1),
    CheckConstraint("value BETWEEN 0 AND 1", name="score_value"),
    CheckConstraint("(value IS NULL) = (reason <> '')", name="score_reason"),
    within("reason", 400, "score_reason_length"),
    within("evidence", 65536, "score_evidence", least=2),
    CheckConstraint("seconds >= 0", name="score_seconds"),
    sqlite_autoincrement=True,
)
# The latest of each metric is at the end of its part of the first one; histories of all metrics
# are read along the second.
Index("scores_by_metric", scores.c.version, scores.c.metric, scores.c.id)
Index("scores_by_version", scores.c.version, scores.c.id)

reviews = Table(
    "reviews",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("comment", Text, nullable=False),
    # Whether the reviewer could be told apart from the author: not in open mode.
    Column("counts", Integer, nullable=False),
    *made(),
    *changed(),
    one_of("verdict", VERDICTS, "review_verdict"),
    within("comment", 16384, "review_comment"),
    fact("counts", "review_counts"),
    sqlite_with_rowid=False,
)
Index("reviews_by_version", reviews.c.version, reviews.c.created_at, reviews.c.id)
