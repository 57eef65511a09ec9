"""Grants through HTTP: who gives which role to whom, on what, and never more than they hold."""

from __future__ import annotations

from typing import Any

import pytest

from tests.registry.accounts.conftest import People
from tests.support.builders import Answer
from tests.support.people import Person, own

EVERYONE = {"kind": "everyone"}
REGISTRY = {"kind": "registry"}


def user(name: str) -> dict[str, str]:
    return {"kind": "user", "name": name}


def team(name: str) -> dict[str, str]:
    return {"kind": "team", "name": name}


def space(pattern: str) -> dict[str, str]:
    return {"kind": "namespace", "name": pattern}


def model(name: str) -> dict[str, str]:
    return {"kind": "model", "name": name}


async def give(people: People, giver: Person, subject: Any, resource: Any, role: str) -> Answer:
    wish = {"subject": subject, "resource": resource, "role": role}
    return await people.ask(giver, "POST", "grants", wish)


@pytest.fixture
async def ada(people: People) -> Person:
    """Somebody with a model in a namespace of her own."""
    ada = await people.make("ada")
    assert (await people.ask(ada, "POST", "models", {"name": "ada/one"})).status == 201
    return ada


@pytest.fixture
async def bob(people: People) -> Person:
    return await people.make("bob")


async def test_a_grant_works_until_it_is_taken_back(
    people: People, ada: Person, bob: Person
) -> None:
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 404

    given = await give(people, ada, user("bob"), space("ada"), "reader")

    assert given.status == 201, given.body
    grant = given.json
    assert given.headers["Location"] == f"/api/v1/grants/{grant['id']}"
    assert grant["subject"] == {"kind": "user", "id": bob.id, "name": "bob"}
    assert grant["resource"] == {"kind": "namespace", "id": "", "name": "ada"}
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 200
    patch = {"description": "x"}
    assert (await people.ask(bob, "PATCH", "models/ada~one", patch)).status == 403
    changed = await give(people, ada, user("bob"), space("ADA"), "writer")
    assert (changed.status, changed.json["id"]) == (200, grant["id"])
    assert (await people.ask(bob, "PATCH", "models/ada~one", patch)).status == 200
    assert (await people.ask(ada, "DELETE", f"grants/{grant['id']}")).status == 204
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 404
    assert (await people.ask(ada, "GET", f"grants/{grant['id']}")).code == "grant_not_found"
    actions = [action for kind, action in await people.entries() if kind == "grant"]
    assert actions == ["create", "update", "delete"]


async def test_a_model_alone_can_be_given(people: People, ada: Person, bob: Person) -> None:
    await people.ask(ada, "POST", "models", {"name": "ada/two"})

    given = await give(people, ada, user(bob.id), model("ada/one"), "admin")

    assert given.json["resource"]["name"] == "ada/one"
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 200
    assert (await people.ask(bob, "GET", "models/ada~two")).status == 404
    eve = await people.make("eve")
    assert (await give(people, bob, user("eve"), model("ada/one"), "admin")).status == 201
    assert (await people.ask(eve, "GET", "models/ada~one")).status == 200
    assert (await give(people, bob, user("eve"), model("ada/two"), "reader")).status == 404
    assert (await give(people, bob, user("eve"), space("ada"), "reader")).status == 403


