"""Commands as processes of their own that need not import anything: forked from a `zygote`.

`Forked` is a `subprocess.Popen` in all but its start. One zygote serves this process from its first
command to the end of this process.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support.zygote import LONGEST_REQUEST

BY_EXEC: Final = "DIGESTRY_TESTS_EXEC"
"""Set to 1 it lets every command start as those of users do: a check of the forks, and slower."""

READ_LATER: Final = ("DIGESTRY_", "XDG_", "HOME", "TERM", "COLUMNS", "LINES", "NO_COLOR", "TMPDIR")
"""Variables that nobody reads before a command runs; others may have an effect on its imports."""

UNDERSTOOD: Final = {"stdin", "stdout", "stderr", "text", "cwd", "start_new_session"}
"""Options of a process; with others it is started."""

_START: Final = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]  # private
_PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_one_at_a_time = threading.Lock()
_PR_SET_CHILD_SUBREAPER: Final = 36


def can_fork(env: Mapping[str, str], fixed: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Whether a fork is what a fresh process would be; `fixed` are the variables of the zygote."""
    if sys.platform != "linux" or os.environ.get(BY_EXEC) == "1":
        return False
    if not options.keys() <= UNDERSTOOD:
        return False
    if any(env.get(name) != value for name, value in fixed.items()):
        return False
    return all(name.startswith(READ_LATER) for name in env.keys() - fixed.keys())


class Forked(subprocess.Popen[Any]):
    """A command in a forked process; `args` are its arguments, without interpreter and module."""

    def __init__(self, *args: str, env: Mapping[str, str], **options: Any) -> None:
        self.cwd = os.path.abspath(options.pop("cwd", None) or os.getcwd())
        super().__init__(["digestry", *args], env=env, **options)

    def _execute_child(self, *given: Any) -> None:
        """Ask for the process instead of starting it."""
        told = _START.bind(self, *given).arguments
        pipes = [told[name] for name in _PIPES]
        ends = [told["p2cread"], told["c2pwrite"], told["errwrite"]]
        request = {
            "args": told["args"][1:],
            "env": dict(told["env"]),
            "cwd": self.cwd,
            "is_session": bool(told["start_new_session"]),
        }
        streams = [usual if end < 0 else end for usual, end in enumerate(ends)]
        with _one_at_a_time:
            self.pid = _zygote().fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # private


class Zygote:
    """The process that forks for this one."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # open for as long as it is
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.zygote", str(theirs.fileno())],
                cwd=root,
                env=dict(env),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
            )
        try:
            assert self._answer() == b"ready"
        except BaseException:  # of a test that has had its time, say
            self._process.kill()
            self.close()
            raise

    def fork(self, request: Mapping[str, Any], streams: list[int]) -> int:
        """The process id of a new child of this process."""
        content = json.dumps(request).encode()
        assert len(content) < LONGEST_REQUEST
        with _taking_orphans_in():
            socket.send_fds(self._socket, [content], streams)
            return int(self._answer())

    def close(self) -> None:
        """Let it end: what it forked lives on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # forks of this process may have a copy
        self._socket.close()
        self._process.wait()
        self._said.close()

    def _answer(self) -> bytes:
        answer = self._socket.recv(32)
        if not answer:
            self._said.seek(0)
            raise AssertionError(f"the zygote has ended:\n{self._said.read().decode()}")
        return answer


@contextmanager
def _taking_orphans_in() -> Iterator[None]:
    """Be the parent of descendants whose own one ends; at other times that is nobody's business."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _zygote() -> Zygote:
    from tests.support.servers import ROOT, environment

    zygote = Zygote(ROOT, environment())
    atexit.register(zygote.close)
    return zygote
