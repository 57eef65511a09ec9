"""A model goes to another registry and comes back, the same but for who and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from registry.domain import tars
from registry.keys import DRAIN
from registry.services import imports
from registry.services.moves import ALIAS_CHECKS, STATUS_CHECKS
from registry.services.stowing import SMALL_BYTES
from store.digest import Digest
from store.index.claims import drop_leases
from tests.support.builders import Registry, files_in, running_registry
from tests.support.exporting import documents, edited, export, import_
from tests.support.people import AUTHENTICATED, Person, grant, make_person
from tests.support.serving import opened, serving

MODEL = "/api/v1/models/nlp~bert"
LARGE = bytes(range(256)) * 1200


@pytest.fixture
async def other() -> AsyncIterator[Registry]:
    """Another registry, which is empty."""
    async with running_registry(None) as running:
        yield running
        await running.check()


async def filled(registry: Registry) -> None:
    """A model with one of everything that an export takes along."""
    send = registry.send
    assert (await send("POST", "/api/v1/teams", json={"name": "vision"})).status == 201
    about = {
        "name": "nlp/bert",
        "description": "Ünicode",
        "task_type": "fill-mask",
        "team": "vision",
        "risk_level": "high",
        "tags": {"language": "en", "bare": ""},
    }
    assert (await send("POST", "/api/v1/models", json=about)).status == 201
    await registry.publish(
        "nlp~bert", "1.0.0", {"w.bin": LARGE, "a/%C3%BC.json": b"{}", "empty": b""}
    )
    await registry.publish("nlp~bert", "1.1.0", {"w.bin": LARGE, "a/%C3%BC.json": b"[1]"})
    await registry.publish("nlp~bert", "bad", {"w.bin": b"a mistake"})
    assert (await send("DELETE", "/models/nlp~bert/bad")).status == 204
    said = {
        "source": {"uri": "s3://here/b", "digest": f"sha256:{'ab' * 32}", "size": 7},
        "status": "production",
        "framework": "pytorch",
        "eval_score": 0.25,
        "slo_met": False,
        "parameters": {"b": [1, 2.5], "a": {"deep": None}},
        "metadata": {"note": "x"},
        "tags": {"stage": "gold"},
        "lineage": [
            {"relation": "fine-tuned", "parent": {"model": "nlp/bert", "version": "1.0.0"}},
            {"relation": "trained-on", "parent": {"uri": "hf:c4", "kind": "dataset"}},
        ],
    }
    made = await send("POST", f"{MODEL}/versions", json=said)
    assert made.status == 201, made.body
    metrics = [
        {"name": "loss", "split": "train", "value": "NaN", "time": "2026-01-02T03:04:05.000006Z"},
        {"name": "acc", "split": "test", "value": 0.1 + 0.2, "time": "2026-01-02T03:04:05Z"},
    ]
    sent = await send("POST", f"{MODEL}/versions/4/metrics", json={"metrics": metrics})
    assert sent.status == 201, sent.body
    for version, reason in (("1.0.0", "first"), ("1.1.0", ""), ("1.0.0", "back")):
        move = {"version": version, "reason": reason}
        moved = await send("PUT", f"{MODEL}/aliases/Champion", json=move)
        assert moved.status in (200, 201)
    await send("PUT", f"{MODEL}/aliases/gone", json={"version": "1.0.0"})
    assert (await send("DELETE", f"{MODEL}/aliases/gone")).status == 204
    card = await registry.put(f"{MODEL}/card", "# Bért".encode(), Content_Type="text/markdown")
    assert card.status in (201, 204), card.body


def declared(document: Any, *, name: str) -> Any:
    """A document without what an import changes, as registry/API.md declares it."""
    found = json.loads(json.dumps(document))
    found.pop("created_at", None)
    found.pop("created_by", None)
    if name == "model.json":
        for alias in found["aliases"]:
            for move in alias["moves"]:
                del move["at"], move["by"]
                move.pop("reason", None)
    found.get("metadata", {}).pop("imported_from", None)
    if not found.get("metadata", {"kept": True}):
        del found["metadata"]
    return found


def comparable(archive: bytes) -> dict[str, Any]:
    told = documents(archive)
    return {
        name: declared(told[name], name=name) if name in told else content
        for name, content in files_in(archive).items()
    }


async def test_what_is_exported_imported_and_exported_is_the_same(
    registry: Registry, other: Registry
) -> None:
    await filled(registry)
    await other.send("POST", "/api/v1/teams", json={"name": "vision"})
    first = await export(registry, "nlp~bert")

    imported = await import_(other, first)
    second = await export(other, "nlp~bert")

    assert imported.status == 201, imported.body
    assert imported.json["left_out"] == {}
    assert (imported.json["versions"], imported.json["burnt"]) == (3, 1)
    assert list(comparable(second)) == list(comparable(first))
    assert comparable(second) == comparable(first)
    assert await export(registry, "nlp~bert") == first, "the same model gives the same bytes"

    again = await import_(other, second, "?name=again")
    third = await export(other, "again")

    assert again.status == 201, again.body
    entries = files_in(second)
    for name, content in files_in(third).items():
        if name.startswith(("trees/", "blobs/")):
            assert content == entries[name]
    for name in ("versions/0000000001.json", "versions/0000000004.json"):
        origin = documents(second)[name]["metadata"]["imported_from"]
        assert documents(third)[name]["metadata"]["imported_from"] == origin, "the first one stays"
    assert reasons(third) == reasons(second), "a remark is made once"


def reasons(archive: bytes) -> list[str]:
    aliases = documents(archive)["model.json"]["aliases"]
    return [move["reason"] for alias in aliases for move in alias["moves"]]


async def test_a_model_arrives_with_its_history(registry: Registry, other: Registry) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert")
    assert (await import_(other, archive)).status == 201

    versions = (await other.get(f"{MODEL}/versions?deleted=false")).json["items"]
    moves = (await other.get(f"{MODEL}/aliases/champion/history")).json["items"]
    file = await other.get("/models/nlp~bert/@champion/a/%C3%BC.json")
    burnt = await other.put("/models/nlp~bert/bad/w.bin?publish=true", b"something else")
    returned = await other.put("/models/nlp~bert/bad/w.bin?publish=true", b"a mistake")
    origin = (await other.get(f"{MODEL}/versions/1")).json["metadata"]["imported_from"]
    lineage = (await other.get(f"{MODEL}/versions/4/lineage/ancestors")).json
    metrics = (await other.get(f"{MODEL}/versions/4/metrics")).json["items"]

    assert [(one["number"], one["label"], one["status"]) for one in versions] == [
        (4, None, "production"),
        (2, "1.1.0", "registered"),
        (1, "1.0.0", "registered"),
    ]
    assert [one["version"]["number"] for one in moves] == [1, 2, 1]
    assert moves[-1]["reason"].startswith("imported: ")
    assert moves[-1]["reason"].endswith(" by usr_local: first")
    assert (file.status, file.body) == (200, b"{}")
    assert (burnt.status, burnt.code) == (409, "label_burnt")
    assert (returned.status, returned.json["version"]["number"]) == (200, 3)
    assert (origin["model"], origin["version"], origin["created_by"]) == (
        "nlp/bert",
        1,
        "usr_local",
    )
    assert {node["kind"] for node in lineage["nodes"]} == {"version", "dataset"}
    assert {(one["name"], one["value"]) for one in metrics} == {("acc", 0.1 + 0.2), ("loss", "NaN")}
    card = await other.get(f"{MODEL}/card")
    assert card.body == "# Bért".encode()
    publish = await other.publish("nlp~bert", "1.2.0", {"w.bin": b"new"})
    assert publish["number"] == 5


async def test_an_export_has_a_length_an_entity_tag_and_ranges(registry: Registry) -> None:
    await filled(registry)
    path = f"{MODEL}/export"
    whole = await registry.get(path)
    head = await registry.send("HEAD", path)

    assert int(head.headers["Content-Length"]) == len(whole.body)
    assert head.headers["ETag"] == whole.headers["ETag"]
    unchanged = await registry.get(path, If_None_Match=whole.headers["ETag"])
    assert unchanged.status == 304
    step = len(whole.body) // 37
    for start in [0, 1, 511, 512, *range(700, len(whole.body), step), len(whole.body) - 1]:
        stop = min(len(whole.body), start + step)
        part = await registry.get(path, Range=f"bytes={start}-{stop - 1}")
        assert (part.status, part.body) == (206, whole.body[start:stop]), start
    await registry.put("/models/nlp~bert/9.0.0/f?publish=true", b"more")
    moved = await registry.get(path, Range="bytes=5-", If_Range=whole.headers["ETag"])
    assert (moved.status, len(moved.body) > len(whole.body)) == (200, True)


async def test_chosen_versions_leave_the_numbers_of_the_others_unused(
    registry: Registry, other: Registry
) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert", "?version=1.1.0")
    told = documents(archive)

    assert [name for name in told if name.startswith("versions")] == ["versions/0000000002.json"]
    assert [alias["name"] for alias in told["model.json"]["aliases"]] == []
    assert told["digestry.json"]["blobs"] == 2
    assert (await import_(other, archive)).status == 201
    latest = await other.get(f"{MODEL}/aliases/latest")
    assert latest.json["version"]["number"] == 2
    assert (await other.publish("nlp~bert", "2.0.0", {"f": b"1"}))["number"] == 5
    first = documents(await export(registry, "nlp~bert", "?version=1.0.0"))
    aliases = {alias["name"]: alias["moves"] for alias in first["model.json"]["aliases"]}
    assert [move["to"] for move in aliases["Champion"]] == [1], "away and back is no move"
    unknown = await registry.get(f"{MODEL}/export?version=7.7.7")
    assert (unknown.status, unknown.code) == (404, "version_not_found")


async def test_a_name_that_is_taken_is_refused_before_the_files_travel(registry: Registry) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert")
    await registry.send("POST", f"{MODEL}/rename", json={"name": "nlp/roberta"})
    start = archive[: archive.index(b"blobs/") - 512]

    async def only_the_documents() -> AsyncIterator[bytes]:
        yield start

    former = await import_(registry, archive)
    taken = await import_(registry, only_the_documents(), "?name=nlp/roberta")
    wrong = await import_(registry, archive, "?name=a%25b")
    renamed = await import_(registry, archive, "?name=elsewhere/bert")

    assert (former.status, former.code) == (409, "name_redirects")
    assert (taken.status, taken.code) == (409, "model_name_taken")
    assert (wrong.status, wrong.code) == (400, "model_name_invalid")
    assert (renamed.status, renamed.json["model"]["name"]) == (201, "elsewhere/bert")
    lineage = await registry.get("/api/v1/models/elsewhere~bert/versions/4/lineage/ancestors")
    named = {node.get("model") for node in lineage.json["nodes"]} - {None}
    assert named == {"elsewhere/bert"}, "parents within the model are those of the copy"


async def test_what_is_stored_is_not_stored_again(registry: Registry) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert")
    stored = registry.store.ingest.blobs_stored

    imported = await import_(registry, archive, "?name=copy")

    assert imported.status == 201, imported.body
    rows = await registry.rows("SELECT count(*) FROM blobs WHERE size > 65536")
    assert [tuple(row) for row in rows] == [(1,)]
    small = len([name for name in files_in(archive) if name.startswith("blobs/")]) - 1
    assert registry.store.ingest.blobs_stored - stored == small, "the large one was only compared"


async def test_other_bytes_are_refused_where_the_right_ones_are_stored_too(
    registry: Registry,
) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert")
    at = archive.index(LARGE)
    wrong = archive[:at] + b"\xff" + archive[at + 1 :]

    refused = await import_(registry, wrong, "?name=copy")

    assert (refused.status, refused.code) == (422, "digest_mismatch")
    assert (await registry.get("/api/v1/models/copy")).status == 404


async def test_an_import_that_fails_leaves_the_trees_of_another_alone(
    registry: Registry, other: Registry
) -> None:
    await registry.publish("bert", "1.0.0", {"w.bin": LARGE})
    archive = await export(registry, "bert")
    at = archive.index(LARGE)
    go_on = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        yield archive[:at]
        await go_on.wait()
        yield archive[at:]

    slow = asyncio.create_task(import_(other, waits(), "?name=slow"))
    while not await other.count("trees"):
        await asyncio.sleep(0.01)
    refused = await import_(other, archive[:at] + b"x" * (len(archive) - at), "?name=bad")
    await other.store.ingest.close()
    go_on.set()

    assert refused.status in (400, 422)
    assert (await slow).status == 201


@pytest.mark.parametrize(("is_leased", "status"), [(True, 201), (False, 409)])
async def test_what_was_skipped_must_still_be_there_at_the_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, is_leased: bool, status: int
) -> None:
    """Skipping leases; without, the last transaction sees that the blob is nobody's any more."""
    digest = f"/blobs/{Digest.of(LARGE)}"
    async with running_registry(None) as source:
        await source.publish("bert", "1.0.0", {"w.bin": LARGE})
        archive = await export(source, "bert")
    await registry.put(digest, LARGE)

    compare, was_skipped = imports._compare, asyncio.Event()

    async def comparing(*arguments: Any) -> None:
        await compare(*arguments)
        was_skipped.set()

    monkeypatch.setattr(imports, "_compare", comparing)

    async def lets_go() -> AsyncIterator[bytes]:
        yield archive.removesuffix(tars.END)
        await was_skipped.wait()
        assert (await registry.send("DELETE", digest)).status == 204
        yield tars.END

    if not is_leased:
        monkeypatch.setattr(imports, "_lease", _pretends)
    imported = await import_(registry, lets_go())

    assert imported.status == status, imported.body
    await registry.store.ingest.close()
    left = await registry.rows("SELECT holder FROM leases")
    assert [tuple(row) for row in left] == [("released_usr_local",)], "of the release alone"
    await registry.store.index.run(partial(drop_leases, holder="released_usr_local"))
    if not is_leased:
        assert imported.code == "content_missing"


