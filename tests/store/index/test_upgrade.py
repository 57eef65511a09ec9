"""Migrations make exactly the tables that the schema describes, or leave all as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import MetaData

from registry.catalog import schema as catalog_schema
from registry.catalog.migrations import CATALOG, CHAINS
from store.errors import StoreRefused
from store.index import schema as store_schema
from store.index.database import Database
from store.index.driver import sqlite
from store.index.upgrade import (
    STORE,
    Chain,
    Upgraded,
    composed,
    create_blocking,
    is_due,
    schema_number,
    upgrade,
)
from tests.contracts.index import get, put

SCHEMA = """
from sqlalchemy import Column, Integer, MetaData, Table
metadata = MetaData()
Table("pots", metadata, Column("id", Integer, primary_key=True))
"""

REVISION = """
from alembic import op
import sqlalchemy as sa

revision = "{number:04d}"
down_revision = {before}

def upgrade():
    {body}
"""


NEEDED = {9: 3}
"""Migrations of the catalog that need one of the store, and its number."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite3"


@pytest.fixture
def pots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    """A chain of its own whose revisions a test writes with `revise`."""
    package = tmp_path / "pots_of_a_test"
    (package / "migrations" / "versions").mkdir(parents=True)
    for folder in (package, package / "migrations"):
        (folder / "__init__.py").touch()
    (package / "schema.py").write_text(SCHEMA)
    env = Path(store_schema.__file__).with_name("migrations") / "env.py"
    (package / "migrations" / "env.py").write_text(env.read_text())
    revise(tmp_path, 1, 'op.create_table("pots", sa.Column("id", sa.Integer, primary_key=True))')
    monkeypatch.syspath_prepend(tmp_path)
    yield Chain(name="pots", package=package.name, number=1)
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


def revise(tmp_path: Path, number: int, body: str) -> None:
    before = f'"{number - 1:04d}"' if number > 1 else None
    revision = tmp_path / "pots_of_a_test" / "migrations" / "versions" / f"{number:04d}.py"
    revision.write_text(REVISION.format(number=number, before=before, body=body))


def at(chain: Chain, number: int) -> Chain:
    return msgspec.structs.replace(chain, number=number)


def tables(path: Path) -> dict[str, list[str]]:
    """Everything the database holds but Alembic's own tables, written one way."""
    with closing(sqlite.connect(str(path))) as connection:
        return described(connection)


def described(connection: sqlite.Connection) -> dict[str, list[str]]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    own = ("store_schema", "catalog_schema", "pots_schema")
    return {name: parts(sql) for name, sql in rows if name not in own}


def parts(sql: str) -> list[str]:
    """A CREATE statement cut at its outer commas, constraints in alphabetical order.

    The order in which SQLAlchemy writes a table's constraints is not its author's.
    """
    sql = re.sub(r"\s+", " ", sql.replace('"', "")).strip()
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    depth, items = 0, [""]
    for letter in body:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    items = [item.strip() for item in items]
    rules = [item for item in items if re.match(r"(CONSTRAINT|PRIMARY|FOREIGN|CHECK) ", item)]
    columns = [item for item in items if item not in rules]
    return [head.strip(), *columns, *sorted(rules), tail.strip()]


def fresh_tables(*metadata: MetaData) -> dict[str, list[str]]:
    with closing(sqlite.connect(":memory:")) as connection:
        create_blocking(connection, CHAINS[: len(metadata)])
        return described(connection)


# Numbers


def test_chains_say_the_number_of_their_schema() -> None:
    assert STORE.number == store_schema.SCHEMA_NUMBER
    assert CATALOG.number == catalog_schema.SCHEMA_NUMBER


def test_the_number_is_the_stores_times_a_thousand_plus_the_catalogs() -> None:
    assert composed([at(STORE, 3), at(CATALOG, 12)]) == 3012
    assert composed([at(STORE, 3)]) == 3000


def test_a_missing_index_has_number_zero_and_is_not_made_by_asking(path: Path) -> None:
    assert schema_number(path) == 0
    assert is_due(path, CHAINS)
    assert not path.exists()


