"""What a company is described with: teams, works with releases, trials, what runs where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from registry.demo.curves import Shape


class Team(msgspec.Struct, frozen=True):
    name: str
    department: str
    cost_center: str
    description: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One version: what it is by now, what it came from, and how good it is."""

    label: str
    change: str
    status: str = "registered"
    score: float | None = None
    cost_per_1k: float | None = None
    slo_met: bool | None = None
    parents: tuple[tuple[str, str], ...] = ()
    """Relation and parent: ``model:label``, or a URI."""
    hours: float = 2.0
    gpus: int = 1


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A model or a data set."""

    name: str
    about: str
    team: str
    task: str
    subject: str
    use_case: str
    releases: tuple[Release, ...]
    kind: Literal["model", "dataset"] = "model"
    family: Literal["text", "vision", "tabular", "forecasting", "ranking", "speech", "data"]
    metric: str = ""
    data: str = ""
    """The data set it is trained on, as ``name:label``."""
    columns: tuple[str, ...] = ()
    risk: str = "medium"
    compliance: bool = False
    active: bool = True
    is_int8: bool = False
    framework: str = "pytorch"
    framework_version: str = "2.9.1"
    tags: Mapping[str, str] = {}
    champions: tuple[tuple[str, str], ...] = ()
    """Where ``champion`` pointed, and why, in order."""
    draft: str = ""

    @property
    def tail(self) -> str:
        return self.name.rpartition("/")[2]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A run of an experiment that became no version."""

    name: str
    model: str
    days_ago: float
    hours: float
    rate: float
    status: str = "succeeded"
    shape: Shape = "learns"
    best: float = 0.85
    gpus: int = 1


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str
    name: str
    about: str
    trials: tuple[Trial, ...]


class Environment(msgspec.Struct, frozen=True):
    name: str
    type: str
    region: str
    kubernetes_namespace: str
    config: Mapping[str, Any]


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment with its first version, and what happened to it since."""

    name: str
    environment: str
    model: str
    label: str
    replicas: int = 1
    cpu: float | None = None
    memory: int | None = None
    gpus: int | None = None
    events: tuple[tuple[str, str, str], ...] = ()
    """A verb (a status, ``deploy``, ``scale``, ``rollback``, ``terminate``), of what, and why."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version can be asked, and how it answers there."""

    model: str
    label: str
    provider: str
    provider_model_id: str
    region: str
    endpoint: str = ""
    cost_per_1k: float
    typical_ms: float
    failures: float = 0.002
    status: str = "active"
