"""``digestry db``: the schema of the index, and the copies that are kept beside it.

Only ``shell`` without ``--write`` and what merely looks may run beside a server; the rest takes the
directory's lock. What looks, and ``restore``, work with an index of any schema: going back is what
the program that is older than the index needs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from registry.cli import directory
from registry.cli.exits import CLEAN, FAILED, FINDINGS, REFUSED, CommandError
from registry.cli.offices import configure
from registry.cli.output import say, say_json, size
from registry.cli.schema import SCHEMA_NUMBER, prepare
from registry.http.times import rfc3339
from store import layout
from store.errors import StoreError, StoreRefused

State = Literal["missing", "current", "behind", "newer"]

_WORDS: Final[dict[State, str]] = {
    "missing": "there is no index yet; the next start makes one",
    "current": "up to date",
    "behind": "older than this program; the next start upgrades it, or: digestry db upgrade",
    "newer": "newer than this program; start the newer one, or go back: digestry db restore",
}


class Step(msgspec.Struct, frozen=True):
    """One migration."""

    chain: str
    number: int
    title: str
    is_applied: bool


def current(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Tell the schema of the index and that of this program."""
    root = _root(config, data)
    found, state = _schema(root)
    if as_json:
        say_json({"index": found, "program": SCHEMA_NUMBER, "state": state})
    else:
        say(f"index: {found or 'none'}")
        say(f"program: {SCHEMA_NUMBER}")
        say(_WORDS[state])
    return CLEAN if state in ("missing", "current") else FINDINGS


def history(*, config: str | None, data: str | None, as_json: bool) -> int:
    """List migrations and copies."""
    from store.index.copies import kept_copies

    root = _root(config, data)
    found, _ = _schema(root)
    steps = list(_steps(found))
    copies = kept_copies(root / layout.INDEX_FILE)
    if as_json:
        kept = [
            {
                "name": copy.name,
                "schema": copy.schema,
                "size": copy.size_bytes,
                "made_at": _time(copy.made_at),
            }
            for copy in copies
        ]
        say_json({"index": found, "migrations": steps, "copies": kept})
        return CLEAN
    for step in steps:
        mark = "applied" if step.is_applied else "due"
        say(f"{step.chain} {step.number:04d}  {mark:7}  {step.title}")
    say("copies of the index:" if copies else "no copies of the index")
    for copy in copies:
        schema = "unreadable" if copy.schema is None else f"schema {copy.schema}"
        say(f"{copy.name}  {schema}  {size(copy.size_bytes)}  {_time(copy.made_at)}")
    return CLEAN


