"""Whether a process is there, by its id."""

from __future__ import annotations

import os

import pytest

from store.processes import is_alive


def test_this_process_and_its_parent_are_there() -> None:
    assert is_alive(os.getpid())
    assert is_alive(os.getppid())


def test_one_whose_end_was_waited_for_is_not() -> None:
    child = os.posix_spawn("/bin/true", ["/bin/true"], {})
    assert is_alive(child), "it exists as long as nobody has waited for it"

    os.waitpid(child, 0)
    assert not is_alive(child)


def test_one_of_somebody_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, signum: int) -> None:
        assert (pid, signum) == (1, 0), "asked, not signalled"
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)

    assert is_alive(1)
