"""Policies of retention over HTTP, and what plans say of versions and do to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.domain.principals import Principal
from registry.errors import NotFound
from registry.services.retention import get_policy
from registry.services.retention_plans import get_plan
from tests.registry.test_drafts import SlowBody, uploading
from tests.support.bindings import bound, patched
from tests.support.builders import Answer
from tests.support.clock import ManualClock
from tests.support.deploying import deployed, make_environment, publish, trail, verb
from tests.support.retaining import (
    DAY,
    PLANS,
    POLICIES,
    RETENTION,
    Retained,
    applied,
    done,
    lines,
    planned,
    policy,
    retained,
    verdicts,
    version,
)

STRANGER = Principal("usr_stranger", "stranger")
BERT = "/api/v1/models/bert"


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Retained]:
    async with retained(tmp_path / "data", clock) as running:
        yield running
        await running.check()


async def patch(registry: Retained, one: Any, body: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("PATCH", f"{POLICIES}/{one['id']}", json=body, headers=named)


async def alias(registry: Retained, name: str, to: str) -> None:
    answer = await registry.send("PUT", f"{BERT}/aliases/{name}", json={"version": to})
    assert answer.status in (200, 201), answer.body


async def latest(registry: Retained) -> int | None:
    answer = await registry.get(f"{BERT}/versions/latest")
    return answer.json["number"] if answer.status == 200 else None


async def stored(registry: Retained) -> list[Any]:
    return await registry.rows("SELECT number, retired_at, purged_at FROM versions ORDER BY number")


# Policies


async def test_a_policy_is_made_with_defaults_that_protect(registry: Retained) -> None:
    answer = await registry.send("POST", POLICIES, json={})

    assert answer.status == 201
    one = answer.json
    assert answer.headers["Location"] == f"{POLICIES}/{one['id']}"
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert (one["scope"], one["model"], one["namespace"]) == ("registry", None, None)
    assert (one["keep_last"], one["retire_after_days"], one["purge_after_days"]) == (3, 90, None)
    assert (one["protect_descendants"], one["protect_statuses"]) == (True, ["production"])
    found = await registry.get(f"{POLICIES}/{one['id']}")
    assert found.json == one
    again = await registry.get(f"{POLICIES}/{one['id']}", If_None_Match=found.headers["ETag"])
    assert again.status == 304


async def test_each_place_has_one_policy_at_most(registry: Retained) -> None:
    await registry.publish("nlp~bert", "1.0.0", {"f": b"1"})
    for place in ({}, {"namespace": "nlp"}, {"model": "nlp/bert"}):
        made = await registry.send("POST", POLICIES, json=place)
        again = await registry.send("POST", POLICIES, json=place)

        assert made.status == 201
        assert (again.status, again.code) == (409, "policy_exists")
        assert again.json["existing"] == made.json["id"]
    listed = await registry.get(f"{POLICIES}?limit=2")
    rest = await registry.get(f"{POLICIES}?limit=2&after={listed.json['next']}")
    places = [one["scope"] for one in [*listed.json["items"], *rest.json["items"]]]
    assert sorted(places) == ["model", "namespace", "registry"]
    only = await registry.get(f"{POLICIES}?scope=model")
    assert [one["model"] for one in only.json["items"]] == ["nlp/bert"]


BAD_POLICIES: list[dict[str, Any]] = [
    {"keep_last": 0},
    {"keep_last": 11},
    {"keep_last": None},
    {"retire_after_days": -1},
    {"retire_after_days": 36501},
    {"purge_after_days": 0},
    {"purge_after_days": 1.5},
    {"protect_statuses": ["live"]},
    {"protect_tags": ["=gold"]},
    {"protect_tags": ["a\n"]},
    {"protect_tags": ["a"] * 101},
    {"keeplast": 3},
    {"model": "bert", "namespace": "default"},
]


async def test_what_cannot_be_a_policy_is_refused(registry: Retained) -> None:
    for body in BAD_POLICIES:
        answer = await registry.send("POST", POLICIES, json=body)

        assert answer.status == 400, body
    assert await registry.count("retention_policies") == 0


async def test_a_policy_of_nothing_is_refused_by_name(registry: Retained) -> None:
    for place, code in (({"model": "no"}, "model"), ({"namespace": "no"}, "namespace")):
        answer = await registry.send("POST", POLICIES, json=place)

        assert (answer.status, answer.code) == (404, f"{code}_not_found")
    for id in ("pol_01kagz6y5n8s3v0c4t7x9b2d1f", "nobody", "%FF"):
        for method in ("GET", "PATCH", "DELETE"):
            body = {"keep_last": 2} if method == "PATCH" else None
            answer = await registry.send(method, f"{POLICIES}/{id}", json=body)
            assert (answer.status, answer.code) == (404, "policy_not_found")


async def test_a_policy_changes_under_if_match_and_is_audited(registry: Retained) -> None:
    await publish(registry, 1)
    one = await policy(registry, protect_tags=["Gold", "Gold", "set=1"])
    tag = (await registry.get(f"{POLICIES}/{one['id']}")).headers["ETag"]

    answer = await patch(
        registry, one, {"keep_last": 5, "purge_after_days": None, "protect_tags": None}
    )
    stale = await patch(registry, one, {"keep_last": 6}, If_Match=tag)
    same = await patch(registry, one, {"keep_last": 5}, If_Match=answer.headers["ETag"])
    gone = await registry.send(
        "DELETE", f"{POLICIES}/{one['id']}", headers={"If-Match": answer.headers["ETag"]}
    )

    assert one["protect_tags"] == ["Gold", "set=1"]
    assert (answer.json["keep_last"], answer.json["purge_after_days"]) == (5, None)
    assert answer.json["protect_tags"] == []
    assert (stale.status, same.status, gone.status) == (412, 200, 204)
    assert same.headers["ETag"] == answer.headers["ETag"]
    assert await trail(registry, one["id"]) == ["create", "update", "delete"]


async def test_a_repeated_request_makes_one_policy(registry: Retained) -> None:
    sent = [
        await registry.send("POST", POLICIES, json={}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json


async def test_the_nearest_policy_is_the_whole_policy(registry: Retained) -> None:
    await publish(registry, 1, "nlp~bert")
    path = "/api/v1/models/nlp~bert/retention"
    assert (await registry.get(path)).code == "policy_not_found"
    for place, name in (({}, "registry"), ({"namespace": "nlp"}, "namespace")):
        await registry.send("POST", POLICIES, json={**place, "protect_releases": True})
        assert (await registry.get(path)).json["scope"] == name
    await registry.send("POST", POLICIES, json={"model": "nlp/bert", "active": False})
    found = (await registry.get(path)).json

    assert (found["scope"], found["active"], found["protect_releases"]) == ("model", False, False)


async def test_policies_and_plans_of_others_are_not_there(registry: Retained) -> None:
    await publish(registry, 1)
    one = await policy(registry)
    plan = await planned(registry)

    with pytest.raises(NotFound):
        await get_policy(registry.store, STRANGER, one["id"])
    with pytest.raises(NotFound):
        await get_plan(registry.store, STRANGER, plan["id"])


async def test_a_policy_goes_with_its_model_and_with_its_namespace(registry: Retained) -> None:
    made = await registry.publish("nlp~bert", "1.0.0", {"f": b"1"})
    await policy(registry, model="nlp/bert")
    of_space = await policy(registry, model=None, namespace="nlp")
    await registry.publish("nlp~bert", "2.0.0", {"f": b"2"})
    await done(registry, model="nlp/bert")
    restored = await registry.send("POST", "/api/v1/models/nlp~bert/versions/1/restore")
    assert restored.status == 200
    model = (await registry.get("/api/v1/models/nlp~bert")).json["id"]
    await registry.send("DELETE", f"/api/v1/models/{model}")
    purged = await registry.send("POST", f"/api/v1/models/{model}/purge")
    removed = await registry.send("DELETE", "/api/v1/namespaces/nlp")

    assert made["number"] == 1
    assert (purged.status, removed.status) == (204, 204), (purged.body, removed.body)
    assert await registry.count("retention_policies") == 0
    assert await registry.count("retention_returns") == 0
    assert (await trail(registry, of_space["id"]))[-1] == "delete"


# What a plan says


async def test_nothing_happens_without_a_policy(registry: Retained) -> None:
    await publish(registry, 3)
    plan = await planned(registry, every="yes")

    assert (plan["models"], plan["keep"], plan["retire"], plan["purge"]) == (1, 0, 0, 0)
    assert set((await verdicts(registry, await planned(registry))).values()) == {"keep no_policy"}


async def test_a_plan_says_of_each_version_what_would_happen_and_changes_nothing(
    registry: Retained,
) -> None:
    await publish(registry, 3)
    await policy(registry)
    before = await registry.rows("SELECT * FROM versions")
    plan = await planned(registry)

    assert await verdicts(registry, plan) == {
        1: "retire surplus",
        2: "retire surplus",
        3: "keep alias newest",
    }
    assert (plan["state"], plan["keep"], plan["retire"], plan["frees"]) == ("ready", 1, 2, 0)
    assert await registry.rows("SELECT * FROM versions") == before
    only = await lines(registry, plan, "&action=keep")
    assert [(one["version"], one["says"]) for one in only] == [
        ("3.0.0", "alias (latest and 1 more), newest (among the last 1)")
    ]


async def test_whatever_needs_a_version_protects_it_and_is_named(registry: Retained) -> None:
    """All at once, each on a version of its own."""
    versions = await publish(registry, 12)
    await policy(
        registry,
        protect_descendants=True,
        protect_statuses=["validated"],
        protect_tags=["gold=yes"],
    )
    await alias(registry, "champion", "1.0.0")
    await make_environment(registry)
    chat = await deployed(registry, "2.0.0")
    await verb(registry, chat, "deploy", version="3.0.0")
    await bound(registry, version="4")
    idle = await bound(registry, version="5")
    await patched(registry, f"/api/v1/bindings/{idle['id']}", status="inactive")
    edge = {"relation": "fine-tuned", "parent": {"model": "bert", "version": "6"}}
    told = await registry.send("POST", f"{BERT}/versions/7/lineage", json=edge)
    assert told.status == 201, told.body
    await registry.send("PUT", f"{BERT}/versions/8/tags/Gold", json={"value": "Yes"})
    await registry.send("PUT", f"{BERT}/versions/9/tags/gold", json={"value": "no"})
    await patched(registry, f"{BERT}/versions/10", status="validated")
    registry.clock.advance(60)

    found = await verdicts(registry, await planned(registry))

    assert len(versions) == 12
    assert found == {
        1: "keep alias",
        2: "keep rollback",
        3: "keep deployment",
        4: "keep binding",
        5: "retire surplus",
        6: "keep descendant",
        7: "retire surplus",
        8: "keep tag",
        9: "retire surplus",
        10: "keep status",
        11: "retire surplus",
        12: "keep alias newest",
    }
    await verb(registry, chat, "terminate")
    after = await verdicts(registry, await planned(registry))
    assert (after[2], after[3]) == ("retire surplus", "retire surplus")


async def test_a_legal_hold_keeps_everything(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry)
    await patched(registry, BERT, legal_hold=True)

    found = await verdicts(registry, await planned(registry))

    assert found == {1: "keep hold", 2: "keep hold alias newest"}


async def test_releases_are_kept_where_the_policy_says_so(registry: Retained) -> None:
    for label in ("1.0.0", "2.0.0-rc.1", "nightly", "2.0.0"):
        await registry.publish("bert", label, {"f": label.encode()})
    one = await policy(registry, protect_releases=True)
    found = await verdicts(registry, await planned(registry))
    await patch(registry, one, {"protect_releases": False})

    assert found[1] == "keep release"
    assert (found[2], found[3]) == ("retire surplus", "retire surplus")
    assert (await verdicts(registry, await planned(registry)))[1] == "retire surplus"


async def test_a_draft_keeps_what_main_pointed_at_when_it_began(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry)
    registry.clock.advance(60)
    await registry.put("/models/bert/next/f", b"next")
    registry.clock.advance(60)
    await registry.publish("bert", "3.0.0", {"f": b"3"})
    registry.clock.advance(60)

    found = await verdicts(registry, await planned(registry))

    assert (found[1], found[2]) == ("retire surplus", "keep draft")
    await registry.send("DELETE", "/models/bert/next")
    assert (await verdicts(registry, await planned(registry)))[2] == "retire surplus"


async def test_while_an_upload_runs_its_base_stays_and_nothing_is_purged(
    registry: Retained,
) -> None:
    await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(2 * DAY)
    body = SlowBody(b"next")
    sent = await uploading(registry, "/models/bert/next/f", body)
    registry.clock.advance(60)
    await registry.publish("bert", "3.0.0", {"f": b"3"})
    registry.clock.advance(60)
    found = await verdicts(registry, await planned(registry))
    body.released.set()
    await sent
    await registry.send("DELETE", "/models/bert/next")

    assert (found[1], found[2]) == ("keep upload", "keep draft")
    after = await verdicts(registry, await planned(registry))
    assert (after[1], after[2]) == ("purge expired", "retire surplus")


async def test_ages_count_from_making_and_from_retiring(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry, retire_after_days=2, purge_after_days=3)
    registry.clock.advance(2 * DAY - 1)
    [line, _] = await lines(registry, await planned(registry))
    registry.clock.advance(1)
    assert (line["says"], line["rules"][0]["until"]) == ("young", "2027-01-17T08:00:00.000000Z")
    assert (await done(registry))["retired"] == 1
    registry.clock.advance(3 * DAY - 1)
    assert (await verdicts(registry, await planned(registry)))[1] == "keep retired"
    registry.clock.advance(1)
    assert (await verdicts(registry, await planned(registry)))[1] == "purge expired"


async def test_what_would_become_free_counts_what_nobody_else_refers_to(
    registry: Retained,
) -> None:
    """Version 1 and 2 share a file, 2 and the last one another; one is pinned."""
    await registry.publish("bert", "1.0.0", {"own": b"x" * 10, "both": b"b" * 100})
    await registry.publish("bert", "2.0.0", {"both": b"b" * 100, "kept": b"k" * 1000, "p": b"pin"})
    await registry.publish("bert", "3.0.0", {"kept": b"k" * 1000, "twice": b"k" * 1000})
    await registry.put("/blobs/pinned", b"pin")
    await policy(registry)
    await done(registry)
    registry.clock.advance(2 * DAY)

    plan = await planned(registry)
    told = {one["number"]: one["frees"] for one in await lines(registry, plan)}

    assert told == {1: 10, 2: 0, 3: 0}
    assert (plan["frees"], plan["frees_exactly"]) == (110, True)
    await applied(registry, plan)
    total = (await registry.get(RETENTION)).json["total"]
    assert (total["purged"], total["purged_bytes"], total["freed_bytes"]) == (2, 1213, 110)


async def test_of_very_many_files_only_the_most_is_told(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(2 * DAY)
    monkeypatch.setattr("registry.catalog.retention_facts.MOST_FILES_COUNTED", 0)
    monkeypatch.setattr("registry.services.retention_plans.MOST_FILES_COUNTED", 0)

    plan = await planned(registry)
    [line] = await lines(registry, plan, "&action=purge")

    assert (plan["frees"], plan["frees_exactly"]) == (6, False)
    assert (line["frees"], line["frees_exactly"]) == (6, False)


async def test_plans_are_of_a_model_of_a_namespace_or_of_all(registry: Retained) -> None:
    for model in ("a~one", "a~two", "b~one"):
        await publish(registry, 2, model)
    await policy(registry, model=None)
    for target, models in (
        ({"model": "a/one"}, {"a/one"}),
        ({"namespace": "a"}, {"a/one", "a/two"}),
        ({"every": "yes"}, {"a/one", "a/two", "b/one"}),
    ):
        registry.clock.advance(1)
        plan = await planned(registry, **target)
        assert {one["model"] for one in await lines(registry, plan)} == models
        assert plan["retire"] == len(models)
    listed = (await registry.get(PLANS)).json["items"]
    assert [one["target"] for one in listed] == [None, "a", "a/one"]
    unknown = await registry.send("POST", PLANS, json={"model": "no"})
    assert (unknown.status, unknown.code) == (404, "model_not_found")


async def test_lines_come_in_pages_in_order(registry: Retained) -> None:
    await publish(registry, 3)
    plan = await planned(registry)
    path = f"{PLANS}/{plan['id']}/lines?limit=2"
    first = (await registry.get(path)).json
    second = (await registry.get(f"{path}&after={first['next']}")).json

    assert [one["number"] for one in first["items"] + second["items"]] == [1, 2, 3]
    assert second["next"] is None
    other = await registry.get(f"{path}&action=keep&after={first['next']}")
    assert other.code == "invalid_cursor"


async def test_plans_hold_a_bounded_number_of_lines_and_say_so(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 4)
    monkeypatch.setattr("registry.services.retention_plans.MOST_LINES", 2)
    monkeypatch.setattr("registry.services.retention_plans.MOST_KEPT_LINES", 1)
    kept = await planned(registry)
    await policy(registry)
    cut = await planned(registry)

    assert (kept["keep"], len(await lines(registry, kept))) == (4, 1)
    assert (cut["retire"], cut["complete"]) == (2, False)
    await applied(registry, cut)
    assert (await planned(registry))["retire"] == 1


async def test_a_plan_that_is_not_there_is_404(registry: Retained) -> None:
    for id in ("pln_01kagz6y5n8s3v0c4t7x9b2d1f", "nobody"):
        for method, path in (("GET", ""), ("GET", "/lines"), ("POST", "/apply")):
            answer = await registry.send(method, f"{PLANS}/{id}{path}")
            assert (answer.status, answer.code) == (404, "plan_not_found")


# What applying does


async def test_a_retired_version_is_readable_listed_as_such_and_audited(
    registry: Retained,
) -> None:
    [first, _] = await publish(registry, 2)
    await policy(registry)
    report = await done(registry)

    assert (report["retired"], report["left"]) == (1, 0)
    found = await version(registry, 1)
    assert (found["retired_at"], found["tier"]) == ("2027-01-15T08:00:00.000000Z", "hot")
    listed = (await registry.get(f"{BERT}/versions")).json["items"]
    assert [one["retired_at"] is None for one in listed] == [True, False]
    assert (await registry.get("/models/bert/1.0.0/f")).body == b"bert 1"
    assert (await trail(registry, first["id"])) == ["publish", "retire"]
    [(reason, before, after)] = await registry.rows(
        "SELECT reason, before, after FROM audit WHERE action = 'retire'"
    )
    assert reason == "retention"
    assert '"retired_at":null' in before
    assert '"tier":"hot"' in after


async def test_latest_never_moves_to_a_retired_version(registry: Retained) -> None:
    await publish(registry, 3)
    await policy(registry)
    await done(registry)
    await registry.send("DELETE", f"{BERT}/versions/3")

    assert await latest(registry) is None
    assert (await version(registry, 2))["retired_at"] is not None
    restored = await registry.send("POST", f"{BERT}/versions/1/restore")
    assert restored.json["retired_at"] is None
    assert await latest(registry) == 1


async def test_a_version_that_came_back_is_young_again(registry: Retained) -> None:
    [first, _] = await publish(registry, 2)
    await policy(registry, retire_after_days=5)
    registry.clock.advance(6 * DAY)
    await done(registry)
    registry.clock.advance(DAY)
    restored = await registry.send("POST", f"{BERT}/versions/1.0.0/restore")
    again = await registry.send("POST", f"{BERT}/versions/1.0.0/restore")

    assert (restored.json["retired_at"], again.json) == (None, restored.json)
    assert (await verdicts(registry, await planned(registry)))[1] == "keep young"
    assert await trail(registry, first["id"]) == ["publish", "retire", "unretire"]
    assert (await registry.get(RETENTION)).json["total"]["returned"] == 1
    registry.clock.advance(5 * DAY)
    assert (await verdicts(registry, await planned(registry)))[1] == "retire surplus"


async def test_whoever_registers_or_publishes_the_same_again_wants_it(registry: Retained) -> None:
    source = {"source": {"uri": "s3://bucket/one"}}
    unlabelled = await registry.send("POST", f"{BERT}/versions", json=source)
    labelled = await registry.send("POST", f"{BERT}/versions", json={**source, "label": "a"})
    await registry.publish("bert", "b", {"f": b"b"})
    await registry.publish("bert", "c", {"f": b"c"})
    await policy(registry)
    assert (await done(registry))["retired"] == 3

    bodies = (source, {**source, "label": "a"})
    answers = [await registry.send("POST", f"{BERT}/versions", json=body) for body in bodies]
    published = await registry.send("POST", f"{BERT}/versions/b/publish")

    assert (unlabelled.status, labelled.status) == (201, 201)
    assert [one.status for one in (*answers, published)] == [200, 200, 200]
    assert [number for number, retired, _ in await stored(registry) if retired] == []
    assert [one.json["version"]["retired_at"] for one in answers] == [None, None]


async def test_a_purged_version_is_gone_burnt_and_comes_back_unretired(
    registry: Retained,
) -> None:
    [first, _] = await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    report = await done(registry)

    assert (report["purged"], report["refused"]) == (1, 0)
    assert await version(registry, 1) is None
    assert (await trail(registry, first["id"]))[-2:] == ["delete", "purge"]
    reasons = await registry.rows(
        "SELECT DISTINCT reason FROM audit WHERE action IN ('delete', 'purge')"
    )
    assert reasons == [("retention",)]
    other = await registry.put("/models/bert/1.0.0/f?publish=true", b"other")
    assert (other.status, other.code) == (409, "label_burnt")
    await registry.send("DELETE", "/models/bert/1.0.0")
    back = await registry.publish("bert", "1.0.0", {"f": b"bert 1"})
    assert (back["number"], back["retired_at"]) == (1, None)


async def test_purging_takes_along_what_the_version_had_gathered(registry: Retained) -> None:
    await publish(registry, 2)
    await bound(registry, version="1", provider="azure", status="inactive")
    metric = {"metrics": [{"name": "f1", "value": 0.5, "split": "test"}]}
    assert (await registry.send("POST", f"{BERT}/versions/1/metrics", json=metric)).status < 300
    assert (await registry.send("POST", f"{BERT}/versions/1/rate", json={})).status == 201
    await make_environment(registry)
    chat = await deployed(registry, "1.0.0")
    await verb(registry, chat, "terminate")
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    await done(registry)

    for table in ("bindings", "version_metrics", "scores", "deployments"):
        assert await registry.count(table) == 0, table
    assert await registry.rows("SELECT outcome FROM retention_lines WHERE action = 'purge'") == [
        ("purged",)
    ]


async def test_a_plan_is_applied_once_and_its_lines_tell_what_became_of_them(
    registry: Retained,
) -> None:
    await publish(registry, 3)
    await policy(registry)
    plan = await planned(registry)
    await applied(registry, plan)
    again = await registry.send("POST", f"{PLANS}/{plan['id']}/apply")

    assert (again.status, again.code) == (409, "plan_applied")
    found = (await registry.get(f"{PLANS}/{plan['id']}")).json
    assert (found["state"], found["outcomes"]) == ("applied", {"retired": 2})
    assert [one["number"] for one in await lines(registry, plan, "&outcome=retired")] == [1, 2]


async def test_what_was_done_is_told_by_the_day(registry: Retained) -> None:
    await publish(registry, 3)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    await done(registry)

    found = (await registry.get(f"{RETENTION}/statistics?days=1")).json

    assert (found["total"]["retired"], found["total"]["purged"]) == (2, 2)
    [day] = found["days"]
    assert (day["day"], day["done"]["purged"], day["done"]["retired"]) == ("2027-01-16", 2, 0)
    assert len((await registry.get(f"{RETENTION}/statistics")).json["days"]) == 2
