"""Flags that many commands share, and what every help page says about exit codes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

from cyclopts import Parameter

EXITS: Final = """

Exit codes: 0 done and clean; 1 done, with findings that somebody should look at; 2 refused, nothing
was done; 3 failed on the way.
"""

Config = Annotated[str | None, Parameter(help="Configuration file; see config.toml.")]
Data = Annotated[str | None, Parameter(help="Data directory (default ./data).")]
ServedData = Annotated[
    str | None,
    Parameter(
        help="Instead of --server: data directory of the server that runs here, asked as its owner."
    ),
]
Server = Annotated[
    str | None,
    Parameter(help="Address of the server (default $DIGESTRY_URL, else http://127.0.0.1:8080)."),
]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print one JSON document instead of text.")
]


def tells_exits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the exit codes to the help of a command, and let the terminal break its lines."""
    paragraphs = (inspect.cleandoc(command.__doc__ or "") + EXITS).split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command
