"""How a command ends: four exit codes and the one exception that chooses between them.

== ======================================================================================
0  done; nothing to report
1  done; there are findings (damage, differences) that somebody should look at
2  refused before anything was done: wrong usage, wrong directory, port or lock taken
3  tried and failed: the server died, the disk gave up, the answer never came
== ======================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

CLEAN: Final = 0
FINDINGS: Final = 1
REFUSED: Final = 2
FAILED: Final = 3

_INTERRUPTED: Final = 130


class CommandError(Exception):
    """Ends the command with one plain line and an exit code."""

    def __init__(self, sentence: str, code: int = REFUSED) -> None:
        self.code = code
        super().__init__(sentence)


def ended(command: Callable[[], object]) -> int:
    """Run a command to its end, and say how it ended."""
    try:
        code = command()
    except CommandError as error:
        complain(error)
        return error.code
    except KeyboardInterrupt:
        complain("interrupted")
        return _INTERRUPTED
    return code if isinstance(code, int) else CLEAN


def complain(sentence: object) -> None:
    """One line on the error stream, safe for the terminal it is shown on."""
    print(f"digestry: {printable(str(sentence))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """`text` with what could command a terminal written as escapes.

    File names and digests come from outside; a control character in one must not move the cursor,
    retitle the window or hide a line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
