"""Brings the tables of an index up to date, one chain of migrations after the other.

``PRAGMA user_version`` holds the numbers of all chains: the store's times 1000 plus the catalog's.
Starting compares that one number; SQLAlchemy and Alembic (0.3 s of imports) are loaded only when a
migration is due.

All migrations of all chains run in one transaction together with the new number, so a failing one
leaves nothing behind. An index that had data is copied beside itself first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from store.errors import StoreRefused
from store.index import driver
from store.index.copies import MARK, copy_whole
from store.index.driver import sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData


class Chain(msgspec.Struct, frozen=True):
    """A line of migrations: a package with ``schema.py`` and ``migrations/``.

    `number` is the newest migration. It is said here and not read from the schema, because whoever
    only compares numbers must not import SQLAlchemy; a test holds the two together.
    """

    name: str
    package: str
    number: int

    @property
    def version_table(self) -> str:
        return f"{self.name}_schema"

    @property
    def location(self) -> str:
        return f"{self.package}:migrations"

    def metadata(self) -> MetaData:
        """The tables as they are after the newest migration."""
        tables: MetaData = import_module(f"{self.package}.schema").metadata
        return tables


class Upgraded(msgspec.Struct, frozen=True):
    """What an upgrade did: schema numbers before and after, and the copy it kept, if any."""

    before: int
    after: int
    copy: Path | None


STORE: Final = Chain(name="store", package="store.index", number=3)

_WEIGHTS: Final = (1000, 1)


def composed(chains: Sequence[Chain]) -> int:
    """The number an index has after the newest migration of each chain."""
    return sum(
        chain.number * weight for chain, weight in zip(chains, _WEIGHTS[: len(chains)], strict=True)
    )


def schema_number(path: Path) -> int:
    """The number of the index at `path`; 0 if there is none yet."""
    if not path.exists():
        return 0
    try:
        connection = sqlite.connect(str(path), timeout=10, isolation_level=None)
        try:
            return _number(connection)
        finally:
            connection.close()
    except sqlite.Error as error:
        raise driver.translated(error, "opening the index", path) from error


def is_due(path: Path, chains: Sequence[Chain] = (STORE,)) -> bool:
    """Whether `upgrade` has something to do; raises `StoreRefused` for a newer index."""
    return _is_behind(schema_number(path), chains)


def upgrade(path: Path, chains: Sequence[Chain] = (STORE,)) -> Upgraded:
    """Create or migrate the index at `path`; the caller holds the lock of the data directory.

    Raises `StoreRefused` for an index newer than this program, and whatever a migration raises,
    with the index as it was.
    """
    before = schema_number(path)
    if not _is_behind(before, chains):
        return Upgraded(before=before, after=before, copy=None)
    copy = _copy(path, before) if before else None
    after = _migrate(path, chains)
    return Upgraded(before=before, after=after, copy=copy)


def create_blocking(connection: sqlite.Connection, chains: Sequence[Chain]) -> None:
    """Give an empty memory database the tables of `chains` at once, without their history."""
    for statement in _statements(tuple(chains)):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={composed(chains)}")


@cache
def _statements(chains: tuple[Chain, ...]) -> tuple[str, ...]:
    """What makes the tables of `chains`; compiling it takes four times as long as running it."""
    from sqlalchemy import create_mock_engine

    found: list[str] = []

    def keep(statement: Any, *_: Any, **__: Any) -> None:
        found.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("sqlite://", keep)
    for chain in chains:
        chain.metadata().create_all(engine, checkfirst=False)
    return tuple(found)


def require_current_blocking(connection: sqlite.Connection, chains: Sequence[Chain]) -> None:
    """Refuse an index that `upgrade` would change or that is newer than this program."""
    try:
        number = _number(connection)
    except sqlite.Error as error:
        raise driver.translated(error, "opening the index", None) from error
    if _is_behind(number, chains):
        raise StoreRefused(
            f"the index has schema {number} and this program needs {composed(chains)}; "
            "upgrade it first"
        )


def _number(connection: sqlite.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_behind(number: int, chains: Sequence[Chain]) -> bool:
    """Whether any chain has migrations left to run."""
    found = divmod(number, _WEIGHTS[0])[: len(chains)]
    for chain, at in zip(chains, found, strict=True):
        if at > chain.number:
            raise StoreRefused(
                f"the index has schema {number}, this program knows up to {composed(chains)}: "
                "start the newer program that wrote it, or go back to the copy that its upgrade "
                "kept: digestry db restore"
            )
    return any(at < chain.number for chain, at in zip(chains, found, strict=True))


def _copy(path: Path, number: int) -> Path:
    """Keep the index as it is now, whole and synced, beside itself."""
    copy = path.with_name(f"{path.name}{MARK}upgrade-from-{number}")
    copy_whole(path, copy)
    return copy


def _migrate(path: Path, chains: Sequence[Chain]) -> int:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    raw = driver.connect(path, busy_seconds=10)
    # Rebuilding a table drops the old one, which must not delete what refers to it. The pragma does
    # nothing inside a transaction; the check at the end takes its place.
    raw.execute("PRAGMA foreign_keys=OFF")
    engine = create_engine("sqlite://", module=sqlite, creator=lambda: raw, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Left alone, the driver would commit before each change of a table.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            for chain in chains:
                _run_chain(connection, chain)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise StoreRefused(
                    f"migrating would leave rows that refer to nothing: {broken[:5]}"
                )
            number = composed(chains)
            connection.exec_driver_sql(f"PRAGMA user_version={number}")
        return number
    finally:
        engine.dispose()
        raw.close()


def _run_chain(connection: Connection, chain: Chain) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", chain.location)
    config.attributes["connection"] = connection
    config.attributes["chain"] = chain
    command.upgrade(config, f"{chain.number:04d}")


def run_environment() -> None:
    """What ``env.py`` of every chain does: run its revisions on the connection it was given."""
    from alembic import context

    chain: Chain = context.config.attributes["chain"]
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=chain.metadata(),
        version_table=chain.version_table,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
