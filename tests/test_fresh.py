"""A copy that tests start from is what the product would have made (`tests.support.fresh`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp import web
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.conjecture.choice import choice_permitted
from hypothesis.internal.conjecture.providers import GLOBAL_CONSTANTS
from hypothesis.internal.intervalsets import IntervalSet

from registry.api.routes import ROUTES, UNMATCHED
from registry.app import create_app
from registry.catalog.migrations import CHAINS
from registry.config import Config, RatesConfig
from registry.http.routing import register, route_of
from registry.protocols.tus import handlers as tus
from store import layout
from store.index import driver
from store.index.driver import sqlite
from store.index.upgrade import (
    STORE,
    Chain,
    composed,
    create_blocking,
    schema_number,
    upgrade,
)
from store.opening import Store, StoreSettings, initialize, open_store, read_facts
from tests.support import fresh
from tests.support.generating import is_permitted
from tests.support.routes import add_routes

every_chain = pytest.mark.parametrize("chains", [(STORE,), CHAINS], ids=["store", "registry"])


def contents(connection: sqlite.Connection) -> dict[str, Any]:
    """Everything but the store's own id."""
    schema = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2")
    found: dict[str, Any] = {"schema": schema.fetchall()}
    for kind, name, _ in found["schema"]:
        if kind == "table":
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
            found[name] = sorted(repr(row) for row in rows if "sto_" not in repr(row))
    for pragma in ("user_version", "journal_mode", "page_size", "integrity_check"):
        found[pragma] = connection.execute(f"PRAGMA {pragma}").fetchall()
    return found


def tree(root: Path) -> dict[str, Any]:
    """Folders and files with their modes, but for what only holds blocks aside."""
    return {
        str(path.relative_to(root)): path.stat().st_mode
        for path in root.rglob("*")
        if path.suffix != ".sqlite3-reserve"
    }


def made(root: Path, chains: Sequence[Chain]) -> Path:
    """A directory by the code of the product alone."""
    root.mkdir()
    upgrade(root / layout.INDEX_FILE, chains)
    initialize(root, chains)
    return root


def copied(root: Path, chains: Sequence[Chain]) -> Path:
    root.mkdir()
    fresh.initialize_like_new(root, chains)
    return root


@every_chain
def test_a_copied_directory_is_what_the_first_start_makes(
    tmp_path: Path, chains: Sequence[Chain]
) -> None:
    real, copy = made(tmp_path / "real", chains), copied(tmp_path / "copy", chains)

    assert tree(copy) == tree(real)
    indexes = [driver.connect(root / layout.INDEX_FILE, busy_seconds=1) for root in (real, copy)]
    assert contents(indexes[0]) == contents(indexes[1])
    for index in indexes:
        index.close()


def test_every_copied_directory_is_a_store_of_its_own(tmp_path: Path) -> None:
    """With an id that its file and its index agree on."""

    async def store_id(root: Path) -> str:
        store = await open_store(StoreSettings(root=root, chains=CHAINS))
        await store.close()
        return store.store_id

    ids = {asyncio.run(store_id(copied(tmp_path / name, CHAINS))) for name in ("one", "other")}

    assert len(ids) == 2


def test_a_directory_that_holds_a_store_is_not_copied_over(tmp_path: Path) -> None:
    root = made(tmp_path / "data", (STORE,))
    before = read_facts(root)

    fresh.initialize_like_new(root, CHAINS)

    assert read_facts(root) == before
    assert composed(CHAINS) == schema_number(root / layout.INDEX_FILE)


@every_chain
def test_a_copied_memory_index_is_what_opening_one_makes(chains: Sequence[Chain]) -> None:
    real, copy = (driver.connect(None, busy_seconds=1) for _ in range(2))
    create_blocking(real, chains)
    fresh.create_like_new(copy, chains)

    assert contents(copy) == contents(real)

    real.close()
    copy.close()


def test_an_application_has_the_routes_that_registering_gives(store: Store) -> None:
    app, real = create_app(Config(), store), web.Application()
    register(real, [*ROUTES, *tus.ROUTES, *UNMATCHED])

    assert [described(route) for route in app.router.routes()] == [
        described(route) for route in real.router.routes()
    ]


def described(route: web.AbstractRoute) -> tuple[Any, ...]:
    assert route.resource is not None
    return route.method, route.resource.get_info(), id(route_of(route.handler))


def test_only_applications_that_count_alike_share_their_routes(store: Store) -> None:
    def table(**counted: int) -> object:
        return create_app(Config(rates=RatesConfig(**counted)), store).router

    assert table(reads_per_minute=1) is table(reads_per_minute=2)
    assert table(reads_per_minute=1) is not table(writes_per_minute=1)
    assert table() is not table(logins_per_minute=0)


def test_a_route_of_a_test_is_no_other_applications(store: Store) -> None:
    own, other = create_app(Config(), store), create_app(Config(), store)
    before = len(other.router.routes())
    (route, *_) = UNMATCHED

    add_routes(own, [msgspec.structs.replace(route, method="GET", path="/only/here")])

    assert len(own.router.routes()) == before + 1
    assert len(other.router.routes()) == before


ALPHABETS: tuple[tuple[tuple[int, int], ...], ...] = (
    (),
    ((0, 0xD7FF), (0xE000, 0x10FFFF)),
    ((ord("-"), ord("-")), (ord("0"), ord("9")), (ord("["), ord("^")), (ord("a"), ord("z"))),
    ((0x80, 0x10FFFF),),
)


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=["none", "all", "some", "far"])
@pytest.mark.parametrize("sizes", [(0, 10**10), (1, 3)])
def test_constants_are_permitted_where_hypothesis_permits_them(
    alphabet: tuple[tuple[int, int], ...], sizes: tuple[int, int]
) -> None:
    constraints: Any = {
        "intervals": IntervalSet(alphabet),
        "min_size": sizes[0],
        "max_size": sizes[1],
    }
    texts = [
        "",
        "a",
        "-",
        "]",
        "\\",
        "a\n",
        "\n",
        "A",
        "abcd",
        "é",
        "\ud800",
        "\U0001f600",
        "a-0[",
        "^",
    ]

    for text in [*texts, *GLOBAL_CONSTANTS.set_for_type("string")]:
        assert is_permitted(text, constraints) == choice_permitted(text, constraints), text


def test_constants_are_looked_at_fast() -> None:
    assert providers.choice_permitted is is_permitted


def test_no_example_fails_for_the_time_it_took() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_an_error_is_logged_without_colours_and_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()  # as tests do that ran a command
    try:
        raise OSError("of a test")
    except OSError:
        structlog.get_logger().exception("told")

    assert capsys.readouterr().out.endswith("OSError: of a test\n")
