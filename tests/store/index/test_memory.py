"""The index in memory keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from store.index.database import Database
from tests.contracts.index import IndexContract, OpenIndex, get, put


class TestMemory(IndexContract):
    @pytest.fixture
    def open_index(self) -> OpenIndex:
        @asynccontextmanager
        async def open_index(**options: Any) -> AsyncIterator[Database]:
            index = await Database.open(None, **options)
            try:
                yield index
            finally:
                await index.close()

        return open_index

    async def test_a_blocking_read_on_the_loop_is_refused(self, index: Database) -> None:
        """It would wait for the loop that it stops."""
        with pytest.raises(RuntimeError, match="would wait for itself"):
            index.read_blocking(get("a"))

    async def test_two_databases_share_nothing(
        self, index: Database, open_index: OpenIndex
    ) -> None:
        async with open_index() as other:
            await other.run(put("a"))

            assert await index.read(get("a")) is None
            assert await other.read(get("a")) == ("",)

    async def test_checkpoints_have_nothing_to_do(self, index: Database) -> None:
        assert (await index.checkpoint()).is_complete
        assert index.wal_bytes() == 0
