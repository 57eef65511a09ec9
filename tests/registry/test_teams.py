"""Teams through HTTP: made, renamed, deleted; models outlive them."""

from __future__ import annotations

from typing import Any

from tests.support.builders import Registry

URL = "/api/v1/teams"


async def make(registry: Registry, name: str, **said: Any) -> Any:
    answer = await registry.send("POST", URL, json={"name": name, **said})
    assert answer.status == 201, answer.body
    return answer.json


async def names(registry: Registry, question: str = "") -> list[str]:
    return [item["name"] for item in (await registry.get(URL + question)).json["items"]]


async def test_a_team_is_found_by_name_and_id(registry: Registry) -> None:
    made = await make(registry, "Computer Vision", department="R&D", cost_center="42")

    for path in ("computer%20vision", made["id"]):
        got = await registry.get(f"{URL}/{path}")
        assert (got.status, got.json) == (200, made)
        assert (
            await registry.get(f"{URL}/{path}", If_None_Match=got.headers["ETag"])
        ).status == 304
    taken = await registry.send("POST", URL, json={"name": "computer vision"})
    assert (taken.status, taken.code, taken.json["id"]) == (409, "team_exists", made["id"])
    for name in ("", "a/b", "tea_x", " a", "x" * 97):
        assert (await registry.send("POST", URL, json={"name": name})).status == 400, name


async def test_a_model_shows_its_team_as_it_is_now(registry: Registry) -> None:
    team = await make(registry, "vision")
    model = await registry.send("POST", "/api/v1/models", json={"name": "vit", "team": team["id"]})
    assert model.json["team"] == {"id": team["id"], "name": "vision", "deleted": False}

    renamed = await registry.send("PATCH", f"{URL}/vision", json={"name": "sight"})

    assert renamed.json["name"] == "sight"
    seen = await registry.get("/api/v1/models/vit", If_None_Match=model.headers["ETag"])
    assert (seen.status, seen.json["team"]["name"]) == (200, "sight")
    assert seen.json["updated_at"] == model.json["updated_at"]
    assert await registry.rows("SELECT changes FROM models") == [(1,)]
    for method in ("PATCH", "DELETE"):
        stale = await registry.send(
            method,
            "/api/v1/models/vit",
            json={"description": "x"} if method == "PATCH" else None,
            headers={"If-Match": model.headers["ETag"]},
        )
        assert stale.status == 412
    fresh = await registry.send(
        "PATCH",
        "/api/v1/models/vit",
        json={"team": None},
        headers={"If-Match": seen.headers["ETag"]},
    )
    assert (fresh.status, fresh.json["team"]) == (200, None)
    alone = {"If-Match": fresh.headers["ETag"]}
    assert (await registry.send("DELETE", "/api/v1/models/vit", headers=alone)).status == 204
    assert (await registry.get(f"{URL}/vision")).code == "team_not_found"


async def test_a_model_outlives_its_team(registry: Registry) -> None:
    team = await make(registry, "vision")
    model = await registry.send("POST", "/api/v1/models", json={"name": "vit", "team": "vision"})

    assert (await registry.send("DELETE", f"{URL}/vision")).status == 204

    seen = await registry.get("/api/v1/models/vit", If_None_Match=model.headers["ETag"])
    assert seen.json["team"] == {"id": team["id"], "name": "vision", "deleted": True}
    assert await names(registry) == []
    assert await names(registry, "?deleted=true") == ["vision"]
    assert (await registry.get(f"{URL}/{team['id']}")).json["deleted_by"] == "usr_local"
    refused = await registry.send("PATCH", "/api/v1/models/vit", json={"team": "vision"})
    assert (refused.status, refused.code) == (404, "team_not_found")
    again = await make(registry, "vision")
    taken = await registry.send("POST", f"{URL}/{team['id']}/restore")
    assert (taken.status, taken.code, taken.json["id"]) == (409, "team_exists", again["id"])
    await registry.send("DELETE", f"{URL}/vision")
    back = await registry.send("POST", f"{URL}/{team['id']}/restore")
    assert (back.status, back.json["deleted_at"]) == (200, None)
    assert (await registry.get("/api/v1/models?team=vision")).json["items"] != []


async def test_changes_of_a_team_are_conditional(registry: Registry) -> None:
    made = await registry.send("POST", URL, json={"name": "vision"})
    other = await make(registry, "nlp")
    tag = {"If-Match": made.headers["ETag"]}

    changed = await registry.send("PATCH", f"{URL}/vision", json={"active": False}, headers=tag)
    assert changed.status == 200
    stale = await registry.send("DELETE", f"{URL}/vision", headers=tag)
    assert (stale.status, stale.code) == (412, "precondition_failed")
    taken = await registry.send("PATCH", f"{URL}/vision", json={"name": "NLP"})
    assert (taken.status, taken.json["id"]) == (409, other["id"])
    assert await names(registry, "?active=false") == ["vision"]
    assert await names(registry, "?active=true") == ["nlp"]


async def test_teams_are_listed_page_by_page(registry: Registry) -> None:
    for name in ("c", "A", "b"):
        await make(registry, name)

    first = await registry.get(f"{URL}?limit=2")

    assert [item["name"] for item in first.json["items"]] == ["A", "b"]
    assert await names(registry, f"?limit=2&after={first.json['next']}") == ["c"]
    refused = await registry.get(f"{URL}?deleted=true&after={first.json['next']}")
    assert (refused.status, refused.code) == (400, "invalid_cursor")
