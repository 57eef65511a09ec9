"""A registry that asks who is there, with people in it, and passwords that cost nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from registry.config import AuthConfig, Config
from tests.support.builders import Answer, Registry
from tests.support.clock import ManualClock
from tests.support.people import Person, make_person
from tests.support.serving import opened, serving

CHEAP = AuthConfig(mode="authenticated", password_memory_kib=8, password_passes=1, password_lanes=1)


class People(Registry):
    """A registry, and short words for asking as somebody."""

    clock: ManualClock

    async def ask(
        self, person: Person | str | None, method: str, path: str, json: Any = None, **headers: str
    ) -> Answer:
        """Ask as a person, with a bare token, or as nobody."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(person, Person):
            named.update(person.headers)
        elif person is not None:
            named["Authorization"] = f"Bearer {person}"
        return await self.send(method, f"/api/v1/{path}", json=json, headers=named)

    async def make(self, name: str, **options: Any) -> Person:
        """Somebody with a token."""
        return await make_person(self.store, name, **options)

    async def entries(self) -> list[tuple[str, str]]:
        """Kinds and actions in the audit log."""
        rows = await self.rows("SELECT kind, action FROM audit ORDER BY id")
        return [(str(kind), str(action)) for kind, action in rows]


@pytest.fixture(autouse=True)
def accesses_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accesses are written when a test says so, and not while it does something else."""
    monkeypatch.setattr("registry.services.accesses.TICK_SECONDS", 3600.0)


@pytest.fixture
def auth() -> AuthConfig:
    return CHEAP


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def people(auth: AuthConfig, clock: ManualClock) -> AsyncIterator[People]:
    config = msgspec.structs.replace(Config(), auth=auth)
    async with opened(None, clock=clock) as store, serving(store, config) as site:
        running = People(site)
        running.clock = clock
        yield running


@pytest.fixture
async def root(people: People) -> Person:
    """An administrator."""
    return await people.make("root", is_admin=True)
