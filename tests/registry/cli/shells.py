"""One command of the shell, run in the tests' own process on a data directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.cli import commands


class Shell:
    """Runs a command's words and keeps what they said."""

    def __init__(self, command: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._command = command
        self._data = data
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        found = commands.run_command([self._command, *arguments, "--data", str(self._data)])
        said = self._capsys.readouterr()
        assert found == code, (said.out, said.err)
        return said.err if code > 1 else said.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))
