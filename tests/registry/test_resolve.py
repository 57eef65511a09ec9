"""Which version a reference means: `latest`, aliases by hand, deletion and return."""

from __future__ import annotations

import pytest

from tests.support.builders import Registry

ALIASES = "/api/v1/models/bert/aliases"


async def number_at(registry: Registry, reference: str) -> int | None:
    got = await registry.get(f"/api/v1/models/bert/versions/{reference}")
    if got.status == 404:
        return None
    found: int = got.json["number"]
    return found


@pytest.mark.parametrize(
    ("labels", "latest"),
    [
        (["1.0.0"], 1),
        (["1.0.0", "2.0.0"], 2),
        (["2.0.0", "1.0.1"], 1),
        (["1.9.0", "1.10.0", "1.9.1"], 2),
        (["v1.0.0", "v1.0.1-rc.1"], 1),
        (["1.0.0-rc.1", "1.0.0-rc.2"], 2),
        (["1.0.0-rc.2", "1.0.0-rc.1"], 2),
        (["1.0.0-rc.1", "1.0.0"], 2),
        (["1.0.0", "1.0.0+build.2"], 2),
        (["3.0.0", "nightly", "1.0.0"], 2),
        (["2026-11-20", "2026-11-21"], 2),
        (["1.0.0", "1.0"], 2),
    ],
)
async def test_publishing_moves_latest_and_main_by_one_rule(
    registry: Registry, labels: list[str], latest: int
) -> None:
    for label in labels:
        await registry.publish("bert", label, {"f": label.encode()})

    assert await number_at(registry, "latest") == latest
    assert await number_at(registry, "@main") == latest


async def test_a_deleted_version_is_gone_from_every_name_and_latest_falls_back(
    registry: Registry,
) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    version = await registry.publish("bert", "2.0.0", {"f": b"2"})

    deleted = await registry.send("DELETE", "/models/bert/2.0.0")

    assert deleted.status == 204
    for reference in ("2", "2.0.0", version["id"], version["revision"], version["tree"]):
        assert (await registry.get(f"/models/bert/{reference}/f")).status == 404, reference
    assert await number_at(registry, "latest") == 1


async def test_deleting_the_only_version_removes_latest(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})

    await registry.send("DELETE", "/models/bert/1")

    assert await number_at(registry, "latest") is None
    listed = await registry.get(ALIASES)
    assert listed.json["items"] == []


