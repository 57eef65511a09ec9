"""Rows of drafts: folders, the files in them, and the uploads running into them.

An upload registers under the folded names of model and label, because neither needs to exist before
bytes have arrived whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Text, bindparam, delete, exists, func, insert, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert as upsert

from registry.catalog.schema import folder_files, folder_uploads, folders
from registry.domain.models import Draft, RunningUpload
from registry.domain.paths import parents
from registry.domain.trees import TreeFile, TreeHasher
from store.digest import Digest
from store.index.packed import DIGESTS, MANY, for_each, packed, piece_of
from store.index.schema import blobs
from store.index.transactions import Row, Statement, Tx

_COLUMNS = (
    folders.c.id,
    folders.c.model,
    folders.c.label,
    folders.c.created_at,
    folders.c.created_by,
    folders.c.touched_at,
)
_FIND = Statement(
    lambda: select(*_COLUMNS).where(
        folders.c.model == bindparam("model"), folders.c.folded == bindparam("folded")
    )
)
_IDLE = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(folders.c.touched_at < bindparam("before"))
        .order_by(folders.c.touched_at, folders.c.id)
        .limit(bindparam("limit"))
    )
)
_INSERT = Statement(
    lambda: insert(folders).values(
        id=bindparam("id"),
        model=bindparam("model"),
        kind="draft",
        label=bindparam("label"),
        folded=bindparam("folded"),
        created_at=bindparam("now"),
        created_by=bindparam("actor"),
        touched_at=bindparam("now"),
    )
)
_TOUCH = Statement(
    lambda: (
        update(folders).where(folders.c.id == bindparam("id_")).values(touched_at=bindparam("now"))
    )
)
_DELETE = Statement(lambda: delete(folders).where(folders.c.id == bindparam("id_")))

_FILE = Statement(
    lambda: select(folder_files.c.path, folder_files.c.digest, folder_files.c.size).where(
        folder_files.c.folder == bindparam("folder"), folder_files.c.path == bindparam("path")
    )
)
_PAGE = Statement(
    lambda: (
        select(folder_files.c.path, folder_files.c.digest, folder_files.c.size)
        .where(
            folder_files.c.folder == bindparam("folder"), folder_files.c.path > bindparam("after")
        )
        .order_by(folder_files.c.path)
        .limit(bindparam("limit"))
    )
)
_WITHIN = Statement(
    lambda: (
        select(folder_files.c.path)
        .where(
            folder_files.c.folder == bindparam("folder"),
            folder_files.c.path > bindparam("first"),
            folder_files.c.path < bindparam("beyond"),
        )
        .limit(1)
    )
)
_listed = func.json_each(bindparam("paths", type_=Text)).table_valued("value", name="listed")
_FILES = Statement(
    lambda: select(folder_files.c.path, folder_files.c.digest, folder_files.c.size).where(
        folder_files.c.folder == bindparam("folder"),
        folder_files.c.path.in_(select(_listed.c.value)),
    )
)
_ANY_WITHIN = Statement(
    lambda: (
        select(_listed.c.value)
        .where(
            exists().where(
                folder_files.c.folder == bindparam("folder"),
                folder_files.c.path > _listed.c.value + literal("'/'", Text),
                folder_files.c.path < _listed.c.value + literal("'0'", Text),
            )
        )
        .limit(1)
    )
)
_INSERT_FILE = Statement(
    lambda: insert(folder_files).values(
        folder=bindparam("folder"),
        path=bindparam("path"),
        digest=bindparam("digest"),
        size=bindparam("size"),
        put_at=bindparam("now"),
    )
)
_SET_FILE = Statement(
    lambda: (
        upsert(folder_files)
        .values(
            folder=bindparam("folder"),
            path=bindparam("path"),
            digest=bindparam("digest"),
            size=bindparam("size"),
            put_at=bindparam("now"),
        )
        .on_conflict_do_update(
            index_elements=["folder", "path"],
            set_={
                "digest": bindparam("digest"),
                "size": bindparam("size"),
                "put_at": bindparam("now"),
            },
        )
    )
)
_filled = upsert(folder_files).from_select(
    ["folder", "path", "digest", "size", "put_at"],
    for_each(
        bindparam("folder", type_=Text),
        func.json_extract(MANY.c.value, literal("'$[0]'")),
        piece_of(DIGESTS),
        func.json_extract(MANY.c.value, literal("'$[1]'")),
        bindparam("now", type_=BigInteger),
    ),
)
_SET_FILES = Statement(
    lambda: _filled.on_conflict_do_update(
        index_elements=["folder", "path"],
        set_={name: _filled.excluded[name] for name in ("digest", "size", "put_at")},
    )
)
_DELETE_FILE = Statement(
    lambda: delete(folder_files).where(
        folder_files.c.folder == bindparam("folder_"), folder_files.c.path == bindparam("path_")
    )
)
_DELETE_FILES = Statement(
    lambda: delete(folder_files).where(folder_files.c.folder == bindparam("folder_"))
)
_NOT_PRESENT = Statement(
    lambda: (
        select(folder_files.c.digest)
        .join(blobs, blobs.c.digest == folder_files.c.digest, isouter=True)
        .where(
            folder_files.c.folder == bindparam("folder"),
            func.coalesce(blobs.c.state, "absent") != "present",
        )
        .limit(bindparam("limit"))
    )
)
_TOTALS = Statement(
    lambda: select(func.count(), func.coalesce(func.sum(folder_files.c.size), 0)).where(
        folder_files.c.folder == bindparam("folder")
    )
)

_REGISTER = Statement(
    lambda: insert(folder_uploads).values(
        id=bindparam("id"),
        model_folded=bindparam("model"),
        label_folded=bindparam("label"),
        path=bindparam("path"),
        principal=bindparam("principal"),
        started_at=bindparam("now"),
        expires_at=bindparam("expires_at"),
    )
)
_RENEW = Statement(
    lambda: (
        update(folder_uploads)
        .where(folder_uploads.c.id == bindparam("id_"))
        .values(expires_at=bindparam("expires_at"))
    )
)
_MOVE_UPLOADS = Statement(
    lambda: (
        update(folder_uploads)
        .where(folder_uploads.c.model_folded == bindparam("before"))
        .values(model_folded=bindparam("after"))
    )
)
_UNREGISTER = Statement(
    lambda: delete(folder_uploads).where(folder_uploads.c.id == bindparam("id_"))
)
_LAPSE = Statement(
    lambda: delete(folder_uploads).where(folder_uploads.c.expires_at <= bindparam("now"))
)
_RUNNING = Statement(
    lambda: (
        select(folder_uploads.c.path, folder_uploads.c.principal, folder_uploads.c.started_at)
        .where(
            folder_uploads.c.model_folded == bindparam("model"),
            folder_uploads.c.label_folded == bindparam("label"),
            folder_uploads.c.expires_at > bindparam("now"),
        )
        .order_by(folder_uploads.c.path, folder_uploads.c.id)
        .limit(bindparam("limit"))
    )
)

_PAGE_ROWS = 1000
_LISTED_UPLOADS = 1000


def _file(row: Row) -> TreeFile:
    return TreeFile(row[0], Digest(row[1].hex()), row[2])


async def find_draft(tx: Tx, model_id: str, folded: str) -> Draft | None:
    row = await tx.one(_FIND, model=model_id, folded=folded)
    return None if row is None else Draft(*row)


async def idle_drafts(tx: Tx, before: int, limit: int) -> list[Draft]:
    """Drafts that nobody touched since `before`, longest idle first."""
    return [Draft(*row) for row in await tx.all(_IDLE, before=before, limit=limit)]


async def insert_draft(
    tx: Tx, id: str, model_id: str, label: str, folded: str, actor: str
) -> Draft:
    await tx.run(
        _INSERT, id=id, model=model_id, label=label, folded=folded, now=tx.now, actor=actor
    )
    return Draft(id, model_id, label, tx.now, actor, tx.now)


async def delete_draft(tx: Tx, id: str) -> None:
    """Remove a draft and its list of files; the references are the caller's."""
    await tx.run(_DELETE_FILES, folder_=id)
    await tx.run(_DELETE, id_=id)


