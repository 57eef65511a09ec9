"""Shapes of experiments, runs and what they cost as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.costs import GroupSpent, Spent
from registry.catalog.runs import ListedRun
from registry.domain.names import DEFAULT_NAMESPACE
from registry.domain.references import parse_model, parse_reference
from registry.domain.runs import (
    NAME_CHARACTERS,
    FinalStatus,
    Run,
    RunStatus,
    parse_experiment,
)
from registry.errors import Invalid
from registry.http.cursors import CountedQuery
from registry.http.times import microseconds, rfc3339
from registry.services.experiments import MOST_TAGS, TAG_KEY, TAG_VALUE, FullExperiment
from registry.services.runs import MOST_UNMASKED, FullRun, RunPatch, RunQuestion, RunWish
from store.clock import SECOND

Namespace = Annotated[
    str, Meta(min_length=1, max_length=96, description="A namespace, by its slug or `nsp_` id.")
]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS, examples=["learning rates"])]
RunName = Annotated[str, Meta(max_length=NAME_CHARACTERS, examples=["lr 3e-4, seed 1"])]
Description = Annotated[str, Meta(max_length=16_384)]
Reason = Annotated[str, Meta(max_length=1024)]
TagKey = Annotated[str, Meta(min_length=1, max_length=TAG_KEY)]
TagValue = Annotated[str, Meta(max_length=TAG_VALUE)]
Tags = Annotated[
    dict[TagKey, TagValue], Meta(max_length=MOST_TAGS, examples=[{"goal": "baseline"}])
]
TagsPatch = Annotated[
    dict[TagKey, TagValue | None], Meta(max_length=MOST_TAGS, examples=[{"goal": None}])
]
ExperimentText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=300,
        description="An experiment: its `exp_` id, `namespace~name`, or a name in `default`.",
        examples=["nlp~learning rates"],
    ),
]
ModelText = Annotated[
    str, Meta(min_length=1, max_length=400, description="A model's name, or its `mdl_` id.")
]
VersionText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=160,
        description="Any way to name a version of `model`; without a model a `ver_` id.",
    ),
]
Moment = Annotated[datetime, Meta(tz=True, examples=["2026-11-20T12:30:00Z"])]
Amount = Annotated[float, Meta(ge=0, le=1e12, examples=[12.5])]
Free = Annotated[
    dict[str, Any],
    Meta(description="Any JSON object of at most 256 KiB.", examples=[{"learning_rate": 0.0003}]),
]
Environment = Annotated[
    dict[str, Any],
    Meta(
        description="Any JSON object of at most 64 KiB. What stands under the name of a secret is "
        "replaced before it is kept, unless `environment_unmasked` lists the name.",
        examples=[{"python": "3.12", "gpu": "8 x H100"}],
    ),
]
Unmasked = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=200)]],
    Meta(
        max_length=MOST_UNMASKED,
        description="Names in the environment that promise a secret and hold none.",
        examples=[["pad_token"]],
    ),
]
Dataset = Annotated[str, Meta(max_length=400, examples=["hf:datasets/allenai/c4"])]
DatasetVersion = Annotated[str, Meta(max_length=200, examples=["2026-10"])]


def moment(value: datetime, field: str) -> int:
    """A time as it is kept; raises `Invalid` for one before 1970, which no clock of today says."""
    found = microseconds(value)
    if found < 0:
        raise Invalid(field, "is before 1970")
    return found


# Experiments.


class ExperimentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment to make."""

    name: Name
    namespace: Namespace = DEFAULT_NAMESPACE
    description: Description = ""
    tags: Tags = {}


class ExperimentPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays; a tag of null goes, tags of null all go."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    tags: TagsPatch | UnsetType | None = UNSET


class ExperimentsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which experiments to list."""

    namespace: Namespace | None = None
    name: Annotated[Name, Meta(description="Exactly this name, in whichever case.")] | None = None
    tag: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=700,
                description="A key, or a key, `=` and a value.",
                examples=["goal=baseline"],
            ),
        ]
        | None
    ) = None
    deleted: Annotated[bool, Meta(description="Those that are deleted instead.")] = False


class ExperimentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A question that runs try to answer."""

    id: str
    namespace: str
    name: str
    description: str
    tags: dict[str, str]
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


