"""Models through HTTP: made, found, changed, renamed, deleted, brought back and purged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from registry.catalog import model_lists
from registry.catalog.purges import mark_purged
from registry.services.purges import finish_purges
from store.index.transactions import Statement
from tests.support.builders import Answer, Registry


async def make(registry: Registry, name: str, **said: Any) -> Any:
    answer = await registry.send("POST", "/api/v1/models", json={"name": name, **said})
    assert answer.status == 201, answer.body
    return answer.json


async def test_a_model_is_made_with_what_is_said_and_defaults(registry: Registry) -> None:
    made = await registry.send(
        "POST",
        "/api/v1/models",
        json={
            "name": "nlp/bert",
            "description": "English",
            "risk_level": "high",
            "tags": {"a": "b"},
        },
    )

    assert made.status == 201
    model = made.json
    assert model["id"].startswith("mdl_")
    assert (model["name"], model["namespace"], model["kind"]) == ("nlp/bert", "nlp", "model")
    assert (model["risk_level"], model["active"], model["visibility"]) == ("high", True, "private")
    assert model["tags"] == [{"key": "a", "value": "b"}]
    assert made.headers["Location"] == f"{registry.url}/api/v1/models/nlp~bert"
    assert made.headers["ETag"] == f'"{model["id"]}.1"'
    for reference in ("nlp~bert", "NLP%2FBert", model["id"]):
        got = await registry.get(f"/api/v1/models/{reference}")
        assert (got.status, got.json) == (200, model)
        assert got.headers["ETag"] == made.headers["ETag"]


async def page(registry: Registry, question: str) -> list[str]:
    answer = await registry.get(f"/api/v1/models?{question}")
    assert answer.status == 200, answer.body
    return [model["name"] for model in answer.json["items"]]


async def patch(registry: Registry, model: str, **said: Any) -> Answer:
    return await registry.send("PATCH", f"/api/v1/models/{model}", json=said)


async def test_every_bad_field_is_named_and_nothing_is_made(registry: Registry) -> None:
    refused = await registry.send(
        "POST",
        "/api/v1/models",
        json={"name": "a", "kind": "car", "risk_level": 3, "descripton": "", "task_type": "x" * 97},
    )

    assert refused.status == 400
    named = {error["field"] for error in refused.json["errors"]}
    assert named == {"kind", "risk_level", "descripton", "task_type"}
    for name in ("", "a//b", "api", "mdl_x", "a:b", "x" * 201):
        answer = await registry.send("POST", "/api/v1/models", json={"name": name})
        assert answer.status == 400, name
    assert await registry.count("models") == 0
    assert await registry.count("audit") == 0


async def test_a_taken_name_says_by_whom_in_any_case(registry: Registry) -> None:
    made = await make(registry, "nlp/Bert")

    refused = await registry.send("POST", "/api/v1/models", json={"name": "NLP/bert"})

    assert (refused.status, refused.code) == (409, "model_name_taken")
    assert (refused.json["existing"], refused.json["id"]) == ("nlp/Bert", made["id"])


async def test_an_identical_repeat_with_a_key_makes_one_model(registry: Registry) -> None:
    wish = {"name": "bert", "tags": {"a": ""}}
    key = {"Idempotency-Key": "one"}
    first = await registry.send("POST", "/api/v1/models", json=wish, headers=key)

    again = await registry.send("POST", "/api/v1/models", json=wish, headers=key)

    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]


async def test_an_unknown_team_is_named_and_nothing_is_made(registry: Registry) -> None:
    refused = await registry.send("POST", "/api/v1/models", json={"name": "x/a", "team": "nobody"})

    assert (refused.status, refused.code) == (404, "team_not_found")
    assert "nobody" in refused.json["detail"]
    assert (await registry.count("models"), await registry.count("namespaces")) == (0, 1)


async def test_a_patch_changes_what_it_names_and_counts_as_one_change(registry: Registry) -> None:
    made = await make(registry, "bert", description="before", use_case="kept")

    changed = await patch(registry, "bert", description="after", active=False)

    assert changed.status == 200
    assert changed.headers["ETag"] == f'"{made["id"]}.2"'
    expected = made | {"description": "after", "active": False}
    assert changed.json | {"updated_at": made["updated_at"]} == expected
    [(action, before, after)] = await registry.rows(
        "SELECT action, before, after FROM audit WHERE kind = 'model' ORDER BY id DESC LIMIT 1"
    )
    assert action == "update"
    assert msgspec.json.decode(before) == {"description": "before", "active": True}
    assert msgspec.json.decode(after) == {"description": "after", "active": False}


async def test_a_patch_that_changes_nothing_leaves_no_trace(registry: Registry) -> None:
    await make(registry, "bert", description="same")
    entries = await registry.count("audit")

    changed = await patch(registry, "bert", description="same", team=None)

    assert changed.headers["ETag"].endswith('.1"')
    assert await registry.count("audit") == entries


async def test_if_match_refuses_who_saw_an_older_state(registry: Registry) -> None:
    made = await make(registry, "bert")
    tag = f'"{made["id"]}.1"'
    url = "/api/v1/models/bert"
    stale = {"If-Match": f'"{made["id"]}.2"'}

    refused = await registry.send("PATCH", url, json={"active": False}, headers=stale)
    assert (refused.status, refused.code) == (412, "precondition_failed")
    for other in ('"mdl_00000000000000000000000000.1"', '"nonsense"', f"W/{tag}"):
        headers = {"If-Match": other}
        assert (await registry.send("DELETE", url, headers=headers)).status == 412
    listed = {"If-Match": f'"x", {tag}'}
    changed = await registry.send("PATCH", url, json={"active": False}, headers=listed)
    assert changed.status == 200
    assert (await registry.send("PATCH", url, json={}, headers={"If-Match": "*"})).status == 200
    assert (await registry.get(url, If_None_Match=changed.headers["ETag"])).status == 304


async def test_the_kind_is_fixed_by_the_first_version(registry: Registry) -> None:
    await make(registry, "bert")
    assert (await patch(registry, "bert", kind="dataset")).json["kind"] == "dataset"
    await registry.publish("bert", "1.0.0", {"f": b"1"})

    refused = await patch(registry, "bert", kind="model")

    assert (refused.status, refused.code, refused.json["kind"]) == (409, "kind_fixed", "dataset")
    assert (await patch(registry, "bert", kind="dataset")).status == 200


async def test_null_is_refused_but_for_the_team(registry: Registry) -> None:
    await registry.send("POST", "/api/v1/teams", json={"name": "vision"})
    await make(registry, "bert", team="vision")

    assert (await patch(registry, "bert", description=None)).status == 400
    assert (await patch(registry, "bert", team=None)).json["team"] is None


# Names


async def test_a_renamed_model_is_found_under_both_names_at_every_door(registry: Registry) -> None:
    made = await make(registry, "nlp/bert")
    await registry.publish("nlp~bert", "1.0.0", {"f": b"1"})

    renamed = await patch(registry, "nlp~bert", name="vision/vit")

    assert (renamed.json["name"], renamed.json["namespace"]) == ("vision/vit", "vision")
    assert renamed.json["id"] == made["id"]
    for name in ("nlp~bert", "vision~vit", "NLP~Bert"):
        assert (await registry.get(f"/api/v1/models/{name}")).json["name"] == "vision/vit"
        assert (await registry.get(f"/models/{name}/1.0.0/f")).body == b"1"
        assert (await registry.get(f"/api/v1/models/{name}/aliases/latest")).status == 200
    put = await registry.put("/models/nlp~bert/2.0.0/f?publish=true", b"2")
    assert (put.status, put.json["model"]) == (201, "vision/vit")
    assert await registry.count("models") == 1


async def test_a_former_name_is_nobody_elses(registry: Registry) -> None:
    made = await make(registry, "old")
    await patch(registry, "old", name="later")
    await make(registry, "third")

    created = await registry.send("POST", "/api/v1/models", json={"name": "OLD"})
    renamed = await patch(registry, "third", name="old")

    for refused in (created, renamed):
        assert (refused.status, refused.code) == (409, "name_redirects")
        assert (refused.json["existing"], refused.json["id"]) == ("later", made["id"])


async def test_renaming_back_and_forth_makes_no_chain(registry: Registry) -> None:
    await make(registry, "a")
    for name in ("b", "c"):
        assert (await patch(registry, "a", name=name)).status == 200
    names = await registry.get("/api/v1/models/c/former-names")
    assert [item["name"] for item in names.json["items"]] == ["a", "b"]

    back = await registry.send("POST", "/api/v1/models/b/rename", json={"name": "a"})

    assert (back.status, back.json["name"]) == (200, "a")
    names = await registry.get("/api/v1/models/a/former-names")
    assert [item["name"] for item in names.json["items"]] == ["b", "c"]


async def test_a_change_of_case_alone_leaves_no_redirect(registry: Registry) -> None:
    await make(registry, "bert")

    assert (await patch(registry, "bert", name="BERT")).json["name"] == "BERT"
    assert await registry.count("redirects") == 0


async def test_a_former_name_can_be_released(registry: Registry) -> None:
    await make(registry, "old")
    await patch(registry, "old", name="later")

    released = await registry.send("DELETE", "/api/v1/models/later/former-names/old")

    assert released.status == 204
    assert (await registry.get("/api/v1/models/old")).status == 404
    assert (await make(registry, "old"))["name"] == "old"
    again = await registry.send("DELETE", "/api/v1/models/later/former-names/old")
    assert (again.status, again.code) == (404, "former_name_not_found")


async def test_a_rename_takes_uploads_in_hand_along(registry: Registry) -> None:
    await make(registry, "old")

    async def slowly() -> AsyncIterator[bytes]:
        yield b"1"
        while not await registry.count("folder_uploads"):  # until the server has begun
            await asyncio.sleep(0.001)
        assert (await patch(registry, "old", name="later")).status == 200
        refused = await registry.send("POST", "/api/v1/models/later/versions/v1/publish")
        assert (refused.status, refused.code) == (409, "uploads_running")
        yield b"2"

    put = await registry.put("/models/old/v1/f", slowly())

    assert (put.status, put.json["model"]) == (201, "later")
    assert await registry.count("models") == 1


# Deleting


async def test_a_deleted_model_is_gone_frees_its_name_and_comes_back(registry: Registry) -> None:
    made = await make(registry, "bert", tags={"a": "b"})
    await registry.publish("bert", "1.0.0", {"f": b"1"})

    assert (await registry.send("DELETE", "/api/v1/models/bert")).status == 204
    for path in ("/api/v1/models/bert", f"/api/v1/models/{made['id']}", "/models/bert/1.0.0/f"):
        assert (await registry.get(path)).status == 404
    assert await page(registry, "") == []
    assert await page(registry, "deleted=true") == ["bert"]
    gone = await registry.get(f"/api/v1/models/{made['id']}?deleted=true")
    assert gone.json["deleted_by"] == "usr_local"
    other = await make(registry, "bert")

    taken = await registry.send("POST", f"/api/v1/models/{made['id']}/restore")
    assert (taken.status, taken.code, taken.json["id"]) == (409, "model_name_taken", other["id"])
    back = await registry.send(
        "POST", f"/api/v1/models/{made['id']}/restore", json={"name": "nlp/bert"}
    )
    assert (back.status, back.json["name"], back.json["namespace"]) == (200, "nlp/bert", "nlp")
    assert (await registry.get("/models/nlp~bert/1.0.0/f")).body == b"1"
    assert await page(registry, "tag=a=b") == ["nlp/bert"]


async def test_names_of_a_deleted_model_hold_nothing_until_it_is_back(registry: Registry) -> None:
    made = await make(registry, "first")
    await patch(registry, "first", name="second")
    await patch(registry, "second", name="third")
    await registry.send("DELETE", "/api/v1/models/third")
    await make(registry, "first")

    restored = await registry.send("POST", f"/api/v1/models/{made['id']}/restore")

    assert restored.status == 200
    assert (await registry.get("/api/v1/models/second")).json["id"] == made["id"]
    assert (await registry.get("/api/v1/models/first")).json["id"] != made["id"]


async def test_a_legal_hold_keeps_a_model(registry: Registry) -> None:
    made = await make(registry, "bert")
    await patch(registry, "bert", legal_hold=True)

    refused = await registry.send("DELETE", "/api/v1/models/bert")
    assert (refused.status, refused.code) == (409, "legal_hold")
    await patch(registry, "bert", legal_hold=False)
    assert (await registry.send("DELETE", "/api/v1/models/bert")).status == 204
    purged = await registry.send("POST", f"/api/v1/models/{made['id']}/purge")
    assert purged.status == 204


async def test_only_a_deleted_model_is_purged_and_by_its_id(registry: Registry) -> None:
    made = await make(registry, "bert")

    assert (await registry.send("POST", "/api/v1/models/bert/purge")).status == 400
    live = await registry.send("POST", f"/api/v1/models/{made['id']}/purge")
    assert (live.status, live.code) == (409, "model_live")
    missing = await registry.send("POST", "/api/v1/models/mdl_00000000000000000000000000/purge")
    assert (missing.status, missing.code) == (404, "model_not_found")


async def test_a_purge_takes_all_a_model_held_and_nothing_else(registry: Registry) -> None:
    shared, own = b"shared" * 100, b"own" * 100
    await registry.publish("keeps", "1.0.0", {"f": shared})
    before = {table: await registry.count(table) for table in HELD}
    made = await make(registry, "nlp/bert", tags={"a": "b"})
    await registry.publish("nlp~bert", "1.0.0", {"f": shared, "README.md": own})
    await registry.publish("nlp~bert", "2.0.0", {"f": shared})
    await registry.put("/models/nlp~bert/3.0.0/draft", b"draft")
    await registry.send("PUT", "/api/v1/models/nlp~bert/versions/1.0.0/tags/t", json={})
    await registry.get("/api/v1/models/nlp~bert/card")
    await patch(registry, "nlp~bert", name="nlp/later")
    child = {"parent": {"model": "nlp/later", "version": "1.0.0"}, "relation": "fine-tuned"}
    edge = await registry.send("POST", "/api/v1/models/keeps/versions/1.0.0/lineage", json=child)
    assert edge.status == 201, edge.body
    await registry.send("DELETE", "/api/v1/models/nlp~later")

    purged = await registry.send("POST", f"/api/v1/models/{made['id']}/purge")

    assert purged.status == 204
    assert {table: await registry.count(table) for table in HELD} == before
    [(parent, uri, kind)] = await registry.rows(
        "SELECT parent, parent_uri, parent_kind FROM lineage"
    )
    assert (parent, kind) == (None, "external")
    assert uri.startswith("urn:digestry:purged:nlp/later:1.0.0:ver_")
    assert (await registry.get("/models/keeps/1.0.0/f")).body == shared
    [(owners,)] = await registry.rows("SELECT count(*) FROM refs WHERE owner LIKE 'mdl_%'")
    assert owners == 1
    again = await registry.send("POST", f"/api/v1/models/{made['id']}/purge")
    assert (again.status, again.code) == (404, "model_not_found")
    [(entries,)] = await registry.rows("SELECT count(*) FROM audit WHERE action = 'purge'")
    assert entries == 1


HELD = (
    "models", "versions", "version_details", "revisions", "trees", "tree_files", "folders",
    "folder_files", "aliases", "alias_events", "redirects", "model_cards", "tags", "model_tags",
    "version_tags", "search_documents", "refs",
)  # fmt: skip


async def test_a_purge_that_was_cut_short_is_finished_unseen(registry: Registry) -> None:
    made = await make(registry, "bert")
    await registry.publish("bert", "1.0.0", {f"f{n}": b"%d" % n for n in range(5)})
    await registry.send("DELETE", "/api/v1/models/bert")
    await registry.store.index.run(lambda tx: mark_purged(tx, made["id"]))

    assert await page(registry, "deleted=true") == []
    restored = await registry.send("POST", f"/api/v1/models/{made['id']}/restore")
    assert (restored.status, restored.code) == (404, "model_not_found")
    assert await finish_purges(registry.store) == 1
    assert await registry.count("models") == 0


# Lists


async def test_lists_go_by_every_filter(registry: Registry) -> None:
    await registry.send("POST", "/api/v1/teams", json={"name": "vision"})
    await make(
        registry, "nlp/a", task_type="ner", subject_domain="law", team="vision", kind="dataset"
    )
    await make(registry, "nlp/b", task_type="ner", risk_level="low", active=False)
    await make(registry, "c", visibility="public", tags={"lang": "en", "size": "base"})
    await make(registry, "d", description="Hidden Treasure", tags={"lang": "de"})

    for question, names in {
        "": ["c", "d", "nlp/a", "nlp/b"],
        "order=created": ["d", "c", "nlp/b", "nlp/a"],
        "namespace=nlp": ["nlp/a", "nlp/b"],
        "namespace=default": ["c", "d"],
        "task=ner": ["nlp/a", "nlp/b"],
        "task=ner&active=true": ["nlp/a"],
        "task=ner&order=created": ["nlp/b", "nlp/a"],
        "subject=law": ["nlp/a"],
        "team=VISION": ["nlp/a"],
        "kind=dataset": ["nlp/a"],
        "risk=low": ["nlp/b"],
        "active=false": ["nlp/b"],
        "visibility=public": ["c"],
        "tag=lang": ["c", "d"],
        "tag=LANG=En": ["c"],
        "tag=lang&tag=size=base": ["c"],
        "tag=lang=de&tag=size": [],
        "tag=lang=unknown": [],
        "q=TREASURE": ["d"],
        "q=lang%3Dde": ["d"],
        "q=lp%2F": ["nlp/a", "nlp/b"],
        "q=nl": ["nlp/a", "nlp/b"],
        "q=lp": [],
        "q=%22": [],
        "q=en%20tre": ["d"],
        "q=treasure&order=created&tag=lang": ["d"],
        "q=reas&namespace=nlp": [],
    }.items():
        assert await page(registry, question) == names, question


async def test_pages_follow_each_other_in_every_order(registry: Registry) -> None:
    names = [f"m{n:02}" for n in range(7)]
    for name in names:
        await make(registry, name, tags={"all": ""}, description="everywhere")
    for name in ("x", "y", "z"):
        made = await make(registry, name)
        await registry.send("DELETE", f"/api/v1/models/{made['id']}")
    for question, expected in {
        "": names,
        "order=created": names[::-1],
        "tag=all": names,
        "tag=all&order=created": names[::-1],
        "q=everyw": names,
        "q=everyw&order=created": names[::-1],
        "deleted=true": ["z", "y", "x"],
    }.items():
        found, after = [], ""
        while True:
            answer = await registry.get(f"/api/v1/models?limit=2&total=true&{question}{after}")
            assert (answer.json["total"], answer.json["total_is_exact"]) == (len(expected), True)
            found += [model["name"] for model in answer.json["items"]]
            if answer.json["next"] is None:
                assert "Link" not in answer.headers
                break
            after = f"&after={answer.json['next']}"
            assert f"after={answer.json['next']}" in answer.headers["Link"]
        assert found == expected, question


async def test_a_common_substring_is_found_row_by_row(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_lists, "FEW", 2)
    for name in ("common-b", "common-a", "uncommon", "other"):
        await make(registry, name)

    assert await page(registry, "q=common") == ["common-a", "common-b", "uncommon"]
    assert await page(registry, "q=common&order=created") == ["uncommon", "common-a", "common-b"]


async def test_a_cursor_is_bound_to_its_question(registry: Registry) -> None:
    for name in ("a", "b"):
        await make(registry, name)
    cursor = (await registry.get("/api/v1/models?limit=1")).json["next"]

    assert (await registry.get(f"/api/v1/models?limit=5&after={cursor}")).status == 200
    for other in (
        f"active=true&after={cursor}",
        f"order=created&after={cursor}",
        "after=x",
        "after=",
    ):
        refused = await registry.get(f"/api/v1/models?{other}")
        assert (refused.status, refused.code) == (400, "invalid_cursor"), other
    for unknown in ("namespace=nowhere", "team=nobody"):
        assert (await registry.get(f"/api/v1/models?{unknown}")).status == 404
    refused = await registry.get("/api/v1/models?limit=0&order=size&colour=red")
    assert {error["field"] for error in refused.json["errors"]} == {"limit", "order", "colour"}


async def test_versions_are_included_newest_first(registry: Registry) -> None:
    for label in ("1.0.0", "2.0.0"):
        await registry.publish("bert", label, {"f": label.encode()})

    model = (await registry.get("/api/v1/models/bert?include=versions")).json

    assert [version["label"] for version in model["versions"]["items"]] == ["2.0.0", "1.0.0"]
    assert (model["version_count"], model["versions"]["next"]) == (2, None)
    assert "versions" not in (await registry.get("/api/v1/models/bert")).json


# Batches


async def test_a_batch_makes_all_or_none_and_names_every_bad_one(registry: Registry) -> None:
    await make(registry, "taken")
    url = "/api/v1/models/batch"
    bad = [{"name": "a"}, {"name": "taken"}, {"name": "b", "team": "nobody"}, {"name": "A"}]

    refused = await registry.send("POST", url, json={"models": bad})

    assert (refused.status, refused.code) == (409, "batch_refused")
    found = [(problem["field"], problem["code"]) for problem in refused.json["problems"]]
    assert found == [
        ("models[1]", "model_name_taken"),
        ("models[2]", "team_not_found"),
        ("models[3]", "model_name_taken"),
    ]
    assert await registry.count("models") == 1
    names = [{"name": "a:b"}, {"name": "fine"}, {"name": "c", "tags": {"x=y": ""}}]
    invalid = await registry.send("POST", url, json={"models": names})
    assert invalid.status == 400
    assert [error["field"] for error in invalid.json["errors"]] == [
        "models[0].name",
        "models[2].tags",
    ]

    made = await registry.send("POST", url, json={"models": [{"name": f"m{n}"} for n in range(50)]})
    assert (made.status, len(made.json["models"])) == (201, 50)
    too_many = [{"name": f"n{n}"} for n in range(1001)]
    assert (await registry.send("POST", url, json={"models": too_many})).status == 400


async def test_a_hold_that_came_after_the_deletion_keeps_from_purging(registry: Registry) -> None:
    made = await make(registry, "bert")
    await registry.send("DELETE", "/api/v1/models/bert")
    hold = Statement(text("UPDATE models SET legal_hold = 1"))
    await registry.store.index.run(lambda tx: tx.run(hold))

    refused = await registry.send("POST", f"/api/v1/models/{made['id']}/purge")

    assert (refused.status, refused.code) == (409, "legal_hold")
    assert await page(registry, "deleted=true") == ["bert"]


async def test_a_purge_starts_the_grace_age_of_its_blobs_anew(registry: Registry) -> None:
    made = await make(registry, "bert")
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.send("DELETE", "/api/v1/models/bert")
    [(before,)] = await registry.rows("SELECT last_claimed FROM blobs")

    await registry.send("POST", f"/api/v1/models/{made['id']}/purge")

    [(after,)] = await registry.rows("SELECT last_claimed FROM blobs")
    assert after > before


async def test_lists_by_tag_go_by_the_name_of_now(registry: Registry) -> None:
    for name in ("a", "b"):
        await make(registry, name, tags={"t": ""})

    await patch(registry, "a", name="c")

    assert await page(registry, "tag=t") == ["b", "c"]


@pytest.mark.parametrize("path", ["/api/v1/models?q=%ff", "/api/v1/search?q=a%c3", "/?model=%80"])
async def test_a_query_that_is_not_utf8_is_refused(registry: Registry, path: str) -> None:
    refused = await registry.get(path)

    assert (refused.status, refused.code) == (400, "query_encoding_invalid")


@pytest.mark.parametrize("path", ["/api/v1/models?", "/api/v1/search?q=bert&"])
async def test_a_page_costs_no_more_statements_for_more_models(
    registry: Registry, path: str
) -> None:
    for number in range(5):
        said = {"name": f"bert-{number}", "tags": {"a": "b", "c": str(number)}}
        await registry.send("POST", "/api/v1/models", json=said)
    index = registry.store.index
    taken = []
    for limit in (2, 5):
        before = index.statement_count()
        answer = await registry.get(f"{path}limit={limit}")
        taken.append(index.statement_count() - before)
        items = [item.get("model", item) for item in answer.json["items"]]
        for item in items:
            tags = {tag["key"]: tag["value"] for tag in item["tags"]}
            assert tags == {"a": "b", "c": item["name"][-1]}
        assert len(items) == limit

    of_search = 3 if "search" in path else 0  # which reads each model by itself
    assert taken[1] == taken[0] + of_search
