"""``digestry archive``: what is in the cold tier, moving retired versions there, whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from registry.cli.exits import CLEAN, FINDINGS
from registry.cli.offices import RemoteOffice, Task, configure, open_office
from registry.cli.output import conclude, facts, many, say, say_json, size
from registry.cli.progress import shown
from registry.domain.principals import LOCAL

if TYPE_CHECKING:
    from registry.api.archive import ArchiveAnswer
    from store.opening import Store


def status(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Tell where the archive stands."""
    from registry.api.archive import ArchiveAnswer, archive_answer
    from registry.services.operations import Operations

    every_minutes = configure(config, data).archive.every_minutes

    async def here(store: Store) -> ArchiveAnswer:
        return await archive_answer(store, Operations(store), LOCAL, every_minutes)

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            found = office.read("/api/v1/archive", ArchiveAnswer)
        else:
            found = office.on_store(here)
    if as_json:
        say_json(found)
    else:
        for line in _standing(found):
            say(line)
    return CLEAN if found.problem is None else FINDINGS


def _standing(found: ArchiveAnswer) -> list[str]:
    lines = [
        f"archive: {found.where}",
        f"cold: {many(found.versions, 'version')}, {size(found.version_size)}; "
        f"{many(found.blobs, 'blob')}, {size(found.size)} stored in {size(found.stored_size)}",
    ]
    if found.spare_files:
        lines.append(f"spare: {many(found.spare_files, 'file')}, {size(found.spare_size)}")
    if found.is_thawing:
        lines.append("versions that are wanted again are being brought back")
    if found.operation is not None:
        last = found.operation
        lines.append(f"last operation: {last.verb} {last.id}, {last.state}")
    if found.problem is not None:
        lines.append(f"it cannot be read: {found.problem}")
    return lines


def run(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Move what retired versions alone have, and tell what was moved."""
    task = Task("/api/v1/archive/run", None, lambda work: work.archive_retired(LOCAL))
    with open_office(config=config, data=data) as office, shown("archive run") as watch:
        ended = office.work(task, watch)
    report = facts(ended)
    lines: list[str] = []
    if report:
        lines.append(
            f"{many(report['versions'], 'version')} went cold: {many(report['blobs'], 'blob')}, "
            f"{size(report['bytes'])}"
        )
        if report["kept"]:
            lines.append(f"{many(report['kept'], 'blob')} of retired versions are needed hot")
        if report["failed"]:
            lines.append(f"{many(report['failed'], 'blob')} failed; see the log")
    return conclude(ended, lines, as_json=as_json)


def adopt(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Take the archive that is there for this store's."""
    from registry.api.archive import AdoptedAnswer
    from registry.services.archive import adopt_archive

    async def here(store: Store) -> AdoptedAnswer:
        return AdoptedAnswer((await adopt_archive(store, LOCAL)).archive_id)

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            told = office.tell("POST", "/api/v1/archive/adopt")
            found = msgspec.json.decode(told, type=AdoptedAnswer)
        else:
            found = office.on_store(here)
    if as_json:
        say_json(found)
    else:
        say(f"{found.archive} is this store's archive; now run: digestry fsck --repair")
    return CLEAN