async def find_draft_file(tx: Tx, folder: str, path: str) -> TreeFile | None:
    row = await tx.one(_FILE, folder=folder, path=path)
    return None if row is None else _file(row)


async def draft_files_after(tx: Tx, folder: str, after: str, limit: int) -> list[TreeFile]:
    """A page of files in order of path; start with ``""``."""
    return [_file(row) for row in await tx.all(_PAGE, folder=folder, after=after, limit=limit)]


async def draft_totals(tx: Tx, folder: str) -> tuple[int, int]:
    """How many files and bytes a draft holds."""
    row = await tx.one(_TOTALS, folder=folder)
    assert row is not None, "an aggregate has one row"
    return row[0], row[1]


async def unreadable_in_draft(tx: Tx, folder: str, limit: int = 100) -> list[Digest]:
    """Blobs of the draft that are not present right now."""
    rows = await tx.all(_NOT_PRESENT, folder=folder, limit=limit)
    return [Digest(row[0].hex()) for row in rows]


async def file_in_the_way(tx: Tx, folder: str, path: str) -> str | None:
    """A file that would be a directory if `path` were added, or the other way round."""
    for parent in parents(path):
        if await tx.one(_FILE, folder=folder, path=parent) is not None:
            return parent
    # '0' is the character after '/', so this is everything below the path.
    row = await tx.one(_WITHIN, folder=folder, first=path + "/", beyond=path + "0")
    return None if row is None else str(row[0])


