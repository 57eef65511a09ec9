"""Whether another process of this machine is still there."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Whether a process of that id exists, whoever it is of; one that nobody waited for does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
