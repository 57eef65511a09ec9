"""What is remembered of a download, and how a client calls itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, TypeAlias

Group: TypeAlias = Literal["day", "minute", "version", "user", "path", "client"]
"""What downloads are summed by."""

MINUTE: Final = 60_000_000
"""Microseconds; nothing finer is remembered."""

ARCHIVE_PATH: Final = ""
"""Stands for all files of a version as one archive."""

CLIENT_CHARACTERS: Final = 96


@lru_cache(maxsize=1024)
def product(user_agent: str) -> str:
    """The first product of a ``User-Agent``, in printable characters: ``curl/8.5.0``."""
    word = user_agent.strip().partition(" ")[0][: 4 * CLIENT_CHARACTERS]
    return "".join(filter(str.isprintable, word))[:CLIENT_CHARACTERS]
