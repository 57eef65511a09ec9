"""Rows of trees are what was put in, however many there are and whatever a path is made of."""

from __future__ import annotations

from functools import partial

import pytest

from registry.catalog import trees
from registry.catalog.trees import insert_tree, tree_files_after
from registry.domain.trees import TreeFile, sorted_files
from store.digest import Digest
from store.index.transactions import Tx
from store.opening import Store

PATHS = (
    "plain",
    "it's",
    'a "name"',
    "name: b?1, :sizes",
    "[1]",
    "{}",
    "Ünï/çode/🤗",
    "tab\u2028",
    "x" * 255,
)
SIZES = (0, 1, 10_240, 2**31, 2**53 + 1, 2**63 - 1)


def _files(count: int) -> list[TreeFile]:
    return sorted_files(
        TreeFile(
            f"{PATHS[number % len(PATHS)]}-{number}",
            Digest(f"{number:064x}"),
            SIZES[number % len(SIZES)],
        )
        for number in range(count)
    )


async def test_a_tree_is_read_back_as_it_was_put_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "_FILES_AT_ONCE", 7)

    async def unit(tx: Tx, count: int) -> list[TreeFile]:
        tree = Digest(f"{count + 1:064x}")
        await insert_tree(tx, tree, iter(_files(count)), files=count, size_bytes=5)
        return await tree_files_after(tx, tree, "", 100)

    for count in (0, 1, 6, 7, 8, 20):
        assert await store.index.run(partial(unit, count=count)) == _files(count)
