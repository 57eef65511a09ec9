"""Signing in with a password through HTTP: sessions, tickets, throttling, and what is not told."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jwt
import msgspec
import pytest
from argon2 import PasswordHasher

from registry.auth.passwords import PasswordCost, Passwords
from registry.auth.tickets import TicketRefused, Tickets
from registry.config import AuthConfig
from registry.domain.principals import HOUSEKEEPING
from registry.keys import LOGINS, SEALS
from registry.services.logins import Origin
from registry.services.throttling import network_of, wait_seconds
from tests.registry.accounts.conftest import CHEAP, People
from tests.registry.test_openapi import DOCUMENT
from tests.support.builders import Answer
from tests.support.people import Person

PASSWORD = "correct horse battery staple"
OTHER = "another one, quite as long"


@pytest.fixture
async def ada(people: People, root: Person) -> str:
    """The id of a user with a password."""
    answer = await people.ask(root, "POST", "users", {"username": "Ada", "password": PASSWORD})
    return str(answer.json["id"])


async def sign_in(people: People, name: str = "ada", password: str = PASSWORD) -> Answer:
    return await people.ask(None, "POST", "login", {"username": name, "password": password})


async def signed_in(people: People) -> Any:
    answer = await sign_in(people)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_login_opens_the_api_until_it_is_signed_out(people: People, ada: str) -> None:
    answer = await sign_in(people, "ADA")

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    found = answer.json
    assert (found["token_type"], found["expires_in"], found["username"]) == ("Bearer", 900, "Ada")
    ticket = found["access_token"]
    me = (await people.ask(ticket, "GET", "me")).json
    assert (me["id"], me["username"], me["kind"], me["came_by"]) == (ada, "Ada", "user", "session")
    assert me["credential"] == found["session"]["id"]
    assert (await people.ask(ticket, "POST", "models", {"name": "ada/one"})).status == 201
    assert (await people.ask(ticket, "POST", "logout")).status == 204
    assert (await people.ask(ticket, "GET", "me")).status == 401
    assert (await renewed(people, found)).status == 401
    actions = [action for kind, action in await people.entries() if kind == "session"]
    assert actions == ["create", "revoke"]


async def renewed(people: People, found: Any) -> Answer:
    return await people.ask(
        None, "POST", "login/refresh", {"refresh_token": found["refresh_token"]}
    )


async def test_a_ticket_ends_and_is_renewed_until_the_session_does(
    people: People, ada: str
) -> None:
    found = await signed_in(people)
    people.clock.advance(900)
    assert (await people.ask(found["access_token"], "GET", "me")).status == 401

    again = await renewed(people, found)

    assert again.status == 200
    assert again.json["session"]["id"] == found["session"]["id"]
    assert (await people.ask(again.json["access_token"], "GET", "me")).status == 200
    people.clock.advance(336 * 3600 - 900 - 60)
    last = await renewed(people, found)
    assert (last.status, last.json["expires_in"]) == (200, 60)
    people.clock.advance(60)
    assert (await renewed(people, found)).status == 401
    assert (await people.ask(last.json["access_token"], "GET", "me")).status == 401


async def test_a_ticket_for_one_use_fails_at_every_other(people: People, ada: str) -> None:
    found = await signed_in(people)

    assert (await people.ask(found["refresh_token"], "GET", "me")).status == 401
    body = {"refresh_token": found["access_token"]}
    assert (await people.ask(None, "POST", "login/refresh", body)).status == 401
    basic = base64.b64encode(f"ada:{found['access_token']}".encode()).decode()
    answer = await people.ask(None, "GET", "me", Authorization=f"Basic {basic}")
    assert answer.status == 401


async def test_a_real_password_opens_nothing_but_the_login(people: People, ada: str) -> None:
    basic = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    assert (await people.ask(None, "GET", "me", Authorization=f"Basic {basic}")).status == 401
    assert (await people.ask(PASSWORD, "GET", "me")).status == 401


async def test_forged_tickets_are_refused(people: People, ada: str) -> None:
    """Above all those that say themselves how they are to be verified."""
    found = await signed_in(people)
    ticket = found["access_token"]
    claims = jwt.decode(ticket, options={"verify_signature": False})
    head, body, signature = ticket.split(".")
    other = json.dumps({**claims, "sub": "usr_local"}).encode()
    key = (await people.site.app[SEALS].root_key()).sub_key("ticket refresh")
    forged = [
        f"{head}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}.{signature}",
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "guess" * 8, algorithm="HS256"),
        jwt.encode(claims, key, algorithm="HS256"),
        f"{head}.{body}.",
        f"{head}.{body}",
        "..",
        "a.b.c",
        "x" * 5000 + ".b.c",
    ]
    for one in forged:
        assert (await people.ask(one, "GET", "me")).status == 401, one
    assert (await people.ask(ticket, "GET", "me")).status == 200


async def test_the_algorithm_and_each_claim_are_demanded(people: People) -> None:
    root = people.site.app[SEALS].root_key
    tickets = Tickets(root, people.clock)
    good = await tickets.issue("access", "usr_x", expires_at=people.clock() + 10**7, sid="s")
    claims = dict(await tickets.read("access", good))
    key = (await root()).sub_key("ticket access")
    assert (claims["sub"], claims["sid"]) == ("usr_x", "s")

    for algorithm in ("HS384", "HS512"):
        with pytest.raises(TicketRefused):
            await tickets.read("access", jwt.encode(claims, key * 2, algorithm=algorithm))
    for name in ("iss", "aud", "exp", "iat", "sub"):
        less = {one: value for one, value in claims.items() if one != name}
        with pytest.raises(TicketRefused):
            await tickets.read("access", jwt.encode(less, key, algorithm="HS256"))
    for name, value in (("iss", "digestry:other"), ("aud", "digestry refresh"), ("exp", "x")):
        wrong = jwt.encode({**claims, name: value}, key, algorithm="HS256")
        with pytest.raises(TicketRefused):
            await tickets.read("access", wrong)


@pytest.mark.parametrize(
    "spoil",
    ["unknown", "wrong", "disabled", "deleted", "without a password", "a service account"],
)
async def test_who_fails_is_not_told_why(
    people: People, root: Person, ada: str, spoil: str
) -> None:
    usual = await sign_in(people, "ada", "wrong password")
    assert (usual.status, usual.code) == (401, "login_failed")
    name, password = "ada", PASSWORD
    match spoil:
        case "unknown":
            name = "nobody-of-that-name"
        case "wrong":
            password = OTHER
        case "disabled":
            await people.ask(root, "PATCH", "users/ada", {"active": False})
        case "deleted":
            await people.ask(root, "DELETE", "users/ada")
        case "without a password":
            name = "root"
        case "a service account":
            await people.ask(root, "POST", "users", {"username": "robot", "kind": "service"})
            name = "robot"

    answer = await sign_in(people, name, password)

    told = {**answer.json, "request_id": ""}
    assert (answer.status, told) == (usual.status, {**usual.json, "request_id": ""})
    assert set(answer.headers) == set(usual.headers)


async def test_every_failure_costs_one_look_at_a_hash(
    people: People, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the time tells nothing of who is there."""
    looks = list[bool]()
    judge = Passwords.judge

    async def judged(self: Passwords, password: str, kept: str | None) -> Any:
        looks.append(kept is None)
        return await judge(self, password, kept)

    monkeypatch.setattr(Passwords, "judge", judged)
    for name in ("ada", "nobody", "root"):
        assert (await sign_in(people, name, "wrong password")).status == 401
    assert looks == [False, True, True]