async def find_draft_files(tx: Tx, folder: str, paths: Collection[str]) -> dict[str, TreeFile]:
    """Those of some paths that a draft has, with one statement."""
    rows = await tx.all(_FILES, folder=folder, paths=_json(paths))
    return {row[0]: _file(row) for row in rows}


async def any_draft_file_below(tx: Tx, folder: str, paths: Collection[str]) -> bool:
    """Whether any of some paths is a directory of a draft, with one statement."""
    return await tx.one(_ANY_WITHIN, folder=folder, paths=_json(paths)) is not None


def _json(values: Collection[object]) -> str:
    return msgspec.json.encode(list(values)).decode()


async def put_draft_file(tx: Tx, folder: str, file: TreeFile) -> None:
    """Set what a path of a draft holds; the references are the caller's."""
    await tx.run(_TOUCH, id_=folder, now=tx.now)
    await tx.run(_SET_FILE, **_values(tx, folder, file))


async def set_draft_files(tx: Tx, folder: str, files: Sequence[TreeFile]) -> None:
    """`put_draft_file` for many, with two statements."""
    await tx.run(_TOUCH, id_=folder, now=tx.now)
    facts = [(file.path, file.size_bytes) for file in files]
    values = packed([file.digest for file in files], facts)
    await tx.run(_SET_FILES, folder=folder, now=tx.now, **values)


async def put_draft_files(tx: Tx, folder: str, files: Iterable[TreeFile]) -> None:
    """Fill a draft that holds nothing yet; the references are the caller's."""
    await tx.run_many(_INSERT_FILE, (_values(tx, folder, file) for file in files))


def _values(tx: Tx, folder: str, file: TreeFile) -> dict[str, Any]:
    return {
        "folder": folder,
        "path": file.path,
        "digest": file.digest.raw,
        "size": file.size_bytes,
        "now": tx.now,
    }


async def delete_draft_file(tx: Tx, folder: str, path: str) -> None:
    await tx.run(_TOUCH, id_=folder, now=tx.now)
    await tx.run(_DELETE_FILE, folder_=folder, path_=path)


async def hash_draft(tx: Tx, folder: str) -> TreeHasher:
    """The tree that the draft's files make, page by page."""
    hasher = TreeHasher()
    after = ""
    while True:
        rows = await tx.all(_PAGE, folder=folder, after=after, limit=_PAGE_ROWS)
        for path, digest, size in rows:
            hasher.update(path, digest.hex(), size)
        if len(rows) < _PAGE_ROWS:
            return hasher
        after = rows[-1][0]


async def register_upload(
    tx: Tx, id: str, model: str, label: str, path: str, principal: str, *, expires_at: int
) -> None:
    """Announce an upload; entries of dead workers are swept on the way."""
    await tx.run(_LAPSE, now=tx.now)
    await tx.run(
        _REGISTER,
        id=id,
        model=model,
        label=label,
        path=path,
        principal=principal,
        now=tx.now,
        expires_at=expires_at,
    )


async def renew_upload(tx: Tx, id: str, *, expires_at: int) -> None:
    await tx.run(_RENEW, id_=id, expires_at=expires_at)


async def move_uploads(tx: Tx, before: str, after: str) -> None:
    """Let running uploads count for the model they go to under its new folded name."""
    await tx.run(_MOVE_UPLOADS, before=before, after=after)


async def unregister_upload(tx: Tx, id: str) -> None:
    await tx.run(_UNREGISTER, id_=id)


async def running_uploads(tx: Tx, model: str, label: str) -> list[RunningUpload]:
    """Uploads into one draft that are under way, by the folded names of both."""
    rows = await tx.all(_RUNNING, model=model, label=label, now=tx.now, limit=_LISTED_UPLOADS)
    return [RunningUpload(*row) for row in rows]
