"""Shapes of scores and reviews as JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.scores import Score
from registry.domain.reviews import COMMENT_CHARACTERS, UNCOUNTED, Review, Verdict
from registry.domain.scoring.metrics import METRICS, Kind, Metric, MetricName
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339
from registry.services.reviews import ReviewPatch, ReviewWish
from registry.services.scoring import Rated

Comment = Annotated[
    str, Meta(max_length=COMMENT_CHARACTERS, examples=["checked on the holdout set"])
]
MetricWanted = Annotated[MetricName, Meta(description="A metric of `/api/v1/scores/metrics`.")]
Evidence = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
Value = Annotated[float, Meta(ge=0, le=1, examples=[0.75])]


# Scores.


class RateBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to compute; without names everything."""

    metrics: Annotated[list[MetricName], Meta(max_length=len(METRICS))] = []


class HistoryQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which scores to list."""

    metric: MetricWanted | None = None


class ScoreAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one version, computed once. Without a value there is a reason."""

    rating: str
    """Shared by what was computed together."""
    metric: str
    value: Value | None
    reason: str | None
    evidence: Evidence
    """What was looked at, and what it amounted to."""
    seconds: float
    """What gathering the evidence and computing took."""
    rated_at: str
    rated_by: str


class OverallAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The weighted mean of the metrics that have a value; `coverage` is the weight of those."""

    value: Value | None
    coverage: Value
    without_evidence: list[str]
    not_rated: list[str]


class ScoresAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The latest score of each metric, in the order of the metrics."""

    version: str
    overall: OverallAnswer
    scores: list[ScoreAnswer]


class DescribedMetric(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric asks, of which evidence, and where its definition comes from."""

    name: str
    title: str
    question: str
    weight: float
    """Its share of the overall score."""
    evidence: list[str]
    kinds: list[Kind]
    """What it makes sense for."""
    definition: str
    source: str


class MetricsDescribed(msgspec.Struct, frozen=True):
    """All metrics, in their order."""

    items: list[DescribedMetric]


def score_answer(score: Score) -> ScoreAnswer:
    return ScoreAnswer(
        rating=score.rating,
        metric=score.metric,
        value=score.value,
        reason=score.reason or None,
        evidence=msgspec.Raw(score.evidence.encode()),
        seconds=score.seconds,
        rated_at=rfc3339(score.created_at),
        rated_by=score.created_by,
    )


def scores_answer(rated: Rated) -> ScoresAnswer:
    found = rated.overall
    return ScoresAnswer(
        version=rated.version.id,
        overall=OverallAnswer(
            value=found.value,
            coverage=found.coverage,
            without_evidence=list(found.without_evidence),
            not_rated=list(found.not_rated),
        ),
        scores=[score_answer(score) for score in rated.scores],
    )


def described(metric: Metric) -> DescribedMetric:
    return DescribedMetric(
        name=metric.name,
        title=metric.title,
        question=metric.question,
        weight=metric.weight,
        evidence=list(metric.parts),
        kinds=list(metric.kinds),
        definition=" ".join((metric.score.__doc__ or "").split()),
        source=metric.source,
    )


# Reviews.


class ReviewBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A review to write."""

    verdict: Verdict
    comment: Comment = ""

    def wish(self) -> ReviewWish:
        return ReviewWish(self.verdict, self.comment)


class ReviewPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, a comment of null goes."""

    verdict: Verdict | UnsetType = UNSET
    comment: Comment | UnsetType | None = UNSET

    def patch(self) -> ReviewPatch:
        comment = "" if self.comment is None else self.comment
        return ReviewPatch(verdict=self.verdict, comment=comment)


class ReviewsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which reviews to list."""

    verdict: Annotated[Verdict, Meta(description="Only with this verdict.")] | None = None


class ReviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one reviewer says of one version."""

    id: str
    version: str
    reviewer: str
    verdict: Verdict
    comment: str
    counts: bool
    """Whether the verdict can count: the reviewer can be told apart from the author."""
    reason: str | None
    """Why it does not count."""
    created_at: str
    updated_at: str


def review_answer(review: Review) -> ReviewAnswer:
    return ReviewAnswer(
        id=review.id,
        version=review.version_id,
        reviewer=review.reviewer,
        verdict=review.verdict,  # type: ignore[arg-type]  # the table keeps no other words
        comment=review.comment,
        counts=review.counts,
        reason=None if review.counts else UNCOUNTED,
        created_at=rfc3339(review.created_at),
        updated_at=rfc3339(review.updated_at),
    )
