"""Addresses and names of programs are forgotten in their time; what they stand on stays."""

from __future__ import annotations

import pytest

from registry.catalog.downloads import add_downloads
from registry.domain.downloads import MINUTE
from registry.services.origins import DAY, forget_origins
from tests.registry.accounts.conftest import People
from tests.support.people import Person

PASSWORD = "correct horse battery staple"


async def test_sessions_forget_where_they_came_from(
    people: People, root: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.origins.AT_ONCE", 1)
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    body = {"username": "ada", "password": PASSWORD}
    for _ in range(3):
        await people.ask(None, "POST", "login", body)
        people.clock.advance(86_400)

    assert await forget_origins(people.store, days=1) == 2
    rows = await people.rows("SELECT address, user_agent <> '' FROM sessions ORDER BY id")

    assert rows == [("", 0), ("", 0), ("127.0.0.1", 1)]
    assert await forget_origins(people.store, days=1) == 0


async def test_downloads_forget_by_what_and_are_counted_on(
    people: People, root: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.origins.AT_ONCE", 2)
    await people.ask(root, "POST", "models", {"name": "nlp/bert"})
    put = await people.send("PUT", "/models/nlp~bert/1.0/a", data=b"x", headers=root.headers)
    assert put.status == 201, put.body
    made = await people.ask(root, "POST", "models/nlp~bert/versions/1.0/publish")
    assert made.status < 300, made.body
    [[version]] = await people.rows("SELECT id FROM versions")
    now = people.clock.now - people.clock.now % MINUTE
    rows = [
        {
            "version": version,
            "minute": now - days * DAY,
            "path": "a",
            "principal": root.id,
            "client": client,
            "requests": 1,
            "bytes": 10,
        }
        for days in (100, 95, 1)
        for client in ("curl", "python", "wget")
    ]
    await people.store.index.run(lambda tx: add_downloads(tx, rows))

    assert await forget_origins(people.store, days=90) == 6
    found = await people.rows(
        "SELECT client, sum(requests), sum(bytes), count(*) FROM downloads "
        "GROUP BY client ORDER BY client"
    )

    assert found == [("", 6, 60, 2), ("curl", 1, 10, 1), ("python", 1, 10, 1), ("wget", 1, 10, 1)]
    assert await forget_origins(people.store, days=90) == 0
    people.clock.advance(90 * 86_400)
    assert await forget_origins(people.store, days=90) == 3
