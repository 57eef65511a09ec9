"""What metrics look at, as plain facts, and what they answer with.

The facts say how much there is of something, never what somebody wrote in full, except short names.
Whoever gathers them cuts names and lists to the lengths given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

NAME_CHARACTERS: Final = 120
"""How much of a name or path is kept as evidence."""

MOST_NAMED: Final = 10
"""How many names of a kind are kept as evidence; the count is of all."""


class Outcome(msgspec.Struct, frozen=True):
    """A value, or the reason why there is none; and what was looked at, encodable as JSON."""

    value: float | None
    evidence: Mapping[str, Any]
    reason: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the text that describes a model or a data set.

    ``topics`` are those of `registry.domain.scoring.topics` that a heading names and that have
    text under them.
    """

    origin: str
    """The path of the file, or ``card`` for one that was put on the model."""
    read_bytes: int
    is_cut: bool = False
    """Whether it goes on beyond what was read."""
    words: int = 0
    """Of prose: front matter, code and tables do not count."""
    headings: int = 0
    topics: frozenset[str] = frozenset()
    code_blocks: int = 0
    number_tables: int = 0
    """Tables in which at least one cell below the head is a number."""
    code_links: int = 0
    """Links to places where source code is kept."""
    licences: tuple[str, ...] = ()
    """As the front matter writes them, or else a line of the text."""
    datasets: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    claimed_results: int = 0
    """Results in the front matter's ``model-index`` that have a value."""
    problem: str = ""
    """Why the card or its front matter could not be read, if it could not."""


class LicenceFile(msgspec.Struct, frozen=True):
    """A file that says a licence; None where its text is of none that is known here."""

    path: str
    licence: str | None


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What the paths and sizes of a version's files say."""

    total: int = 0
    size_bytes: int = 0
    is_cut: bool = False
    """Whether there are more files than were looked at."""
    weight_bytes: Mapping[str, int] = {}
    """Bytes of weights by the format that the ending names."""
    pickles: int = 0
    """Files whose loading runs what they hold."""
    scripts: int = 0
    notebooks: int = 0
    tests: int = 0
    configs: int = 0
    """Settings of the model, such as ``config.json``."""
    dependency_files: int = 0
    lock_files: int = 0
    pinned_requirements: bool = False
    """Whether a list of requirements names one version of each."""
    check_files: int = 0
    """Settings of linters, formatters, type checkers and hooks."""
    pipeline_files: int = 0
    """Descriptions of continuous integration."""
    examples: tuple[str, ...] = ()
    """Some of the paths that were counted as code, tests or dependencies."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one training of the version."""

    id: str
    has_succeeded: bool = False
    hyperparameters: int = 0
    environment: int = 0
    """How many entries the environment has."""
    has_seed: bool = False
    has_dataset: bool = False
    has_dataset_version: bool = False
    has_metrics: bool = False


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How many names of metrics are recorded of the version per split, and what it says itself."""

    splits: Mapping[str, int] = {}
    said: int = 0
    """Entries of ``performance_metrics``, and the evaluation score."""
    parameters: int = 0
    """Entries of the version's ``parameters``."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A data set that lineage names: a version here, with its card, or something elsewhere."""

    name: str
    version: str | None = None
    model: str | None = None
    """The ids of the version and of its model; whoever may not see the model sees no name."""
    card: Card | None = None
    is_read: bool = False
    """Whether its card was looked for; of many data sets only some are read."""
    is_deleted: bool = False


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """A version that lineage names as a parent, and its overall score if it has one."""

    name: str
    version: str
    model: str
    overall: float | None = None
    is_deleted: bool = False


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What the version came from, one step up."""

    parents: tuple[Parent, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    """What it was trained on: parents of the kind dataset too."""
    dataset_count: int = 0
    """How many there are, those left out of `datasets` included."""
    elsewhere: int = 0
    """Parents that are not in this registry."""
    restricted: int = 0
    """Parents that whoever asks may not see."""
    is_cut: bool = False


class Reviews(msgspec.Struct, frozen=True, kw_only=True):
    """Reviewers by their newest verdict that counts, and how many reviews there are in all."""

    approvals: int = 0
    rejections: int = 0
    total: int = 0
    uncounted: int = 0
    """Reviews whose reviewer could not be told apart from the author."""


class Contributors(msgspec.Struct, frozen=True, kw_only=True):
    """Contributions to the model by who made them; those of nobody in particular apart."""

    by_principal: Mapping[str, int] = {}
    anonymous: int = 0
    """Made in open mode, or by the server itself."""
    is_cut: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the metrics of one version look at; parts that none asks for stay empty."""

    kind: str = "model"
    source_bytes: int | None = None
    """The declared size of bytes that are kept elsewhere."""
    is_elsewhere: bool = False
    card: Card | None = None
    licence_files: tuple[LicenceFile, ...] = ()
    files: Files = Files()
    runs: tuple[Run, ...] = ()
    measured: Measured = Measured()
    lineage: Lineage = Lineage()
    reviews: Reviews = Reviews()
    contributors: Contributors = Contributors()


def shown(name: str) -> str:
    """A name as it is kept as evidence."""
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def summed(parts: Mapping[str, tuple[float, float]]) -> tuple[float, dict[str, Any]]:
    """What parts add up to, each with its share of 1 and how far it is fulfilled; and in words."""
    points = {name: round(share * _within(done), 4) for name, (share, done) in parts.items()}
    shares = {name: round(share, 4) for name, (share, _) in parts.items()}
    said = {name: {"points": points[name], "of": shares[name]} for name in parts}
    return _within(sum(points.values())), said


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
