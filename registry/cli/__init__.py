"""The command ``digestry``.

``serve`` with well-formed flags goes straight to the supervisor: the libraries that parse and
print for people cost more time than the supervisor itself needs to start. So do the commands of
`registry.cli.straight`. Everything else (help, the other commands, and whatever
`registry.cli.flags` does not understand) goes through `registry.cli.commands`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """Run the command line of this process and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    if arguments and arguments[0] == "serve":
        from registry.cli.flags import ServeFlags, parse

        flags = parse(arguments[1:], ServeFlags)
        if flags is not None:
            from registry.cli.serve import serve

            return serve(flags)
    from registry.cli.straight import run_straight

    code = run_straight(arguments)
    if code is not None:
        return code
    from registry.cli.commands import run_command

    return run_command(arguments)
