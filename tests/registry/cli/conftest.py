"""Commands that run in the tests' own process leave its log as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def same_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sends the log of its process to its error stream and quiets the store's."""
    monkeypatch.setattr("registry.cli.logs.configure", lambda level: None)
    before = logging.getLogger("store").level
    yield
    logging.getLogger("store").setLevel(before)
