"""Logins kept in cookies: what they open, and that no other page makes use of them."""

from __future__ import annotations

from typing import Any

import pytest

from registry.http.cookies import CSRF, TICKET
from tests.registry.accounts.conftest import People
from tests.support.builders import Answer
from tests.support.people import Person

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def login(people: People, root: Person) -> Any:
    """What a login of somebody answers."""
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    answer = await people.ask(None, "POST", "login", {"username": "ada", "password": PASSWORD})
    return answer.json


async def kept(people: People, login: Any) -> dict[str, str]:
    """The cookies of a login."""
    ticket = login["access_token"]
    async with people.session.request(
        "PUT",
        f"{people.url}/api/v1/session-cookie",
        headers={"Authorization": f"Bearer {ticket}"},
    ) as answer:
        assert answer.status == 204
        return {name: morsel.value for name, morsel in answer.cookies.items()}


def cookie(values: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in values.items())


async def make(people: People, values: dict[str, str], **headers: str) -> Answer:
    """A change by cookies."""
    return await people.ask(
        None, "POST", "models", {"name": "ada/one"}, Cookie=cookie(values), **headers
    )


async def test_a_browser_asks_by_its_cookies(people: People, login: Any) -> None:
    cookies = await kept(people, login)

    me = await people.ask(None, "GET", "me", Cookie=cookie(cookies))
    made = await make(people, cookies, X_CSRF_Token=cookies[CSRF])

    assert (me.json["username"], me.json["came_by"]) == ("ada", "session")
    assert made.status == 201


async def test_a_change_shows_the_word_of_its_own_session(people: People, login: Any) -> None:
    cookies = await kept(people, login)
    again = await people.ask(None, "POST", "login", {"username": "ada", "password": PASSWORD})
    other = await kept(people, again.json)

    found = [
        await make(people, cookies),
        await make(people, cookies, X_CSRF_Token=""),
        await make(people, cookies, X_CSRF_Token="x"),
        await make(people, cookies, X_CSRF_Token=other[CSRF]),
        await make(people, cookies, X_CSRF_Token="é"),
    ]

    assert [(one.status, one.code) for one in found] == [(403, "csrf_token_missing")] * len(found)


async def test_another_origin_is_refused_even_with_the_word(people: People, login: Any) -> None:
    cookies = await kept(people, login)

    answer = await make(people, cookies, X_CSRF_Token=cookies[CSRF], Origin="https://evil.example")

    assert (answer.status, answer.code) == (403, "foreign_origin")


async def test_scripts_see_the_word_and_not_the_ticket(people: People, login: Any) -> None:
    async with people.session.request(
        "PUT",
        f"{people.url}/api/v1/session-cookie",
        headers={"Authorization": f"Bearer {login['access_token']}"},
    ) as response:
        ticket, csrf = response.cookies[TICKET], response.cookies[CSRF]
        assert response.headers["Cache-Control"] == "no-store"
    assert (ticket["httponly"], ticket["samesite"], ticket["path"]) == (True, "Lax", "/")
    assert not csrf["httponly"]
    assert 0 < int(ticket["max-age"]) <= 336 * 3600
    assert not ticket["secure"]  # over http, where a browser would not keep it otherwise


async def test_a_cookie_ends_with_its_session(people: People, login: Any) -> None:
    cookies = await kept(people, login)
    assert (await people.ask(login["access_token"], "POST", "logout")).status == 204

    assert (await people.ask(None, "GET", "models", Cookie=cookie(cookies))).status == 401
    # It is nobody's, so that a browser which still has it can sign in again.
    again = await people.ask(
        None,
        "POST",
        "login",
        {"username": "ada", "password": PASSWORD},
        Cookie=cookie(cookies),
    )
    assert again.status == 200


async def test_no_ticket_stands_for_another(people: People, login: Any) -> None:
    cookies = await kept(people, login)

    as_bearer = await people.ask(cookies[TICKET], "GET", "me")
    as_cookie = [
        await people.ask(None, "GET", "models", Cookie=f"{TICKET}={login[name]}")
        for name in ("access_token", "refresh_token")
    ]

    assert as_bearer.status == 401
    assert [one.status for one in as_cookie] == [401, 401]


async def test_a_token_is_not_kept_by_a_browser(people: People, root: Person) -> None:
    answer = await people.ask(root, "PUT", "session-cookie")

    assert (answer.status, answer.code) == (403, "no_session")
    assert (await people.ask(None, "PUT", "session-cookie")).status == 401


async def test_what_authorization_says_comes_before_the_cookie(
    people: People, login: Any, root: Person
) -> None:
    cookies = await kept(people, login)

    answer = await people.ask(root, "POST", "models", {"name": "b/one"}, Cookie=cookie(cookies))

    assert (answer.status, answer.json["created_by"]) == (201, root.id)


async def test_cookies_are_forgotten_on_demand(people: People) -> None:
    async with people.session.request("DELETE", f"{people.url}/api/v1/session-cookie") as response:
        assert response.status == 204
        assert {one["max-age"] for one in response.cookies.values()} == {"0"}