def upgrade(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Bring the index up to date, as a start would."""
    with _claimed(config, data, "upgraded") as root:
        try:
            done = prepare(root)
        except StoreError:
            raise
        except Exception as error:  # whatever a migration ran into
            raise CommandError(f"nothing was changed: {error}", FAILED) from error
    copy = None if done.copy is None else done.copy.name
    if as_json:
        say_json({"before": done.before, "after": done.after, "copy": copy})
    elif done.before == done.after:
        say(f"schema {done.after} is up to date")
    else:
        say(f"schema {done.before or 'none'} became {done.after}")
        if copy is not None:
            say(f"the index as it was is kept as {copy}; go back with: digestry db restore")
    return CLEAN


def restore(copy: str | None, *, config: str | None, data: str | None, as_json: bool) -> int:
    """Put a copy in the place of the index."""
    from store.restoring import restore_index

    with _claimed(config, data, "replaced") as root:
        chosen = _choose(root) if copy is None else _named(root, copy)
        done = restore_index(root, chosen, newest=SCHEMA_NUMBER, stamp=_stamp())
    if as_json:
        say_json({"restored": chosen.name, **msgspec.to_builtins(done)})
        return CLEAN
    say(f"{chosen.name} is the index now, with schema {done.after}")
    if done.kept is not None:
        say(f"the one it replaced is kept as {done.kept}")
    if done.after != SCHEMA_NUMBER:
        say("start the program of that schema now; this one would upgrade it again")
    say("collection stays off until: digestry fsck, a look at its report, digestry gc --confirm")
    return CLEAN


def reset(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Set the index aside and make an empty one, once the name of the directory was typed."""
    from store.restoring import set_aside

    with _claimed(config, data, "reset") as root:
        _ask(root)
        kept = set_aside(root, f"reset-{_stamp()}")
        prepare(root)
    if as_json:
        say_json({"kept": kept, "schema": SCHEMA_NUMBER})
        return CLEAN
    say("the index is empty")
    if kept is not None:
        say(f"the one before is kept as {kept}; bring it back with: digestry db restore {kept}")
    say("files of blobs are still there; digestry fsck --repair adopts them")
    return CLEAN


def shell(
    statement: str | None, *, write: bool, config: str | None, data: str | None, as_json: bool
) -> int:
    """SQL at the index."""
    from registry.cli.shell import run

    if not write:
        index = _root(config, data) / layout.INDEX_FILE
        return run(index, write=False, statement=statement, as_json=as_json)
    with _claimed(config, data, "written by hand") as root:
        index = root / layout.INDEX_FILE
        return run(index, write=True, statement=statement, as_json=as_json)


def _ask(root: Path) -> None:
    sys.stderr.write(
        f"This forgets every model, version, alias and pin in {root!s}.\n"
        f"Type the name of the directory, {root.name}, to go on: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\r\n") != root.name:
        raise CommandError("nothing was reset")


def _root(config: str | None, data: str | None) -> Path:
    root = Path(configure(config, data).store.data).resolve()
    if not (root / layout.STORE_FILE).exists():
        raise CommandError(f"{root} is not a data directory of digestry")
    return root


@contextmanager
def _claimed(config: str | None, data: str | None, done: str) -> Iterator[Path]:
    """The directory, held for ourselves; a server on it is a refusal."""
    root = _root(config, data)
    try:
        claimed = directory.claim(root, create=False)
    except directory.DirectoryInUse as error:
        raise CommandError(f"{error}; stop it before the index is {done}") from error
    try:
        yield root
    except StoreError as error:
        code = REFUSED if isinstance(error, StoreRefused) else FAILED
        raise CommandError(str(error), code) from error
    finally:
        claimed.release()


def _schema(root: Path) -> tuple[int, State]:
    from store.index.upgrade import schema_number

    try:
        found = schema_number(root / layout.INDEX_FILE)
    except StoreError as error:
        raise CommandError(str(error)) from error
    if not found:
        return 0, "missing"
    theirs, ours = divmod(found, 1000), divmod(SCHEMA_NUMBER, 1000)
    if any(their > our for their, our in zip(theirs, ours, strict=True)):
        return found, "newer"
    return found, "current" if found == SCHEMA_NUMBER else "behind"


def _steps(found: int) -> Iterator[Step]:
    """Every migration this program knows, in the order in which they run."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from registry.catalog.migrations import CHAINS

    for chain, at in zip(CHAINS, divmod(found, 1000), strict=True):
        config = Config()
        config.set_main_option("script_location", chain.location)
        scripts = ScriptDirectory.from_config(config).walk_revisions()
        for script in sorted(scripts, key=lambda script: script.revision):
            number = int(script.revision)
            title = " ".join((script.doc or "").split())
            yield Step(chain.name, number, title, number <= at)


def _choose(root: Path) -> Path:
    """The copy that undoes the last upgrade, as far back as this program can read."""
    from store.index.copies import MARK, header_number, kept_copies

    index = root / layout.INDEX_FILE
    found = header_number(index) or sys.maxsize  # missing or damaged: any copy is better
    fitting = [
        (copy.schema, copy.name)
        for copy in kept_copies(index)
        if copy.name.startswith(f"{index.name}{MARK}upgrade-")
        and copy.schema is not None
        and copy.schema < found
        and copy.schema <= SCHEMA_NUMBER
    ]
    if not fitting:
        raise CommandError(
            "no upgrade has kept a copy of an older index; name one, digestry db history lists them"
        )
    return root / max(fitting)[1]


def _named(root: Path, copy: str) -> Path:
    """A copy beside the index by its name, or any file by its path."""
    path = root / copy if "/" not in copy else Path(copy).resolve()
    if not path.is_file():
        raise CommandError(f"there is no file {path}; digestry db history lists the copies")
    if path == root / layout.INDEX_FILE:
        raise CommandError(f"{path} is the index itself")
    return path


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _time(seconds: float) -> str:
    return rfc3339(int(seconds * 1_000_000))
