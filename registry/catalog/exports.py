"""What an export reads beside what others read too: versions in order, moves, trees and blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import LargeBinary, Text, bindparam, cast, func, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import alias_events, models, tree_files, versions
from registry.catalog.versions import COLUMNS, version_of
from registry.domain.models import AliasEvent, Version
from registry.domain.trees import FIRST_LINE
from store.digest import Digest
from store.index.transactions import Statement, Tx

_PAGE: Final = 1000
_VERSIONS = Statement(
    lambda: (
        select(*COLUMNS)
        .where(versions.c.model == bindparam("model"), versions.c.number > bindparam("after"))
        .order_by(versions.c.number)
        .limit(bindparam("limit"))
    )
)
_MOVES = Statement(
    lambda: (
        select(
            alias_events.c.folded,
            alias_events.c.id,
            alias_events.c.name,
            alias_events.c.from_revision,
            alias_events.c.to_revision,
            alias_events.c.actor,
            alias_events.c.reason,
            alias_events.c.created_at,
        )
        .where(alias_events.c.model == bindparam("model"))
        .order_by(alias_events.c.folded, alias_events.c.id)
    )
)
_asked = func.json_each(bindparam("trees", type_=Text)).table_valued("value", name="asked")
_TEXT_BYTES = Statement(
    # Two spaces, a newline and 64 digits beside the size and the path of each file.
    lambda: (
        select(
            tree_files.c.tree,
            func.sum(
                func.length(cast(tree_files.c.size, Text))
                + func.length(cast(tree_files.c.path, LargeBinary))
                + literal("67")
            ),
        )
        .select_from(_asked.join(tree_files, tree_files.c.tree == func.unhex(_asked.c.value)))
        .group_by(tree_files.c.tree)
    )
)
_BLOBS = Statement(
    lambda: (
        select(tree_files.c.digest, tree_files.c.size)
        .distinct()
        .select_from(_asked.join(tree_files, tree_files.c.tree == func.unhex(_asked.c.value)))
        .order_by(tree_files.c.digest)
    )
)
_SKIP = Statement(
    lambda: (
        update(models)
        .where(models.c.id == bindparam("id_"), models.c.last_number < bindparam("number"))
        .values(last_number=bindparam("number"))
    )
)


class AliasMoves(msgspec.Struct, frozen=True):
    """Every move of one alias, the oldest first."""

    folded: str
    events: list[AliasEvent]


async def versions_in_order(tx: Tx, model_id: str) -> list[Version]:
    """Every version that ever was, deleted ones too, by number."""
    found: list[Version] = []
    while True:
        after = found[-1].number if found else 0
        rows = await tx.all(_VERSIONS, model=model_id, after=after, limit=_PAGE)
        found += [version_of(row) for row in rows]
        if len(rows) < _PAGE:
            return found


async def all_moves(tx: Tx, model_id: str) -> list[AliasMoves]:
    """The histories of all aliases that ever were, by folded name."""
    found: list[AliasMoves] = []
    for folded, *event in await tx.all(_MOVES, model=model_id):
        if not found or found[-1].folded != folded:
            found.append(AliasMoves(folded, []))
        found[-1].events.append(AliasEvent(*event))
    return found


async def tree_text_sizes(tx: Tx, trees: Iterable[Digest]) -> dict[Digest, int]:
    """How long the canonical text of each tree is."""
    sizes = dict.fromkeys(trees, len(FIRST_LINE))
    for tree, size_bytes in await tx.all(_TEXT_BYTES, trees=_listed(sizes)):
        sizes[Digest.from_raw(tree)] += int(size_bytes)
    return sizes


async def blobs_of_trees(tx: Tx, trees: Iterable[Digest]) -> list[tuple[bytes, int]]:
    """Every blob that the trees name, once: digest and size, in order of digest."""
    return [(row[0], int(row[1])) for row in await tx.all(_BLOBS, trees=_listed(trees))]


async def skip_numbers(tx: Tx, model_id: str, number: int) -> None:
    """Let the next version of a model have a higher number than this one."""
    await tx.run(_SKIP, id_=model_id, number=number)


def _listed(digests: Iterable[Digest]) -> str:
    return msgspec.json.encode([digest.hex for digest in digests]).decode()
