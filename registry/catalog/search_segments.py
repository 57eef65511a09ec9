"""The segments of the search index, and merging them a few pages at a time.

Each change of a document adds a segment to FTS5's index. Many make searches slow, so they are
merged, level by level. Left to itself FTS5 does that inside whatever transaction comes when enough
has been written: at 100,000 models one change of 64 then took 10 to 77 ms instead of 0.6. Once
`stop_merging_by_itself` was called, `merge` does it in steps of its own. Where nobody calls that,
FTS5 still merges what has sixteen segments on one level.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from store.index.transactions import Statement, Tx

PAGES: Final = 16
"""A step writes so many pages of each index; 1 to 3 ms."""

_STOP = (
    Statement(lambda: text("INSERT INTO model_words (model_words, rank) VALUES ('automerge', 0)")),
    Statement(lambda: text("INSERT INTO model_grams (model_grams, rank) VALUES ('automerge', 0)")),
)
_MERGE = (
    Statement(lambda: text("INSERT INTO model_words (model_words, rank) VALUES ('merge', :pages)")),
    Statement(lambda: text("INSERT INTO model_grams (model_grams, rank) VALUES ('merge', :pages)")),
)
_STOPPED = Statement(
    lambda: text(
        "SELECT v FROM model_words_config WHERE k = 'automerge' AND v = 0 UNION ALL "
        "SELECT v FROM model_grams_config WHERE k = 'automerge' AND v = 0"
    )
)
# FTS5 keeps the list of an index's segments in this row.
_SEGMENTS = Statement(
    lambda: text(
        "SELECT block FROM model_words_data WHERE id = 10 UNION ALL "
        "SELECT block FROM model_grams_data WHERE id = 10"
    )
)
_CHANGES = Statement(lambda: text("SELECT total_changes()"))


async def merges_by_itself(tx: Tx) -> bool:
    """Whether FTS5 still merges inside the transactions that change documents."""
    return len(await tx.all(_STOPPED)) < len(_STOP)


async def stop_merging_by_itself(tx: Tx) -> None:
    """Leave merging to who calls `merge`, from now on and for every process."""
    for statement in _STOP:
        await tx.run(statement)


async def segments(tx: Tx) -> bytes:
    """What differs when a segment has come or gone."""
    return b"".join([bytes(row[0]) for row in await tx.all(_SEGMENTS)])


async def merge(tx: Tx) -> bool:
    """Carry merging on by one step; says whether there was something to merge."""
    has_merged = False
    for statement in _MERGE:
        before = await _changes(tx)
        await tx.run(statement, pages=PAGES)
        # The row that is inserted counts as one; FTS5 documents what is more as work done.
        has_merged |= await _changes(tx) - before >= 2
    return has_merged


async def _changes(tx: Tx) -> int:
    row = await tx.one(_CHANGES)
    assert row is not None, "an expression"
    return int(row[0])
