"""What ended is shown for a while and then forgotten, and nothing else is."""

from __future__ import annotations

import pytest

from registry.services.ended import forget_ended
from tests.registry.accounts.conftest import People
from tests.support.people import Person

DAY = 86_400
PASSWORD = "correct horse battery staple"


async def test_what_ended_is_forgotten_in_its_time(
    people: People, root: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.ended.AT_ONCE", 1)
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    body = {"username": "ada", "password": PASSWORD}
    for _ in range(2):
        assert (await people.ask(None, "POST", "login", body)).status == 200
    for name in ("nobody", "no-one"):
        await people.ask(None, "POST", "login", {"username": name, "password": PASSWORD})
    for _ in range(2):
        made = (await people.ask(root, "POST", "tokens", {"name": "x"})).json["token"]["id"]
        await people.ask(root, "DELETE", f"tokens/{made}")

    async def left() -> tuple[int, int, int]:
        await forget_ended(people.store)
        counts = [await people.count(name) for name in ("tokens", "sessions", "login_failures")]
        return (counts[0], counts[1], counts[2])

    assert await left() == (3, 2, 2)
    people.clock.advance(DAY + 1)
    assert await left() == (3, 2, 0)
    people.clock.advance(14 * DAY)
    assert await left() == (3, 2, 0)
    people.clock.advance(30 * DAY)
    assert await left() == (3, 0, 0)
    people.clock.advance(365 * DAY)
    assert await left() == (1, 0, 0)
    assert (await people.ask(root, "GET", "me")).json["username"] == "root"
