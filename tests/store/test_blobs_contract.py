"""The store in process keeps the contract of its users, each unit of work run once and twice."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from store.opening import Store
from tests.contracts.blobs import BlobsContract
from tests.contracts.sessions import SessionsContract
from tests.support.direct_store import direct_door
from tests.support.doors import Door


class TestDirectStore(BlobsContract, SessionsContract):
    def open_door(self, store: Store, limit: int) -> AbstractAsyncContextManager[Door]:
        return direct_door(store, limit)


class TestDirectStoreWithUnitsRunTwice(TestDirectStore):
    """In memory alone: what is run twice are the transactions, which are SQLite's on both."""

    is_doubled: ClassVar[bool] = True

    @pytest.fixture
    def backend(self) -> str:
        return "memory"
