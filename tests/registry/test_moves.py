"""The one way a ref or a status moves: nobody walks round it, guards are asked, the log is kept."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Delete, Insert, Update

import registry as package
from registry.catalog.schema import alias_events, aliases, versions
from registry.catalog.versions import find_version_by_number
from registry.domain.models import Version
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import parse_model
from registry.domain.statuses import STATUSES, allowed_after
from registry.errors import Conflict, PolicyViolation
from registry.services import moves
from registry.services.moves import AliasWish, StatusWish, move_status
from registry.services.resolve import require_model
from store.index.transactions import Statement, Tx
from tests.support.builders import Registry, running_registry

ROOT = Path(__file__).resolve().parents[2]
MOVES = ROOT / "registry/services/moves.py"
ALIASES = "/api/v1/models/bert/aliases"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


# Nobody walks round it


def mentions(source: str) -> Iterator[str]:
    """Every name and attribute in a module, and what it imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize(
    ("function", "home"), [("write_move", "aliases.py"), ("write_status", "statuses.py")]
)
def test_only_moves_calls_what_writes(function: str, home: str) -> None:
    sources = {path: path.read_text() for path in (ROOT / "registry").rglob("*.py")}
    callers = {
        path
        for path, source in sources.items()
        # What a text does not hold, no tree of it does; parsing all of them takes 1.4 s of CPU.
        if function in source and function in mentions(source) and path.name != home
    }

    assert callers == {MOVES}


def statements() -> list[Statement]:
    """Every statement that any module of the registry holds."""
    for module in pkgutil.walk_packages(package.__path__, "registry."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
    gc.unfreeze()  # what is frozen is not listed; `tests/conftest.py` freezes what was imported
    try:
        return [found for found in gc.get_objects() if isinstance(found, Statement)]
    finally:
        gc.freeze()


def holder(statement: Statement) -> set[str]:
    """The modules in which a statement has a name."""
    return {
        module.__name__
        for module in (importlib.import_module(name) for name in _modules())
        if any(value is statement for value in vars(module).values())
    }


def _modules() -> list[str]:
    return [name for name in sys.modules if name.startswith("registry.")]


def test_no_other_statement_writes_where_an_alias_points() -> None:
    writing = [
        one
        for one in statements()
        if isinstance(one.construct, Insert | Update | Delete)
        and one.construct.table in (aliases, alias_events)
    ]
    pointing = {
        name for one in writing if not (isinstance(one.construct, Delete)) for name in holder(one)
    }

    assert pointing == {"registry.catalog.aliases"}


def test_no_other_statement_writes_a_status() -> None:
    updates = [
        one
        for one in statements()
        if isinstance(one.construct, Update) and one.construct.table is versions
    ]
    writing = [one for one in updates if re.search(r"\bstatus\s*=", one.sqlite.split("WHERE")[0])]

    assert len(updates) > 1
    assert {name for one in writing for name in holder(one)} == {"registry.catalog.statuses"}


def test_no_version_is_made_with_a_status_of_its_own() -> None:
    """Whoever wants another than the first one moves it there, past the guards."""
    made = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "registry/services").rglob("*.py")
        if path != MOVES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (_called(node) == "Version" or (_called(node) == "replace" and _is_version(node)))
        and any(keyword.arg == "status" for keyword in node.keywords)
    ]

    assert made == []


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _is_version(node: ast.Call) -> bool:
    return bool(node.args) and "version" in ast.unparse(node.args[0])


# Statuses


async def version_of(tx: Tx, number: int) -> Any:
    model = await require_model(tx, LOCAL, parse_model("bert"))
    version = await find_version_by_number(tx, model.id, number)
    assert version is not None
    return model, version


async def status(registry: Registry, wanted: str, reason: str = "") -> Version:
    async def unit(tx: Tx) -> Version:
        model, version = await version_of(tx, 1)
        moved: Version = await move_status(tx, LOCAL, model, version, wanted, reason=reason)
        return moved

    return await registry.store.index.run(unit)


ALLOWED = {
    "registered": {"validated", "production", "archived", "deprecated"},
    "validated": {"registered", "production", "archived", "deprecated"},
    "production": {"validated", "archived", "deprecated"},
    "deprecated": {"validated", "production", "archived"},
    "archived": {"registered"},
}


def test_the_table_of_statuses_is_the_designs() -> None:
    assert {before: set(allowed_after(before)) for before in STATUSES} == ALLOWED


async def test_a_status_moves_with_its_version_and_its_entry(registry: Registry) -> None:
    made = await registry.publish("bert", "v1", {"f": b"1"})

    moved = await status(registry, "validated", "tests passed")

    [row] = await registry.rows("SELECT status, changes FROM versions")
    [entry] = await registry.rows(
        "SELECT entity, before, after, reason FROM audit WHERE action = 'status'"
    )
    assert tuple(row) == (moved.status, moved.changes) == ("validated", moved.changes)
    assert tuple(entry) == (
        made["id"],
        '{"status":"registered"}',
        '{"status":"validated"}',
        "tests passed",
    )


async def test_a_forbidden_transition_says_from_where_and_whereto_it_may(
    registry: Registry,
) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await status(registry, "archived")

    with pytest.raises(Conflict) as refused:
        await status(registry, "production")

    assert refused.value.code == "transition_forbidden"
    assert refused.value.details == {
        "from": "archived",
        "to": "production",
        "allowed": ["registered"],
    }


