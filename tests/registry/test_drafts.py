"""Drafts: what gathers in them, when they may be published, and how they go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientError

from registry.catalog.folders import idle_drafts
from registry.domain.ids import FOLDER_UPLOAD, new_id
from registry.domain.principals import LOCAL
from registry.domain.trees import TreeFile, tree_digest
from registry.services.idle_drafts import expire_drafts
from store.clock import SECOND
from store.digest import Digest
from store.index.transactions import Tx
from tests.support.builders import Answer, Registry

CONTENT = b"weights" * 1000
OTHER = b"other bytes"
PUBLISH = "/api/v1/models/bert/versions/v1/publish"


async def idle(registry: Registry, *, idle_seconds: int) -> list[str]:
    """Labels of the drafts that nobody touched for so long."""
    before = registry.store.clock() - idle_seconds * SECOND
    found = await registry.store.index.read(partial(idle_drafts, before=before, limit=10))
    return [draft.label for draft in found]


class SlowBody:
    """A body whose end a test lets go."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.started = asyncio.Event()
        self.released = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self.content[:1]
        self.started.set()
        await self.released.wait()
        yield self.content[1:]


async def uploading(registry: Registry, path: str, body: SlowBody) -> asyncio.Task[Answer]:
    """An upload that has begun and waits to be released; the server knows of it."""
    task = asyncio.create_task(registry.put(path, body.pieces()))
    await body.started.wait()
    await known(registry)
    return task


async def known(registry: Registry) -> None:
    """Wait until the server knows of an upload."""
    async with asyncio.timeout(20):
        while not await registry.count("folder_uploads"):
            await asyncio.sleep(0.001)


async def test_files_gather_until_the_draft_is_published(registry: Registry) -> None:
    first = await registry.put("/models/bert/v1/a", CONTENT)
    await registry.put("/models/bert/v1/b", OTHER)
    published = await registry.send("POST", PUBLISH)

    assert (first.status, first.json["state"], first.json["version"]) == (201, "draft", None)
    assert first.json["publish_url"] == registry.url + PUBLISH
    assert published.status == 201
    assert published.json["version"]["files"] == 2
    assert await registry.count("folders") == 0


async def test_publishing_again_answers_the_same(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)

    first = await registry.send("POST", PUBLISH)
    second = await registry.send("POST", PUBLISH)

    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json


async def test_a_put_replaces_in_a_draft_and_lets_the_old_bytes_go(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)

    again = await registry.put("/models/bert/v1/a", CONTENT)
    other = await registry.put("/models/bert/v1/a", OTHER)

    assert (again.status, other.status) == (200, 200)
    assert (await registry.get("/models/bert/v1/a")).body == OTHER
    assert await registry.count("refs") == 1


async def test_a_draft_is_reached_by_its_label_only_and_never_kept(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)

    got = await registry.get("/models/bert/v1/a")
    listed = await registry.get("/models/bert/v1/")
    sums = await registry.get("/models/bert/v1/SHA256SUMS")
    archive = await registry.get("/models/bert/v1.tar")
    shown = await registry.get("/api/v1/models/bert/versions/v1")

    for answer in (got, listed, sums, archive, shown):
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert listed.json["draft"]["label"] == "v1"
    tree = str(tree_digest([TreeFile("a", Digest.of(CONTENT), len(CONTENT))]))
    for reference in ("1", "latest", "main", "@latest", "@v1", tree):
        assert (await registry.get(f"/models/bert/{reference}/a")).status == 404, reference


async def test_publishing_waits_for_uploads_and_names_them(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)
    body = SlowBody(OTHER)
    task = await uploading(registry, "/models/bert/v1/dir/b", body)

    refused = await registry.send("POST", PUBLISH)
    body.released.set()
    put = await task
    published = await registry.send("POST", PUBLISH)

    assert (refused.status, refused.code) == (409, "uploads_running")
    assert refused.json["uploads"] == ["dir/b"]
    assert put.status == 201
    assert (published.status, published.json["version"]["files"]) == (201, 2)


async def test_the_last_file_stays_when_its_publishing_is_refused(registry: Registry) -> None:
    body = SlowBody(OTHER)
    task = await uploading(registry, "/models/bert/v1/b", body)

    refused = await registry.put("/models/bert/v1/a?publish=true", CONTENT)
    body.released.set()
    await task

    assert (refused.status, refused.code) == (409, "uploads_running")
    listed = await registry.get("/models/bert/v1/")
    assert [file["path"] for file in listed.json["files"]] == ["a", "b"]
    retried = await registry.put("/models/bert/v1/a?publish=true", CONTENT)
    assert retried.json["version"]["files"] == 2