def experiment_answer(full: FullExperiment) -> ExperimentAnswer:
    one = full.experiment
    return ExperimentAnswer(
        id=one.id,
        namespace=full.namespace.slug,
        name=one.name,
        description=one.description,
        tags=dict(one.tags),
        created_at=rfc3339(one.created_at),
        created_by=one.created_by,
        updated_at=rfc3339(one.updated_at),
        deleted_at=None if one.deleted_at is None else rfc3339(one.deleted_at),
        deleted_by=one.deleted_by,
    )


# Runs.


class RunBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run to tell of, while it runs or afterwards. Without times it starts, or ended, now."""

    name: RunName = ""
    experiment: ExperimentText | None = None
    model: ModelText | None = None
    version: VersionText | None = None
    status: RunStatus = "running"
    started_at: Moment | None = None
    ended_at: Moment | None = None
    gpu_hours: Amount | None = None
    cost_usd: Amount | None = None
    dataset: Dataset = ""
    dataset_version: DatasetVersion = ""
    description: Description = ""
    hyperparameters: Free = {}
    environment: Environment = {}
    environment_unmasked: Unmasked = []

    def wish(self) -> RunWish:
        return RunWish(
            name=self.name,
            experiment=None if self.experiment is None else parse_experiment(self.experiment),
            model=None if self.model is None else parse_model(self.model),
            version=None if self.version is None else parse_reference(self.version),
            status=self.status,
            started_at=None if self.started_at is None else moment(self.started_at, "started_at"),
            ended_at=None if self.ended_at is None else moment(self.ended_at, "ended_at"),
            gpu_hours=self.gpu_hours,
            cost_usd=self.cost_usd,
            dataset=self.dataset,
            dataset_version=self.dataset_version,
            description=self.description,
            hyperparameters=self.hyperparameters,
            environment=self.environment,
            unmasked=tuple(self.environment_unmasked),
        )


class RunPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, null takes back, objects are merged member by member.

    `started_at` and `status` cannot be taken back; `ended_at` corrects the end of a run that ended,
    or comes with the status that it ends in.
    """

    name: RunName | UnsetType | None = UNSET
    experiment: ExperimentText | UnsetType | None = UNSET
    model: ModelText | UnsetType | None = UNSET
    version: VersionText | UnsetType | None = UNSET
    status: RunStatus | UnsetType = UNSET
    started_at: Moment | UnsetType = UNSET
    ended_at: Moment | UnsetType = UNSET
    gpu_hours: Amount | UnsetType | None = UNSET
    cost_usd: Amount | UnsetType | None = UNSET
    dataset: Dataset | UnsetType | None = UNSET
    dataset_version: DatasetVersion | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    hyperparameters: Free | UnsetType | None = UNSET
    environment: Environment | UnsetType | None = UNSET
    environment_unmasked: Unmasked | UnsetType | None = UNSET
    reason: Reason = ""

    def patch(self) -> RunPatch:
        said: dict[str, Any] = {"reason": self.reason}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is UNSET or name == "reason":
                continue
            match name:
                case "experiment" | "model" | "version":
                    value = None if value is None else _PARSERS[name](value)
                case "started_at" | "ended_at":
                    value = moment(value, name)
                case "name" | "dataset" | "dataset_version" | "description":
                    value = value or ""
                case "environment_unmasked":
                    name, value = "unmasked", tuple(value or ())
            said[name] = value
        return RunPatch(**said)


_PARSERS: Final[dict[str, Any]] = {
    "experiment": parse_experiment,
    "model": parse_model,
    "version": parse_reference,
}


class FinishBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended, when, and what it took; it succeeded, and now, without saying."""

    status: FinalStatus = "succeeded"
    ended_at: Moment | None = None
    gpu_hours: Amount | UnsetType = UNSET
    cost_usd: Amount | UnsetType = UNSET
    reason: Reason = ""

    def patch(self) -> RunPatch:
        return RunPatch(
            status=self.status,
            ended_at=UNSET if self.ended_at is None else moment(self.ended_at, "ended_at"),
            gpu_hours=self.gpu_hours,
            cost_usd=self.cost_usd,
            reason=self.reason,
        )


class RunsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs to list; all conditions hold."""

    experiment: ExperimentText | None = None
    model: ModelText | None = None
    version: VersionText | None = None
    status: Annotated[RunStatus, Meta(description="How it went so far.")] | None = None
    since: Annotated[Moment, Meta(description="Started at this time or later.")] | None = None
    until: Annotated[Moment, Meta(description="Started before this time.")] | None = None
    deleted: Annotated[bool, Meta(description="Those that are deleted instead.")] = False

    def question(self) -> RunQuestion:
        return RunQuestion(
            experiment=None if self.experiment is None else parse_experiment(self.experiment),
            model=None if self.model is None else parse_model(self.model),
            version=None if self.version is None else parse_reference(self.version),
            status=self.status,
            since=None if self.since is None else moment(self.since, "since"),
            until=None if self.until is None else moment(self.until, "until"),
            is_deleted=self.deleted,
        )


