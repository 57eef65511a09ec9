"""``digestry backup`` and ``digestry restore``.

Copying is done here, as whoever runs the command, beside a server too: the server is only asked for
a hold on quarantine (`store.holds`), so that no client ever names a path of the server. Where
nobody serves, the lock of the data directory keeps everybody away who could remove anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from registry.auth.keys import DIRECTORY as KEYS
from registry.auth.keys import ROOT_FILE
from registry.cli import directory, presence
from registry.cli.exits import CLEAN, FAILED, FINDINGS, REFUSED, CommandError, complain
from registry.cli.offices import RemoteOffice, ServerSilent, configure
from registry.cli.output import many, say, say_json, size
from registry.cli.progress import shown
from registry.cli.schema import SCHEMA_NUMBER
from registry.cli.settings import store_settings
from registry.cli.tables import show as show_table
from registry.domain.operations import Progress
from registry.http.times import rfc3339
from registry.services.backups import NamedFile, files_of_versions
from store import layout
from store.backups.checking import verify_backup
from store.backups.directory import (
    Generation,
    MissingBlob,
    finished,
    index_path,
    read_marker,
    require_apart,
)
from store.backups.making import BackupReport, make_backup
from store.backups.pulse import Report
from store.backups.restoring import restore_backup
from store.errors import StoreError, StoreRefused, Unavailable
from store.holds import HOLD_SECONDS, LAPSED, Hold

SHOWN_MISSING: Final = 100

_MARGIN_SECONDS: Final = 60.0
"""So long before it expires a hold that cannot be renewed is given up."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How a backup is to be made."""

    keep: int
    check: bool
    with_keys: bool
    snapshot: bool