async def test_an_upload_that_breaks_off_leaves_nothing(registry: Registry) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        await known(registry)  # else it might break off before the server knows of it
        raise ConnectionResetError("gone")

    with pytest.raises((ClientError, ConnectionError)):
        await registry.put("/models/bert/v1/a", broken())
    async with asyncio.timeout(20):
        while await registry.count("folder_uploads"):
            await asyncio.sleep(0.001)

    assert await registry.count("models") == 0
    assert await registry.count("blobs") == 0


async def test_the_registration_of_a_dead_worker_lapses(registry: Registry) -> None:
    from registry.catalog.folders import register_upload

    await registry.put("/models/bert/v1/a", CONTENT)
    upload = new_id(FOLDER_UPLOAD, registry.store.clock())

    async def register(tx: Tx, expires_at: int) -> None:
        await register_upload(tx, upload, "bert", "v1", "b", LOCAL.id, expires_at=expires_at)

    now = registry.store.clock()
    await registry.store.index.run(lambda tx: register(tx, now + 600 * SECOND))
    refused = await registry.send("POST", PUBLISH)
    # The entry cannot be waited for, so its end is moved to the past instead.
    from registry.catalog.folders import renew_upload

    await registry.store.index.run(lambda tx: renew_upload(tx, upload, expires_at=now - 1))
    published = await registry.send("POST", PUBLISH)

    assert refused.code == "uploads_running"
    assert published.status == 201
    await registry.put("/models/bert/v2/a", CONTENT)  # sweeps lapsed entries


@pytest.mark.parametrize(
    "question",
    ["expect_files=2", "expect_tree=sha256:" + "0" * 64],
)
async def test_a_draft_that_is_not_complete_is_not_published(
    registry: Registry, question: str
) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)

    posted = await registry.send("POST", f"{PUBLISH}?{question}")
    put = await registry.put(f"/models/bert/v1/a?publish=true&{question}", CONTENT)

    for refused in (posted, put):
        assert (refused.status, refused.code) == (409, "draft_incomplete")
        assert refused.json["files"] == 1
    assert await registry.count("versions") == 0


async def test_a_complete_draft_is_published_and_proven_again(registry: Registry) -> None:
    tree = tree_digest(
        [TreeFile("a", Digest.of(CONTENT), len(CONTENT)), TreeFile("b", Digest.of(b""), 0)]
    )
    await registry.put("/models/bert/v1/a", CONTENT)
    question = f"expect_files=2&expect_tree={tree}"
    published = await registry.put(f"/models/bert/v1/b?publish=true&{question}", b"")
    again = await registry.send("POST", f"{PUBLISH}?{question}")
    other = await registry.send("POST", f"{PUBLISH}?expect_files=3")

    assert published.json["version"]["tree"] == str(tree)
    assert again.status == 200
    assert (other.status, other.code) == (409, "version_published")


async def test_an_empty_or_missing_draft_is_not_published(registry: Registry) -> None:
    missing_model = await registry.send("POST", PUBLISH)
    await registry.put("/models/bert/v1/a", CONTENT)
    missing = await registry.send("POST", "/api/v1/models/bert/versions/v2/publish")
    await registry.send("DELETE", "/models/bert/v1/a")
    empty = await registry.send("POST", PUBLISH)

    assert (missing_model.status, missing_model.code) == (404, "model_not_found")
    assert (missing.status, missing.code) == (404, "draft_not_found")
    assert (empty.status, empty.code) == (409, "draft_empty")


async def test_files_and_drafts_can_be_removed(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)
    await registry.put("/models/bert/v1/b", CONTENT)

    one = await registry.send("DELETE", "/models/bert/v1/a")
    again = await registry.send("DELETE", "/models/bert/v1/a")
    assert (one.status, again.status) == (204, 204)
    assert await registry.rows("SELECT kind, count FROM refs") == [("folder", 1)]

    whole = await registry.send("DELETE", "/models/bert/v1")
    assert whole.status == 204
    assert await registry.count("refs") == 0
    assert (await registry.get("/models/bert/v1/b")).status == 404


