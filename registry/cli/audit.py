"""``digestry audit``: the log, its head, and whether it is still what was written.

At a running server the commands ask its API; without one they open the directory and show the very
same answers. Only ``rekey`` needs the directory to itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar
from urllib.parse import urlencode

from registry.cli.exits import CLEAN, FINDINGS, CommandError
from registry.cli.offices import LocalOffice, RemoteOffice, open_office
from registry.cli.output import many, say, say_json
from registry.cli.tables import show
from registry.domain.principals import LOCAL
from registry.errors import RegistryError

if TYPE_CHECKING:
    from registry.api.audit import AuditEntryAnswer, HeadAnswer, VerdictAnswer
    from store.opening import Store

T = TypeVar("T")

_PIPE: Final = "-"

VERIFYING_SECONDS: Final = 3600.0
"""How long a server may take to verify a long log; it answers when it is done."""


def ls(asked: Mapping[str, str], *, config: str | None, data: str | None, as_json: bool) -> int:
    """List entries, newest first."""
    from registry.api.audit import AuditEntryAnswer, AuditQuery, find_page
    from registry.http.cursors import Page
    from registry.http.queries import parse_query

    async def here(store: Store) -> list[AuditEntryAnswer]:
        query = parse_query({name: [value] for name, value in asked.items()}, AuditQuery)
        return (await find_page(store, LOCAL, query))[0]

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            page = office.read(f"/api/v1/audit?{urlencode(asked)}", Page[AuditEntryAnswer])
            entries = page.items
        else:
            entries = _on_store(office, here)
    if as_json:
        say_json({"items": entries})
    elif entries:
        show(("TIME", "WHO", "DID", "WHAT", "NAME", "WHY"), [_row(entry) for entry in entries])
    else:
        say("no entries")
    return CLEAN


def head(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Print the newest seal."""
    from registry.api.audit import HeadAnswer, show_head
    from registry.services.seals import Seals

    async def here(store: Store) -> HeadAnswer:
        return show_head(await Seals(store).head())

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            found = office.read("/api/v1/audit/head", HeadAnswer)
        else:
            found = _on_store(office, here)
    if as_json:
        say_json(found)
    elif found.seal is None:
        say("nothing is sealed yet")
    else:
        say(found.seal.head)
    return CLEAN


def export(target: str, *, since: int, config: str | None, data: str | None) -> int:
    """Write sealed entries as JSON lines to a file that is not there yet, or onto the output."""
    if target == _PIPE:
        _export(sys.stdout.buffer, since, config=config, data=data)
        sys.stdout.flush()
        return CLEAN
    try:
        with Path(target).open("xb") as file:
            try:
                _export(file, since, config=config, data=data)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                Path(target).unlink()
                raise
    except OSError as error:
        raise CommandError(f"{target}: {error.strerror or error}") from error
    return CLEAN


def _export(file: BinaryIO, since: int, *, config: str | None, data: str | None) -> None:
    from registry.api.audit_export import export_lines

    def write(piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as error:  # not to be taken for one of the connection
            raise CommandError(f"cannot write: {error.strerror or error}") from error

    async def here(store: Store) -> None:
        async for piece in export_lines(store, since):
            write(piece)

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            office.fetch(f"/api/v1/audit/export?since={since}", write)
        else:
            _on_store(office, here)


def verify(
    since: str | None, *, only_after: bool, config: str | None, data: str | None, as_json: bool
) -> int:
    """Compute every seal anew; findings are exit code 1."""
    from registry.api.audit import VerdictAnswer, show_verdict
    from registry.services.seals import Seals

    async def here(store: Store) -> VerdictAnswer:
        return show_verdict(await Seals(store).verify(since, only_after=only_after))

    asked = {"only_after": "true" if only_after else "false"}
    if since is not None:
        asked["since"] = since
    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            path = f"/api/v1/audit/verify?{urlencode(asked)}"
            found = office.read(path, VerdictAnswer, seconds=VERIFYING_SECONDS)
        else:
            found = _on_store(office, here)
    if as_json:
        say_json(found)
    else:
        _tell(found)
    return CLEAN if found.is_intact else FINDINGS


def rekey(*, is_sure: bool, config: str | None, data: str | None, as_json: bool) -> int:
    """Begin again with a new root key."""
    from registry.services.seals import Seals

    async def here(store: Store) -> str:
        return (await Seals(store).begin_again(LOCAL)).id

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            raise CommandError("a server runs on the directory; stop it before the key is changed")
        if not is_sure:
            _ask_whether_sure()
        made = _on_store(office, here)
    if as_json:
        say_json({"root": made})
    else:
        say(f"the root key is now {made}; what was sealed before can be verified no more")
    return CLEAN


def _ask_whether_sure() -> None:
    if not sys.stdin.isatty():
        raise CommandError("nobody is there to be asked; say --yes if this is meant")
    print("What was sealed so far can never be verified again. Type yes to go on: ", end="")
    sys.stdout.flush()
    if sys.stdin.readline().strip() != "yes":
        raise CommandError("nothing was changed")


def _on_store(office: LocalOffice, run: Callable[[Store], Awaitable[T]]) -> T:
    try:
        return office.on_store(run)
    except RegistryError as error:
        raise CommandError(str(error)) from error


def _row(entry: AuditEntryAnswer) -> tuple[str, ...]:
    return entry.time, entry.actor_name, entry.action, entry.kind, entry.name, entry.reason


def _tell(found: VerdictAnswer) -> None:
    for finding in found.findings:
        where = f"seal {finding.seal}" if finding.seal else "before the first seal"
        covers = f" (entries {finding.first} to {finding.last})" if finding.last else ""
        say(f"{finding.kind}  {where}{covers}: {finding.detail}")
    if found.findings_total > len(found.findings):
        say(f"... and {found.findings_total - len(found.findings)} more")
    say(
        f"{'intact' if found.is_intact else 'NOT INTACT'}: {many(found.seals, 'seal')}, "
        f"entries sealed: {found.entries}, not sealed yet: {found.unsealed}"
    )
    if found.removed_through:
        say(
            f"entries up to {found.removed_through} were removed by retention, and are not verified"
        )
    if found.seal is not None:
        say(f"head {found.seal.head}")
