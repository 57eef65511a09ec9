"""A set of directories, kept small where there are most of them: in the two levels of shards.

A process remembers which it has made durable, and in time that is all 65,536 of each tree: as
strings 12 MiB, here 0.1. Threads may use a set beside each other.
"""

from __future__ import annotations

from string import hexdigits
from typing import Final

_DIGITS: Final = frozenset(hexdigits.lower())


class Folders:
    """Paths of directories; those with a shard's name are one byte beside their siblings."""

    def __init__(self) -> None:
        self._shards: dict[str, bytearray] = {}
        self._others: set[str] = set()

    def __contains__(self, path: str) -> bool:
        parent, number = _split(path)
        if number is None:
            return path in self._others
        siblings = self._shards.get(parent)
        return siblings is not None and siblings[number] == 1

    def add(self, path: str) -> None:
        parent, number = _split(path)
        if number is None:
            self._others.add(path)
        else:
            # A byte and not a bit: threads that set two of them take nothing from each other.
            self._shards.setdefault(parent, bytearray(256))[number] = 1

    def clear(self) -> None:
        self._shards.clear()
        self._others.clear()


def _split(path: str) -> tuple[str, int | None]:
    """The directory above, and the number that a shard's name is."""
    parent, _, name = path.rpartition("/")
    if len(name) == 2 and _DIGITS.issuperset(name):
        return parent, int(name, 16)
    return parent, None
