"""API tokens through HTTP: made once, limited by scopes and time, ended at once."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.auth.tokens import hash_of, is_token, new_token, prefix_of
from registry.http.times import rfc3339
from store.clock import SECOND
from tests.registry.accounts.conftest import People
from tests.support.people import Person


async def made(people: People, person: Person | str, **wish: Any) -> Any:
    answer = await people.ask(person, "POST", "tokens", {"name": "a token", **wish})
    assert answer.status == 201, answer.body
    return answer.json


def in_days(people: People, days: float) -> str:
    return datetime.fromtimestamp(people.clock() / SECOND + days * 86400, UTC).isoformat()


def test_a_token_is_recognised_by_its_form() -> None:
    found = [new_token() for _ in range(100)]

    assert len(set(found)) == 100
    for token in found:
        assert is_token(token)
        assert len(token) == 53
        assert prefix_of(token) == token[:12]
        swapped = token[:10] + ("a" if token[10] != "a" else "b") + token[11:]
        for other in (swapped, token[:-1], token + "0", token.upper(), " " + token, token + "\n"):
            assert not is_token(other), other
            assert hash_of(other) != hash_of(token)


async def test_a_token_opens_the_api_by_bearer_and_by_basic(people: People) -> None:
    ada = await people.make("ada")
    answer = await people.ask(ada, "POST", "tokens", {"name": "laptop"})

    assert answer.status == 201
    secret, token = answer.json["secret"], answer.json["token"]
    assert is_token(secret)
    assert answer.headers["Location"] == f"/api/v1/tokens/{token['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (token["prefix"], token["user"], token["username"]) == (secret[:12], ada.id, "ada")
    assert (token["scopes"], token["state"], token["expires_at"]) == (None, "active", None)
    assert (await people.ask(secret, "GET", "models")).status == 200
    for name in ("ada", "", "x-token"):
        basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
        answer = await people.ask(None, "GET", "models", Authorization=f"Basic {basic}")
        assert answer.status == 200, name
    stored = await people.rows("SELECT * FROM tokens")
    assert secret not in repr(stored)


async def test_ending_a_token_works_at_once(people: People) -> None:
    ada = await people.make("ada")
    one = await made(people, ada)
    assert (await people.ask(one["secret"], "GET", "models")).status == 200

    for _ in range(2):
        assert (await people.ask(ada, "DELETE", f"tokens/{one['token']['id']}")).status == 204

    assert (await people.ask(one["secret"], "GET", "models")).status == 401
    assert (await people.ask(ada, "GET", f"tokens/{one['token']['id']}")).json["state"] == "revoked"
    listed = (await people.ask(ada, "GET", "tokens")).json["items"]
    assert one["token"]["id"] not in [token["id"] for token in listed]
    listed = (await people.ask(ada, "GET", "tokens?ended=true")).json["items"]
    assert one["token"]["id"] in [token["id"] for token in listed]
    assert await people.entries() == [("token", "create"), ("token", "revoke")]


async def test_a_token_expires(people: People) -> None:
    ada = await people.make("ada")
    one = await made(people, ada, expires_at=in_days(people, 1))
    assert (await people.ask(one["secret"], "GET", "models")).status == 200

    people.clock.advance(86400)

    assert (await people.ask(one["secret"], "GET", "models")).status == 401
    got = (await people.ask(ada, "GET", f"tokens/{one['token']['id']}")).json
    assert (got["state"], got["expires_at"]) == ("expired", rfc3339(people.clock()))
    past = await people.ask(ada, "POST", "tokens", {"name": "x", "expires_at": in_days(people, 0)})
    assert past.status == 400


async def test_scopes_leave_of_rights_what_they_name(people: People) -> None:
    ada = await people.make("ada")
    reads = (await made(people, ada, scopes=["model.read", "content.read"]))["secret"]

    assert (await people.ask(reads, "GET", "models")).status == 200
    assert (await people.ask(reads, "POST", "models", {"name": "ada/one"})).status == 403
    assert (await people.ask(ada, "POST", "models", {"name": "ada/one"})).status == 201
    for scopes in ([], ["everything"], ["public"]):
        answer = await people.ask(ada, "POST", "tokens", {"name": "x", "scopes": scopes})
        assert answer.status == 400, scopes


async def test_who_is_refused_by_a_tokens_scopes_is_told_so(people: People) -> None:
    ada = await people.make("ada")
    secret = (await made(people, ada, scopes=["model.read"]))["secret"]

    by_scopes = await people.ask(secret, "POST", "models", {"name": "ada/bert"})
    by_rights = await people.ask(ada, "GET", "users")

    assert (by_scopes.status, by_scopes.code) == (403, "denied")
    assert "model.create, which the scopes of this token leave out" in by_scopes.json["detail"]
    assert by_rights.json["detail"] == "this needs admin on /api/v1/users"


async def test_a_token_with_scopes_makes_none_that_is_wider(people: People) -> None:
    ada = await people.make("ada")
    secret = (await made(people, ada, scopes=["model.read"]))["secret"]

    for wish in ({}, {"scopes": ["model.read", "model.write"]}):
        answer = await people.ask(secret, "POST", "tokens", {"name": "wider", **wish})
        assert (answer.status, answer.code) == (403, "more_than_held"), wish
    await made(people, secret, scopes=["model.read"])


async def test_a_token_that_expires_makes_none_that_lasts_longer(people: People) -> None:
    ada = await people.make("ada")
    secret = (await made(people, ada, expires_at=in_days(people, 2)))["secret"]

    wish = {"name": "longer", "expires_at": in_days(people, 3)}
    answer = await people.ask(secret, "POST", "tokens", wish)
    assert (answer.status, answer.code) == (403, "more_than_held")
    ends = rfc3339(people.clock() + 2 * 86_400 * SECOND)
    assert ends in answer.json["detail"]
    await made(people, secret, expires_at=in_days(people, 1))
    for unsaid in ({}, {"expires_at": None}):
        assert (await made(people, secret, **unsaid))["token"]["expires_at"] == ends


async def test_tokens_are_their_users_own(people: People, root: Person) -> None:
    ada, eve = await people.make("ada"), await people.make("eve")
    one = (await made(people, ada))["token"]["id"]

    for method, path in (("GET", f"tokens/{one}"), ("DELETE", f"tokens/{one}")):
        assert (await people.ask(eve, method, path)).code == "token_not_found"
        assert (await people.ask(None, method, path)).status == 401
    for path in ("tokens?user=ada", f"tokens?user={ada.id}", "tokens?user=nobody"):
        assert (await people.ask(eve, "GET", path)).status == 403
    assert (await people.ask(eve, "GET", "tokens?user=EVE")).status == 200
    assert (await people.ask(eve, "POST", "tokens", {"name": "x", "user": "ada"})).status == 403
    assert (await people.ask(None, "POST", "tokens", {"name": "x"})).status == 401
    assert (await people.ask(None, "GET", "tokens")).status == 401
    assert len((await people.ask(root, "GET", "tokens?user=ada")).json["items"]) == 2
    assert (await people.ask(root, "DELETE", f"tokens/{one}")).status == 204


async def test_administrators_make_tokens_of_service_accounts_alone(
    people: People, root: Person
) -> None:
    await people.ask(root, "POST", "users", {"username": "robot", "kind": "service"})
    await people.make("ada")

    robots = await made(people, root, user="robot", scopes=["model.read"])

    assert robots["token"]["username"] == "robot"
    assert (await people.ask(robots["secret"], "GET", "models")).status == 200
    refused = await people.ask(root, "POST", "tokens", {"name": "x", "user": "ada"})
    assert (refused.status, refused.code) == (403, "token_of_a_person")
    assert (await people.ask(root, "POST", "tokens", {"name": "x", "user": "no"})).status == 404


async def test_a_repeated_request_is_not_told_the_secret_again(people: People) -> None:
    ada = await people.make("ada")
    first = await people.ask(ada, "POST", "tokens", {"name": "x"}, Idempotency_Key="k")
    again = await people.ask(ada, "POST", "tokens", {"name": "x"}, Idempotency_Key="k")

    assert first.status == 201
    assert (again.status, again.code) == (409, "idempotency_answer_secret")
    assert await people.count("tokens") == 2
    assert first.json["secret"] not in repr(await people.rows("SELECT * FROM idempotency_keys"))


async def test_lists_go_on_page_by_page(people: People) -> None:
    ada = await people.make("ada")
    for number in range(4):
        people.clock.advance(1)
        await made(people, ada, name=str(number))

    names, after = list[str](), ""
    while True:
        page = (await people.ask(ada, "GET", f"tokens?limit=2{after}")).json
        names += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert names == ["3", "2", "1", "0", "test"]


async def test_there_is_an_end_to_tokens(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.services.tokens.MOST_TOKENS", 1)
    ada = await people.make("ada")

    answer = await people.ask(ada, "POST", "tokens", {"name": "one more"})

    assert (answer.status, answer.code) == (409, "too_many_tokens")
