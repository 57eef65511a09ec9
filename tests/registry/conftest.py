"""The application on each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.opening import Store
from tests.support.builders import Registry, running_registry
from tests.support.serving import Site, opened, serving


@pytest.fixture(params=["local", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An open store on each backend."""
    root = tmp_path / "data" if request.param == "local" else None
    async with opened(root) as store:
        yield store


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    """The application with its default configuration; nothing may stay staged behind a test."""
    async with serving(store) as site:
        yield site
        await site.at_rest()
        assert await site.staged() == []


@pytest.fixture(params=["local", "memory"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry with words for models; its claims must add up behind every test."""
    root = tmp_path / "data" if request.param == "local" else None
    async with running_registry(root) as running:
        yield running
        await running.check()