class RunVersion(msgspec.Struct, frozen=True):
    """What never changes of the version that a run made or belongs to."""

    id: str
    number: int
    label: str | None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A run without what is long; `experiment` and `model` are ids."""

    id: str
    name: str
    status: RunStatus
    experiment: str | None
    model: str | None
    version: RunVersion | None
    started_at: str
    ended_at: str | None
    duration_seconds: float | None
    gpu_hours: float | None
    cost_usd: float | None
    dataset: str
    dataset_version: str
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


class ListedRunAnswer(RunFacts, frozen=True, kw_only=True):
    """A run in a list, with what its experiment and model are called now."""

    experiment_name: str | None
    model_name: str | None


class RunAnswer(RunFacts, frozen=True, kw_only=True):
    """A run with all that is said of it."""

    description: str
    hyperparameters: dict[str, Any]
    environment: dict[str, Any]
    environment_unmasked: list[str]


def run_answer(full: FullRun) -> RunAnswer:
    details, version = full.details, full.version
    named = None if version is None else RunVersion(version.id, version.number, version.label)
    return RunAnswer(
        **_facts(full.run, named),
        description=details.description,
        hyperparameters=msgspec.json.decode(details.hyperparameters),
        environment=msgspec.json.decode(details.environment),
        environment_unmasked=msgspec.json.decode(details.unmasked),
    )


def listed_run_answer(listed: ListedRun) -> ListedRunAnswer:
    version = None
    if listed.run.version_id is not None and listed.number is not None:
        version = RunVersion(listed.run.version_id, listed.number, listed.label)
    return ListedRunAnswer(
        **_facts(listed.run, version),
        experiment_name=listed.experiment,
        model_name=listed.model,
    )


def _facts(run: Run, version: RunVersion | None) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "experiment": run.experiment_id,
        "model": run.model_id,
        "version": version,
        "started_at": rfc3339(run.started_at),
        "ended_at": None if run.ended_at is None else rfc3339(run.ended_at),
        "duration_seconds": None if run.duration is None else run.duration / SECOND,
        "gpu_hours": run.gpu_hours,
        "cost_usd": run.cost_usd,
        "dataset": run.dataset,
        "dataset_version": run.dataset_version,
        "created_at": rfc3339(run.created_at),
        "created_by": run.created_by,
        "updated_at": rfc3339(run.updated_at),
        "deleted_at": None if run.deleted_at is None else rfc3339(run.deleted_at),
        "deleted_by": run.deleted_by,
    }


# Costs.


class CostsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs are added up, and by what."""

    by: (
        Annotated[Literal["model", "team"], Meta(description="Also for each model or team.")] | None
    ) = None
    since: Annotated[Moment, Meta(description="Started at this time or later.")] | None = None
    until: Annotated[Moment, Meta(description="Started before this time.")] | None = None
    limit: Annotated[
        int, Meta(ge=1, le=1000, description="How many models or teams, the most expensive first.")
    ] = 100


class SpentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What runs took; of `without_cost` and `without_gpu_hours` of them nobody said it."""

    runs: int
    cost_usd: float
    gpu_hours: float
    without_cost: int
    without_gpu_hours: int


class GroupSpentAnswer(SpentAnswer, frozen=True, kw_only=True):
    """What the runs of a model or team took; of neither where `id` is null."""

    id: str | None
    name: str | None


class CostsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs took, and the most expensive of so many groups."""

    total: SpentAnswer
    groups: int | None
    items: list[GroupSpentAnswer]


def spent_answer(spent: Spent) -> SpentAnswer:
    return SpentAnswer(**msgspec.structs.asdict(spent))


def group_answer(group: GroupSpent) -> GroupSpentAnswer:
    return GroupSpentAnswer(id=group.id, name=group.name, **msgspec.structs.asdict(group.spent))