def test_comparing_numbers_imports_neither_sqlalchemy_nor_alembic_nor_asyncio_drivers() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from store.index.upgrade import is_due; from registry.catalog.migrations import CHAINS\n"
        "assert is_due(Path('no such index'), CHAINS)\n"
        "heavy = {'sqlalchemy', 'alembic', 'aiosqlite', 'aiohttp'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Migrating


def test_what_an_index_held_before_the_catalog_is_there_after_it(path: Path) -> None:
    upgrade(path, [STORE, at(CATALOG, 1)])
    with closing(sqlite.connect(str(path))) as connection:
        for id, name, folded in (("a", "Bert", "bert"), ("b", "NLP/gpt", "nlp/gpt")):
            connection.execute(
                "INSERT INTO models (id, name, folded, kind, visibility, last_number, created_at, "
                "created_by, updated_at) VALUES (?, ?, ?, 'dataset', 'private', 1, 5, 'u', 6)",
                (id, name, folded),
            )
        connection.execute("INSERT INTO trees VALUES (zeroblob(32), 0, 0, 5)")
        connection.execute(
            "INSERT INTO revisions VALUES (hex(zeroblob(20)), 'b', zeroblob(32), '', 'u', '', 5)"
        )
        connection.execute(
            "INSERT INTO versions (id, model, number, standing, revision, tree, files, size, "
            "created_at, created_by) VALUES ('v', 'b', 1, 'plain', hex(zeroblob(20)), "
            "zeroblob(32), 0, 0, 7, 'u')"
        )
        connection.commit()

    upgrade(path, CHAINS)

    with closing(sqlite.connect(str(path))) as connection:
        ask = connection.execute
        models = ask(
            "SELECT m.name, n.slug, version_count, risk_level, m.changes, m.updated_at "
            "FROM models AS m JOIN namespaces AS n ON n.id = m.namespace ORDER BY m.id"
        ).fetchall()
        assert models == [
            ("Bert", "default", 0, "medium", 1, 6),
            ("NLP/gpt", "NLP", 1, "medium", 1, 6),
        ]
        assert ask("SELECT status, tier, kind, updated_at FROM versions").fetchall() == [
            ("registered", "hot", "dataset", 7)
        ]
        assert ask("SELECT version, metadata FROM version_details").fetchall() == [("v", "{}")]
        found = "SELECT d.model FROM search_documents AS d JOIN {0} ON {0}.rowid = d.document "
        for table, words in (("model_words", "gpt"), ("model_grams", '"P/g"')):
            rows = ask(found.format(table) + f"WHERE {table} MATCH ?", (words,)).fetchall()
            assert rows == [("b",)]


def test_migrations_make_exactly_the_schema(path: Path) -> None:
    done = upgrade(path, CHAINS)

    assert done == Upgraded(before=0, after=composed(CHAINS), copy=None)
    assert tables(path) == fresh_tables(store_schema.metadata, catalog_schema.metadata)
    assert schema_number(path) == composed(CHAINS)
    assert not is_due(path, CHAINS)


@pytest.mark.parametrize(
    ("store", "catalog"),
    [
        (store, catalog)
        for store in range(1, STORE.number + 1)
        for catalog in range(CATALOG.number + 1)
        if store >= max((NEEDED[one] for one in NEEDED if one <= catalog), default=1)
    ],
)
def test_every_older_index_becomes_the_present_one(path: Path, store: int, catalog: int) -> None:
    older = [at(STORE, store), at(CATALOG, catalog)][: 2 if catalog else 1]
    upgrade(path, older)

    upgrade(path, CHAINS)

    assert tables(path) == fresh_tables(store_schema.metadata, catalog_schema.metadata)
    assert schema_number(path) == composed(CHAINS)


def test_upgrading_again_does_nothing(path: Path) -> None:
    upgrade(path, CHAINS)
    before = path.read_bytes()

    assert upgrade(path, CHAINS) == Upgraded(
        before=composed(CHAINS), after=composed(CHAINS), copy=None
    )
    assert path.read_bytes() == before


