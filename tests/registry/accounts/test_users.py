"""Users through HTTP: made, changed, disabled and deleted by administrators."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from registry.domain.principals import Principal
from registry.domain.roles import Rights
from registry.errors import Denied
from registry.keys import PASSWORDS
from registry.services import users
from registry.services.users import UserPatch, UserWish
from tests.registry.accounts.conftest import People
from tests.support.people import Person

PASSWORD = "correct horse battery staple"


async def test_a_user_is_made_found_changed_and_deleted(people: People, root: Person) -> None:
    wish = {"username": "Ada", "email": "ada@example.org", "password": PASSWORD}
    made = await people.ask(root, "POST", "users", wish)

    assert made.status == 201, made.body
    assert made.headers["Location"].endswith("/api/v1/users/Ada")
    assert made.json["has_password"]
    assert (made.json["kind"], made.json["is_admin"], made.json["active"]) == ("user", False, True)
    for reference in ("ada", made.json["id"]):
        got = await people.ask(root, "GET", f"users/{reference}")
        assert (got.status, got.json) == (200, made.json)
    etag = got.headers["ETag"]
    assert (await people.ask(root, "GET", "users/ada", If_None_Match=etag)).status == 304
    changed = await people.ask(root, "PATCH", "users/ada", {"username": "lovelace"}, If_Match=etag)
    assert (changed.status, changed.json["username"]) == (200, "lovelace")
    stale = await people.ask(root, "DELETE", "users/lovelace", If_Match=etag)
    assert stale.status == 412
    assert (await people.ask(root, "DELETE", "users/lovelace")).status == 204
    assert (await people.ask(root, "GET", "users/lovelace")).code == "user_not_found"
    gone = (await people.ask(root, "GET", f"users/{made.json['id']}")).json
    assert (gone["deleted_by"], gone["email"], gone["has_password"]) == (root.id, None, False)
    listed = (await people.ask(root, "GET", "users?deleted=true")).json["items"]
    assert [one["id"] for one in listed] == [made.json["id"]]
    actions = [action for kind, action in await people.entries() if kind == "user"]
    assert actions == ["create", "update", "delete"]


async def test_names_of_users_are_names_of_namespaces(people: People, root: Person) -> None:
    await people.ask(root, "POST", "users", {"username": "ada"})
    for name in ("", "a b", "a/b", "a:b", "models", "usr_x", "local", "EVERYONE", "x" * 97):
        answer = await people.ask(root, "POST", "users", {"username": name})
        assert answer.status == 400, name
    taken = await people.ask(root, "POST", "users", {"username": "ADA"})
    assert (taken.status, taken.code, taken.json["existing"]) == (409, "user_exists", "ada")


async def test_lists_go_on_page_by_page(people: People, root: Person) -> None:
    for name in ("ada", "bob", "eve"):
        await people.ask(root, "POST", "users", {"username": name})
    await people.ask(root, "POST", "users", {"username": "bot", "kind": "service"})

    names, after = list[str](), ""
    while True:
        page = (await people.ask(root, "GET", f"users?limit=2{after}")).json
        names += [one["username"] for one in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert names == ["ada", "bob", "bot", "eve", "root"]
    services = (await people.ask(root, "GET", "users?kind=service")).json["items"]
    assert [one["username"] for one in services] == ["bot"]


async def test_only_administrators_see_and_make_users(people: People, root: Person) -> None:
    ada = await people.make("ada")
    for method, path, body in (
        ("GET", "users", None),
        ("POST", "users", {"username": "eve"}),
        ("GET", "users/ada", None),
        ("PATCH", "users/ada", {"is_admin": True}),
        ("DELETE", "users/root", None),
        ("POST", "users/root/password", {"password": PASSWORD}),
        ("POST", "users/root/revoke", None),
    ):
        assert (await people.ask(ada, method, path, body)).status == 403, path
        assert (await people.ask(None, method, path, body)).status == 401, path


async def test_service_accounts_have_no_password_and_may_have_an_owner(
    people: People, root: Person
) -> None:
    made = await people.ask(
        root, "POST", "users", {"username": "robot", "kind": "service", "owner": "root"}
    )

    assert (made.status, made.json["owner"]) == (201, root.id)
    refused = await people.ask(root, "POST", "users/robot/password", {"password": PASSWORD})
    assert (refused.status, refused.code) == (409, "user_is_service")
    for wish in (
        {"username": "r2", "kind": "service", "password": PASSWORD},
        {"username": "r2", "owner": "root"},
        {"username": "r2", "issuer": "https://id.example.org"},
    ):
        assert (await people.ask(root, "POST", "users", wish)).status == 400, wish
    assert (await people.ask(root, "PATCH", "users/root", {"owner": "robot"})).status == 400


async def test_weak_passwords_are_refused_without_being_repeated(
    people: People, root: Person
) -> None:
    for password in ("qwe", "aaaaaaaaaaaa", "grace-hopper"):
        wish = {"username": "grace-hopper", "password": password}
        answer = await people.ask(root, "POST", "users", wish)
        assert (answer.status, answer.code) == (400, "password_weak")
        assert password == "grace-hopper" or password.encode() not in answer.body


async def test_the_last_administrator_stays_one(people: People, root: Person) -> None:
    second = await people.make("second", is_admin=True)
    assert (await people.ask(root, "PATCH", "users/second", {"active": False})).status == 200
    assert (await people.ask(second, "GET", "me")).status in (401, 404)

    for method, body in (
        ("DELETE", None),
        ("PATCH", {"active": False}),
        ("PATCH", {"is_admin": False}),
    ):
        answer = await people.ask(root, method, "users/root", body)
        assert (answer.status, answer.code) == (409, "last_administrator"), method
    await people.ask(root, "PATCH", "users/second", {"active": True})
    assert (await people.ask(root, "PATCH", "users/root", {"is_admin": False})).status == 200
    assert (await people.ask(root, "GET", "users")).status == 403


async def test_who_takes_the_name_of_a_deleted_user_gets_nothing_of_theirs(
    people: People, root: Person
) -> None:
    former = await people.make("ada")
    assert (await people.ask(former, "POST", "models", {"name": "ada/one"})).status == 201
    assert (await people.ask(root, "DELETE", "users/ada")).status == 204
    ada = await people.make("ada")

    seen = await people.ask(ada, "GET", "models/ada~one")
    made = await people.ask(ada, "POST", "models", {"name": "ada/two"})
    handed = {"owner": {"kind": "user", "name": "ada"}}
    given = await people.ask(root, "PATCH", "namespaces/ada", handed)

    assert (seen.status, made.status, given.status) == (404, 404, 200)
    assert (await people.ask(ada, "GET", "models/ada~one")).status == 200


async def test_deleting_a_user_ends_all_of_theirs_and_keeps_authorship(
    people: People, root: Person
) -> None:
    ada = await people.make("ada")
    assert (await people.ask(ada, "POST", "models", {"name": "ada/one"})).status == 201
    await people.ask(root, "POST", "teams", {"name": "vision"})
    await people.ask(root, "PUT", "teams/vision/members/ada", {"role": "admin"})
    given = {
        "subject": {"kind": "user", "name": "ada"},
        "resource": {"kind": "registry"},
        "role": "writer",
    }
    assert (await people.ask(root, "POST", "grants", given)).status == 201

    assert (await people.ask(root, "DELETE", "users/ada")).status == 204

    assert (await people.ask(ada, "GET", "models")).status == 401
    assert (await people.ask(root, "GET", "grants")).json["items"] == []
    assert (await people.ask(root, "GET", "teams/vision/members")).json["items"] == []
    left = f"FROM tokens WHERE user = '{ada.id}' AND revoked_by IS NOT '{root.id}'"
    assert await people.rows(f"SELECT id {left}") == [], "even if somebody undeletes the row"
    model = (await people.ask(root, "GET", "models/ada~one")).json
    assert model["created_by"] == ada.id
    assert (await people.ask(root, "POST", "users", {"username": "ada"})).status == 201


async def test_disabling_works_at_once_and_can_be_undone(people: People, root: Person) -> None:
    ada = await people.make("ada")
    assert (await people.ask(ada, "GET", "models")).status == 200

    await people.ask(root, "PATCH", "users/ada", {"active": False})

    assert (await people.ask(ada, "GET", "models")).status == 401
    await people.ask(root, "PATCH", "users/ada", {"active": True})
    assert (await people.ask(ada, "GET", "models")).status == 200


async def test_revoking_ends_every_token(people: People, root: Person) -> None:
    ada = await people.make("ada")
    assert (await people.ask(ada, "GET", "models")).status == 200

    answer = await people.ask(root, "POST", "users/ada/revoke")

    assert answer.json == {"tokens": 1, "sessions": 0}
    assert (await people.ask(ada, "GET", "models")).status == 401


async def test_who_lacks_a_right_makes_no_administrators_and_sets_no_passwords(
    people: People, root: Person
) -> None:
    """Or a token with scopes would be as good as one without."""
    wish = {"name": "limited", "scopes": ["admin"]}
    secret = (await people.ask(root, "POST", "tokens", wish)).json["secret"]
    for method, path, body in (
        ("POST", "users", {"username": "eve", "is_admin": True}),
        ("POST", "users", {"username": "eve", "password": PASSWORD}),
        ("POST", "users/root/password", {"password": PASSWORD}),
    ):
        answer = await people.ask(secret, method, path, body)
        assert (answer.status, answer.code) == (403, "more_than_held"), path
    assert (await people.ask(secret, "POST", "users", {"username": "eve"})).status == 201
    for patch in ({"is_admin": True}, {"issuer": "https://x", "subject": "y"}):
        answer = await people.ask(secret, "PATCH", "users/eve", patch)
        assert (answer.status, answer.code) == (403, "more_than_held"), patch


async def test_a_subject_is_one_users(people: People, root: Person) -> None:
    linked = {"issuer": "https://id.example.org", "subject": "4711"}
    made = await people.ask(root, "POST", "users", {"username": "ada", **linked})
    assert made.status == 201

    again = await people.ask(root, "POST", "users", {"username": "eve", **linked})

    assert (again.status, again.code, again.json["existing"]) == (409, "subject_taken", "ada")


async def test_a_repeated_request_makes_one_user_and_keeps_no_password(
    people: People, root: Person
) -> None:
    wish = {"username": "ada", "password": PASSWORD}
    first = await people.ask(root, "POST", "users", wish, Idempotency_Key="one")
    other = {**wish, "password": "quite another password"}
    second = await people.ask(root, "POST", "users", other, Idempotency_Key="one")

    assert (second.status, second.json) == (201, first.json)
    different = {**wish, "username": "bob"}
    third = await people.ask(root, "POST", "users", different, Idempotency_Key="one")
    assert third.code == "idempotency_key_reused"


async def test_services_ask_themselves_who_may(people: People, root: Person) -> None:
    """Not the routes alone: other doors will call them too."""
    store = people.store
    eve = Principal("usr_eve", "eve", rights=Rights(registry=frozenset(("model.read",))))
    calls: list[Awaitable[object]] = [
        users.create_user(store, eve, people.site.app[PASSWORDS], UserWish(username="x")),
        users.get_user(store, eve, "root"),
        users.list_users(store, eve),
        users.list_deleted_users(store, eve),
        users.change_user(store, eve, "root", UserPatch(description="x")),
        users.delete_user(store, eve, "root"),
        users.set_password(store, eve, people.site.app[PASSWORDS], "root", PASSWORD),
        users.revoke_everything(store, eve, "root"),
    ]
    for call in calls:
        with pytest.raises(Denied):
            await call