class Return(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be restored, and how."""

    generation: int | None
    verify: bool
    incomplete: bool


# The commands.


def make(target: Path, wish: Wish, *, config: str | None, data: str | None, as_json: bool) -> int:
    """Copy the store, and tell what of it is not in the copy."""
    if wish.keep < 1:
        raise CommandError("--keep must be at least 1")
    settings = store_settings(configure(config, data))
    root = settings.root
    if root is None:
        raise CommandError("a store in memory has nothing to copy")
    target = target.absolute()
    with _translated(), _holding(root) as hold, _reporting("backup") as report:
        made = make_backup(
            root,
            target,
            hold=hold,
            archive=settings.archive,
            kind="snapshot" if wish.snapshot else "backup",
            keep=wish.keep,
            check=wish.check,
            private=_keys_of(root) if wish.with_keys else (),
            report=report,
        )
        hold.note(made)
    with _translated():
        lacking = [blob.digest for blob in made.missing]
        files = files_of_versions(index_path(target, made.number), lacking)
    code = FINDINGS if made.missing else CLEAN
    if as_json:
        say_json({"exit_code": code, **msgspec.structs.asdict(made), "files": files})
        return code
    for line in _made_lines(target, made, files, has_key=(root / ROOT_FILE).exists()):
        say(line)
    return code


def verify(source: Path, number: int | None, *, as_json: bool) -> int:
    """Read a backup and tell what is wrong with it."""
    with _translated(), _reporting("backup verify") as report:
        verdict = verify_backup(source, number=number, report=report)
    code = FINDINGS if verdict.found else CLEAN
    if as_json:
        say_json({"exit_code": code, **msgspec.structs.asdict(verdict)})
        return code
    for one in verdict.problems:
        say(f"generation {one.generation}: {one.what}  {one.problem}")
    if verdict.found > len(verdict.problems):
        say(f"... and {verdict.found - len(verdict.problems)} more")
    generations = " and ".join(str(number) for number in verdict.generations)
    found = many(verdict.found, "problem") if verdict.found else "every byte is right"
    read = f"{many(verdict.blobs, 'blob')} read, {size(verdict.bytes)}"
    say(f"generation {generations}: {read}: {found}")
    return code


def show(source: Path, *, as_json: bool) -> int:
    """List the generations of a backup."""
    with _translated():
        marker = read_marker(source)
    if marker is None:
        raise CommandError(f"{source} is not a backup")
    if as_json:
        say_json(marker)
        return CLEAN
    if marker.generations:
        show_table(
            ("GENERATION", "MADE", "BLOBS", "SIZE", "SCHEMA", "LACKS", "KEYS"),
            [_row(one) for one in marker.generations],
            right=("GENERATION", "BLOBS", "SIZE", "SCHEMA", "LACKS"),
        )
    say(f"a {marker.kind} of store {marker.store_id}")
    if marker.unfinished is not None:
        begun = rfc3339(marker.unfinished.started_at)
        say(f"generation {marker.unfinished.number}, begun {begun}, was not finished")
    return CLEAN


def restore(
    source: Path, wish: Return, *, config: str | None, data: str | None, as_json: bool
) -> int:
    """Make a data directory of a backup."""
    root = Path(configure(config, data).store.data).resolve()
    with _translated():
        finished(source, wish.generation)  # before a directory is made for nothing
        require_apart(root, source)
    claimed = directory.claim_for_restore(root)
    try:
        with _translated(), _reporting("restore") as report:
            done = restore_backup(
                source,
                root,
                newest=SCHEMA_NUMBER,
                number=wish.generation,
                read_back=wish.verify,
                is_partial_enough=wish.incomplete,
                report=report,
            )
            files = files_of_versions(root / layout.INDEX_FILE, done.missing)
    finally:
        claimed.release()
    code = FINDINGS if done.missing else CLEAN
    if as_json:
        say_json({"exit_code": code, **msgspec.structs.asdict(done), "files": files})
        return code
    for line in _needed_lines([(one, "not in the backup") for one in done.missing], files):
        say(line)
    say(
        f"{root} is generation {done.number} of store {done.store_id}: "
        f"{many(done.blobs, 'blob')}, {size(done.bytes)}, epoch {done.epoch}"
    )
    if ROOT_FILE not in done.private:
        say(
            f"the root key did not come along: put {ROOT_FILE} back, because a server does not "
            "start on a sealed audit log without it; if it is lost, digestry audit rekey goes on: "
            "earlier seals cannot be verified any more, secrets of webhooks must be set anew"
        )
    if done.schema != SCHEMA_NUMBER:
        say(f"its index has schema {done.schema}; the next start upgrades it to {SCHEMA_NUMBER}")
    say("collection stays off until: digestry fsck, a look at its report, digestry gc --confirm")
    return code


# What is told.


def _made_lines(
    target: Path, made: BackupReport, files: Sequence[NamedFile], *, has_key: bool
) -> Iterator[str]:
    lacking = [(blob.digest, _why(blob)) for blob in made.missing]
    yield from _needed_lines(lacking, files)
    if lacking:
        yield f"{many(len(lacking), 'blob')} of the store could not be read whole: digestry scrub"
    yield (
        f"{made.kind} {made.number} in {target}: {many(made.blobs, 'blob')}, {size(made.bytes)}; "
        f"{made.copied_blobs} of them new, {size(made.copied_bytes)}"
    )
    if made.removed_blobs:
        yield f"{many(made.removed_blobs, 'blob')} that only older generations named removed"
    if made.not_removed is not None:
        yield f"what no generation names any more could not be removed: {made.not_removed}"
    if made.kind == "snapshot":
        yield "it shares its blobs with the store and is no backup: one damaged disk takes both"
    elif made.same_file_system:
        yield "it lies on the same file system as the store: one damaged disk takes both"
    if has_key and not made.private:
        yield f"the root key is not in it: keep {ROOT_FILE} in another place, or use --with-keys"


def _needed_lines(lacking: Sequence[tuple[str, str]], files: Sequence[NamedFile]) -> Iterator[str]:
    needed: dict[str, list[str]] = {}
    for file in files:
        version = file.label or str(file.number)
        needed.setdefault(file.digest, []).append(f"{file.model}:{version} {file.path}")
    for digest, why in lacking[:SHOWN_MISSING]:
        by = "; ".join(needed.get(digest, ["no version"]))
        yield f"{digest}  {why}; needed by {by}"
    if len(lacking) > SHOWN_MISSING:
        yield f"... and {len(lacking) - SHOWN_MISSING} more"


def _why(blob: MissingBlob) -> str:
    return f"{blob.problem} ({', '.join(blob.owners) or 'nobody refers to it'})"


def _row(one: Generation) -> tuple[str, ...]:
    return (
        str(one.number),
        rfc3339(one.finished_at),
        str(one.blobs),
        size(one.bytes),
        str(one.schema),
        str(len(one.missing)),
        "yes" if one.private else "no",
    )


# How it is done.


def _keys_of(root: Path) -> list[str]:
    """The root key, and earlier ones that were set aside; writing one is never half seen."""
    folder = root / KEYS
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [f"{KEYS}/{name}" for name in names if ".new." not in name]


@contextmanager
def _holding(root: Path) -> Iterator[_Witness]:
    """See to it that nothing is removed for good, by whoever could."""
    try:
        claimed = directory.claim(root, create=False)
    except directory.DirectoryInUse as error:
        if error.owner is None:
            raise
        with _ServerHold(root, error.owner).held() as hold:
            yield hold
        return
    try:
        if not (root / layout.STORE_FILE).exists():
            raise CommandError(f"{root} is not a data directory of digestry")
        yield _Alone()
    finally:
        claimed.release()


class _Witness(Hold, Protocol):
    """A hold, at whoever may want to know what became of the backup."""

    def note(self, made: BackupReport) -> None:
        """The backup is finished."""
        ...


class _Alone:
    """The lock of the directory is ours: there is nobody who could purge."""

    def note(self, made: BackupReport) -> None:
        """Nobody asks how old the last backup is while nobody serves."""

    def renew(self) -> None:
        """It lasts as long as we do."""


class _Taken(msgspec.Struct):
    id: str


class _ServerHold:
    """A hold at the running server, which may be replaced by another meanwhile."""

    def __init__(self, root: Path, server: presence.Presence) -> None:
        self._root = root
        self._server = server
        self._id = ""
        self._renewed_at = 0.0

    @contextmanager
    def held(self) -> Iterator[_ServerHold]:
        body = {"reason": "digestry backup", "seconds": HOLD_SECONDS}
        answer = RemoteOffice(self._server).tell("POST", "/api/v1/holds", body)
        self._id = msgspec.json.decode(answer, type=_Taken).id
        self._renewed_at = time.monotonic()
        try:
            yield self
        finally:
            with suppress(CommandError):  # it expires by itself
                self._tell("DELETE", f"/api/v1/holds/{self._id}")

    def note(self, made: BackupReport) -> None:
        """Tell the server; a backup that it was not told of is none the worse."""
        told = {
            "kind": made.kind,
            "number": made.number,
            "blobs": made.blobs,
            "bytes": made.bytes,
            "missing": len(made.missing),
        }
        try:
            self._tell("POST", "/api/v1/backups", told)
        except CommandError as error:
            complain(f"the backup is finished; the server could not be told: {error}")

    def renew(self) -> None:
        now = time.monotonic()
        try:
            self._tell("POST", f"/api/v1/holds/{self._id}/renew", {"seconds": HOLD_SECONDS})
        except CommandError as error:
            is_passing = isinstance(error, ServerSilent) or error.code == FAILED
            if is_passing and now - self._renewed_at < HOLD_SECONDS - _MARGIN_SECONDS:
                return
            raise Unavailable(LAPSED) from error
        self._renewed_at = now

    def _tell(self, method: str, path: str, body: Mapping[str, object] | None = None) -> None:
        try:
            RemoteOffice(self._server).tell(method, path, body)
        except CommandError:
            found = presence.find(self._root)
            if found is None or found == self._server:
                raise
            self._server = found  # it was started anew, with another secret
            RemoteOffice(found).tell(method, path, body)


@contextmanager
def _reporting(title: str) -> Iterator[Report]:
    with shown(title) as watch:
        yield lambda stage, done, total: watch(Progress(done, total, "bytes", stage))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except StoreRefused as error:
        raise CommandError(str(error), REFUSED) from error
    except StoreError as error:
        raise CommandError(str(error), FAILED) from error
    except OSError as error:
        raise CommandError(f"{error.filename or ''}: {error.strerror}", FAILED) from error