async def test_an_index_with_data_is_copied_first(path: Path) -> None:
    """The copy is the index as it was: it opens with the program of then."""
    upgrade(path, [STORE])
    index = await Database.open(path)
    await index.run(put("a", "1"))
    await index.close()

    done = upgrade(path, CHAINS)

    before = composed([STORE])
    assert done.copy == path.with_name(f"index.sqlite3.before-upgrade-from-{before}")
    assert schema_number(done.copy) == before
    for kept, chains in ((path, CHAINS), (done.copy, [STORE])):
        index = await Database.open(kept, chains=chains)
        assert await index.read(get("a")) == ("1",)
        await index.close()


async def test_memory_has_the_same_tables_as_a_file(path: Path) -> None:
    upgrade(path, CHAINS)
    index = await Database.open(None, chains=CHAINS)
    got = await index._writer.hop(lambda: described(index._writer.connection))
    await index.close()

    assert got == tables(path)


# Refusing


@pytest.mark.parametrize("number", [composed(CHAINS) + 1000, composed(CHAINS) + 1])
def test_a_newer_index_is_refused_by_name(path: Path, number: int) -> None:
    """Either chain may be the newer one; nothing is touched."""
    upgrade(path, CHAINS)
    with closing(sqlite.connect(str(path))) as connection:
        connection.execute(f"PRAGMA user_version={number}")
    before = path.read_bytes()

    for refuse in (is_due, upgrade):
        known = composed(CHAINS)
        with pytest.raises(StoreRefused, match=rf"schema {number}.*up to {known}.*newer program"):
            refuse(path, CHAINS)

    assert path.read_bytes() == before


async def test_the_database_opens_neither_newer_nor_older_files(path: Path) -> None:
    upgrade(path, [STORE])
    with pytest.raises(StoreRefused, match="upgrade it first"):
        await Database.open(path, chains=CHAINS)
    with closing(sqlite.connect(str(path))) as connection:
        connection.execute("PRAGMA user_version=9000")

    with pytest.raises(StoreRefused, match="newer program"):
        await Database.open(path, chains=CHAINS)


# Failing


def test_a_failing_revision_leaves_nothing_and_can_be_retried(
    path: Path, tmp_path: Path, pots: Chain
) -> None:
    """Tables it had made before it failed are gone, and so is the number."""
    upgrade(path, [STORE, pots])
    before = tables(path)
    revise(tmp_path, 2, 'op.create_table("lids", sa.Column("id", sa.Integer)); 1 / 0')

    with pytest.raises(ZeroDivisionError):
        upgrade(path, [STORE, at(pots, 2)])

    assert tables(path) == before
    assert schema_number(path) == composed([STORE, pots])
    revise(tmp_path, 2, 'op.create_table("lids", sa.Column("id", sa.Integer))')
    upgrade(path, [STORE, at(pots, 2)])
    assert set(tables(path)) == {*before, "lids"}
    assert schema_number(path) == composed([STORE, at(pots, 2)])


def test_a_failing_second_chain_takes_the_first_ones_work_back(
    path: Path, tmp_path: Path, pots: Chain
) -> None:
    revise(tmp_path, 1, "1 / 0")

    with pytest.raises(ZeroDivisionError):
        upgrade(path, [STORE, pots])

    assert tables(path) == {}
    assert schema_number(path) == 0


def test_a_migration_that_leaves_dangling_rows_is_refused(
    path: Path, tmp_path: Path, pots: Chain
) -> None:
    upgrade(path, [STORE, pots])
    revise(
        tmp_path,
        2,
        'op.create_table("lids", sa.Column("pot", sa.Integer, sa.ForeignKey("pots.id")));'
        ' op.execute("INSERT INTO lids VALUES (7)")',
    )

    with pytest.raises(StoreRefused, match="refer to nothing"):
        upgrade(path, [STORE, at(pots, 2)])

    assert "lids" not in tables(path)
