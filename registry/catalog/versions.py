"""Rows of revisions and versions. A version's row outlives its deletion: that burns its names."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, delete, insert, select, union_all, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import models, revisions, version_details, versions
from registry.catalog.tags import count_version_in_tags, forget_version_tags
from registry.catalog.usage import count_version
from registry.domain.facts import ROW_FIELDS
from registry.domain.models import Source, Version, VersionDetails
from registry.domain.versions import Candidate, Precedence, Standing, precedence
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
    "purged_at": versions.c.purged_at,
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
COLUMNS: Final = (*_FIELDS.values(), *_SOURCE)
"""What `version_of` reads, in its order."""
_OF_MODEL = select(*COLUMNS).where(versions.c.model == bindparam("model"))
_BY_NUMBER = Statement(lambda: _OF_MODEL.where(versions.c.number == bindparam("number")))
_BY_LABEL = Statement(lambda: _OF_MODEL.where(versions.c.folded == bindparam("folded")))
_BY_ID = Statement(lambda: _OF_MODEL.where(versions.c.id == bindparam("id")))
_BY_TREE = Statement(
    lambda: (
        _OF_MODEL.where(versions.c.tree == bindparam("tree"), versions.c.deleted_at.is_(None))
        .order_by(versions.c.number.desc())
        .limit(1)
    )
)
_ANYWHERE = Statement(lambda: select(*COLUMNS).where(versions.c.id == bindparam("id")))
_UNLABELLED = (versions.c.label.is_(None), versions.c.deleted_at.is_(None))
_ID_OF_MODEL = select(versions.c.id).where(versions.c.model == bindparam("model"))
_REPEATED_TREE = Statement(
    lambda: (
        _ID_OF_MODEL.where(
            versions.c.tree == bindparam("tree"), versions.c.source.is_(None), *_UNLABELLED
        )
        .order_by(versions.c.number.desc())
        .limit(1)
    )
)
_REPEATED_SOURCE = Statement(
    lambda: (
        _ID_OF_MODEL.where(
            versions.c.source == bindparam("source"),
            versions.c.source_digest.is_not_distinct_from(bindparam("digest")),
            versions.c.source_size.is_not_distinct_from(bindparam("size")),
            *_UNLABELLED,
        )
        .order_by(versions.c.number.desc())
        .limit(1)
    )
)
_BY_REVISION = Statement(
    lambda: select(*COLUMNS).where(versions.c.revision == bindparam("revision")).limit(1)
)
_INSERT_REVISION = Statement(
    lambda: insert(revisions).values(
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
    lambda: select(revisions.c.tree).where(
        revisions.c.id == bindparam("id"), revisions.c.model == bindparam("model")
    )
)
_INSERT = Statement(
    lambda: insert(versions).values(
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
        kind=select(models.c.kind).where(models.c.id == bindparam("model")).scalar_subquery(),
        **{name: bindparam(name) for name in _SAID},
    )
)
_INSERT_DETAILS = Statement(
    lambda: insert(version_details).values(
        version=bindparam("version"),
        **{name: bindparam(name) for name in VersionDetails.__struct_fields__},
    )
)
_DETAILS = Statement(
    lambda: select(*(version_details.c[name] for name in VersionDetails.__struct_fields__)).where(
        version_details.c.version == bindparam("version")
    )
)
_CHANGED = {"updated_at": bindparam("now"), "changes": versions.c.changes + 1}
_UPDATE = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"))
        .values(**{name: bindparam(name) for name in ROW_FIELDS}, **_CHANGED)
    )
)
_UPDATE_DETAILS = Statement(
    lambda: (
        update(version_details)
        .where(version_details.c.version == bindparam("version_"))
        .values(**{name: bindparam(name) for name in VersionDetails.__struct_fields__})
    )
)
_SET_DELETED = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"))
        .values(deleted_at=bindparam("deleted_at"), deleted_by=bindparam("deleted_by"), **_CHANGED)
    )
)
_COUNT_VERSION = Statement(
    lambda: (
        update(models)
        .where(models.c.id == bindparam("model_"))
        .values(
            version_count=models.c.version_count + bindparam("more"),
            updated_at=bindparam("now"),
            changes=models.c.changes + 1,
        )
    )
)
_SET_PURGED = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"))
        .values(purged_at=bindparam("purged_at"), **_CHANGED)
    )
)
_SET_RETIRED = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"))
        .values(retired_at=bindparam("retired_at"), **_CHANGED)
    )
)
_DELETE_DETAILS = Statement(
    lambda: delete(version_details).where(version_details.c.version == bindparam("version_"))
)


def _candidate(standing: Standing) -> Select[Any]:
    """The living version of a standing that can matter: by number, of releases by precedence."""
    found = select(versions.c.standing, versions.c.number, versions.c.precedence).where(
        versions.c.model == bindparam("model"),
        versions.c.standing == literal(f"'{standing}'"),
        versions.c.deleted_at.is_(None),
        versions.c.retired_at.is_(None),
    )
    if standing == "release":
        found = found.where(versions.c.precedence.is_not(None))
        found = found.order_by(versions.c.precedence.desc())
    return select(found.order_by(versions.c.number.desc()).limit(literal("1")).subquery(standing))


_CANDIDATES = Statement(
    lambda: union_all(_candidate("plain"), _candidate("release"), _candidate("prerelease"))
)


NO_DETAILS = VersionDetails()


def version_of(row: Row) -> Version:
    """The struct of a row of `COLUMNS`."""
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
    return None if row is None else version_of(row)


async def find_version_by_label(tx: Tx, model_id: str, folded: str) -> Version | None:
    row = await tx.one(_BY_LABEL, model=model_id, folded=folded)
    return None if row is None else version_of(row)


async def find_version_by_id(tx: Tx, model_id: str, id: str) -> Version | None:
    row = await tx.one(_BY_ID, model=model_id, id=id)
    return None if row is None else version_of(row)


async def find_version_anywhere(tx: Tx, id: str) -> Version | None:
    row = await tx.one(_ANYWHERE, id=id)
    return None if row is None else version_of(row)


async def find_version_by_tree(tx: Tx, model_id: str, tree: Digest) -> Version | None:
    """The newest live version with exactly these files."""
    row = await tx.one(_BY_TREE, model=model_id, tree=tree.raw)
    return None if row is None else version_of(row)


async def find_repeated_version(
    tx: Tx, model_id: str, tree: Digest, source: Source | None
) -> Version | None:
    """The newest live version without a label that holds just this."""
    if source is None:
        row = await tx.one(_REPEATED_TREE, model=model_id, tree=tree.raw)
    else:
        row = await tx.one(
            _REPEATED_SOURCE,
            model=model_id,
            source=source.uri,
            digest=None if source.digest is None else source.digest.raw,
            size=source.size_bytes,
        )
    return None if row is None else await find_version_by_id(tx, model_id, row[0])


async def find_version_by_revision(tx: Tx, revision: str) -> Version | None:
    row = await tx.one(_BY_REVISION, revision=revision)
    return None if row is None else version_of(row)


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
    # Not by a trigger: each page that a row with one changes is copied before, lest it be refused.
    await count_version(tx, version.model_id)


async def find_details(tx: Tx, version_id: str) -> VersionDetails:
    """What is long about a version; nothing of one that was purged."""
    row = await tx.one(_DETAILS, version=version_id)
    return NO_DETAILS if row is None else VersionDetails(*row)


async def update_version(tx: Tx, version: Version, details: VersionDetails | None) -> Version:
    """Write what is said of a version, with None for details that stay; the version as it is."""
    facts = {name: getattr(version, name) for name in ROW_FIELDS}
    await tx.run(_UPDATE, id_=version.id, now=tx.now, **facts)
    if details is not None:
        await tx.run(_UPDATE_DETAILS, version_=version.id, **msgspec.structs.asdict(details))
    return _touched(tx, version)


async def set_deleted(tx: Tx, version: Version, *, by: str | None) -> Version:
    """Delete a version softly, or with None bring it back; its model and its tags count it so."""
    at = None if by is None else tx.now
    await tx.run(_SET_DELETED, id_=version.id, deleted_at=at, deleted_by=by, now=tx.now)
    more = 1 if by is None else -1
    await tx.run(_COUNT_VERSION, model_=version.model_id, more=more, now=tx.now)
    await count_version_in_tags(tx, version.id, more)
    return msgspec.structs.replace(_touched(tx, version), deleted_at=at)


async def set_purged(tx: Tx, version: Version, *, at: int | None) -> Version:
    """Leave nothing of a version but its row, or with None begin its details anew."""
    await tx.run(_SET_PURGED, id_=version.id, purged_at=at, now=tx.now)
    if at is None:
        await tx.run(_INSERT_DETAILS, version=version.id, **msgspec.structs.asdict(NO_DETAILS))
    else:
        await tx.run(_DELETE_DETAILS, version_=version.id)
        await forget_version_tags(tx, version.id)
    return msgspec.structs.replace(_touched(tx, version), purged_at=at)


async def set_retired(tx: Tx, version: Version, *, at: int | None) -> Version:
    """Retire a version, or with None bring it back; for `registry.services.retirement` alone."""
    await tx.run(_SET_RETIRED, id_=version.id, retired_at=at, now=tx.now)
    return msgspec.structs.replace(_touched(tx, version), retired_at=at)


def _touched(tx: Tx, version: Version) -> Version:
    return msgspec.structs.replace(version, updated_at=tx.now, changes=version.changes + 1)


async def latest_candidates(tx: Tx, model_id: str) -> list[Candidate]:
    """The three versions that can matter to `choose_latest`, by one index entry each."""
    rows = await tx.all(_CANDIDATES, model=model_id)
    return [Candidate(number, Precedence(standing, key)) for standing, number, key in rows]
