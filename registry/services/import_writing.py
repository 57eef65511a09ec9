"""The one transaction in which an imported model becomes true, with everything that it has.

It goes the ways that everything goes: the model is made as any model, versions are written, tagged
and given a status as any version, aliases move where all aliases move. So whatever guards those
ways guards this one.

**Who did it.** The importer is the author of all of it, and now is when it was made; whom and when
the archive names is kept as a remark, in the metadata of versions (`exports.IMPORTED_FROM`), in the
reasons of moves and in the audit entry.

**Not taken over**, and told to the importer (`Imported.left_out`): scores and reviews, which are
judgements of people and a server that are not here; a team that is not here; the parents of
versions that are not here stay told of, by a URI. A model is never more visible than its new
namespace makes models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from registry.catalog.audit import MOST_REASON, Entry, record
from registry.catalog.cards import put_card
from registry.catalog.exports import skip_numbers
from registry.catalog.metrics import Metric, put_metrics
from registry.catalog.models import find_model_by_id, next_number
from registry.catalog.namespaces import find_namespace
from registry.catalog.search import reindex
from registry.catalog.teams import find_team
from registry.catalog.trees import find_tree
from registry.catalog.usable import Claimant, unusable_in_tree
from registry.catalog.versions import (
    insert_revision,
    insert_version,
    set_deleted,
    set_purged,
)
from registry.domain import exports
from registry.domain.exports import EdgeDocument, ModelDocument, VersionDocument
from registry.domain.facts import Facts
from registry.domain.ids import LINEAGE, MODEL, new_id
from registry.domain.models import Card, Model, Namespace, Source, Version
from registry.domain.names import ModelName, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelId
from registry.domain.roles import Place, Words
from registry.domain.times import microseconds, rfc3339
from registry.errors import ContentMissing, Denied
from registry.services.following import let_aliases_follow
from registry.services.full_models import FullModel, full_model
from registry.services.import_documents import Archived, tree_of
from registry.services.import_parents import parent_told
from registry.services.lineage import EdgeWish, NamedUri, add_edges
from registry.services.models import ModelWish, make_model
from registry.services.moves import move_alias, replay_move
from registry.services.namespaces import require_creation
from registry.services.publish import Ids, Stated, write_version
from registry.services.tags import Holder, TagWish, assign
from store.digest import Digest
from store.errors import Unavailable
from store.index.claims import drop_leases
from store.index.transactions import Tx

NEEDED: Final = ("version.publish", "alias.move")
"""What it takes where the model will be, besides making one."""

_REMARK: Final = "imported: "
_VISIBLE: Final = ("private", "internal", "public")
"""From what nobody else sees to what everybody sees."""


class VersionWish(msgspec.Struct, frozen=True):
    """A version to write, with the ids of what it may bring."""

    document: VersionDocument
    tree: Digest
    ids: Ids
    tags: tuple[TagWish, ...]
    edges: tuple[tuple[EdgeDocument, str], ...]
    """Each with the id that it will have."""


class ImportWish(msgspec.Struct, frozen=True, kw_only=True):
    """A model to write; ids were chosen before, since a transaction may run more than once."""

    archived: Archived
    name: ModelName
    id: str
    tags: tuple[TagWish, ...]
    versions: list[VersionWish]
    claimant: Claimant
    tree_holder: str
    """Who leased the trees until a revision has them."""

    @property
    def living(self) -> list[VersionWish]:
        return [version for version in self.versions if not version.document.burnt]

    @classmethod
    def fresh(
        cls, now: int, archived: Archived, name: ModelName, claimant: Claimant, tree_holder: str
    ) -> ImportWish:
        return cls(
            archived=archived,
            name=name,
            id=new_id(MODEL, now),
            tags=_tags(now, archived.model.tags),
            versions=[_version_wish(now, version) for version in archived.versions],
            claimant=claimant,
            tree_holder=tree_holder,
        )


def _version_wish(now: int, version: VersionDocument) -> VersionWish:
    return VersionWish(
        version,
        tree_of(version),
        Ids.fresh(now),
        _tags(now, version.tags),
        tuple((edge, new_id(LINEAGE, now)) for edge in version.lineage),
    )


def _tags(now: int, tags: Mapping[str, str]) -> tuple[TagWish, ...]:
    return tuple(TagWish.fresh(now, key, value) for key, value in tags.items())


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is here now; `left_out` counts what of the archive is not, by what it is."""

    full: FullModel
    versions: int
    burnt: int
    left_out: dict[str, int]


