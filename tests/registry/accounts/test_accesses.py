"""What the audit log says of those who were refused, and of where tokens are used."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.domain.principals import LOCAL, Principal
from registry.keys import ACCESSES
from registry.services.accesses import DAY, MOST_KINDS, MOST_USES, Accesses, Refusal
from registry.services.identities import anonymous
from store.clock import SECOND
from store.errors import Unavailable
from tests.registry.accounts.conftest import People
from tests.support.people import Person

PASSWORD = "correct horse battery staple"
NOBODY = anonymous(anonymous_read=False)


async def told(people: People, kind: str = "access") -> list[dict[str, Any]]:
    """Entries of a kind that are written by now, the oldest first."""
    await people.site.app[ACCESSES].flush()
    rows = await people.rows(
        "SELECT actor, action, entity, name, after, request FROM audit "
        f"WHERE kind = '{kind}' ORDER BY id"
    )
    names = ("actor", "action", "entity", "name", "after", "request")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return [one | {"after": msgspec.json.decode(one["after"] or "null")} for one in found]


async def test_a_token_that_does_not_hold_is_told_at_once(people: People) -> None:
    answer = await people.ask("dgt_nothing", "GET", "models?q=private")

    [one] = await told(people)
    assert (one["actor"], one["action"]) == (NOBODY.id, "denied")
    assert one["request"] == answer.headers["X-Request-Id"]
    assert one["after"] == {
        "address": "127.0.0.1",
        "shown": "bearer",
        "status": 401,
        "code": "unauthenticated",
        "permission": "model.read",
        "route": "GET /api/v1/models",
        "count": 1,
        "first": one["after"]["last"],
        "last": one["after"]["last"],
    }


async def test_what_repeats_is_counted_and_told_once_a_minute(people: People) -> None:
    for _ in range(6):
        await people.ask("dgt_nothing", "GET", "models")
        await told(people)
        people.clock.advance(1)
    assert [one["after"]["count"] for one in await told(people)] == [1]

    people.clock.advance(55)

    first, second = await told(people)
    assert (first["after"]["count"], second["after"]["count"]) == (1, 5)
    assert second["after"]["first"] == "2027-01-15T08:00:01.000000Z"
    assert second["after"]["last"] == "2027-01-15T08:00:05.000000Z"
    assert first["request"] != second["request"]
    people.clock.advance(600)
    assert len(await told(people)) == 2
    assert people.site.app[ACCESSES].kinds == 0


async def test_somebody_who_may_not_is_told_by_name(people: People) -> None:
    anna = await people.make("anna")
    assert (await people.ask(anna, "GET", "users?limit=3")).status == 403
    assert (await people.ask(anna, "GET", "models/nobodys~model")).status == 404
    assert (await people.ask(None, "GET", "models/nobodys~model")).status == 401

    denied, nobody = await told(people)
    assert (denied["actor"], denied["entity"]) == (anna.id, anna.id)
    assert denied["name"] == "GET /api/v1/users"
    assert (denied["after"]["status"], denied["after"]["permission"]) == (403, "admin")
    assert nobody["name"] == "GET /api/v1/models/{model}"
    assert nobody["after"]["shown"] == "nothing"


async def test_a_login_in_vain_names_the_account_and_no_other_word(
    people: People, root: Person
) -> None:
    made = await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    for name in ("ada", "Ada", "my-secret-typed-here"):
        body = {"username": name, "password": "my-wrong-password"}
        assert (await people.ask(None, "POST", "login", body)).status == 401

    known, unknown = [one for one in await told(people) if one["action"] == "login_failed"]

    assert (known["entity"], known["name"]) == (made.json["id"], "ada")
    assert (known["after"]["count"], unknown["after"]["count"]) == (2, 1)
    assert unknown["name"] == "POST /api/v1/login"
    rows = str(await people.rows("SELECT * FROM audit"))
    assert "typed" not in rows
    assert "my-wrong" not in rows


async def test_logins_that_come_too_early_are_counted_for_whom_they_are(people: People) -> None:
    await people.ask(None, "POST", "login", {"username": "typed-here", "password": "no-such"})
    body = {"username": "somebody", "password": "my-wrong-password"}
    answers = [(await people.ask(None, "POST", "login", body)).status for _ in range(8)]
    await told(people)
    people.clock.advance(61)

    entries = [one for one in await told(people) if one["after"]["code"] == "throttled"]

    early = answers.count(429)
    assert early >= 3
    assert sum(one["after"]["count"] for one in entries) == early
    failed = [one for one in await told(people) if one["after"]["code"] == "login_failed"]
    for one in entries:
        assert (one["action"], one["after"]["status"]) == ("login_failed", 429)
        assert one["entity"] == failed[-1]["entity"] != failed[0]["entity"]
    assert "typed" not in str(await people.rows("SELECT * FROM audit"))
    assert "somebody" not in str(await people.rows("SELECT * FROM audit"))


async def test_what_is_allowed_is_not_told(people: People, root: Person) -> None:
    assert (await people.ask(root, "GET", "models")).status == 200
    assert (await people.ask(root, "GET", "models/missing")).status == 404

    assert await told(people) == []


async def test_what_was_noted_is_written_at_the_end(people: People) -> None:
    for _ in range(3):
        await people.ask("dgt_nothing", "GET", "models")
        await told(people)

    await people.site.app[ACCESSES].close()

    assert [one["after"]["count"] for one in await told(people)] == [1, 2]


async def test_what_cannot_be_written_waits(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(unit: Any) -> Any:
        raise Unavailable("the index is away")

    await people.ask("dgt_nothing", "GET", "models")
    with monkeypatch.context() as patched:
        patched.setattr(people.store.index, "run", fails)
        await people.site.app[ACCESSES].flush()
    await people.ask("dgt_nothing", "GET", "models")
    people.clock.advance(60)

    assert [one["after"]["count"] for one in await told(people)] == [2]


def refusal(address: str, route: str = "GET /x", principal: Principal = NOBODY) -> Refusal:
    return Refusal(
        principal=principal, address=address, shown="bearer", code="x", status=401, route=route
    )


async def test_who_changes_addresses_fills_neither_memory_nor_log(people: People) -> None:
    accesses = Accesses(people.store)
    for number in range(MOST_KINDS + 20):
        accesses.refused(refusal(f"10.0.{number // 256}.{number % 256}"))
        accesses.refused(refusal(f"2001:db8:0:1::{number:x}"))

    await accesses.flush()

    assert accesses.kinds == MOST_KINDS + 1
    rows = await people.rows("SELECT entity, after FROM audit WHERE kind = 'access'")
    counts = {entity: msgspec.json.decode(after)["count"] for entity, after in rows}
    assert len(rows) == MOST_KINDS + 1
    assert counts["crowd"] == 21
    assert sum(msgspec.json.decode(after)["count"] for _, after in rows) == 2 * (MOST_KINDS + 20)
    people.clock.advance(61)
    await accesses.flush()
    assert accesses.kinds == 0


async def test_a_token_is_told_once_a_day_and_address(people: People, root: Person) -> None:
    for _ in range(3):
        await people.ask(root, "GET", "models")

    [use] = await told(people, "token")
    [[token]] = await people.rows("SELECT id FROM tokens")
    assert (use["action"], use["entity"], use["name"]) == ("use", token, "test")
    assert (use["actor"], use["after"]) == (root.id, {"address": "127.0.0.1"})

    people.clock.advance(86_400)
    await people.ask(root, "GET", "models")
    assert len(await told(people, "token")) == 2


async def test_a_use_that_two_workers_saw_is_told_once(people: People, root: Person) -> None:
    [[token]] = await people.rows("SELECT id FROM tokens")
    principal = Principal(root.id, "root", session=str(token))
    for _ in range(2):
        worker = Accesses(people.store)
        worker.used(principal, "10.0.0.1", "")
        await worker.flush()
    worker.used(principal, "10.0.0.2", "")
    await worker.close()

    found = [one["after"]["address"] for one in await told(people, "token")]
    assert found == ["10.0.0.1", "10.0.0.2"]


async def test_uses_are_remembered_within_bounds(people: People) -> None:
    worker = Accesses(people.store)
    people.clock.now -= people.clock.now % DAY - SECOND
    for number in range(MOST_USES + 1):
        worker.used(LOCAL, str(number), "")

    assert len(worker._seen) == 1
    assert len(worker._uses) == MOST_USES
    worker._uses.clear()
    await worker.close()


async def test_logins_and_sessions_are_no_use_of_a_token(people: People, root: Person) -> None:
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    body = {"username": "ada", "password": PASSWORD}
    ticket = (await people.ask(None, "POST", "login", body)).json["access_token"]
    await people.ask(ticket, "GET", "me")

    assert [one["actor"] for one in await told(people, "token")] == [root.id]


async def test_accesses_are_for_who_reads_the_whole_log(people: People, root: Person) -> None:
    anna = await people.make("anna")
    await people.ask(anna, "GET", "users")
    assert len(await told(people)) == 1

    mine = await people.ask(anna, "GET", "audit")
    all_of_it = await people.ask(root, "GET", "audit?kind=access")

    assert mine.json["items"] == []
    assert [one["actor"] for one in all_of_it.json["items"]] == [anna.id]
