"""Tags through HTTP: on models and versions, counted, described, found again."""

from __future__ import annotations

from typing import Any

import pytest

from registry.services import tags
from tests.support.builders import Answer, Registry

TAGS = "/api/v1/models/bert/tags"
VERSION = "/api/v1/models/bert/versions/1.0.0"


@pytest.fixture
async def bert(registry: Registry) -> Registry:
    """A registry with one model of one version."""
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    return registry


async def put(registry: Registry, path: str, **said: Any) -> Answer:
    return await registry.send("PUT", path, json=said)


async def known(registry: Registry, question: str = "") -> list[tuple[str, str, int, int]]:
    found = (await registry.get(f"/api/v1/tags?{question}")).json["items"]
    return [(tag["key"], tag["value"], tag["models"], tag["versions"]) for tag in found]


async def test_a_tag_named_like_a_secret_is_masked_in_the_audit_log(bert: Registry) -> None:
    for path in (TAGS, "/api/v1/models/bert/versions/1.0.0/tags"):
        await put(bert, f"{path}/hf_token", value="hf_hunter2")
        await put(bert, f"{path}/hf_token", value="hf_hunter3")
    await bert.send("PATCH", "/api/v1/tags/hf_token=hf_hunter3", json={"description": "x"})
    for path in (TAGS, "/api/v1/models/bert/versions/1.0.0/tags"):
        await bert.send("DELETE", f"{path}/hf_token")
    await bert.send("DELETE", "/api/v1/tags/hf_token=hf_hunter3")
    entries = await bert.rows("SELECT name, before, after FROM audit")

    told = [str(cell) for row in entries for cell in row]
    assert [text for text in told if "hunter" in text] == []
    assert any("hf_token=(masked)" in text for text in told)


async def test_a_tag_is_put_with_who_and_when_and_taken_away(bert: Registry) -> None:
    before = (await bert.get("/api/v1/models/bert")).headers["ETag"]

    made = await put(bert, f"{TAGS}/Lang", value="en", description="of the text")

    assert made.status == 201
    assert (made.json["created_by"], made.json["description"]) == ("usr_local", "of the text")
    assert (await bert.get(TAGS)).json["items"] == [made.json]
    model = await bert.get("/api/v1/models/bert", If_None_Match=before)
    assert model.json["tags"] == [{"key": "Lang", "value": "en"}]
    again = await put(bert, f"{TAGS}/lang", value="EN")
    assert (again.status, again.json) == (200, made.json)
    assert (await bert.get("/api/v1/models/bert")).headers["ETag"] == model.headers["ETag"]
    assert (await bert.send("DELETE", f"{TAGS}/LANG")).status == 204
    gone = await bert.send("DELETE", f"{TAGS}/lang")
    assert (gone.status, gone.code) == (404, "tag_not_found")
    assert (await bert.get("/api/v1/models/bert")).json["tags"] == []


async def test_another_value_of_a_key_replaces_the_first(bert: Registry) -> None:
    await put(bert, f"{TAGS}/lang", value="en")

    other = await put(bert, f"{TAGS}/lang", value="de")

    assert other.status == 200
    assert [tag["value"] for tag in (await bert.get(TAGS)).json["items"]] == ["de"]
    assert await known(bert) == [("lang", "de", 1, 0)]
    [(before, after)] = await bert.rows(
        "SELECT before, after FROM audit WHERE action = 'tag' ORDER BY id DESC LIMIT 1"
    )
    assert (before, after) == ('{"tag":"lang=en"}', '{"tag":"lang=de"}')


async def test_versions_have_tags_of_their_own(bert: Registry) -> None:
    version = (await bert.get(VERSION)).headers.get("ETag")

    made = await bert.send("PUT", f"{VERSION}/tags/gpu")

    assert (made.status, made.json["value"]) == (201, "")
    assert (await bert.get(f"{VERSION}/tags")).json["items"] == [made.json]
    assert (await bert.get(TAGS)).json["items"] == []
    assert await known(bert) == [("gpu", "", 0, 1)]
    if version is not None:
        assert (await bert.get(VERSION)).headers["ETag"] != version
    assert (await bert.send("DELETE", f"{VERSION}/tags/gpu")).status == 204
    missing = await bert.get("/api/v1/models/bert/versions/9/tags")
    assert (missing.status, missing.code) == (404, "version_not_found")


async def test_a_tag_without_use_goes_unless_it_is_described(bert: Registry) -> None:
    await put(bert, f"{TAGS}/plain")
    await put(bert, f"{TAGS}/told", value="1", description="kept")

    for key in ("plain", "told"):
        await bert.send("DELETE", f"{TAGS}/{key}")

    assert await known(bert) == [("told", "1", 0, 0)]
    assert (await bert.get("/api/v1/tags/plain")).code == "tag_not_found"
    assert (await bert.send("DELETE", "/api/v1/tags/told=1")).status == 204
    assert await known(bert) == []


