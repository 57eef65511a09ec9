"""A model as one archive to take elsewhere, see `registry.domain.exports`.

Documents are made in one snapshot of the index, and kept while the archive is sent; trees are read
while they leave, as they never change; blobs come from the store. Sizes follow from these, so an
export has a length, an entity tag and ranges before a byte of it is read, and a broken download
resumes as long as the model says the same.

What is exported can still be purged while it is sent. Then the archive breaks off, and whoever
imports it is told so: nothing ends an archive but its end mark.

Not in it: drafts, deployments, bindings, runs, policies, downloads, and versions that the caller
may not see as parents.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from registry.catalog.aliases import find_alias
from registry.catalog.audit import Entry, record
from registry.catalog.cards import find_card
from registry.catalog.exports import (
    AliasMoves,
    all_moves,
    blobs_of_trees,
    tree_text_sizes,
    versions_in_order,
)
from registry.catalog.lineage import Around, edges_above
from registry.catalog.metrics import metrics_after
from registry.catalog.reviews import reviews_before
from registry.catalog.scores import latest_scores
from registry.catalog.tags import all_tags_of_version
from registry.catalog.trees import tree_files_after
from registry.catalog.versions import find_details, find_version_anywhere
from registry.domain import exports, tars
from registry.domain.exports import (
    AliasDocument,
    EdgeDocument,
    Heading,
    MetricDocument,
    ModelDocument,
    Move,
    ParentDocument,
    ReviewDocument,
    ScoreDocument,
    SourceDocument,
    VersionDocument,
)
from registry.domain.facts import facts_of
from registry.domain.models import Model, Tagging, Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.scoring.metrics import METRICS
from registry.domain.times import moment
from registry.domain.trees import FIRST_LINE, TreeFile
from registry.errors import NotFound
from registry.services.archives import Outgoing, Piece, clipped, entry_of_blob, rows_of
from registry.services.files import PAGE_FILES
from registry.services.full_models import FullModel, full_model
from registry.services.resolve import DraftFiles, follow, require_model
from store.blobs import ByteRange
from store.digest import Digest
from store.index.transactions import Tx
from store.opening import Store

_MOST_EDGES: Final = 10_000
_MOST_ROWS: Final = 1_000_000


class Export(msgspec.Struct, frozen=True):
    """An archive of a model before a byte of it is sent."""

    model: Model
    versions: int
    documents: list[tuple[str, bytes]]
    trees: list[tuple[Digest, int]]
    """Each with the length of its text."""
    blobs: list[tuple[bytes, int]]

    @property
    def content(self) -> Digest:
        """What stands for the bytes: trees and blobs follow from the documents."""
        hashed = hashlib.sha256()
        for name, document in self.documents:
            hashed.update(b"%s %d\n" % (name.encode(), len(document)))
            hashed.update(document)
        return Digest(hashed.hexdigest())

    @property
    def size_bytes(self) -> int:
        entries = sum(tars.entry_size(name, len(content)) for name, content in self.documents)
        entries += sum(tars.entry_size(exports.tree_name(tree), size) for tree, size in self.trees)
        # All names of blobs are equally long, so that one of them stands for all.
        name = exports.blob_name(Digest("0" * 64))
        entries += sum(tars.entry_size(name, size) for _, size in self.blobs)
        return entries + len(tars.END)


async def plan_export(
    store: Store,
    principal: Principal,
    reference: ModelReference,
    wanted: Sequence[VersionReference] = (),
) -> Export:
    """Everything about an export but its trees and blobs; without `wanted` of all versions.

    Raises `NotFound`. Numbers of versions that are left out are never given again over there.
    """

    async def unit(tx: Tx) -> Export:
        model = await require_model(tx, principal, reference)
        every = await versions_in_order(tx, model.id)
        chosen = every
        if wanted:
            numbers = {await _number(tx, model, one) for one in wanted}
            chosen = [version for version in every if version.number in numbers]
        documents = [await _version(tx, principal, version) for version in chosen]
        trees = await tree_text_sizes(tx, sorted({version.tree for version in chosen}))
        living = {version.tree for version in chosen if version.deleted_at is None}
        blobs = await blobs_of_trees(tx, living)
        about = await _model(tx, await full_model(tx, model), chosen, every)
        heading = Heading(
            format=exports.FORMAT,
            number=exports.NUMBER,
            model=model.name,
            versions=len(documents),
            trees=len(trees),
            blobs=len(blobs),
            size=sum(size for _, size in blobs),
        )
        named = [
            (exports.HEADING, exports.encode(heading)),
            (exports.MODEL, exports.encode(about)),
            *((exports.version_name(one.number), exports.encode(one)) for one in documents),
        ]
        return Export(model, len(documents), named, sorted(trees.items()), blobs)

    return await store.index.read(unit)


async def announce_export(store: Store, principal: Principal, export: Export) -> None:
    """Put into the audit log that somebody takes a model with them, before they do."""
    entry = Entry(
        action="export",
        kind="model",
        id=export.model.id,
        name=export.model.name,
        model=export.model.id,
        after={
            "versions": export.versions,
            "blobs": len(export.blobs),
            "size": sum(size for _, size in export.blobs),
            "content": str(export.content),
        },
    )
    await store.index.run(partial(record, principal=principal, entry=entry))


async def _number(tx: Tx, model: Model, reference: VersionReference) -> int:
    found = await follow(tx, model, reference)
    if isinstance(found, DraftFiles) or found.version is None:
        raise NotFound("version", f"{found.name} of {model.name}", code="version_not_found")
    return found.version.number


# What is said of a model.


async def _model(
    tx: Tx, full: FullModel, chosen: Sequence[Version], every: Sequence[Version]
) -> ModelDocument:
    model, team = full.model, full.team
    card = await find_card(tx, model.id)
    return ModelDocument(
        name=model.name,
        kind=model.kind,  # type: ignore[arg-type]  # the tables allow only the words of documents
        visibility=model.visibility,  # type: ignore[arg-type]  # as above
        description=model.description,
        use_case=model.use_case,
        task_type=model.task_type,
        subject_domain=model.subject_domain,
        team=None if team is None or team.deleted_at is not None else team.name,
        risk_level=model.risk_level,  # type: ignore[arg-type]  # as above
        compliance_required=model.is_compliance_required,
        active=model.is_active,
        legal_hold=model.has_legal_hold,
        tags=_tags(full.tags),
        card=card.text if card is not None and card.source == "put" else None,
        last_number=model.last_number,
        aliases=await _aliases(tx, model, chosen, every),
        created_at=moment(model.created_at),
        created_by=model.created_by,
    )


def _tags(taggings: Iterable[Tagging]) -> dict[str, str]:
    return {one.tag.key: one.tag.value for one in sorted(taggings, key=lambda one: one.tag.folded)}


async def _aliases(
    tx: Tx, model: Model, chosen: Sequence[Version], every: Sequence[Version]
) -> list[AliasDocument]:
    """The aliases that the chosen versions allow to be told of, and of their moves those."""
    numbers = {version.revision: version.number for version in chosen}
    is_whole = len(chosen) == len(every)
    found = []
    for alias in await all_moves(tx, model.id):
        now = await find_alias(tx, model.id, alias.folded)
        if not is_whole and (now is None or now.revision not in numbers):
            continue
        moves = _moves(alias, numbers)
        ends_at = None if now is None else numbers.get(now.revision)
        if moves and moves[-1].to == ends_at:
            held = now is not None and now.is_held
            name = alias.events[-1].name if now is None else now.name
            found.append(AliasDocument(name=name, held=held, moves=moves))
    return found


def _moves(alias: AliasMoves, numbers: Mapping[str, int]) -> list[Move]:
    """Moves to what is told of; one that stays where the alias was is none."""
    moves: list[Move] = []
    for event in alias.events:
        to = None if event.to_revision is None else numbers.get(event.to_revision)
        is_untold = event.to_revision is not None and to is None
        if is_untold or (moves[-1].to if moves else None) == to:
            continue
        at = moment(event.created_at)
        moves.append(Move(to=to, at=at, by=event.actor, reason=event.reason))
    return moves


# What is said of a version.


async def _version(tx: Tx, principal: Principal, version: Version) -> VersionDocument:
    source = version.source
    about = VersionDocument(
        number=version.number,
        label=version.label,
        burnt=version.deleted_at is not None,
        tree=str(version.tree),
        files=version.files,
        size=version.size_bytes,
        source=None
        if source is None
        else SourceDocument(
            uri=source.uri,
            digest=None if source.digest is None else str(source.digest),
            size=source.size_bytes,
        ),
        created_at=moment(version.created_at),
        created_by=version.created_by,
    )
    if about.burnt:
        return about
    details = await find_details(tx, version.id)
    tags = await all_tags_of_version(tx, version.id)
    return msgspec.structs.replace(
        about,
        **facts_of(version, details),
        status=version.status,
        tags=_tags(tags),
        lineage=await _lineage(tx, principal, version),
        metrics=await _metrics(tx, version),
        scores=await _scores(tx, version),
        reviews=await _reviews(tx, version),
    )


async def _lineage(tx: Tx, principal: Principal, version: Version) -> list[EdgeDocument]:
    told = []
    for around in await edges_above(tx, [version.id], _MOST_EDGES):
        if around.member is None or principal.visibility.opens(around.member.place):
            told.append(await _edge(tx, around))
    return sorted(told, key=exports.encode)


async def _edge(tx: Tx, around: Around) -> EdgeDocument:
    edge, member = around.edge, around.member
    if member is None:
        return EdgeDocument(
            relation=edge.relation,  # type: ignore[arg-type]  # the tables allow only these words
            uri=edge.uri,
            kind=edge.kind,  # type: ignore[arg-type]  # as above
            description=edge.description,
        )
    parent = await find_version_anywhere(tx, member.id)
    assert parent is not None, "an edge leads to a row"
    return EdgeDocument(
        relation=edge.relation,  # type: ignore[arg-type]  # as above
        parent=ParentDocument(
            model=member.model,
            kind=member.kind,  # type: ignore[arg-type]  # as above
            number=member.number,
            label=member.label,
            tree=str(parent.tree),
        ),
        description=edge.description,
    )


async def _metrics(tx: Tx, version: Version) -> list[MetricDocument]:
    found = await metrics_after(tx, version.id, None, _MOST_ROWS, name=None, split=None)
    return [
        MetricDocument(name=one.name, split=one.split, time=moment(one.time), value=one.value)  # type: ignore[arg-type]  # the tables allow only the words of documents
        for one in found
    ]


async def _scores(tx: Tx, version: Version) -> list[ScoreDocument]:
    found = await latest_scores(tx, version.id, METRICS)
    return [
        ScoreDocument(
            metric=one.metric,
            value=one.value,
            reason=one.reason,
            evidence=msgspec.json.decode(one.evidence),
            at=moment(one.created_at),
            by=one.created_by,
        )
        for one in sorted(found, key=lambda one: one.metric)
    ]


async def _reviews(tx: Tx, version: Version) -> list[ReviewDocument]:
    found = await reviews_before(tx, version.id, None, _MOST_ROWS, verdict=None)
    return [
        ReviewDocument(
            reviewer=one.reviewer,
            verdict=one.verdict,  # type: ignore[arg-type]  # the tables allow only these words
            comment=one.comment,
            counts=one.counts,
            at=moment(one.created_at),
        )
        for one in reversed(found)
    ]


# Its bytes.


def outgoing_export(store: Store, export: Export) -> Outgoing:
    return Outgoing(export.content, export.size_bytes, partial(_pieces, store, export))


async def _pieces(store: Store, export: Export, within: ByteRange) -> AsyncGenerator[Piece, None]:
    """The bytes of a range of an export; what lies before it is not read."""
    position = 0
    for name, content in export.documents:
        entry = tars.header_of(name, len(content)) + content
        yield clipped(entry.ljust(tars.entry_size(name, len(content)), b"\0"), position, within)
        position += tars.entry_size(name, len(content))
    for tree, size in export.trees:
        following = position + tars.entry_size(exports.tree_name(tree), size)
        if following > within.start and position < within.stop:
            async for piece in _tree_entry(store, tree, size):
                yield clipped(piece, position, within)
                position += len(piece)
        position = following
    for start in range(0, len(export.blobs), PAGE_FILES):
        page, position_after = [], position
        for raw, size in export.blobs[start : start + PAGE_FILES]:
            digest = Digest.from_raw(raw)
            file = TreeFile(exports.blob_name(digest), digest, size)
            following = position_after + tars.entry_size(file.path, size)
            if following > within.start and position_after < within.stop:
                page.append((position_after, file))
            position_after = following
        rows = await rows_of(store, [file for _, file in page])
        for (at, file), row in zip(page, rows, strict=True):
            for part in entry_of_blob(file, row, at, within):
                yield part
        position = position_after
        if position >= within.stop:
            return
    yield clipped(tars.END, position, within)


async def _tree_entry(store: Store, tree: Digest, size: int) -> AsyncGenerator[bytes, None]:
    yield tars.header_of(exports.tree_name(tree), size) + FIRST_LINE
    after = ""
    while True:
        read = partial(tree_files_after, tree=tree, after=after, limit=PAGE_FILES)
        page = await store.index.read(read)
        lines = (f"{file.size_bytes} {file.digest.hex} {file.path}\n" for file in page)
        yield "".join(lines).encode()
        if len(page) < PAGE_FILES:
            break
        after = page[-1].path
    yield bytes(tars.padded(size) - size)