async def test_a_draft_is_not_discarded_under_a_running_upload(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)
    body = SlowBody(OTHER)
    task = await uploading(registry, "/models/bert/v1/b", body)

    refused = await registry.send("DELETE", "/models/bert/v1")
    body.released.set()

    assert (refused.status, refused.code) == (409, "uploads_running")
    assert (await task).status == 201


async def test_idle_drafts_are_listed_and_then_expire(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)
    await registry.publish("bert", "v2", {"a": CONTENT})
    await registry.put("/models/bert/v3/a", OTHER)
    now = registry.store.clock()
    month = 30 * 86400

    async def age(tx: Tx) -> Any:
        from sqlalchemy import text

        from store.index.transactions import Statement

        statement = Statement(text("UPDATE folders SET touched_at = :at WHERE label = 'v1'"))
        return await tx.run(statement, at=now - (month + 1) * SECOND)

    await registry.store.index.run(age)
    listed = await idle(registry, idle_seconds=month)
    expired = await expire_drafts(registry.store, idle_seconds=month)

    assert listed == ["v1"]
    assert expired == 1
    assert (await registry.get("/models/bert/v1/a")).status == 404
    assert (await registry.get("/models/bert/v2/a")).status == 200
    assert (await registry.get("/models/bert/v3/a")).status == 200


async def test_a_touched_draft_is_idle_no_more(registry: Registry) -> None:
    await registry.put("/models/bert/v1/a", CONTENT)
    assert await idle(registry, idle_seconds=-10) == ["v1"]

    assert await idle(registry, idle_seconds=60) == []


# Conditions on the file that is there


async def test_a_file_is_put_only_over_the_one_that_was_seen(registry: Registry) -> None:
    path = "/models/bert/v1/a"
    nothing = await registry.put(path, CONTENT, If_Match='"sha256:0"')
    first = await registry.put(path, CONTENT, If_None_Match="*")
    seen = first.headers["ETag"]
    again = await registry.put(path, OTHER, If_None_Match="*")
    second = await registry.put(path, OTHER, If_Match=seen)
    stale = await registry.put(path, CONTENT, If_Match=seen)
    kept = await registry.send("DELETE", path, headers={"If-Match": seen})
    gone = await registry.send("DELETE", path, headers={"If-Match": second.headers["ETag"]})

    assert [answer.status for answer in (first, second, gone)] == [201, 200, 204]
    for refused in (nothing, again, stale, kept):
        assert (refused.status, refused.code) == (412, "precondition_failed")
    assert await registry.count("folder_files") == 0


async def test_a_refused_condition_leaves_no_model_and_no_upload(registry: Registry) -> None:
    refused = await registry.put("/models/fresh/v1/a", CONTENT, If_Match='"sha256:0"')

    assert refused.status == 412
    assert await registry.count("models") == 0
    assert await registry.count("folder_uploads") == 0


async def test_of_two_who_saw_the_same_file_one_replaces_it(registry: Registry) -> None:
    """Both were admitted while it was there; the transaction that comes second sees the change."""
    path = "/models/bert/v1/a"
    seen = (await registry.put(path, CONTENT)).headers["ETag"]
    body = SlowBody(b"slow")
    slow = asyncio.create_task(
        registry.send("PUT", path, data=body.pieces(), headers={"If-Match": seen})
    )
    await body.started.wait()
    await known(registry)

    fast = await registry.put(path, OTHER, If_Match=seen)
    body.released.set()
    late = await slow

    assert (fast.status, late.status, late.code) == (200, 412, "precondition_failed")
    assert (await registry.get(path)).body == OTHER


async def test_conditions_hold_for_published_files_and_versions_too(registry: Registry) -> None:
    made = await registry.publish("bert", "v1", {"a": CONTENT})
    path = "/models/bert/v1/a"
    tag = (await registry.get(f"/api/v1/versions/{made['id']}")).headers["ETag"]

    same = await registry.put(path, CONTENT, If_Match=f'"{Digest.of(CONTENT)}"')
    new = await registry.put(path, CONTENT, If_None_Match="*")
    wrong = await registry.send("DELETE", "/models/bert/v1", headers={"If-Match": '"x"'})
    gone = await registry.send("DELETE", "/models/bert/v1", headers={"If-Match": tag})

    assert [one.status for one in (same, new, wrong, gone)] == [200, 412, 412, 204]
