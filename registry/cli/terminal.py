"""What the log's library loads to draw tracebacks for people, kept away from those who need none.

It imports rich wherever it finds it, which is a tenth of a worker's start, and uses it only for a
log that a person reads on a terminal; ours is JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NAME = "rich"


def hide_terminal_libraries() -> None:
    """From here on, in a process that never draws."""
    sys.modules.setdefault(_NAME, None)  # type: ignore[arg-type]  # None stops an import


@contextmanager
def terminal_libraries_hidden() -> Iterator[None]:
    """For imports inside; afterwards a command may draw progress and tables."""
    hide_terminal_libraries()
    try:
        yield
    finally:
        if sys.modules[_NAME] is None:
            del sys.modules[_NAME]
