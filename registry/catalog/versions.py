"""Rows of revisions and versions. A version's row outlives its deletion: that burns its names."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, insert, select, update

from registry.catalog.schema import revisions, version_details, versions
from registry.domain.models import Source, Version, VersionDetails
from registry.domain.versions import Candidate, Precedence, precedence
from store.digest import Digest
from store.index.transactions import Row, Statement, Tx

_FIELDS = {
    "id": versions.c.id,
    "model_id": versions.c.model,
    "number": versions.c.number,
    "label": versions.c.label,
    "revision": versions.c.revision,
    "tree": versions.c.tree,
    "files": versions.c.files,
    "size_bytes": versions.c.size,
    "status": versions.c.status,
    "framework": versions.c.framework,
    "framework_version": versions.c.framework_version,
    "python_version": versions.c.python_version,
    "region": versions.c.region,
    "eval_score": versions.c.eval_score,
    "cost_per_1k": versions.c.cost_per_1k,
    "slo_target": versions.c.slo_target,
    "slo_met": versions.c.slo_met,
    "tier": versions.c.tier,
    "retired_at": versions.c.retired_at,
    "created_at": versions.c.created_at,
    "created_by": versions.c.created_by,
    "updated_at": versions.c.updated_at,
    "deleted_at": versions.c.deleted_at,
    "changes": versions.c.changes,
}
_SAID = (
    "status",
    "framework",
    "framework_version",
    "python_version",
    "region",
    "eval_score",
    "cost_per_1k",
    "slo_target",
    "slo_met",
    "source",
    "source_digest",
    "source_size",
)
_SOURCE = (versions.c.source, versions.c.source_digest, versions.c.source_size)
_COLUMNS = (*_FIELDS.values(), *_SOURCE)
_OF_MODEL = select(*_COLUMNS).where(versions.c.model == bindparam("model"))
_BY_NUMBER = Statement(_OF_MODEL.where(versions.c.number == bindparam("number")))
_BY_LABEL = Statement(_OF_MODEL.where(versions.c.folded == bindparam("folded")))
_BY_ID = Statement(_OF_MODEL.where(versions.c.id == bindparam("id")))
_BY_TREE = Statement(
    _OF_MODEL.where(versions.c.tree == bindparam("tree"), versions.c.deleted_at.is_(None))
    .order_by(versions.c.number.desc())
    .limit(1)
)
_BY_REVISION = Statement(
    select(*_COLUMNS).where(versions.c.revision == bindparam("revision")).limit(1)
)
_INSERT_REVISION = Statement(
    insert(revisions).values(
        id=bindparam("id"),
        model=bindparam("model"),
        tree=bindparam("tree"),
        parents=bindparam("parents"),
        author=bindparam("author"),
        message=bindparam("message"),
        created_at=bindparam("now"),
    )
)
_REVISION_TREE = Statement(
    select(revisions.c.tree).where(
        revisions.c.id == bindparam("id"), revisions.c.model == bindparam("model")
    )
)
_INSERT = Statement(
    insert(versions).values(
        id=bindparam("id"),
        model=bindparam("model"),
        number=bindparam("number"),
        label=bindparam("label"),
        folded=bindparam("folded"),
        standing=bindparam("standing"),
        precedence=bindparam("precedence"),
        revision=bindparam("revision"),
        tree=bindparam("tree"),
        files=bindparam("files"),
        size=bindparam("size"),
        created_at=bindparam("now"),
        created_by=bindparam("actor"),
        updated_at=bindparam("now"),
        **{name: bindparam(name) for name in _SAID},
    )
)
_INSERT_DETAILS = Statement(
    insert(version_details).values(
        version=bindparam("version"),
        **{name: bindparam(name) for name in VersionDetails.__struct_fields__},
    )
)
_SET_DELETED = Statement(
    update(versions)
    .where(versions.c.id == bindparam("id_"))
    .values(deleted_at=bindparam("deleted_at"), deleted_by=bindparam("deleted_by"))
)
_LIVE = (
    select(versions.c.number, versions.c.precedence)
    .where(
        versions.c.model == bindparam("model"),
        versions.c.standing == bindparam("standing"),
        versions.c.deleted_at.is_(None),
    )
    .limit(1)
)
_NEWEST = Statement(_LIVE.order_by(versions.c.number.desc()))
_HIGHEST = Statement(_LIVE.order_by(versions.c.precedence.desc(), versions.c.number.desc()))


NO_DETAILS = VersionDetails()


def _version(row: Row) -> Version:
    *plain, uri, digest, size = row
    values = dict(zip(_FIELDS, plain, strict=True))
    values["tree"] = Digest(values["tree"].hex())
    if values["slo_met"] is not None:
        values["slo_met"] = bool(values["slo_met"])
    if uri is not None:
        values["source"] = Source(uri, None if digest is None else Digest(digest.hex()), size)
    return Version(**values)


async def find_version_by_number(tx: Tx, model_id: str, number: int) -> Version | None:
    """The version of that number, deleted or not, as all of these do unless they say otherwise."""
    row = await tx.one(_BY_NUMBER, model=model_id, number=number)
    return None if row is None else _version(row)


async def find_version_by_label(tx: Tx, model_id: str, folded: str) -> Version | None:
    row = await tx.one(_BY_LABEL, model=model_id, folded=folded)
    return None if row is None else _version(row)


async def find_version_by_id(tx: Tx, model_id: str, id: str) -> Version | None:
    row = await tx.one(_BY_ID, model=model_id, id=id)
    return None if row is None else _version(row)


async def find_version_by_tree(tx: Tx, model_id: str, tree: Digest) -> Version | None:
    """The newest live version with exactly these files."""
    row = await tx.one(_BY_TREE, model=model_id, tree=tree.raw)
    return None if row is None else _version(row)


async def find_version_by_revision(tx: Tx, revision: str) -> Version | None:
    row = await tx.one(_BY_REVISION, revision=revision)
    return None if row is None else _version(row)


async def find_revision_tree(tx: Tx, model_id: str, revision: str) -> Digest | None:
    row = await tx.one(_REVISION_TREE, id=revision, model=model_id)
    return None if row is None else Digest(row[0].hex())


async def insert_revision(
    tx: Tx, id: str, model_id: str, tree: Digest, *, parents: str, author: str, message: str
) -> None:
    await tx.run(
        _INSERT_REVISION,
        id=id,
        model=model_id,
        tree=tree.raw,
        parents=parents,
        author=author,
        message=message,
        now=tx.now,
    )


async def insert_version(
    tx: Tx, version: Version, folded: str | None, details: VersionDetails = NO_DETAILS
) -> None:
    """Write a version; its time is the transaction's."""
    stands = precedence(version.label)
    source = version.source
    digest = None if source is None else source.digest
    await tx.run(
        _INSERT,
        id=version.id,
        model=version.model_id,
        number=version.number,
        label=version.label,
        folded=folded,
        standing=stands.standing,
        precedence=stands.key,
        revision=version.revision,
        tree=version.tree.raw,
        files=version.files,
        size=version.size_bytes,
        now=version.created_at,
        actor=version.created_by,
        status=version.status,
        framework=version.framework,
        framework_version=version.framework_version,
        python_version=version.python_version,
        region=version.region,
        eval_score=version.eval_score,
        cost_per_1k=version.cost_per_1k,
        slo_target=version.slo_target,
        slo_met=version.slo_met,
        source=None if source is None else source.uri,
        source_digest=None if digest is None else digest.raw,
        source_size=None if source is None else source.size_bytes,
    )
    await tx.run(_INSERT_DETAILS, version=version.id, **msgspec.structs.asdict(details))


async def set_deleted(tx: Tx, id: str, *, at: int | None, by: str | None) -> None:
    """Delete a version softly, or bring it back with None for both."""
    await tx.run(_SET_DELETED, id_=id, deleted_at=at, deleted_by=by)


async def latest_candidates(tx: Tx, model_id: str) -> list[Candidate]:
    """The three live versions that can matter to `choose_latest`, by one index entry each."""
    found = []
    for standing, statement in (
        ("plain", _NEWEST),
        ("release", _HIGHEST),
        ("prerelease", _NEWEST),
    ):
        row = await tx.one(statement, model=model_id, standing=standing)
        if row is not None:
            found.append(Candidate(row[0], Precedence(standing, row[1])))  # type: ignore[arg-type]  # the loop's three words
    return found
