"""Commands in the tests' own process: what a process of their own would do, at a hundredth of it.

Most of a command's time is starting Python. `run_here` takes the place of
`tests.support.servers.run_digestry` wherever a process is not what is tested (its signals, its
terminal, its server); it sees the same environment, and streams that are no terminals.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from registry.cli import run
from tests.support.servers import environment


def run_here(
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: str = "",
) -> CompletedProcess[str]:
    """Run one command to its end and return what it wrote and its exit code."""
    said, out, complained = _stream(input.encode()), _stream(), _stream()
    with (
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
