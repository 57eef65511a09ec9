"""Commands work on a disk; those that run in the tests' own process leave its log as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.commands import same_log
from tests.support.folders import tmp_path

__all__ = ["tmp_path"]


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """For tests that run parts of commands, without `run_here`."""
    with same_log():
        yield
