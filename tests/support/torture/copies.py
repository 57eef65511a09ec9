"""Backups made again and again beside a store at work, and restores of the last finished one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from registry.cli.schema import SCHEMA_NUMBER
from store.backups.making import make_backup
from store.backups.restoring import restore_backup
from store.holds import IndexHold
from store.opening import Store, read_facts
from tests.support.torture.dying import DyingDisk, Fuse
from tests.support.torture.facts import Fact, Log

KEEP: Final = 2


async def back_up(store: Store, log: Log, target: Path, fuse: Fuse) -> None:
    """One backup after the other, each noted when it was answered."""
    root = store.settings.root
    assert root is not None
    while True:
        async with IndexHold(store.index, "backup") as hold:
            report = await asyncio.to_thread(
                make_backup, root, target, hold=hold, keep=KEEP, at_once=2, disk=DyingDisk(fuse)
            )
        assert report.missing == [], report.missing
        log.note(Fact("backed up", offset=report.number))


def restore(folder: Path, log: Log, source: Path, fuse: Fuse, chance: random.Random) -> None:
    """One directory after the other, an unfinished one first."""
    while True:
        unfinished = [one for one in restores_in(folder) if read_facts(one) is None]
        root = unfinished[0] if unfinished else folder / f"restored-{chance.randrange(1 << 30)}"
        root.mkdir(exist_ok=True)
        restore_backup(source, root, newest=SCHEMA_NUMBER, at_once=2, disk=DyingDisk(fuse))
        log.note(Fact("restored", name=root.name))


def restores_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("restored-*"))