async def _pretends(*_: object) -> bool:
    return True


async def test_parents_that_are_elsewhere_stay_told_of(registry: Registry, other: Registry) -> None:
    await registry.publish("base", "1.0.0", {"f": b"base"})
    await registry.publish("base", "2.0.0", {"f": b"base 2"})
    edges = [
        {"relation": "merged", "parent": {"model": "base", "version": label}}
        for label in ("1.0.0", "2.0.0")
    ]
    said = {"source": {"uri": "s3://x"}, "lineage": edges}
    assert (await registry.send("POST", "/api/v1/models/m/versions", json=said)).status == 201
    await other.publish("base", "1.0.0", {"f": b"base"})
    await other.publish("base", "two", {"f": b"another thing"})

    imported = await import_(other, await export(registry, "m"))
    lineage = await other.get("/api/v1/models/m/versions/1/lineage/ancestors")

    assert imported.json["left_out"] == {"parents": 1}
    nodes = [node for node in lineage.json["nodes"] if node["depth"]]
    assert {node["kind"] for node in nodes} == {"version", "external"}
    external = [node["id"] for node in nodes if node["kind"] == "external"]
    assert external[0].startswith("urn:digestry:elsewhere:base:2.0.0:sha256:")


async def test_what_is_left_behind_is_said(registry: Registry, other: Registry) -> None:
    await filled(registry)
    review = {"verdict": "approve", "comment": "good"}
    await registry.send("POST", f"{MODEL}/versions/1.0.0/reviews", json=review)
    assert (await registry.send("POST", f"{MODEL}/versions/1.0.0/rate")).status in (200, 201)
    await registry.send("PATCH", MODEL, json={"visibility": "public"})
    archive = await export(registry, "nlp~bert")

    imported = await import_(other, archive)

    version = documents(archive)["versions/0000000001.json"]
    assert version["reviews"][0]["comment"] == "good"
    scores = len(version["scores"])
    assert scores > 5
    assert imported.json["left_out"] == {"reviews": 1, "scores": scores, "team": 1}
    assert imported.json["model"]["visibility"] == "private", "the namespace's"
    assert await other.count("reviews") == await other.count("scores") == 0


