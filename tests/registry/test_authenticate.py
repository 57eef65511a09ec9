"""Who a request is taken for, and what becomes of it when what it shows does not hold."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.auth.tokens import new_token
from registry.catalog.migrations import CHAINS
from registry.config import Config
from store.clock import SECOND
from store.opening import Store, StoreSettings, open_store
from tests.support.clock import ManualClock
from tests.support.people import (
    ANONYMOUS_READ,
    AUTHENTICATED,
    Person,
    grant,
    join,
    make_person,
    own,
    revoke_tokens,
)
from tests.support.serving import Site, opened, serving

MODELS = "/api/v1/models"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened(None) as store, serving(store, AUTHENTICATED) as served:
        yield served


@asynccontextmanager
async def another_worker(root: Path) -> AsyncIterator[Store]:
    """The store of a second process that serves the same directory."""
    store = await open_store(
        StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    )
    try:
        yield store
    finally:
        await store.close()


async def make_model(site: Site, who: Person, name: str, visibility: str = "private") -> str:
    made = await site.ask(
        "POST", MODELS, json={"name": name, "visibility": visibility}, headers=who.headers
    )
    assert made.status == 201, made.body
    return str(made.json["id"])


async def status(site: Site, who: Person | None, method: str, path: str, **options: object) -> int:
    headers = {} if who is None else who.headers
    return (await site.ask(method, path, headers=headers, **options)).status


async def test_nobody_is_told_to_sign_in(site: Site) -> None:
    answer = await site.ask("GET", MODELS)

    assert answer.status == 401
    assert answer.code == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_what_is_public_needs_nobody(site: Site) -> None:
    assert await status(site, None, "GET", "/healthz") == 200


async def test_a_token_is_shown_as_bearer_or_as_the_password_of_anybody(site: Site) -> None:
    anna = await make_person(site.store, "anna")
    basic = base64.b64encode(f"whoever:{anna.token}".encode()).decode()

    bearer = await site.ask("GET", MODELS, headers=anna.headers)
    as_password = await site.ask("GET", MODELS, headers={"Authorization": f"Basic {basic}"})

    assert (bearer.status, as_password.status) == (200, 200)


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer dgt_nothing",
        "Bearer ",
        "Basic bm90aGluZw==",
        "Basic %%%",
        "Basic /////w==",
        "Digest whatever",
        "nothing",
    ],
)
async def test_what_does_not_hold_is_never_taken_for_nobody(site: Site, shown: str) -> None:
    answer = await site.ask("GET", "/healthz", headers={"Authorization": shown})

    assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_the_index_is_not_asked_for_what_cannot_be_a_token(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await make_person(site.store, "anna")
    asked: list[object] = []
    read = site.store.index.read

    async def counted(unit: Any) -> Any:
        asked.append(unit)
        return await read(unit)

    monkeypatch.setattr(site.store.index, "read", counted)
    wrong = msgspec.structs.replace(anna, token=anna.token[:-1])
    unknown = msgspec.structs.replace(anna, token=new_token())

    assert await status(site, wrong, "GET", "/healthz") == 401
    assert asked == []
    assert await status(site, unknown, "GET", "/healthz") == 401
    assert asked != []


async def test_the_open_mode_does_not_look_at_tokens() -> None:
    async with opened(None) as store, serving(store, Config()) as site:
        answer = await site.ask("GET", MODELS, headers={"Authorization": "Bearer hf_elsewhere"})

    assert answer.status == 200


async def test_a_revoked_token_is_refused_at_once_in_every_worker(tmp_path: Path) -> None:
    root = tmp_path / "data"
    async with (
        opened(root) as store,
        another_worker(root) as other,
        serving(store, AUTHENTICATED) as here,
        serving(other, AUTHENTICATED) as there,
    ):
        anna = await make_person(store, "anna")
        before = [await status(site, anna, "GET", MODELS) for site in (here, there)]
        await revoke_tokens(store, anna)
        after = [await status(site, anna, "GET", MODELS) for site in (here, there)]

    assert (before, after) == ([200, 200], [401, 401])


async def test_a_token_ends_when_its_time_has_come() -> None:
    clock = ManualClock()
    async with opened(None, clock=clock) as store, serving(store, AUTHENTICATED) as site:
        anna = await make_person(store, "anna", expires_at=clock() + 10 * SECOND)
        before = await status(site, anna, "GET", MODELS)
        clock.advance(10)
        after = await status(site, anna, "GET", MODELS)

    assert (before, after) == (200, 401)


async def test_scopes_leave_nothing_but_what_they_name(site: Site) -> None:
    whole = await make_person(site.store, "anna", is_admin=True)
    reader = await make_person(
        site.store, "carl", is_admin=True, scopes=["model.read", "content.read"]
    )
    await make_model(site, whole, "nlp/bert")

    assert await status(site, reader, "GET", f"{MODELS}/nlp~bert") == 200
    assert await status(site, reader, "DELETE", f"{MODELS}/nlp~bert") == 403


async def test_a_hidden_model_and_a_missing_one_are_404_for_those_who_signed_in(site: Site) -> None:
    anna = await make_person(site.store, "anna", is_admin=True)
    outsider = await make_person(site.store, "otto")
    await make_model(site, anna, "nlp/bert")

    assert await status(site, outsider, "GET", f"{MODELS}/nlp~bert") == 404
    assert await status(site, outsider, "GET", f"{MODELS}/nlp~none") == 404


async def test_both_are_401_for_nobody_even_where_nobody_may_read() -> None:
    async with opened(None) as store, serving(store, ANONYMOUS_READ) as site:
        anna = await make_person(store, "anna", is_admin=True)
        await make_model(site, anna, "nlp/secret")
        await make_model(site, anna, "nlp/shown", "public")
        await make_model(site, anna, "nlp/inside", "internal")
        found = {
            name: await status(site, None, "GET", f"{MODELS}/nlp~{name}")
            for name in ("secret", "none", "shown", "inside")
        }
        change = await status(site, None, "DELETE", f"{MODELS}/nlp~shown")

    assert found == {"secret": 401, "none": 401, "shown": 200, "inside": 401}
    assert change == 401


@pytest.mark.parametrize(
    ("role", "kind", "on"),
    [
        ("reader", "registry", ""),
        ("reader", "namespace", "nlp"),
        ("reader", "namespace", "n*"),
        ("reader", "model", "THE MODEL"),
        ("writer", "namespace", "nlp"),
    ],
)
async def test_a_grant_reaches_what_it_names(site: Site, role: str, kind: str, on: str) -> None:
    anna = await make_person(site.store, "anna", is_admin=True)
    otto = await make_person(site.store, "otto")
    id = await make_model(site, anna, "nlp/bert")
    await make_model(site, anna, "vision/vit")
    before = await status(site, otto, "GET", f"{MODELS}/nlp~bert")

    await grant(site.store, otto, role, kind=kind, on=id if on == "THE MODEL" else on)
    after = await status(site, otto, "GET", f"{MODELS}/nlp~bert")
    change = await status(
        site, otto, "PATCH", f"{MODELS}/nlp~bert", json={"description": "a change"}
    )
    elsewhere = await status(site, otto, "GET", f"{MODELS}/vision~vit")

    assert (before, after) == (404, 200)
    assert change == (200 if role == "writer" else 403)
    assert elsewhere == (200 if kind == "registry" else 404)


async def test_everyone_is_everyone_who_signed_in(site: Site) -> None:
    anna = await make_person(site.store, "anna", is_admin=True)
    otto = await make_person(site.store, "otto")
    await make_model(site, anna, "nlp/bert")
    await grant(site.store, "everyone", "reader", kind="namespace", on="nlp")

    assert await status(site, otto, "GET", f"{MODELS}/nlp~bert") == 200
    assert await status(site, None, "GET", f"{MODELS}/nlp~bert") == 401


async def test_members_of_a_team_hold_what_it_was_given_and_what_it_owns(site: Site) -> None:
    anna = await make_person(site.store, "anna", is_admin=True)
    otto = await make_person(site.store, "otto")
    for name in ("nlp/bert", "vision/vit"):
        await make_model(site, anna, name)
    team = await site.ask("POST", "/api/v1/teams", json={"name": "readers"}, headers=anna.headers)
    await join(site.store, otto, team.json["id"], "writer")
    await grant(site.store, team.json["id"], "reader", kind="namespace", on="nlp")
    await own(site.store, "vision", "team", team.json["id"])
    said = {"description": "a change"}

    assert await status(site, otto, "PATCH", f"{MODELS}/nlp~bert", json=said) == 403
    assert await status(site, otto, "PATCH", f"{MODELS}/vision~vit", json=said) == 200

    deleted = await site.ask("DELETE", f"/api/v1/teams/{team.json['id']}", headers=anna.headers)
    assert deleted.status == 204
    assert await status(site, otto, "GET", f"{MODELS}/nlp~bert") == 404


async def test_a_new_namespace_is_known_to_patterns_at_once(site: Site) -> None:
    anna = await make_person(site.store, "anna", is_admin=True)
    otto = await make_person(site.store, "otto")
    await grant(site.store, otto, "reader", kind="namespace", on="nlp*")
    assert await status(site, otto, "GET", MODELS) == 200  # remembered from here on

    await make_model(site, anna, "nlp-two/bert")

    assert await status(site, otto, "GET", f"{MODELS}/nlp-two~bert") == 200


async def test_a_deleted_model_is_purged_by_whoever_administers_it_alone(site: Site) -> None:
    root = await make_person(site.store, "root", is_admin=True)
    people = {name: await make_person(site.store, name) for name in ("otto", "mia", "lea")}
    await grant(site.store, people["mia"], "maintainer", kind="namespace", on="nlp")
    await grant(site.store, people["lea"], "admin", kind="namespace", on="nlp")
    id = await make_model(site, root, "nlp/bert")
    await site.ask("DELETE", f"{MODELS}/nlp~bert", headers=root.headers)

    found = {
        name: await status(site, who, "POST", f"{MODELS}/{id}/purge")
        for name, who in people.items()
    }

    assert found == {"otto": 404, "mia": 403, "lea": 204}