async def test_a_tag_in_use_stays_and_its_description_is_its_own(bert: Registry) -> None:
    await put(bert, f"{TAGS}/lang", value="en")
    await put(bert, f"{VERSION}/tags/lang", value="en")

    used = await bert.send("DELETE", "/api/v1/tags/lang=en")
    assert (used.status, used.code) == (409, "tag_in_use")
    before = await bert.get("/api/v1/tags/LANG=en")
    await bert.send("POST", "/api/v1/models", json={"name": "other", "tags": {"lang": "en"}})
    one = await bert.get("/api/v1/tags/LANG=en")
    assert one.headers["ETag"] != before.headers["ETag"], "it counts more"
    described = await bert.send(
        "PATCH",
        f"/api/v1/tags/{one.json['id']}",
        json={"description": "English"},
        headers={"If-Match": one.headers["ETag"]},
    )
    assert (described.status, described.json["models"], described.json["versions"]) == (200, 2, 1)
    for path in (TAGS, f"{VERSION}/tags"):
        assert (await bert.get(path)).json["items"][0]["description"] == "English"
    stale = await bert.send(
        "PATCH",
        "/api/v1/tags/lang=en",
        json={"description": "x"},
        headers={"If-Match": one.headers["ETag"]},
    )
    assert (stale.status, stale.code) == (412, "precondition_failed")


async def test_tags_are_listed_with_counts_of_what_lives(registry: Registry) -> None:
    for name, key in (("a", "en"), ("b", "en"), ("c", "de")):
        said = {"name": name, "tags": {"lang": key, name: ""}}
        await registry.send("POST", "/api/v1/models", json=said)
    await registry.send("DELETE", "/api/v1/models/b")

    assert await known(registry, "prefix=LANG") == [("lang", "de", 1, 0), ("lang", "en", 1, 0)]
    assert await known(registry, "prefix=lang%3De") == [("lang", "en", 1, 0)]
    first = await registry.get("/api/v1/tags?limit=3")
    assert [tag["key"] for tag in first.json["items"]] == ["a", "b", "c"]
    assert await known(registry, f"limit=3&after={first.json['next']}") == [
        ("lang", "de", 1, 0),
        ("lang", "en", 1, 0),
    ]


async def test_keys_and_values_that_cannot_be_are_refused(bert: Registry) -> None:
    for path in ("a%3Db", "%20a", "a%0Ab", "x" * 97, "%FF"):
        assert (await bert.send("PUT", f"{TAGS}/{path}", json={})).status == 400, path
    for said in ({"value": "x" * 201}, {"value": "a\nb"}, {"value": None}, {"colour": "red"}):
        assert (await bert.send("PUT", f"{TAGS}/a", json=said)).status == 400, said
    slashed = await bert.send("PUT", f"{TAGS}/k8s.io%2Fname", json={"value": "x=y"})
    assert (slashed.status, slashed.json["key"]) == (201, "k8s.io/name")
    assert (await bert.get("/api/v1/models?tag=k8s.io/name=x=y")).json["items"] != []


async def test_one_thing_has_a_bounded_number_of_tags(
    bert: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags, "MOST_TAGS", 1)
    await put(bert, f"{TAGS}/one")

    refused = await put(bert, f"{TAGS}/two")

    assert (refused.status, refused.code) == (429, "limit_reached")
    assert (await put(bert, f"{TAGS}/one", value="other")).status == 200
    assert (await bert.get("/api/v1/tags/two")).status == 404


async def test_a_batch_changes_all_or_nothing(bert: Registry) -> None:
    await put(bert, f"{TAGS}/old", value="1")
    url = "/api/v1/tags/batch"
    entries = await bert.count("audit")
    bad = {
        "assign": [
            {"model": "bert", "key": "fine"},
            {"model": "nobody", "key": "a"},
            {"model": "bert", "version": "9", "key": "a"},
        ],
        "remove": [{"model": "bert", "key": "old"}],
    }

    refused = await bert.send("POST", url, json=bad)

    assert (refused.status, refused.code) == (409, "batch_refused")
    found = [(problem["field"], problem["code"]) for problem in refused.json["problems"]]
    assert found == [("assign[1]", "model_not_found"), ("assign[2]", "version_not_found")]
    assert (await bert.count("audit"), await known(bert)) == (entries, [("old", "1", 1, 0)])

    good = {
        "assign": [
            {"model": "bert", "key": "a", "value": "1"},
            {"model": "bert", "version": "1", "key": "a"},
        ],
        "remove": [{"model": "bert", "key": "old"}, {"model": "bert", "key": "never"}],
    }
    done = await bert.send("POST", url, json=good, headers={"Idempotency-Key": "k"})
    assert (done.status, done.json) == (200, {"assigned": 2, "removed": 1})
    again = await bert.send("POST", url, json=good, headers={"Idempotency-Key": "k"})
    assert again.json == done.json
    assert await known(bert) == [("a", "", 0, 1), ("a", "1", 1, 0)]
    empty = await bert.send("POST", url, json={})
    assert empty.status == 400
    invalid = await bert.send("POST", url, json={"assign": [{"model": "a:b", "key": "=="}]})
    assert invalid.status == 400
