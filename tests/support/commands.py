"""Commands in the tests' own process: what a process of their own would do, at a hundredth of it.

Most of a command's time is starting Python. `run_here` takes the place of
`tests.support.servers.run_digestry` wherever a process is not what is tested (its signals, its
terminal, its server); it sees the same environment, and streams that are no terminals.

A command that opens a store sends the log of its process to its error stream and quiets the
store's, which in a process that goes on would silence it for every test behind: see `same_log`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import structlog

from registry.cli import logs, run
from tests.support.servers import environment


@contextlib.contextmanager
def same_log() -> Iterator[None]:
    """Whatever commands do to the log in the block, it is as before behind it.

    In the block only warnings are said, of servers in this process too: tests read what a command
    prints.
    """
    before = structlog.get_config() if structlog.is_configured() else None
    of_the_store = logging.getLogger("store")
    level = of_the_store.level
    _quiet("warning")
    try:
        with mock.patch.object(logs, "configure", _quiet):
            yield
    finally:
        of_the_store.setLevel(level)
        if before is None:
            structlog.reset_defaults()
        else:
            structlog.configure(**before)


def _quiet(level: str) -> None:
    least = structlog.make_filtering_bound_logger(logs.LEVELS[level])
    structlog.configure(wrapper_class=least, cache_logger_on_first_use=False)


def run_here(
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: str = "",
) -> CompletedProcess[str]:
    """Run one command to its end and return what it wrote and its exit code."""
    said, out, complained = _stream(input.encode()), _stream(), _stream()
    with (
        same_log(),
        mock.patch.dict(os.environ, environment(env), clear=True),
        mock.patch.object(sys, "stdin", said),
        contextlib.chdir(cwd or os.getcwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(complained),
    ):
        code = run(args)
    return CompletedProcess(["digestry", *args], code, _text(out), _text(complained))


def _stream(content: bytes = b"") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def _text(stream: io.TextIOWrapper) -> str:
    """What was written, with the ends of lines that a pipe in text mode gives."""
    stream.seek(0)
    return stream.read()
