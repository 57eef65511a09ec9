"""Tables of training: experiments, runs with their series of metrics, and metrics of versions."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Table,
    Text,
)

from registry.catalog.schema.base import (
    COUNTER,
    changed,
    deleted,
    live_index,
    made,
    metadata,
    one_of,
    within,
)
from store.index.partial import only

RUN_STATUSES: Final = ("running", "succeeded", "failed", "cancelled", "timeout")
SPLITS: Final = ("train", "validation", "test", "production")
SPECIALS: Final = ("NaN", "Infinity", "-Infinity")

experiments = Table(
    "experiments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("description", Text, nullable=False),
    # A JSON object of texts.
    Column("tags", Text, nullable=False),
    *made(),
    *changed(),
    *deleted(),
    within("name", 200, "experiment_name", least=1),
    within("description", 16384, "experiment_description"),
    within("tags", 65536, "experiment_tags"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="experiment_deleted"),
    sqlite_with_rowid=False,
)
live_index("experiments_by_name", experiments.c.namespace, experiments.c.folded, unique=True)
live_index("experiments_by_creation", experiments.c.created_at, experiments.c.id)
# Of deleted ones too, so that removing a namespace need not look at every experiment.
Index(
    "experiments_by_namespace",
    experiments.c.namespace,
    experiments.c.deleted_at,
    experiments.c.created_at,
    experiments.c.id,
)
Index(
    "experiments_deleted",
    experiments.c.deleted_at,
    experiments.c.id,
    **only(experiments.c.deleted_at.is_not(None)),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # Who sees it is decided there: at its model, else at the namespace of its experiment, else at
    # whoever made it.
    Column("owner", Text, nullable=False),
    Column("experiment", Text, ForeignKey("experiments.id")),
    # The model it trains, and the version it made or belongs to; a version brings its model.
    Column("model", Text, ForeignKey("models.id")),
    Column("version", Text, ForeignKey("versions.id")),
    Column("status", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("dataset_version", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # NULL: nobody said.
    Column("gpu_hours", Float),
    Column("cost_usd", Float),
    *made(),
    *changed(),
    *deleted(),
    within("name", 200, "run_name"),
    one_of("status", RUN_STATUSES, "run_status"),
    CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="run_ended"),
    CheckConstraint("ended_at >= started_at", name="run_order"),
    CheckConstraint("version IS NULL OR model IS NOT NULL", name="run_version"),
    CheckConstraint("gpu_hours >= 0", name="run_gpu_hours"),
    CheckConstraint("cost_usd >= 0", name="run_cost"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="run_deleted"),
    within("dataset", 400, "run_dataset"),
    within("dataset_version", 200, "run_dataset_version"),
    sqlite_with_rowid=False,
)
# Every list is newest first, along the filter that leaves the fewest. What cost summaries add up
# stands in two of the indexes, so that they read no rows. Those by what a run belongs to have the
# deleted runs too: whoever removes that looks there for runs that still name it.
live_index(
    "runs_by_start",
    runs.c.started_at,
    runs.c.id,
    runs.c.cost_usd,
    runs.c.gpu_hours,
    runs.c.model,
)
live_index("runs_by_status", runs.c.status, runs.c.started_at, runs.c.id)
Index("runs_by_experiment", runs.c.experiment, runs.c.started_at, runs.c.id)
Index(
    "runs_by_model",
    runs.c.model,
    runs.c.started_at,
    runs.c.id,
    runs.c.cost_usd,
    runs.c.gpu_hours,
    runs.c.deleted_at,
)
# Who sees few owners gets the runs of those, and what they cost.
Index(
    "runs_by_owner",
    runs.c.owner,
    runs.c.started_at,
    runs.c.id,
    runs.c.cost_usd,
    runs.c.gpu_hours,
    runs.c.model,
    runs.c.deleted_at,
)
Index("runs_by_version", runs.c.version, runs.c.started_at, runs.c.id)
Index(
    "runs_deleted",
    runs.c.deleted_at,
    runs.c.id,
    **only(runs.c.deleted_at.is_not(None)),
)

run_details = Table(
    "run_details",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("description", Text, nullable=False),
    # JSON objects; secrets of the environment were replaced before they came here.
    Column("hyperparameters", Text, nullable=False),
    Column("environment", Text, nullable=False),
    # A JSON list of names in the environment that promise a secret and hold none.
    Column("unmasked", Text, nullable=False),
    within("description", 16384, "run_detail_description"),
    sqlite_with_rowid=False,
)

run_series = Table(
    "run_series",
    metadata,
    # A number, because every point carries it.
    Column("id", COUNTER, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    Column("key", Text, nullable=False),
    # How many points it has.
    Column("points", BigInteger, nullable=False),
    within("key", 250, "run_series_key", least=1),
    CheckConstraint("points >= 0", name="run_series_points"),
)
Index("run_series_by_run", run_series.c.run, run_series.c.key, unique=True)

run_points = Table(
    "run_points",
    metadata,
    Column("series", BigInteger, ForeignKey("run_series.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("time", BigInteger, primary_key=True),
    # SQLite stores NaN as NULL, so what is not finite has its name in `special`.
    Column("value", Float),
    Column("special", Text),
    CheckConstraint("(value IS NULL) <> (special IS NULL)", name="run_point_value"),
    one_of("special", SPECIALS, "run_point_special"),
    sqlite_with_rowid=False,
)
# Charts show what is not finite too; it is rare, so finding it costs an index of next to nothing.
Index(
    "run_points_special",
    run_points.c.series,
    run_points.c.step,
    run_points.c.time,
    **only(run_points.c.special.is_not(None)),
)

version_metrics = Table(
    "version_metrics",
    metadata,
    Column("version", Text, ForeignKey("versions.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("split", Text, primary_key=True),
    # When it was measured, which may be before it was recorded.
    Column("time", BigInteger, primary_key=True),
    Column("value", Float),
    Column("special", Text),
    *made(),
    within("name", 250, "version_metric_name", least=1),
    one_of("split", SPLITS, "version_metric_split"),
    CheckConstraint("(value IS NULL) <> (special IS NULL)", name="version_metric_value"),
    one_of("special", SPECIALS, "version_metric_special"),
    sqlite_with_rowid=False,
)