async def write_import(tx: Tx, principal: Principal, wish: ImportWish) -> Imported:
    """Make the model with everything; raises `Conflict` for its name, and `ContentMissing`."""
    about, left_out = wish.archived.model, Counter[str]()
    model = await _make_model(tx, principal, wish, left_out)
    await _require_content(tx, wish)
    made: list[Version] = []
    for one in wish.versions:
        await skip_numbers(tx, model.id, one.document.number - 1)
        if one.document.burnt:
            await _write_burnt(tx, principal, model, one)
        else:
            parent = made[-1].revision if made else None
            made.append(await _write_version(tx, principal, model, wish, one, parent))
    await skip_numbers(tx, model.id, about.last_number)
    for one, version in zip(wish.living, made, strict=True):
        await _say_more(tx, principal, model, wish, one, version, left_out)
    await _point_aliases(tx, principal, model, wish)
    await _put_card(tx, principal, model, about)
    await drop_leases(tx, wish.claimant.holder)
    await drop_leases(tx, wish.tree_holder)
    written = await find_model_by_id(tx, model.id)
    assert written is not None, "it was made above"
    imported = Imported(
        full=await full_model(tx, written),
        versions=len(made),
        burnt=len(wish.versions) - len(made),
        left_out=dict(sorted(left_out.items())),
    )
    await _record(tx, principal, wish, imported)
    return imported


def _words_in(principal: Principal, namespace: Namespace | None, name: ModelName) -> Words:
    """What somebody may do in the namespace that an import goes to, if it is made by it, too."""
    if namespace is None:
        return principal.rights.beginning(fold(name.namespace))
    return principal.rights.at(Place(namespace=namespace.id))


async def _make_model(
    tx: Tx, principal: Principal, wish: ImportWish, left_out: Counter[str]
) -> Model:
    about = wish.archived.model
    team = None if about.team is None else await find_team(tx, fold(about.team))
    if about.team is not None and team is None:
        left_out["team"] += 1
    namespace = await find_namespace(tx, fold(wish.name.namespace))
    held = _words_in(principal, namespace, wish.name)
    for word in NEEDED:
        if word not in held:
            # Who may not even make models there is refused as for making one.
            await require_creation(tx, principal, wish.name.namespace)
            raise Denied(word, wish.name.text)
    is_held = about.legal_hold and "namespace.admin" in held
    if is_held != about.legal_hold:
        left_out["legal_hold"] += 1
    widest = "private" if namespace is None else namespace.visibility
    return await make_model(
        tx,
        principal,
        ModelWish(
            id=wish.id,
            name=wish.name,
            kind=about.kind,
            visibility=min(widest, about.visibility, key=_VISIBLE.index),
            description=about.description,
            use_case=about.use_case,
            task_type=about.task_type,
            subject_domain=about.subject_domain,
            team=None if team is None else team.id,
            risk_level=about.risk_level,
            compliance_required=about.compliance_required,
            active=about.active,
            legal_hold=is_held,
            tags=wish.tags,
        ),
    )


async def _require_content(tx: Tx, wish: ImportWish) -> None:
    """Ask once more for every blob: what was there when it was skipped may have gone since."""
    missing: set[Digest] = set()
    for tree in {version.tree for version in wish.versions}:
        if await find_tree(tx, tree) is None:  # it went with the last model that had it
            raise Unavailable("importing a model")
    for tree in {version.tree for version in wish.living}:
        missing.update(await unusable_in_tree(tx, wish.claimant, tree))
    if missing:
        raise ContentMissing("model", wish.name.text, sorted(missing))


# Versions.


async def _write_burnt(tx: Tx, principal: Principal, model: Model, wish: VersionWish) -> None:
    """Leave of a version what burns its number and its label, as purging one does."""
    document = wish.document
    await insert_revision(
        tx,
        wish.ids.revision,
        model.id,
        wish.tree,
        parents="",
        author=principal.id,
        message="",
    )
    version = Version(
        id=wish.ids.version,
        model_id=model.id,
        number=await next_number(tx, model),
        label=document.label,
        revision=wish.ids.revision,
        tree=wish.tree,
        files=document.files,
        size_bytes=document.size,
        source=_source(document),
        created_at=tx.now,
        created_by=principal.id,
        updated_at=tx.now,
    )
    await insert_version(tx, version, None if version.label is None else fold(version.label))
    await set_purged(tx, await set_deleted(tx, version, by=principal.id), at=tx.now)


