"""Shapes of metrics as JSON: points of runs, metrics of versions, charts and comparisons."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from registry.api.wire_runs import ModelText, Moment, RunVersion
from registry.catalog.metrics import Metric
from registry.catalog.series import Point, Series
from registry.domain.numbers import Number
from registry.domain.runs import KEY_CHARACTERS, Split
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339
from registry.services.metrics import MOST_COMPARED, Comparison
from registry.services.series import (
    FEWEST_SAMPLED,
    MOST_CHARTED,
    MOST_POINTS,
    MOST_SAMPLED,
    Chart,
)

MOST_METRICS: Final = 1_000
"""Of one version in one call."""

Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="The name of a metric; slashes group.",
        examples=["train/loss"],
    ),
]
Value = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"],
    Meta(description="A number, or a word for one that JSON does not have.", examples=[0.25]),
]
Step = Annotated[int, Meta(ge=-(2**53), le=2**53, examples=[100])]
Keys = Annotated[
    list[Key],
    Meta(
        max_length=MOST_CHARTED,
        description="A series; as often as wanted. Without any: all.",
        examples=[["train/loss"]],
    ),
]


# Points of runs.


class PointBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of one metric; without a time it was measured now."""

    key: Key
    value: Value
    step: Step = 0
    time: Moment | None = None


class LogBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points of one run, of any number of series."""

    points: Annotated[list[PointBody], Meta(min_length=1, max_length=MOST_POINTS)]


class LogAnswer(msgspec.Struct, frozen=True):
    """How many points there were, and how many of them were not there before."""

    points: int
    new: int


class SeriesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which series to list."""

    prefix: Annotated[
        str,
        Meta(max_length=KEY_CHARACTERS, description="What their keys begin with.", examples=["a/"]),
    ] = ""


class PointsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which points to read back."""

    key: Keys = msgspec.field(default_factory=list)
    from_step: Annotated[Step, Meta(description="The first step.")] | None = None
    to_step: Annotated[Step, Meta(description="The last step, included.")] | None = None


class ChartQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which series to draw, and of how many points."""

    key: Annotated[
        list[Key],
        Meta(
            min_length=1,
            max_length=MOST_CHARTED,
            description="A series; as often as wanted.",
            examples=[["train/loss"]],
        ),
    ]
    points: Annotated[
        int,
        Meta(
            ge=FEWEST_SAMPLED, le=MOST_SAMPLED, description="How many points a series has at most."
        ),
    ] = 500
    from_step: Annotated[Step, Meta(description="The first step.")] | None = None
    to_step: Annotated[Step, Meta(description="The last step, included.")] | None = None


class LastPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The value at the highest step, and of those the latest."""

    value: Number
    step: int
    time: str


class SeriesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All points of one key: how many there are, and the last."""

    key: str
    points: int
    last: LastPoint | None


class PointAnswer(LastPoint, frozen=True, kw_only=True):
    """A value of one metric at a step and a time."""

    key: str


class ChartSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A series to draw: three lists of equal length. `total` is how many points it has in all."""

    key: str
    total: int
    sampled: bool
    steps: list[int]
    times: list[str]
    values: list[Number]


class ChartAnswer(msgspec.Struct, frozen=True):
    """The series in the order in which they were asked for."""

    series: list[ChartSeries]


def series_answer(series: Series) -> SeriesAnswer:
    last = series.last
    return SeriesAnswer(
        key=series.key,
        points=series.points,
        last=None
        if last is None
        else LastPoint(value=last.value, step=last.step, time=rfc3339(last.time)),
    )


def point_answer(key: str, point: Point) -> PointAnswer:
    return PointAnswer(key=key, value=point.value, step=point.step, time=rfc3339(point.time))


def chart_series(chart: Chart) -> ChartSeries:
    return ChartSeries(
        key=chart.key,
        total=chart.total,
        sampled=chart.is_sampled,
        steps=[point.step for point in chart.points],
        times=[rfc3339(point.time) for point in chart.points],
        values=[point.value for point in chart.points],
    )


# Metrics of versions.


class MetricBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured of a version, on which split; without a time it was measured now."""

    name: Key
    split: Split
    value: Value
    time: Moment | None = None


class MetricsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics to record, all or none."""

    metrics: Annotated[list[MetricBody], Meta(min_length=1, max_length=MOST_METRICS)]


class MetricsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which metrics to list."""

    name: Annotated[Key, Meta(description="Exactly this name.")] | None = None
    split: Annotated[Split, Meta(description="Measured on this split.")] | None = None


class LatestQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest of what."""

    per: Annotated[
        Literal["name", "split"], Meta(description="Of each name, or of each name and split.")
    ] = "name"


class CompareQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions."""

    version: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=400)]],
        Meta(
            min_length=1,
            max_length=MOST_COMPARED,
            description="A version of any model: `model:version`, `model@alias` or a `ver_` id; as "
            "often as wanted.",
            examples=[["nlp~bert:1.4.0", "nlp~bert@champion"]],
        ),
    ]


class MetricAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a version on one split, when, and who recorded it when."""

    name: str
    split: Split
    value: Number
    time: str
    created_at: str
    created_by: str


class MetricsAnswer(msgspec.Struct, frozen=True):
    """Metrics of one version."""

    items: list[MetricAnswer]


class ComparedVersionAnswer(RunVersion, frozen=True):
    """A version that is compared."""

    model: ModelText
    model_id: str


class ComparedMetricAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One name on one split: of each version the latest value and its time, null where none is."""

    name: str
    split: Split
    values: list[Number | None]
    times: list[str | None]


class ComparisonAnswer(msgspec.Struct, frozen=True):
    """Versions in the order in which they were asked for; `values` are in the same order."""

    versions: list[ComparedVersionAnswer]
    metrics: list[ComparedMetricAnswer]


def metric_answer(metric: Metric) -> MetricAnswer:
    return MetricAnswer(
        name=metric.name,
        split=metric.split,  # type: ignore[arg-type]  # the table holds nothing else
        value=metric.value,
        time=rfc3339(metric.time),
        created_at=rfc3339(metric.created_at),
        created_by=metric.created_by,
    )


def comparison_answer(found: Comparison) -> ComparisonAnswer:
    return ComparisonAnswer(
        versions=[
            ComparedVersionAnswer(
                one.version.id, one.version.number, one.version.label, one.model.name, one.model.id
            )
            for one in found.versions
        ],
        metrics=[
            ComparedMetricAnswer(
                name=row.name,
                split=row.split,  # type: ignore[arg-type]  # the table holds nothing else
                values=[None if one is None else one.value for one in row.metrics],
                times=[None if one is None else rfc3339(one.time) for one in row.metrics],
            )
            for row in found.rows
        ],
    )
