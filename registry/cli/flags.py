"""Reads the flags of ``serve`` when they are written as the help says, without a parsing library.

What this does not understand is left to the full parser, which knows how to explain a mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class ServeFlags(msgspec.Struct, frozen=True):
    """What the command line of ``serve`` said; None where it said nothing."""

    config: str | None = None
    host: str | None = None
    port: int | None = None
    data: str | None = None
    workers: int | None = None


_NUMBERS = frozenset({"port", "workers"})


def parse(arguments: Sequence[str]) -> ServeFlags | None:
    """The flags, or None if anything about them is unusual."""
    values: dict[str, str | int] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.removeprefix("--") if name.startswith("--") else ""
        if name not in ServeFlags.__struct_fields__ or name in values:
            return None
        if not equals:
            if not rest or rest[0].startswith("-"):
                return None
            value = rest.pop(0)
        if name in _NUMBERS:
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                return None
            values[name] = int(value)
        else:
            values[name] = value
    return msgspec.convert(values, ServeFlags)