async def test_teams_and_everyone_can_be_given_something(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    await people.ask(root, "POST", "teams", {"name": "vision"})
    assert (await give(people, ada, team("vision"), space("ada"), "reader")).status == 201
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 404

    await people.ask(root, "PUT", "teams/vision/members/bob", {"role": "reader"})

    assert (await people.ask(bob, "GET", "models/ada~one")).status == 200
    eve = await people.make("eve")
    assert (await people.ask(eve, "GET", "models/ada~one")).status == 404
    assert (await give(people, ada, EVERYONE, model("ada/one"), "reader")).status == 201
    assert (await people.ask(eve, "GET", "models/ada~one")).status == 200


async def test_nobody_gives_more_than_they_hold(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    await people.ask(root, "POST", "models", {"name": "nlp/one"})
    for resource in (space("nlp"), model("nlp/one"), REGISTRY, space("*"), space("a*")):
        answer = await give(people, ada, user("bob"), resource, "reader")
        assert answer.status in (403, 404), resource
    scoped = {"name": "x", "scopes": ["namespace.admin", "model.read"]}
    secret = (await people.ask(ada, "POST", "tokens", scoped)).json["secret"]
    wish = {"subject": user("bob"), "resource": space("ada"), "role": "reader"}
    limited = await people.ask(secret, "POST", "grants", wish)
    assert (limited.status, limited.code) == (403, "more_than_held")
    await give(people, root, user("bob"), space("ada"), "maintainer")
    assert (await give(people, bob, user("bob"), space("ada"), "admin")).status == 403


async def test_an_admin_of_a_namespace_cannot_grow_from_it(people: People, ada: Person) -> None:
    """Not over names that are not there yet, but their own."""
    for pattern in ("nobodys", "default", "ada2"):
        assert (await give(people, ada, user("ada"), space(pattern), "reader")).status == 403


async def test_patterns_reach_what_is_made_later(people: People, root: Person, bob: Person) -> None:
    assert (await give(people, root, user("bob"), space("nlp-*"), "writer")).status == 201

    assert (await people.ask(root, "POST", "models", {"name": "nlp-de/one"})).status == 201

    assert (await people.ask(bob, "GET", "models/nlp-de~one")).status == 200
    assert (await people.ask(bob, "POST", "models", {"name": "nlp-fr/one"})).status == 201
    assert (await people.ask(bob, "POST", "models", {"name": "nlpx/one"})).status in (403, 404)


async def test_what_a_grant_must_say(people: People, root: Person, bob: Person) -> None:
    for subject, resource, role in (
        (user(""), REGISTRY, "reader"),
        ({"kind": "user"}, REGISTRY, "reader"),
        ({"kind": "everyone", "name": "all"}, REGISTRY, "reader"),
        (user("bob"), {"kind": "registry", "name": "x"}, "reader"),
        (user("bob"), {"kind": "model"}, "reader"),
        (user("bob"), REGISTRY, "king"),
        (user("bob"), space("a/b"), "reader"),
        (user("bob"), space("models"), "reader"),
        (EVERYONE, REGISTRY, "admin"),
    ):
        assert (await give(people, root, subject, resource, role)).status == 400, subject
    assert (await give(people, root, user("nobody"), REGISTRY, "reader")).code == "user_not_found"
    assert (await give(people, root, team("none"), REGISTRY, "reader")).code == "team_not_found"
    missing = await give(people, root, user("bob"), model("none"), "reader")
    assert missing.code == "model_not_found"


async def test_administrators_of_something_see_its_grants_and_no_others(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    mine = (await give(people, ada, user("bob"), space("ada"), "reader")).json["id"]
    also = (await give(people, ada, user("bob"), model("ada/one"), "reader")).json["id"]
    await people.ask(root, "POST", "models", {"name": "nlp/one"})
    others = (await give(people, root, user("bob"), space("nlp"), "reader")).json["id"]
    every = (await give(people, root, user("bob"), REGISTRY, "reader")).json["id"]

    async def listed(person: Person, question: str = "") -> list[str]:
        page = (await people.ask(person, "GET", f"grants{question}")).json
        return [one["id"] for one in page["items"]]

    assert set(await listed(root)) == {mine, also, others, every}
    assert set(await listed(ada)) == {mine, also}
    assert await listed(bob) == []
    assert await listed(ada, "?namespace=ada") == [mine]
    assert await listed(ada, "?model=ada/one") == [also]
    assert set(await listed(root, "?user=bob")) == {mine, also, others, every}
    assert await listed(root, "?user=ada") == []
    for id in (others, every):
        assert (await people.ask(ada, "GET", f"grants/{id}")).status == 404
        assert (await people.ask(ada, "DELETE", f"grants/{id}")).status == 404
    assert (await people.ask(ada, "GET", "grants?namespace=nlp")).status == 403
    found, after = list[str](), ""
    while True:
        page = (await people.ask(root, "GET", f"grants?limit=3{after}")).json
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert len(found) == len(set(found)) == 4


async def test_a_grant_of_the_whole_registry_is_an_administrators(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    assert (await give(people, root, user("bob"), REGISTRY, "admin")).status == 201

    assert (await people.ask(bob, "GET", "users")).status == 200
    assert (await give(people, bob, user("ada"), REGISTRY, "writer")).status == 201


async def test_who_owns_a_namespace_by_a_team_grants_on_it(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    made = await people.ask(root, "POST", "teams", {"name": "vision"})
    await people.ask(root, "POST", "models", {"name": "cv/one"})
    await own(people.store, "cv", "team", made.json["id"])
    await people.ask(root, "PUT", "teams/vision/members/bob", {"role": "admin"})

    assert (await give(people, bob, user("ada"), space("cv"), "admin")).status == 201
    assert (await people.ask(ada, "GET", "models/cv~one")).status == 200


async def test_a_namespace_changes_hands(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    eve = await people.make("eve")
    patch = {"owner": {"kind": "user", "name": "bob"}}
    assert (await people.ask(eve, "PATCH", "namespaces/ada", patch)).status == 404

    changed = await people.ask(ada, "PATCH", "namespaces/ada", patch)

    assert changed.json["owner"] == {"kind": "user", "id": bob.id}
    assert (await people.ask(bob, "GET", "models/ada~one")).status == 200
    assert (await people.ask(ada, "GET", "models/ada~one")).status == 404
    made = await people.ask(root, "POST", "teams", {"name": "vision"})
    await people.ask(root, "PUT", "teams/vision/members/eve", {"role": "reader"})
    patch = {"owner": {"kind": "team", "name": "vision"}}
    changed = await people.ask(bob, "PATCH", "namespaces/ada", patch)
    assert changed.json["owner"] == {"kind": "team", "id": made.json["id"]}
    assert (await people.ask(eve, "GET", "models/ada~one")).status == 200
    missing = {"owner": {"kind": "team", "name": "none"}}
    assert (await people.ask(root, "PATCH", "namespaces/ada", missing)).code == "team_not_found"


async def test_administrators_make_namespaces_for_others(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    wish = {"slug": "nlp", "owner": {"kind": "user", "name": "bob"}}
    assert (await people.ask(ada, "POST", "namespaces", wish)).status == 403

    made = await people.ask(root, "POST", "namespaces", wish)

    assert made.json["owner"] == {"kind": "user", "id": bob.id}
    assert (await people.ask(bob, "POST", "models", {"name": "nlp/one"})).status == 201


async def test_grants_on_a_namespace_end_with_it(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    await people.ask(root, "POST", "namespaces", {"slug": "nlp"})
    await give(people, root, user("bob"), space("nlp"), "admin")
    kept = (await give(people, root, user("bob"), space("cv-*"), "reader")).json["id"]

    assert (await people.ask(bob, "DELETE", "namespaces/nlp")).status == 204
    await people.ask(root, "POST", "models", {"name": "nlp/one"})

    assert (await people.ask(bob, "GET", "models/nlp~one")).status == 404
    listed = (await people.ask(root, "GET", "grants")).json["items"]
    assert [one["id"] for one in listed] == [kept]


async def test_grants_on_a_model_go_with_its_purge(
    people: People, ada: Person, bob: Person
) -> None:
    await give(people, ada, user("bob"), model("ada/one"), "reader")
    kept = (await give(people, ada, user("bob"), space("ada"), "reader")).json["id"]
    id = (await people.ask(ada, "GET", "models/ada~one")).json["id"]
    assert (await people.ask(ada, "DELETE", f"models/{id}")).status == 204
    assert await people.count("grants") == 2, "it can be restored"

    assert (await people.ask(ada, "POST", f"models/{id}/purge")).status in (200, 202, 204)

    assert await people.rows("SELECT id FROM grants") == [(kept,)]


async def test_only_administrators_grant_on_everything_or_by_patterns(
    people: People, root: Person, ada: Person, bob: Person
) -> None:
    """However much somebody holds where the pattern reaches, or of what they would give."""
    await give(people, root, user("bob"), space("nlp-*"), "admin")
    await give(people, root, user("bob"), REGISTRY, "maintainer")

    for resource in (space("nlp-*"), space("nlp-x*"), REGISTRY):
        assert (await give(people, bob, user("ada"), resource, "reader")).status == 403, resource
    assert (await give(people, bob, user("ada"), space("nlp-x"), "reader")).status == 201


async def test_a_token_with_scopes_takes_no_more_than_it_could_give(
    people: People, ada: Person, bob: Person
) -> None:
    given = (await give(people, ada, user("bob"), space("ada"), "writer")).json["id"]
    scopes = ["namespace.admin", "model.read", "content.read"]
    wish = {"name": "x", "scopes": scopes}
    secret = (await people.ask(ada, "POST", "tokens", wish)).json["secret"]

    wish = {"subject": user("bob"), "resource": space("ada"), "role": "reader"}
    answer = await people.ask(secret, "POST", "grants", wish)

    assert (answer.status, answer.code) == (403, "more_than_held")
    answer = await people.ask(secret, "DELETE", f"grants/{given}")
    assert (answer.status, answer.code) == (403, "more_than_held")
    await give(people, ada, user("bob"), space("ada"), "reader")
    assert (await people.ask(secret, "DELETE", f"grants/{given}")).status == 204