async def test_a_status_that_stays_leaves_no_trace(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    before = await registry.rows("SELECT changes, updated_at FROM versions")
    entries = await registry.count("audit")

    await status(registry, "registered")

    assert await registry.rows("SELECT changes, updated_at FROM versions") == before
    assert await registry.count("audit") == entries


# Aliases


async def test_every_move_of_an_alias_is_in_the_audit_log(registry: Registry) -> None:
    one = await registry.publish("bert", "v1", {"f": b"1"})
    two = await registry.publish("bert", "v2", {"f": b"2"})
    await registry.send("PUT", f"{ALIASES}/Top", json={"version": "1", "reason": "best"})
    await registry.send("PUT", f"{ALIASES}/top", json={"version": "2"})
    await registry.send("PUT", f"{ALIASES}/top", json={"version": "2"})
    await registry.send("POST", f"{ALIASES}/top/rollback", json={"reason": "worse"})
    await registry.send("DELETE", f"{ALIASES}/top?reason=done")

    entries = await registry.rows(
        "SELECT action, name, before ->> 'revision', after ->> 'revision', reason FROM audit "
        "WHERE kind = 'alias' AND entity LIKE '%@top' ORDER BY id"
    )

    first, second = one["revision"], two["revision"]
    assert [tuple(entry) for entry in entries] == [
        ("move", "Top", None, first, "best"),
        ("move", "Top", first, second, ""),
        ("rollback", "Top", second, first, "worse"),
        ("remove", "Top", first, None, "done"),
    ]


async def test_holding_and_letting_go_are_in_the_audit_log_but_not_in_history(
    registry: Registry,
) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    events = await registry.count("alias_events")

    await registry.send("PUT", f"{ALIASES}/latest", json={"version": "1"})

    entries = await registry.rows(
        "SELECT before ->> 'held', after ->> 'held' FROM audit WHERE entity LIKE '%@latest'"
    )
    assert [tuple(entry) for entry in entries] == [(None, 0), (0, 1)]
    assert await registry.count("alias_events") == events


# Guards


@pytest.fixture
def alias_wishes(monkeypatch: pytest.MonkeyPatch) -> list[AliasWish]:
    """What a guard is asked; it refuses whatever has the reason ``bad``."""
    asked: list[AliasWish] = []

    async def guard(tx: Tx, principal: Principal, wish: AliasWish) -> None:
        asked.append(wish)
        if wish.reason == "bad":
            raise PolicyViolation("guard", "no")

    monkeypatch.setattr(moves, "ALIAS_CHECKS", [guard])
    return asked


async def test_guards_are_asked_by_every_door(
    registry: Registry, alias_wishes: list[AliasWish]
) -> None:
    asked: list[list[tuple[str, str]]] = []

    def since() -> None:
        asked.append(sorted({(wish.name, wish.reason) for wish in alias_wishes}))
        alias_wishes.clear()

    await registry.publish("bert", "v1", {"f": b"1"})
    since()
    await registry.publish("bert", "v2", {"f": b"2"})
    since()
    await registry.send("PUT", f"{ALIASES}/top", json={"version": "1", "reason": "hand"})
    await registry.send("PUT", f"{ALIASES}/top", json={"version": "2", "reason": "hand"})
    since()
    await registry.send("POST", f"{ALIASES}/top/rollback", json={"reason": "back"})
    since()
    await registry.send("DELETE", "/models/bert/v2")
    since()
    await registry.send("POST", "/api/v1/models/bert/versions/2/restore")
    since()
    await registry.send("DELETE", f"{ALIASES}/top?reason=gone")
    since()

    both = lambda reason: [("latest", reason), ("main", reason)]  # noqa: E731  # reads as a table
    assert asked == [
        both("published"),
        both("published"),
        [("top", "hand")],
        [("top", "back")],
        both("deleted"),
        both("restored"),
        [("top", "gone")],
    ]


async def test_what_a_guard_refuses_has_not_happened(
    registry: Registry, alias_wishes: list[AliasWish]
) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    entries, events = await registry.count("audit"), await registry.count("alias_events")

    refused = await registry.send("PUT", f"{ALIASES}/top", json={"version": "1", "reason": "bad"})

    assert (refused.status, refused.code) == (403, "policy_violation")
    assert (await registry.get(f"{ALIASES}/top")).status == 404
    assert await registry.count("audit") == entries
    assert await registry.count("alias_events") == events


async def test_a_guard_of_statuses_is_asked_after_the_table(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    async def guard(tx: Tx, principal: Principal, wish: StatusWish) -> None:
        asked.append((wish.version.status, wish.status))
        raise PolicyViolation("guard", "no")

    await registry.publish("bert", "v1", {"f": b"1"})
    await status(registry, "archived")
    monkeypatch.setattr(moves, "STATUS_CHECKS", [guard])

    with pytest.raises(Conflict):
        await status(registry, "production")
    with pytest.raises(PolicyViolation):
        await status(registry, "registered")

    assert set(asked) == {("archived", "registered")}
    assert [tuple(row) for row in await registry.rows("SELECT status FROM versions")] == [
        ("archived",)
    ]
