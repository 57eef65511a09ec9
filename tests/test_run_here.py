"""A command that ran in the tests' own process leaves nothing behind for those that come after."""

from __future__ import annotations

import logging
from pathlib import Path

import structlog

from registry.catalog.migrations import CHAINS
from tests.support.commands import run_here
from tests.support.fresh import initialize_like_new


def _log() -> tuple[object, ...]:
    root, store = logging.getLogger(), logging.getLogger("store")
    return list(root.handlers), root.level, store.level, store.handlers, structlog.get_config()


def test_a_command_that_opens_a_store_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    initialize_like_new(data, CHAINS)
    structlog.reset_defaults()
    before = _log()

    assert run_here("gc", "--data", str(data)).returncode == 0

    assert _log() == before
    assert not structlog.is_configured()


def test_a_log_that_was_configured_is_so_again() -> None:
    errors = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=errors)
    try:
        assert run_here("version").returncode == 0

        assert structlog.get_config()["wrapper_class"] is errors
    finally:
        structlog.reset_defaults()
