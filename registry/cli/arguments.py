"""Flags that many commands share, and what every help page says about exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from cyclopts import Parameter

EXITS: Final = """

Exit codes: 0 done and clean; 1 done, with findings that somebody should look at; 2 refused, nothing
was done; 3 failed on the way.
"""

Config = Annotated[str | None, Parameter(help="Configuration file; see config.toml.")]
Data = Annotated[str | None, Parameter(help="Data directory (default ./data).")]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print one JSON document instead of text.")
]


def tells_exits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the exit codes to the help of a command."""
    command.__doc__ = (command.__doc__ or "").rstrip() + EXITS
    return command
