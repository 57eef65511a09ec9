"""What every test needs anew and is always the same, made once in each process and copied.

The tables of an empty index take a tenth of a second to migrate and eight milliseconds to create in
memory; the table of routes takes four. None of it depends on the test, so each process makes one of
each, by the code of the product, and a test starts from its copy. What makes a store itself (its
id) is made each time, and `test_fresh` holds the copies against the real thing.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_urldispatcher import UrlDispatcher

import registry.app
import store.index.database
import store.opening
from registry.http.rates import RateClass
from registry.http.routing import Route, register
from registry.keys import RATES
from store import layout
from store.index import driver
from store.index.driver import sqlite
from store.index.upgrade import Chain, Upgraded, composed, create_blocking, upgrade
from store.opening import StoreFacts, initialize, read_facts

RATE_CLASSES: Final[tuple[RateClass, ...]] = ("read", "write", "login")


def start_from_copies() -> None:
    """Let what this process opens and assembles start from copies."""
    replaced: Any = store.opening
    replaced.upgrade = upgrade_like_new
    replaced = store.index.database
    replaced.create_blocking = create_like_new
    replaced = registry.app
    replaced.register = register_like_new


def initialize_like_new(root: Path, chains: Sequence[Chain]) -> None:
    """What `store.opening.initialize` makes of a directory. Blocking."""
    if (root / layout.INDEX_FILE).exists() or read_facts(root) is not None:
        initialize(root, chains)  # a directory may be opened again, with what it holds
        return
    template = _directory(tuple(chains))
    facts = msgspec.structs.replace(template.facts, store_id=f"sto_{secrets.token_hex(12)}")
    for folder in template.folders:
        (root / folder).mkdir(exist_ok=True)
    ids = template.facts.store_id.encode(), facts.store_id.encode()
    (root / layout.INDEX_FILE).write_bytes(template.index.replace(*ids))
    (root / layout.STORE_FILE).write_bytes(template.store_file.replace(*ids))


class Template(msgspec.Struct, frozen=True):
    """What a first start leaves in an empty directory."""

    facts: StoreFacts
    folders: tuple[str, ...]
    index: bytes
    store_file: bytes


@cache
def _directory(chains: tuple[Chain, ...]) -> Template:
    with _folder() as name:
        root = Path(name)
        with ThreadPoolExecutor(1) as elsewhere:  # where no event loop runs
            elsewhere.submit(initialize, root, chains).result()
        facts = read_facts(root)
        assert facts is not None
        index = (root / layout.INDEX_FILE).read_bytes()
        store_file = (root / layout.STORE_FILE).read_bytes()
        for content in (index, store_file):
            assert content.count(facts.store_id.encode()) == 1, "its id is replaced in place"
        folders = [path for path in sorted(root.rglob("*")) if path.is_dir()]
        return Template(
            facts, tuple(str(path.relative_to(root)) for path in folders), index, store_file
        )


def upgrade_like_new(path: Path, chains: Sequence[Chain]) -> Upgraded:
    """What `store.index.upgrade.upgrade` makes, where there is nothing to upgrade yet."""
    if path.exists():
        return upgrade(path, chains)
    path.write_bytes(_migrated(tuple(chains)))
    return Upgraded(before=0, after=composed(chains), copy=None)


@cache
def _migrated(chains: tuple[Chain, ...]) -> bytes:
    with _folder() as name:
        index = Path(name, layout.INDEX_FILE)
        upgrade(index, chains)
        return index.read_bytes()


def create_like_new(connection: sqlite.Connection, chains: Sequence[Chain]) -> None:
    """What `store.index.upgrade.create_blocking` makes of a memory database."""
    template, lock = _created(tuple(chains))
    with lock:
        template.backup(connection)


@cache
def _created(chains: tuple[Chain, ...]) -> tuple[sqlite.Connection, threading.Lock]:
    connection = driver.connect(None, busy_seconds=1)
    create_blocking(connection, chains)
    return connection, threading.Lock()


def register_like_new(app: web.Application, routes: Iterable[Route]) -> None:
    """What `registry.http.routing.register` adds to an application that has no routes yet.

    The table is shared and frozen; `tests.support.routes.add_routes` gives an application its own.
    """
    assert not app.router.resources()
    routes = tuple(routes)
    key = (*map(id, routes), *(rate for rate in RATE_CLASSES if app[RATES].counts(rate)))
    if key not in _TABLES:
        register(app, routes)
        app.router.freeze()
        _TABLES[key] = app.router, routes
    shared: Any = app
    shared._router = _TABLES[key][0]


_TABLES: Final[dict[tuple[Any, ...], tuple[UrlDispatcher, tuple[Route, ...]]]] = {}
"""With the routes, so that no other ever has the address of one."""


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
