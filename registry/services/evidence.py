"""Gather what scores are computed from: a bounded part of everything that is known of a version.

**Bounds.** Of a text its beginning is read (`TEXT_BYTES`), of files their paths, page by page, of
runs, parents and data sets so many. What was left out is said in the evidence. Texts are taken
apart in a thread, one at a time, so that no card holds up the event loop and a rating needs the
memory of one beginning, however large what it rates is. Nothing that was uploaded is ever run.

**What may be seen.** Parents and data sets of models that whoever rates may not see are counted and
otherwise left out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from registry.catalog.cards import find_readme
from registry.catalog.evidence import (
    RunRow,
    count_contributions,
    has_series,
    newest_runs,
    put_card_beginning,
)
from registry.catalog.lineage import Around, edges_above
from registry.catalog.metrics import latest_metrics
from registry.catalog.reviews import count_verdicts
from registry.catalog.runs import find_run_details
from registry.catalog.scores import latest_values
from registry.catalog.trees import tree_files_after
from registry.catalog.versions import find_details, find_version_anywhere
from registry.domain.lineage import Member
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.reviews import NOBODY
from registry.domain.scoring.cards import decode_card
from registry.domain.scoring.evidence import (
    Card,
    Contributors,
    Dataset,
    Evidence,
    Files,
    LicenceFile,
    Lineage,
    Measured,
    Parent,
    Reviews,
    Run,
    shown,
)
from registry.domain.scoring.licences import recognise
from registry.domain.scoring.metrics import METRICS, Part, overall
from registry.domain.scoring.paths import FileCount, are_pinned
from registry.domain.scoring.trainings import read_run
from registry.domain.trees import TreeFile
from registry.services.files import PAGE_FILES, readable_row
from store.digest import Digest
from store.index.blobs import BlobRow
from store.index.transactions import Tx
from store.opening import Store
from store.threads import hop

TEXT_BYTES: Final = 256 << 10
"""How much of a card is read."""

SMALL_TEXT_BYTES: Final = 64 << 10
"""How much of a licence or a list of requirements is read."""

MOST_FILES: Final = 100_000
MOST_LICENCES: Final = 4
MOST_RUNS: Final = 10
"""How many runs are looked into; those that succeeded first, of the newest `RUNS_ASKED`."""

RUNS_ASKED: Final = 100
MOST_EDGES: Final = 200
MOST_DATASETS: Final = 20
DATASETS_READ: Final = 5
"""Of how many data sets the cards are read."""

MOST_CONTRIBUTIONS: Final = 10_000
"""Of each kind of contribution, the newest."""

Timer = Callable[[], float]


class Gathered(msgspec.Struct, frozen=True):
    """The evidence, and how long each part took to gather."""

    evidence: Evidence
    seconds: Mapping[Part, float]


class _Text(msgspec.Struct, frozen=True):
    """Where a text is: in a blob, or in the index already."""

    origin: str
    row: BlobRow | None = None
    text: str = ""
    is_cut: bool = False


async def gather_evidence(
    store: Store,
    principal: Principal,
    model: Model,
    version: Version,
    parts: Collection[Part],
    *,
    timer: Timer = time.perf_counter,
) -> Gathered:
    """What is known of a version, as far as `parts` says; raises `Corrupt` for damaged files."""
    gathering = _Gathering(store, principal, model, version)
    ways: Mapping[Part, Callable[[], Awaitable[Mapping[str, Any]]]] = {
        "card": gathering.card,
        "files": gathering.files,
        "licence_files": gathering.licence_files,
        "runs": gathering.runs,
        "measured": gathering.measured,
        "parents": gathering.parents,
        "datasets": gathering.datasets,
        "reviews": gathering.reviews,
        "contributors": gathering.contributors,
    }
    fields: dict[str, Any] = {}
    seconds: dict[Part, float] = {}
    for part, way in ways.items():
        if part in parts:
            start = timer()
            fields |= await way()
            seconds[part] = timer() - start
    source = version.source
    evidence = Evidence(
        kind=model.kind,
        is_elsewhere=source is not None,
        source_bytes=None if source is None else source.size_bytes,
        lineage=gathering.lineage,
        **fields,
    )
    return Gathered(evidence, seconds)


class _Gathering:
    """One rating's way through what is known; each part is asked for once."""

    def __init__(self, store: Store, principal: Principal, model: Model, version: Version) -> None:
        self.lineage = Lineage()
        self._store = store
        self._principal = principal
        self._model = model
        self._version = version
        self._count: FileCount | None = None

    async def card(self) -> Mapping[str, Any]:
        return {"card": await self._card_of(self._model.id, self._version.tree)}

    async def files(self) -> Mapping[str, Any]:
        count = await self._counted()
        pinned = False
        if count.requirements is not None:
            text = await self._beginning(count.requirements, SMALL_TEXT_BYTES)
            pinned = await hop(self._store.threads.reading, are_pinned, text)
        is_cut = count.files < self._version.files
        facts: Files = count.facts(is_cut=is_cut, pinned_requirements=pinned)
        return {"files": facts}

    async def licence_files(self) -> Mapping[str, Any]:
        count = await self._counted()
        found = []
        for file in count.licences[:MOST_LICENCES]:
            text = await self._beginning(file, SMALL_TEXT_BYTES)
            named = await hop(self._store.threads.reading, recognise, text)
            found.append(LicenceFile(shown(file.path), named))
        return {"licence_files": tuple(found)}

    async def runs(self) -> Mapping[str, Any]:
        version = self._version.id
        rows = await self._store.index.read(lambda tx: newest_runs(tx, version, RUNS_ASKED))
        chosen = sorted(rows, key=lambda row: row.status != "succeeded")[:MOST_RUNS]
        return {"runs": tuple([await self._run(row) for row in chosen])}

    async def measured(self) -> Mapping[str, Any]:
        version = self._version

        async def unit(tx: Tx) -> Measured:
            splits: dict[str, int] = {}
            for metric in await latest_metrics(tx, [version.id], per="split"):
                splits[metric.split] = splits.get(metric.split, 0) + 1
            details = await find_details(tx, version.id)
            said = len(msgspec.json.decode(details.performance))
            return Measured(
                splits=dict(sorted(splits.items())),
                said=said + (version.eval_score is not None),
                parameters=len(msgspec.json.decode(details.parameters)),
            )

        return {"measured": await self._store.index.read(unit)}

    async def parents(self) -> Mapping[str, Any]:
        async def unit(tx: Tx) -> tuple[list[Around], dict[str, dict[str, float | None]]]:
            edges = await edges_above(tx, [self._version.id], MOST_EDGES + 1)
            members = [edge.member.id for edge in edges if edge.member is not None]
            return edges, await latest_values(tx, members, METRICS)

        found, values = await self._store.index.read(unit)
        edges = found[:MOST_EDGES]
        members = self._visible(edges)
        self.lineage = msgspec.structs.replace(
            self.lineage,
            parents=tuple(_parent(member, values.get(member.id)) for member in members.values()),
            elsewhere=sum(edge.member is None for edge in edges),
            restricted=len({edge.member.id for edge in edges if edge.member}) - len(members),
            is_cut=len(found) > MOST_EDGES,
        )
        return {}

    async def datasets(self) -> Mapping[str, Any]:
        edges = await self._store.index.read(
            lambda tx: edges_above(tx, [self._version.id], MOST_EDGES)
        )
        edges.sort(key=lambda edge: edge.edge.id)
        visible = self._visible(edges)
        found: dict[str, Dataset] = {}
        for edge in edges:
            member = edge.member
            if member is None:
                is_data = edge.edge.kind == "dataset" or edge.edge.relation == "trained-on"
                if is_data and edge.edge.uri is not None:
                    found[edge.edge.uri] = Dataset(name=shown(edge.edge.uri))
            elif member.id in visible and (
                member.kind == "dataset" or edge.edge.relation == "trained-on"
            ):
                found[member.id] = _dataset(member)
        datasets = await self._with_cards(list(found.values())[:MOST_DATASETS])
        self.lineage = msgspec.structs.replace(
            self.lineage, datasets=tuple(datasets), dataset_count=len(found)
        )
        return {}

    async def reviews(self) -> Mapping[str, Any]:
        version = self._version.id
        found: Reviews = await self._store.index.read(lambda tx: count_verdicts(tx, version))
        return {"reviews": found}

    async def contributors(self) -> Mapping[str, Any]:
        model = self._model.id
        makers, is_cut = await self._store.index.read(
            lambda tx: count_contributions(tx, model, MOST_CONTRIBUTIONS)
        )
        people = {maker: count for maker, count in makers.items() if maker not in NOBODY}
        anonymous = sum(makers.values()) - sum(people.values())
        return {
            "contributors": Contributors(by_principal=people, anonymous=anonymous, is_cut=is_cut)
        }

    # Lineage.

    def _visible(self, edges: Sequence[Around]) -> dict[str, Member]:
        """The versions at the far ends that whoever rates may see, each once, by their ids."""
        opens = self._principal.visibility.opens
        members = sorted(
            (edge.edge.id, edge.member)
            for edge in edges
            if edge.member is not None and opens(edge.member.place)
        )
        return {member.id: member for _, member in members}

    async def _with_cards(self, datasets: list[Dataset]) -> list[Dataset]:
        found, read = [], 0
        for one in datasets:
            if one.version is None or one.is_deleted or read >= DATASETS_READ:
                found.append(one)
                continue
            read += 1
            found.append(
                msgspec.structs.replace(one, card=await self._dataset_card(one), is_read=True)
            )
        return found

    async def _dataset_card(self, dataset: Dataset) -> Card | None:
        version_id = dataset.version
        assert version_id is not None, "a version of this registry"

        async def unit(tx: Tx) -> Version | None:
            return await find_version_anywhere(tx, version_id)

        version = await self._store.index.look(unit)
        return None if version is None else await self._card_of(version.model_id, version.tree)

    # Texts.

    async def _card_of(self, model_id: str, tree: Digest) -> Card | None:
        """The README of a version; without one what was put on its model."""

        async def unit(tx: Tx) -> _Text | None:
            readme = await find_readme(tx, tree)
            if readme is not None:
                return _Text(
                    readme.path,
                    await readable_row(tx, readme),
                    is_cut=readme.size_bytes > TEXT_BYTES,
                )
            put = await put_card_beginning(tx, model_id, TEXT_BYTES)
            return None if put is None else _Text("card", None, *put)

        found = await self._store.index.read(unit)
        if found is None:
            return None
        content = found.text.encode()
        if found.row is not None:
            content = await self._read(found.row, TEXT_BYTES)
        return await hop(
            self._store.threads.reading,
            decode_card,
            content,
            origin=found.origin,
            is_cut=found.is_cut,
        )

    async def _beginning(self, file: TreeFile, most: int) -> str:
        row = await self._store.index.look(lambda tx: readable_row(tx, file))
        return (await self._read(row, most)).decode(errors="replace")

    async def _read(self, row: BlobRow, most: int) -> bytes:
        async with await self._store.reading.open(row) as blob:
            return await blob.read(0, min(most, row.size_bytes))

    # Files and runs.

    async def _counted(self) -> FileCount:
        """The files of the version, counted once."""
        if self._count is not None:
            return self._count
        count, after, tree = FileCount(), "", self._version.tree
        while count.files < MOST_FILES:

            async def unit(tx: Tx, after: str = after) -> list[TreeFile]:
                return await tree_files_after(tx, tree, after, PAGE_FILES)

            page = await self._store.index.read(unit)
            await hop(self._store.threads.reading, count.take, page)
            if len(page) < PAGE_FILES:
                break
            after = page[-1].path
        self._count = count
        return count

    async def _run(self, row: RunRow) -> Run:
        async def unit(tx: Tx) -> Run:
            details = await find_run_details(tx, row.id)
            return read_run(
                row.id,
                status=row.status,
                dataset=row.dataset,
                dataset_version=row.dataset_version,
                hyperparameters=details.hyperparameters,
                environment=details.environment,
                has_metrics=await has_series(tx, row.id),
            )

        return await self._store.index.read(unit)


def _parent(member: Member, values: Mapping[str, float | None] | None) -> Parent:
    return Parent(
        name=shown(member.name),
        version=member.id,
        model=member.model_id,
        overall=None if values is None else overall(values).value,
        is_deleted=member.is_deleted,
    )


def _dataset(member: Member) -> Dataset:
    return Dataset(
        name=shown(member.name),
        version=member.id,
        model=member.model_id,
        is_deleted=member.is_deleted,
    )