async def test_nobodys_password_is_looked_at_as_anybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = list[str]()
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, kept: str, password: str) -> Any:
        verified.append(kept.rpartition("$")[0].rpartition("$")[0])
        return verify(self, kept, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    passwords = Passwords(PasswordCost(memory_kib=8, passes=1, lanes=1))
    kept = await passwords.hash(PASSWORD)
    assert (await passwords.judge(PASSWORD, kept)).is_right
    assert not (await passwords.judge(PASSWORD, None)).is_right
    assert not (await passwords.judge(OTHER, kept)).is_right
    assert not (await passwords.judge(PASSWORD, "no hash at all")).is_right
    assert verified[:3] == ["$argon2id$v=19$m=8,t=1,p=1"] * 3
    await passwords.close()


async def test_only_so_many_wait_for_a_look_at_a_password(
    people: People, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.auth.passwords.MOST_WAITING", 0)

    answer = await sign_in(people)

    assert (answer.status, answer.code) == (429, "throttled")
    assert answer.headers["Retry-After"] == "2"


def test_waits_double_and_end() -> None:
    assert [wait_seconds(count) for count in range(1, 9)] == [0, 0, 0, 0, 1, 2, 4, 8]
    assert wait_seconds(10_000) == 900


def test_addresses_count_as_what_one_customer_has() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2:3::4%eth0") == "2001:db8:1:2::/64"
    assert network_of("") == ""


async def test_tries_are_throttled_by_account_and_address_together(
    people: People, ada: str
) -> None:
    for _ in range(5):
        assert (await sign_in(people, "ada", "wrong password")).status == 401

    throttled = await sign_in(people)

    assert (throttled.status, throttled.code) == (429, "throttled")
    assert throttled.headers["Retry-After"] == "1"
    assert (await sign_in(people, "nobody")).status == 401, "another name waits for nothing"
    people.clock.advance(1)
    assert (await sign_in(people, "ada", "wrong password")).status == 401
    people.clock.advance(1)
    assert (await sign_in(people)).headers["Retry-After"] == "1"
    people.clock.advance(1)
    assert (await sign_in(people)).status == 200
    assert await people.count("login_failures") == 1, "of nobody"
    for _ in range(4):
        assert (await sign_in(people, "ada", "wrong password")).status == 401
    assert (await sign_in(people)).status == 200


async def test_unknown_names_are_throttled_alike(people: People, ada: str) -> None:
    for name in ("ada", "nobody"):
        answers = [await sign_in(people, name, "wrong password") for _ in range(7)]
        assert [answer.status for answer in answers] == [401] * 5 + [429] * 2, name


async def test_nobody_locks_others_out(people: People, ada: str) -> None:
    """Whoever tries from elsewhere makes nobody wait there."""
    logins = people.site.app[LOGINS]
    throttle = logins._throttle
    here = await throttle.key("ada", "127.0.0.1")
    assert here != await throttle.key("ada", "192.0.2.7")
    assert here != await throttle.key("ada1", "27.0.0.1")
    for _ in range(8):
        await sign_in(people, "ada", "wrong password")
    assert (await sign_in(people)).status == 429
    await logins.sign_in(HOUSEKEEPING, "ada", PASSWORD, Origin("192.0.2.7", ""))


async def test_tries_at_once_are_counted_each(people: People, ada: str) -> None:
    tries = [sign_in(people, "ada", "wrong password") for _ in range(12)]

    answers = await asyncio.gather(*tries)

    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 7


async def test_tries_are_forgotten_after_a_day(people: People, ada: str) -> None:
    for _ in range(12):
        await sign_in(people, "ada", "wrong password")
        people.clock.advance(1000)
    people.clock.advance(86_400)

    answers = [await sign_in(people, "ada", "wrong password") for _ in range(5)]

    assert [answer.status for answer in answers] == [401] * 5


async def test_a_password_is_hashed_anew_where_it_costs_another_price(
    people: People, ada: str
) -> None:
    logins = people.site.app[LOGINS]
    [(before,)] = await people.rows("SELECT password_hash FROM users WHERE folded = 'ada'")
    assert before.startswith("$argon2id$v=19$m=8,t=1,p=1$")

    logins._passwords = Passwords(PasswordCost(memory_kib=16, passes=1, lanes=1))
    await signed_in(people)

    [(after,)] = await people.rows("SELECT password_hash FROM users WHERE folded = 'ada'")
    assert after.startswith("$argon2id$v=19$m=16,t=1,p=1$")
    await signed_in(people)
    assert await people.rows("SELECT password_hash FROM users WHERE folded = 'ada'") == [(after,)]


async def test_passwords_are_compared_however_a_keyboard_composed_them(
    people: People, root: Person
) -> None:
    wish = {"username": "zoe", "password": "pass-w\u00f6rter-2"}
    assert (await people.ask(root, "POST", "users", wish)).status == 201
    assert (await sign_in(people, "zoe", "pass-wo\u0308rter-2")).status == 200


async def test_changing_a_password_ends_every_other_session(people: People, ada: str) -> None:
    one, two = await signed_in(people), await signed_in(people)
    token = (await people.ask(one["access_token"], "POST", "tokens", {"name": "x"})).json["secret"]
    wrong = {"old": OTHER, "new": OTHER}
    assert (await people.ask(one["access_token"], "POST", "me/password", wrong)).status == 401
    weak = {"old": PASSWORD, "new": "short"}
    assert (await people.ask(one["access_token"], "POST", "me/password", weak)).status == 400

    change = {"old": PASSWORD, "new": OTHER}
    answer = await people.ask(one["access_token"], "POST", "me/password", change)

    assert answer.status == 200, answer.body
    assert (await people.ask(one["access_token"], "GET", "me")).status == 200
    assert (await people.ask(two["access_token"], "GET", "me")).status == 401
    assert (await people.ask(token, "GET", "me")).status == 200
    assert (await sign_in(people)).status == 401
    assert (await sign_in(people, "ada", OTHER)).status == 200


async def test_the_old_password_is_throttled_as_at_a_login(people: People, ada: str) -> None:
    found = await signed_in(people)
    wrong = {"old": OTHER, "new": OTHER}
    answers = [
        (await people.ask(found["access_token"], "POST", "me/password", wrong)).status
        for _ in range(7)
    ]
    assert answers == [401] * 5 + [429] * 2


async def test_a_limited_token_changes_no_password(people: People, ada: str) -> None:
    found = await signed_in(people)
    wish = {"name": "x", "scopes": ["model.read"]}
    secret = (await people.ask(found["access_token"], "POST", "tokens", wish)).json["secret"]

    change = {"old": PASSWORD, "new": OTHER}
    answer = await people.ask(secret, "POST", "me/password", change)

    assert (answer.status, answer.code) == (403, "more_than_held")


async def test_an_administrators_password_for_somebody_ends_their_sessions(
    people: People, root: Person, ada: str
) -> None:
    found = await signed_in(people)

    answer = await people.ask(root, "POST", "users/ada/password", {"password": OTHER})

    assert answer.status == 200
    assert (await people.ask(found["access_token"], "GET", "me")).status == 401
    assert (await sign_in(people, "ada", OTHER)).status == 200


async def test_sessions_are_listed_and_ended(people: People, root: Person, ada: str) -> None:
    one = await signed_in(people)
    people.clock.advance(1)
    two = await signed_in(people)
    listed = (await people.ask(two["access_token"], "GET", "sessions")).json["items"]
    assert [(each["id"], each["current"]) for each in listed] == [
        (two["session"]["id"], True),
        (one["session"]["id"], False),
    ]
    assert listed[0]["address"] == "127.0.0.1"
    assert listed[0]["user_agent"].startswith("Python/")
    page = (await people.ask(two["access_token"], "GET", "sessions?limit=1")).json
    rest = await people.ask(two["access_token"], "GET", f"sessions?limit=1&after={page['next']}")
    assert [each["id"] for each in rest.json["items"]] == [one["session"]["id"]]

    eve = await people.make("eve")
    path = f"sessions/{one['session']['id']}"
    assert (await people.ask(eve, "DELETE", path)).code == "session_not_found"
    assert (await people.ask(None, "DELETE", path)).status == 401
    assert (await people.ask(eve, "GET", "sessions?user=ada")).status == 403
    assert len((await people.ask(root, "GET", "sessions?user=ada")).json["items"]) == 2
    for _ in range(2):
        assert (await people.ask(two["access_token"], "DELETE", path)).status == 204
    assert (await people.ask(one["access_token"], "GET", "me")).status == 401
    assert (await people.ask(root, "DELETE", f"sessions/{two['session']['id']}")).status == 204
    assert (await people.ask(two["access_token"], "GET", "me")).status == 401


async def test_signing_out_by_a_token_ends_that_token(people: People) -> None:
    eve = await people.make("eve")

    assert (await people.ask(eve, "POST", "logout")).status == 204

    assert (await people.ask(eve, "GET", "me")).status == 401


async def test_everybody_learns_who_they_are(people: People, root: Person) -> None:
    eve = await people.make("eve", scopes=["model.read", "model.create", "namespace.admin"])
    await people.ask(root, "POST", "teams", {"name": "vision"})
    await people.ask(root, "PUT", "teams/vision/members/eve", {"role": "writer"})
    await people.ask(root, "POST", "models", {"name": "nlp/one"})
    for resource in ({"kind": "namespace", "name": "nlp"}, {"kind": "model", "name": "nlp/one"}):
        wish = {"subject": {"kind": "user", "name": "eve"}, "resource": resource, "role": "reader"}
        await people.ask(root, "POST", "grants", wish)

    me = (await people.ask(eve, "GET", "me")).json

    assert (me["username"], me["is_admin"], me["came_by"]) == ("eve", False, "token")
    assert me["scopes"] == ["model.create", "model.read", "namespace.admin"]
    assert [(team["name"], team["role"]) for team in me["teams"]] == [("vision", "writer")]
    assert me["rights"]["namespaces"] == [{"name": "nlp", "permissions": ["model.read"]}]
    assert me["rights"]["models"] == [{"name": "nlp/one", "permissions": ["model.read"]}]
    assert me["rights"]["everywhere"] == []
    assert (await people.ask(root, "GET", "me")).json["is_admin"]
    nobody = (await people.ask(None, "GET", "me")).json
    assert (nobody["kind"], nobody["came_by"]) == ("anonymous", "nothing")
    assert nobody["rights"]["everything_visible"] == []


async def test_nobody_registers_where_that_is_not_allowed(people: People) -> None:
    wish = {"username": "grace", "password": PASSWORD}

    answer = await people.ask(None, "POST", "register", wish)

    assert (answer.status, answer.code) == (404, "route_not_found")
    assert await people.count("users") == 0


class TestWhereRegisteringIsAllowed:
    @pytest.fixture
    def auth(self) -> AuthConfig:
        return msgspec.structs.replace(CHEAP, self_registration=True)

    async def test_strangers_become_users_without_rights(self, people: People) -> None:
        wish = {"username": "grace", "password": PASSWORD, "email": "grace@example.org"}

        answer = await people.ask(None, "POST", "register", wish)

        assert answer.status == 201, answer.body
        assert not answer.json["is_admin"]
        assert answer.json["created_by"] == answer.json["id"]
        assert (await sign_in(people, "grace")).status == 200
        again = await people.ask(None, "POST", "register", wish)
        assert (again.status, again.code) == (409, "user_exists")
        weak = {"username": "weak", "password": "weak"}
        assert (await people.ask(None, "POST", "register", weak)).code == "password_weak"
        for field in ("is_admin", "kind", "active"):
            bad = {**wish, "username": "evil", field: True}
            assert (await people.ask(None, "POST", "register", bad)).status == 400


async def test_idempotency_keys_of_nobody_are_ignored(people: People, ada: str) -> None:
    """Or one stranger would be answered what another one was."""
    body = {"username": "ada", "password": PASSWORD}
    answers = [
        await people.ask(None, "POST", "login", body, Idempotency_Key="same") for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 200]
    assert await people.count("idempotency_keys") == 0


async def test_secrets_are_nowhere_but_in_their_answers(
    people: People,
    root: Person,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    wish = {"username": "ada", "password": PASSWORD}
    await people.ask(root, "POST", "users", wish)
    found = await signed_in(people)
    made = (await people.ask(found["access_token"], "POST", "tokens", {"name": "x"})).json
    await people.ask(made["secret"], "GET", "nothing/here")
    await people.ask(made["secret"] + "x", "GET", "models")
    await people.ask(found["access_token"] + "x", "GET", "models")
    await sign_in(people, "ada", OTHER)
    await people.ask(found["access_token"], "POST", "me/password", {"old": PASSWORD, "new": OTHER})
    secrets = [PASSWORD, OTHER, made["secret"], found["access_token"], found["refresh_token"]]

    out, err = capfd.readouterr()
    tables = await people.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    kept = [repr(await people.rows(f"SELECT * FROM {name}")) for (name,) in tables]
    metrics = await people.get("/metrics", **root.headers)
    assert metrics.status == 200
    told = [out, err, caplog.text, *kept, metrics.body.decode()]
    for secret in secrets:
        for place in told:
            assert secret not in place


def test_the_document_names_the_ways_to_show_who_asks() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]

    assert [schemes[name].get("scheme", schemes[name].get("in")) for name in schemes] == [
        "bearer",
        "basic",
        "cookie",
    ]
    assert DOCUMENT["security"] == [{}, {"bearer": []}, {"basic": []}, {"cookie": []}]