async def test_a_deleted_label_is_burnt_for_other_files(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await registry.send("DELETE", "/models/bert/v1")

    put = await registry.put("/models/bert/v1/f?publish=true", b"2")

    assert (put.status, put.code) == (409, "label_burnt")
    await registry.send("DELETE", "/models/bert/v1")


async def test_the_same_files_return_under_a_burnt_label_with_their_number(
    registry: Registry,
) -> None:
    before = await registry.publish("bert", "v1", {"f": b"1"})
    await registry.publish("bert", "v2", {"f": b"2"})
    await registry.send("DELETE", "/models/bert/v1")

    put = await registry.put("/models/bert/v1/f?publish=true", b"1")

    after = put.json["version"]
    assert put.status == 201
    assert [
        after[name] for name in ("id", "number", "label", "tree", "revision", "created_at")
    ] == [before[name] for name in ("id", "number", "label", "tree", "revision", "created_at")]
    assert await number_at(registry, "latest") == 2


async def test_numbers_are_never_used_again(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await registry.send("DELETE", "/models/bert/v1")

    assert (await registry.publish("bert", "v2", {"f": b"2"}))["number"] == 2


async def test_a_deleted_version_can_be_restored(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.publish("bert", "2.0.0", {"f": b"2"})
    await registry.send("DELETE", "/models/bert/2.0.0")

    restored = await registry.send("POST", "/api/v1/models/bert/versions/2/restore")
    again = await registry.send("POST", "/api/v1/models/bert/versions/2/restore")

    assert (restored.status, restored.json["label"]) == (200, "2.0.0")
    assert again.json == restored.json
    assert (await registry.get("/models/bert/2.0.0/f")).body == b"2"
    assert await number_at(registry, "latest") == 2


async def test_an_alias_is_made_moved_read_and_removed(registry: Registry) -> None:
    first = await registry.publish("bert", "v1", {"f": b"1"})
    second = await registry.publish("bert", "v2", {"f": b"2"})

    made = await registry.send(
        "PUT", f"{ALIASES}/champion", json={"version": "v1", "reason": "won"}
    )
    moved = await registry.send("PUT", f"{ALIASES}/champion", json={"version": "2"})
    got = await registry.get("/models/bert/@champion/f")
    history = await registry.get(f"{ALIASES}/champion/history")
    removed = await registry.send("DELETE", f"{ALIASES}/champion")

    assert (made.status, made.json["revision"]) == (201, first["revision"])
    assert (moved.status, moved.json["version"]["number"]) == (200, 2)
    assert got.body == b"2"
    events = [(e["from_revision"], e["to_revision"], e["reason"]) for e in history.json["items"]]
    assert events == [
        (first["revision"], second["revision"], ""),
        (None, first["revision"], "won"),
    ]
    assert removed.status == 204
    assert (await registry.get("/models/bert/@champion/f")).status == 404
    assert len((await registry.get(f"{ALIASES}/champion/history")).json["items"]) == 3


async def test_an_alias_moves_only_from_where_it_is_believed_to_be(registry: Registry) -> None:
    first = await registry.publish("bert", "v1", {"f": b"1"})
    second = await registry.publish("bert", "v2", {"f": b"2"})
    await registry.send("PUT", f"{ALIASES}/champion", json={"version": "v1"})

    wrong = await registry.send(
        "PUT", f"{ALIASES}/champion", json={"version": "v2", "expected": second["revision"]}
    )
    right = await registry.send(
        "PUT", f"{ALIASES}/champion", json={"version": "v2", "expected": first["revision"]}
    )

    assert (wrong.status, wrong.code) == (412, "precondition_failed")
    assert right.status == 200


async def test_labels_and_aliases_share_one_name_space(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await registry.put("/models/bert/v2-draft/f", b"2")

    label = await registry.send("PUT", f"{ALIASES}/V1", json={"version": "1"})
    draft = await registry.send("PUT", f"{ALIASES}/v2-draft", json={"version": "1"})
    to_draft = await registry.send("PUT", f"{ALIASES}/x", json={"version": "v2-draft"})

    assert (label.status, label.code) == (409, "alias_is_label")
    assert (draft.status, draft.code) == (409, "alias_is_label")
    assert (to_draft.status, to_draft.code) == (409, "alias_to_draft")


@pytest.mark.parametrize("name", ["12", "a" * 40, "x.tar", "-x", "a%20b"])
async def test_aliases_follow_the_grammar_of_labels(registry: Registry, name: str) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})

    put = await registry.send("PUT", f"{ALIASES}/{name}", json={"version": "1"})

    assert (put.status, put.code) == (400, "alias_invalid")


async def test_a_hand_move_of_latest_holds_until_an_eligible_publish(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.publish("bert", "2.0.0", {"f": b"2"})
    await registry.send("PUT", f"{ALIASES}/latest", json={"version": "1.0.0"})

    await registry.publish("bert", "1.0.1", {"f": b"3"})
    held = await number_at(registry, "latest"), await number_at(registry, "main")
    await registry.publish("bert", "2.0.1", {"f": b"4"})

    assert held == (1, 2)
    assert await number_at(registry, "latest") == 4


async def test_a_hand_move_ends_with_its_target(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.publish("bert", "2.0.0", {"f": b"2"})
    await registry.send("PUT", f"{ALIASES}/latest", json={"version": "1.0.0"})

    await registry.send("DELETE", "/models/bert/1.0.0")

    assert await number_at(registry, "latest") == 2


async def test_deleting_another_version_can_make_one_eligible(registry: Registry) -> None:
    await registry.publish("bert", "2.0.0", {"f": b"1"})
    await registry.publish("bert", "nightly", {"f": b"2"})
    await registry.publish("bert", "1.0.0", {"f": b"3"})
    before = await number_at(registry, "latest")

    await registry.send("DELETE", "/models/bert/2.0.0")

    assert (before, await number_at(registry, "latest")) == (2, 3)


async def test_what_an_alias_serves_is_not_deleted(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await registry.send("PUT", f"{ALIASES}/champion", json={"version": "v1"})

    by_label = await registry.send("DELETE", "/models/bert/v1")
    by_alias = await registry.send("DELETE", "/models/bert/@champion")

    assert (by_label.status, by_label.code) == (409, "version_aliased")
    assert by_label.json["aliases"] == ["champion"]
    assert (by_alias.status, by_alias.code) == (409, "label_required")
    assert (await registry.get("/models/bert/v1/f")).status == 200


async def test_a_deleted_version_keeps_its_bytes(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})

    await registry.send("DELETE", "/models/bert/v1")

    assert await registry.rows("SELECT kind, count FROM refs") == [("tree", 1)]


async def test_misspelt_fields_of_a_move_are_refused(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})

    put = await registry.send("PUT", f"{ALIASES}/x", json={"version": "1", "raeson": "?"})

    assert put.status == 400