def _source(document: VersionDocument) -> Source | None:
    said = document.source
    if said is None:
        return None
    digest = None if said.digest is None else Digest.parse(said.digest)
    return Source(said.uri, digest, said.size)


async def _write_version(
    tx: Tx,
    principal: Principal,
    model: Model,
    wish: ImportWish,
    one: VersionWish,
    parent: str | None,
) -> Version:
    document = one.document
    stated = Stated(
        source=_source(document),
        facts=_facts(wish.archived, document),
        status=document.status,
        reason="imported",
    )
    totals = document.files, document.size
    made = await write_version(
        tx, principal, model, document.label, one.tree, totals, one.ids, stated, parent=parent
    )
    for tag in one.tags:
        await assign(tx, principal, Holder(model, made.version), tag)
    return made.version


async def _say_more(
    tx: Tx,
    principal: Principal,
    model: Model,
    wish: ImportWish,
    one: VersionWish,
    version: Version,
    left_out: Counter[str],
) -> None:
    """What may name other versions of the model, once all are there; and what was measured."""
    document = one.document
    edges = []
    for edge, id in one.edges:
        found = await parent_told(
            tx, principal, edge, former=wish.archived.model.name, now=ModelId(model.id)
        )
        if edge.parent is not None and isinstance(found, NamedUri):
            left_out["parents"] += 1
        edges.append(EdgeWish(id, edge.relation, found, edge.description))
    await add_edges(tx, principal, model, version, edges)
    await put_metrics(tx, _metrics(tx, principal, version, document))
    for name, count in (("scores", len(document.scores)), ("reviews", len(document.reviews))):
        if count:
            left_out[name] += count


def _facts(archived: Archived, document: VersionDocument) -> Facts:
    said: dict[str, Any] = {
        name: getattr(document, name) for name in Facts.__struct_fields__ if name != "metadata"
    }
    origin = {
        "model": archived.model.name,
        "version": document.number,
        "created_at": rfc3339(microseconds(document.created_at)),
        "created_by": document.created_by,
    }
    # Who was first stays known, however often it travels.
    return Facts(**said, metadata={exports.IMPORTED_FROM: origin, **document.metadata})


def _metrics(
    tx: Tx, principal: Principal, version: Version, document: VersionDocument
) -> list[Metric]:
    return [
        Metric(
            version_id=version.id,
            name=one.name,
            split=one.split,
            time=microseconds(one.time),
            value=one.value,
            created_at=tx.now,
            created_by=principal.id,
        )
        for one in document.metrics
    ]


# Aliases, card, audit.


async def _point_aliases(tx: Tx, principal: Principal, model: Model, wish: ImportWish) -> None:
    revisions = {one.document.number: one.ids.revision for one in wish.versions}
    for alias in wish.archived.model.aliases:
        *earlier, last = alias.moves
        for move in earlier:
            to = None if move.to is None else revisions[move.to]
            reason = _remark(move.reason, move.by, microseconds(move.at))
            await replay_move(tx, principal, model, alias.name, to, reason=reason)
        await move_alias(
            tx,
            principal,
            model,
            alias.name,
            None if last.to is None else revisions[last.to],
            reason=_remark(last.reason, last.by, microseconds(last.at)),
            is_held=alias.held,
        )
    await let_aliases_follow(tx, model, principal, "imported")


def _remark(reason: str, by: str, at: int) -> str:
    """What a move is told by: who made it and when, once, however often it travels."""
    if reason.startswith(_REMARK):
        return reason
    return f"{_REMARK}{rfc3339(at)} by {by}: {reason}".removesuffix(": ")[:MOST_REASON]


async def _put_card(tx: Tx, principal: Principal, model: Model, about: ModelDocument) -> None:
    if about.card is None:
        return
    card = Card(
        source="put",
        digest=Digest.of(about.card.encode()),
        text=about.card,
        updated_at=tx.now,
        updated_by=principal.id,
    )
    await put_card(tx, model.id, card)
    await reindex(tx, model.id)


async def _record(tx: Tx, principal: Principal, wish: ImportWish, made: Imported) -> None:
    about = wish.archived.model
    entry = Entry(
        action="import",
        kind="model",
        id=made.full.model.id,
        name=made.full.model.name,
        model=made.full.model.id,
        after={
            "from": {
                "model": about.name,
                "created_at": rfc3339(microseconds(about.created_at)),
                "created_by": about.created_by,
            },
            "versions": made.versions,
            "burnt": made.burnt,
            "size": wish.archived.heading.size,
            "left_out": made.left_out,
        },
    )
    await record(tx, principal, entry)
