"""Commands on a directory, called with flags that are read already.

The full parser calls them too, so a command does the same whichever way it came. Nothing is
imported before it is known which of them is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from registry.cli.exits import ended
from registry.cli.flags import DoctorFlags, FsckFlags, GcFlags, parse


def fsck(flags: FsckFlags) -> int:
    """Compare index and directory, and perhaps make them agree."""
    from registry.cli import checks
    from registry.cli.offices import open_office, rebuild_index

    if flags.rebuild:
        with rebuild_index(config=flags.config, data=flags.data) as office:
            return checks.fsck(office, repair=True, as_json=flags.json)
    with open_office(config=flags.config, data=flags.data) as office:
        return checks.fsck(office, repair=flags.repair, as_json=flags.json)


def gc(flags: GcFlags) -> int:
    """Show what nothing refers to, collect it, or bring it back."""
    from registry.cli import collection
    from registry.cli.offices import open_office

    action = collection.choose(
        apply=flags.apply,
        plan=flags.plan,
        undo=flags.undo,
        purge=flags.purge,
        everything=flags.everything,
        status=flags.status,
        confirm=flags.confirm,
    )
    with open_office(config=flags.config, data=flags.data) as office:
        return collection.run(office, action, as_json=flags.json)


def doctor(flags: DoctorFlags) -> int:
    """Test the disk, the index and every connection."""
    from registry.cli.doctor import run

    return run(config=flags.config, data=flags.data, server=flags.server, as_json=flags.json)


_COMMANDS: Final[Mapping[str, tuple[type[Any], Callable[[Any], int]]]] = {
    "fsck": (FsckFlags, fsck),
    "gc": (GcFlags, gc),
    "doctor": (DoctorFlags, doctor),
}


def run_straight(arguments: Sequence[str]) -> int | None:
    """Run a command line that needs no parsing library; None if it does."""
    kind, command = _COMMANDS.get(arguments[0] if arguments else "", (None, None))
    if kind is None or command is None:
        return None
    flags = parse(arguments[1:], kind)
    return None if flags is None else ended(partial(command, flags))
