"""Experiments and training runs: what they are, what they may be called, where a run stands.

A run is ``running`` until it ends, and how it ended never changes::

    running -> succeeded, failed, cancelled, timeout

Times are microseconds since the epoch in UTC.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.ids import EXPERIMENT, is_id
from registry.domain.masking import MASK, names_secret
from registry.domain.names import DEFAULT_NAMESPACE
from registry.errors import Invalid

FinalStatus: TypeAlias = Literal["succeeded", "failed", "cancelled", "timeout"]
RunStatus: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "timeout"]
Split: TypeAlias = Literal["train", "validation", "test", "production"]

RUNNING: Final[RunStatus] = "running"
"""What every run starts as; one that is told of afterwards moves on in the same transaction."""

FINAL_STATUSES: Final[tuple[FinalStatus, ...]] = get_args(FinalStatus)
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

NAME_CHARACTERS: Final = 200
KEY_CHARACTERS: Final = 250


def allowed_after(status: str) -> tuple[FinalStatus, ...]:
    """The statuses that a run may take next."""
    return FINAL_STATUSES if status == RUNNING else ()


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A question that runs try to answer; it belongs to a namespace."""

    id: str
    namespace_id: str
    name: str
    folded: str
    description: str = ""
    tags: Mapping[str, str] = {}
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    deleted_at: int | None = None
    deleted_by: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One training: what it worked on, how it went, what it took.

    `owner` decides who sees it: its model, else its experiment's namespace, else its maker.
    """

    id: str
    name: str
    owner: str
    experiment_id: str | None = None
    model_id: str | None = None
    version_id: str | None = None
    status: str = RUNNING
    dataset: str = ""
    dataset_version: str = ""
    started_at: int
    ended_at: int | None = None
    gpu_hours: float | None = None
    cost_usd: float | None = None
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    deleted_at: int | None = None
    deleted_by: str | None = None

    @property
    def duration(self) -> int | None:
        """How long it took; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class RunDetails(msgspec.Struct, frozen=True):
    """What is long about a run. All but `description` are JSON."""

    description: str = ""
    hyperparameters: str = "{}"
    environment: str = "{}"
    unmasked: str = "[]"


class ExperimentName(msgspec.Struct, frozen=True):
    """An experiment by its namespace and name."""

    namespace: str
    name: str


class ExperimentId(msgspec.Struct, frozen=True):
    id: str


ExperimentReference: TypeAlias = ExperimentName | ExperimentId


def parse_experiment(text: str, *, field: str = "experiment") -> ExperimentReference:
    """Read ``exp_…``, ``namespace~name``, or a name in ``default``; raises `Invalid`."""
    if is_id(text, EXPERIMENT):
        return ExperimentId(text)
    namespace, tilde, name = text.partition("~")
    if not tilde:
        namespace, name = DEFAULT_NAMESPACE, text
    return ExperimentName(namespace, parse_experiment_name(name, field=field))


def parse_experiment_name(text: str, *, field: str = "name") -> str:
    """Check the name of an experiment: printable, as tools write paths and sentences alike."""
    return _plain(text, field, most=NAME_CHARACTERS, code="experiment_name_invalid", is_name=True)


def parse_metric(text: str, *, field: str) -> str:
    """Check the name of a metric or the key of a series."""
    return _plain(text, field, most=KEY_CHARACTERS, code="metric_name_invalid", is_name=False)


def _plain(text: str, field: str, *, most: int, code: str, is_name: bool) -> str:
    plain = unicodedata.normalize("NFC", text)
    reason = None
    if not plain:
        reason = "is empty"
    elif len(plain) > most:
        reason = f"is longer than {most} characters"
    elif plain != plain.strip():
        reason = "begins or ends with a space"
    elif not plain.isprintable():
        reason = "holds characters that cannot be printed"
    elif is_name and is_id(plain, EXPERIMENT):
        reason = "has the form of an id"
    if reason is not None:
        raise Invalid(field, f"{text[:120]!r} {reason}", code=code)
    return plain


def without_secrets(value: Any, unmasked: frozenset[str]) -> Any:
    """A copy of an environment in which what promises a secret is replaced.

    Names in `unmasked` are known to hold none. The test of names is that of the audit log, and
    like there an object with ``key`` and ``value`` is a pair whose ``key`` is the name.
    """
    if isinstance(value, dict):
        key = value.get("key")
        if isinstance(key, str) and "value" in value:
            pair = {name: _member(name, inner, unmasked) for name, inner in value.items()}
            return {**pair, "key": key, "value": _member(key, value["value"], unmasked)}
        return {name: _member(name, inner, unmasked) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner, unmasked) for inner in value]
    return value


def _member(name: str, value: Any, unmasked: frozenset[str]) -> Any:
    if value is not None and name not in unmasked and names_secret(name):
        return MASK
    return without_secrets(value, unmasked)
