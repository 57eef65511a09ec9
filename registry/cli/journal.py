"""Log lines of the supervisor, in the form of the workers' log, without their libraries."""

from __future__ import annotations

import os
import sys
import time
from typing import Final

import msgspec

_LEVELS: Final[tuple[str, ...]] = ("debug", "info", "warning", "error")
_written = _LEVELS


def configure(level: str) -> None:
    """From now on, and in processes forked from this one, write what is as severe as `level`."""
    global _written
    _written = _LEVELS[_LEVELS.index(level) :]


def log(level: str, event: str, /, **facts: object) -> None:
    """Write one JSON line to the error stream; facts that are None are left out."""
    if level not in _written:
        return
    seconds, fraction = divmod(time.time_ns() // 1000, 1_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    line = {
        "event": event,
        "level": level,
        "timestamp": f"{stamp}.{fraction:06d}Z",
        "pid": os.getpid(),
        **{name: value for name, value in facts.items() if value is not None},
    }
    sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
    sys.stderr.flush()
