"""Members of teams through HTTP: taken in and out by admins of the team."""

from __future__ import annotations

import pytest

from tests.registry.accounts.conftest import People
from tests.support.people import Person

MEMBERS = "teams/vision/members"


@pytest.fixture
async def lead(people: People, root: Person) -> Person:
    """The admin of a team."""
    lead = await people.make("lead")
    assert (await people.ask(root, "POST", "teams", {"name": "vision"})).status == 201
    put = await people.ask(root, "PUT", f"{MEMBERS}/lead", {"role": "admin"})
    assert (put.status, put.json["role"]) == (201, "admin")
    return lead


async def test_admins_of_a_team_decide_who_is_in_it(people: People, lead: Person) -> None:
    ada = await people.make("ada")
    assert (await people.ask(ada, "GET", MEMBERS)).status == 403

    put = await people.ask(lead, "PUT", f"{MEMBERS}/ADA", {"role": "writer"})

    assert (put.status, put.json["username"], put.json["role"]) == (201, "ada", "writer")
    same = await people.ask(lead, "PUT", f"{MEMBERS}/ada", {"role": "writer"})
    assert (same.status, same.json) == (200, put.json)
    changed = await people.ask(lead, "PUT", f"{MEMBERS}/{ada.id}", {"role": "maintainer"})
    assert (changed.status, changed.json["role"]) == (200, "maintainer")
    listed = (await people.ask(ada, "GET", MEMBERS)).json["items"]
    assert {one["username"] for one in listed} == {"ada", "lead"}
    assert (await people.ask(lead, "DELETE", f"{MEMBERS}/ada")).status == 204
    assert (await people.ask(lead, "DELETE", f"{MEMBERS}/ada")).code == "member_not_found"
    actions = [action for kind, action in await people.entries() if kind == "member"]
    assert actions == ["create", "create", "update", "delete"]


async def test_members_decide_nothing_but_may_leave(people: People, lead: Person) -> None:
    ada, eve = await people.make("ada"), await people.make("eve")
    await people.ask(lead, "PUT", f"{MEMBERS}/ada", {"role": "maintainer"})

    for person in (ada, eve):
        for method, name in (("PUT", "eve"), ("PUT", "ada"), ("DELETE", "lead")):
            body = {"role": "admin"} if method == "PUT" else None
            answer = await people.ask(person, method, f"{MEMBERS}/{name}", body)
            assert answer.status == 403, (person.name, method, name)
    assert (await people.ask(ada, "DELETE", f"{MEMBERS}/ada")).status == 204


async def test_a_token_with_scopes_gives_no_role_beyond_them(people: People, lead: Person) -> None:
    await people.make("ada")
    wish = {"name": "x", "scopes": ["namespace.admin", "model.read", "content.read"]}
    secret = (await people.ask(lead, "POST", "tokens", wish)).json["secret"]

    refused = await people.ask(secret, "PUT", f"{MEMBERS}/ada", {"role": "writer"})

    assert (refused.status, refused.code) == (403, "more_than_held")
    assert (await people.ask(secret, "PUT", f"{MEMBERS}/ada", {"role": "reader"})).status == 201
    weaker = await people.ask(secret, "PUT", f"{MEMBERS}/lead", {"role": "reader"})
    assert (weaker.status, weaker.code) == (403, "more_than_held")


async def test_teams_and_users_that_are_not_there(people: People, lead: Person) -> None:
    put = {"role": "reader"}
    assert (await people.ask(lead, "PUT", f"{MEMBERS}/no", put)).code == "user_not_found"
    answer = await people.ask(lead, "PUT", "teams/none/members/lead", put)
    assert answer.code == "team_not_found"
    assert (await people.ask(None, "GET", MEMBERS)).status == 401
    listed = await people.ask(lead, "GET", f"{MEMBERS}?limit=1")
    assert listed.json["next"] is None


async def test_a_deleted_team_gives_nothing(people: People, root: Person, lead: Person) -> None:
    ada = await people.make("ada")
    await people.ask(root, "POST", "models", {"name": "nlp/one"})
    given = {
        "subject": {"kind": "team", "name": "vision"},
        "resource": {"kind": "namespace", "name": "nlp"},
        "role": "reader",
    }
    await people.ask(root, "POST", "grants", given)
    await people.ask(lead, "PUT", f"{MEMBERS}/ada", {"role": "reader"})
    assert (await people.ask(ada, "GET", "models/nlp~one")).status == 200

    assert (await people.ask(root, "DELETE", "teams/vision")).status == 204

    assert (await people.ask(ada, "GET", "models/nlp~one")).status == 404