async def test_both_ways_are_told_in_the_audit_log(registry: Registry, other: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    archive = await export(registry, "bert")
    await registry.send("HEAD", "/api/v1/models/bert/export")
    await import_(other, archive, "?name=copy")

    taken = await registry.rows("SELECT kind, name, after FROM audit WHERE action = 'export'")
    made = await other.rows("SELECT kind, name, actor, after FROM audit WHERE action = 'import'")

    assert [row[:2] for row in taken] == [("model", "bert")]
    assert json.loads(taken[0][2])["blobs"] == 1
    assert [row[:3] for row in made] == [("model", "copy", "usr_local")]
    assert json.loads(made[0][3])["from"]["model"] == "bert"


async def test_a_repeat_with_a_key_is_answered_as_before(
    registry: Registry, other: Registry
) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    archive = await export(registry, "bert")

    first = await import_(other, archive, Idempotency_Key="once")
    again = await import_(other, archive, Idempotency_Key="once")
    differs = edited(archive, "model.json", lambda model: model.update(description="other"))
    reused = await import_(other, differs, Idempotency_Key="once")

    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (reused.status, reused.code) == (422, "idempotency_key_reused")


async def test_guards_are_asked_where_aliases_and_statuses_come_to_stand(
    registry: Registry, other: Registry
) -> None:
    await filled(registry)
    archive = await export(registry, "nlp~bert")
    aliases: list[tuple[str, str | None]] = []
    statuses: list[str] = []

    async def of_alias(tx: object, principal: object, wish: Any) -> None:
        aliases.append((wish.name, wish.to))

    async def of_status(tx: object, principal: object, wish: Any) -> None:
        statuses.append(wish.status)

    ALIAS_CHECKS.append(of_alias)
    STATUS_CHECKS.append(of_status)
    try:
        assert (await import_(other, archive)).status == 201
    finally:
        ALIAS_CHECKS.remove(of_alias)
        STATUS_CHECKS.remove(of_status)

    assert {name for name, _ in aliases} == {"Champion", "gone", "latest", "main"}
    assert set(statuses) == {"production"}


async def test_an_import_that_broke_off_goes_on_with_what_it_has(
    registry: Registry, other: Registry
) -> None:
    blobs = [bytes([n]) * (SMALL_BYTES + 1) for n in range(140)]
    await registry.publish("big", "1.0.0", {f"{n}.bin": blob for n, blob in enumerate(blobs)})
    archive = await export(registry, "big")

    async def half() -> AsyncIterator[bytes]:
        sent = 0
        while sent < len(archive) * 0.97:
            yield archive[sent : sent + 65536]
            sent += 65536
            await asyncio.sleep(0)
        while True:  # until the test hangs up
            await asyncio.sleep(0.01)

    broken = asyncio.create_task(import_(other, half()))
    await other.site.until(lambda: other.store.ingest.blobs_stored >= 128)
    broken.cancel()
    await asyncio.wait([broken])
    drain = other.site.app[DRAIN]
    await other.site.until(lambda: not drain.in_flight)
    await other.store.ingest.close()
    before = other.store.ingest.blobs_stored
    leased, trees = await other.count("leases"), await other.count("trees")

    done = await import_(other, archive)

    assert (leased >= 128, trees) == (True, 0)
    assert done.status == 201, done.body
    assert other.store.ingest.blobs_stored - before <= len(blobs) - 128


# Who may.


async def test_importing_takes_publishing_and_moving_where_the_model_will_be() -> None:
    """Held elsewhere, in the namespace of one's own name say, they open nothing."""
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        root = await make_person(store, "root", is_admin=True)
        writer = await make_person(store, "writer")
        lead = await make_person(store, "lead")
        await grant(store, writer, "writer", kind="namespace", on="nlp")
        await grant(store, lead, "maintainer", kind="namespace", on="nlp*")
        path = "/models/nlp~bert/1.0.0/weights.bin?publish=true"
        assert (await site.ask("PUT", path, data=b"weights", headers=root.headers)).status == 201
        archive = (
            await site.ask("GET", "/api/v1/models/nlp~bert/export", headers=root.headers)
        ).body

        async def imported(person: Person, name: str) -> tuple[int, str]:
            answer = await site.ask(
                "POST", f"/api/v1/imports?name={name}", data=archive, headers=person.headers
            )
            return answer.status, "" if answer.status == 201 else answer.code

        assert await imported(writer, "nlp/copy") == (403, "denied")
        assert await imported(writer, "other/copy") == (404, "namespace_not_found")
        assert await imported(writer, "writer/copy") == (201, "")
        assert await imported(lead, "nlp/copy") == (201, "")
        assert await imported(lead, "nlp-new/copy") == (201, "")
