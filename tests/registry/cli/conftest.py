"""Commands work on a disk; those that run in the tests' own process leave its log as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from registry.cli import logs
from tests.support.folders import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture(autouse=True)
def same_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sends the log of its process to its error stream and quiets the store's."""

    def quiet(level: str) -> None:
        least = structlog.make_filtering_bound_logger(logs.LEVELS[level])
        structlog.configure(wrapper_class=least, cache_logger_on_first_use=False)

    quiet("warning")  # of servers in this process too: tests read what a command prints
    monkeypatch.setattr(logs, "configure", quiet)
    before = logging.getLogger("store").level
    yield
    logging.getLogger("store").setLevel(before)
    structlog.reset_defaults()
