"""Reads flags that are written as the help says, without a parsing library.

That is for commands whose start counts: the server, and those that work on a directory and often
have little to do. What this does not understand is left to the full parser, which knows how to
explain a mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class ServeFlags(msgspec.Struct, frozen=True):
    """What the command line of ``serve`` said; None where it said nothing."""

    config: str | None = None
    host: str | None = None
    port: int | None = None
    data: str | None = None
    workers: int | None = None


class FsckFlags(msgspec.Struct, frozen=True):
    """What the command line of ``fsck`` said."""

    repair: bool = False
    rebuild: bool = False
    json: bool = False
    data: str | None = None
    config: str | None = None


class GcFlags(msgspec.Struct, frozen=True):
    """What the command line of ``gc`` said."""

    apply: bool = False
    plan: str | None = None
    undo: str | None = None
    purge: bool = False
    everything: bool = False
    status: bool = False
    confirm: bool = False
    json: bool = False
    data: str | None = None
    config: str | None = None


class DoctorFlags(msgspec.Struct, frozen=True):
    """What the command line of ``doctor`` said."""

    server: str | None = None
    json: bool = False
    data: str | None = None
    config: str | None = None


_NUMBERS = frozenset({"port", "workers"})


def parse(arguments: Sequence[str], kind: type[T]) -> T | None:
    """The flags of a command, or None if anything about them is unusual.

    A field that is False unless said is a switch; every other takes a value.
    """
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    values: dict[str, str | int | bool] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.removeprefix("--") if name.startswith("--") else ""
        if name not in fields or name in values:
            return None
        if fields[name] is False:
            if equals:
                return None
            values[name] = True
            continue
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
    return msgspec.convert(values, kind)
