"""What was acknowledged, a line each, written before the next operation on the same thing.

A process that dies leaves whole lines: each is one write. Each owner and each model belongs to one
task of one process, so that its facts have an order.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from store.segments import SEGMENT_BYTES

LARGE_SHARE = 0.04


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that is so from now on, or (``…ing``) that may be so from now on.

    `name` is of bytes; of a version's files all names are in it. `owner` is a task or a model,
    `at` a session or a label.
    """

    kind: str
    name: str = ""
    owner: str = ""
    at: str = ""
    offset: int = 0


class Log:
    """The file in which one process writes down its facts."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, fact: Fact) -> None:
        os.write(self._descriptor, msgspec.json.encode(fact) + b"\n")


def facts_in(folder: Path) -> Iterator[Fact]:
    """All facts of all processes, those of one process in order."""
    for path in sorted(folder.glob("facts-*")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield msgspec.json.decode(line, type=Fact)


def content_of(name: str) -> bytes:
    """The bytes that a name stands for; a few are larger than a segment."""
    chance = random.Random(name)
    is_large = chance.random() < LARGE_SHARE
    return chance.randbytes(SEGMENT_BYTES + 99 if is_large else chance.randrange(5000))


def owner_of(task: str) -> str:
    """The id under which a task's references are kept."""
    return f"usr_{task.replace('-', '_')}"


async def body(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 65536):
        yield content[at : at + 65536]
