"""Quotas through HTTP: refused early and in the transaction, kept right, and freed by purges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Final, cast

import pytest
from sqlalchemy import text

from registry.catalog.usage import miscounted
from registry.domain.principals import LOCAL
from registry.domain.references import parse_model
from registry.errors import QuotaExceeded
from registry.services.drafts import Body, Target, put_file
from registry.services.recounting import recount_usage
from store.digest import Digest
from store.index.transactions import Index, Statement, Tx
from tests.support.builders import Answer, Registry, tar_of

URL: Final = "/api/v1/namespaces"
KB: Final = 1024


def of(letter: str, size: int = KB) -> bytes:
    return letter.encode() * size


async def limit(registry: Registry, slug: str = "nlp", **quotas: int | None) -> None:
    """Make the namespace with quotas, or change them."""
    made = await registry.send("POST", URL, json={"slug": slug, **quotas})
    if made.status != 201:
        changed = await registry.send("PATCH", f"{URL}/{slug}", json=quotas)
        assert changed.status == 200, changed.body


async def used(registry: Registry, slug: str = "nlp") -> tuple[int, int]:
    """Bytes and versions, once it is sure that every kept row is the truth."""
    assert await registry.store.index.read(miscounted) == {}
    [row] = await registry.rows(
        "SELECT u.bytes, u.versions FROM namespace_usage AS u JOIN namespaces AS n "
        f"ON n.id = u.namespace WHERE n.slug = '{slug}'"
    )
    return row[0], row[1]


def refused(answer: Answer, status: int, quota: str = "bytes") -> bool:
    code = {413: "quota_exceeded", 429: "quota_reached"}[status]
    assert (answer.status, answer.code) == (status, code), answer.body
    assert (answer.json["quota"], answer.json["namespace"]) == (quota, "nlp")
    assert ("Retry-After" in answer.headers) == (status == 429)
    return True


# What counts


async def test_equal_bytes_count_once_in_a_namespace_and_again_in_another(
    registry: Registry,
) -> None:
    await registry.publish("nlp~a", "1.0.0", {"f": of("a"), "same": of("a"), "g": of("b")})
    await registry.publish("nlp~b", "1.0.0", {"f": of("a")})
    await registry.publish("nlp~b", "2.0.0", {"f": of("a"), "h": of("c")})
    await registry.publish("cv~a", "1.0.0", {"f": of("a")})

    assert await used(registry) == (3 * KB, 3)
    assert await used(registry, "cv") == (KB, 1)


async def test_what_a_draft_holds_counts_until_it_is_replaced_or_removed(
    registry: Registry,
) -> None:
    await registry.put("/models/nlp~a/1.0.0/f", of("a"))
    await registry.put("/models/nlp~a/1.0.0/g", of("b"))
    assert await used(registry) == (2 * KB, 0)

    await registry.put("/models/nlp~a/1.0.0/f", of("b"))
    assert await used(registry) == (KB, 0)
    await registry.send("DELETE", "/models/nlp~a/1.0.0/f")
    assert await used(registry) == (KB, 0)
    await registry.send("DELETE", "/models/nlp~a/1.0.0/g")
    assert await used(registry) == (0, 0)


async def test_renaming_takes_bytes_and_versions_along(registry: Registry) -> None:
    await registry.publish("nlp~a", "1.0.0", {"f": of("a"), "g": of("b")})
    await registry.publish("nlp~b", "1.0.0", {"f": of("a")})
    await limit(registry, "cv", quota_bytes=2 * KB - 1)
    move = partial(registry.send, "PATCH", "/api/v1/models/nlp~a", json={"name": "cv/a"})

    blocked = await move()
    assert (blocked.status, blocked.code) == (413, "quota_exceeded")
    assert (await used(registry), await used(registry, "cv")) == ((2 * KB, 2), (0, 0))

    await limit(registry, "cv", quota_bytes=2 * KB)
    assert (await move()).status == 200
    assert (await used(registry), await used(registry, "cv")) == ((KB, 1), (2 * KB, 1))


async def test_purging_frees_and_deleting_does_not(registry: Registry) -> None:
    await limit(registry, quota_bytes=2 * KB, quota_versions=2)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a")})
    await registry.publish("nlp~a", "2.0.0", {"f": of("b")})
    model = (await registry.get("/api/v1/models/nlp~a")).json

    await registry.send("DELETE", "/api/v1/models/nlp~a/versions/1.0.0")
    assert await used(registry) == (2 * KB, 2)
    assert refused(await registry.put("/models/nlp~a/3.0.0/f", of("c")), 429)

    version = "/api/v1/models/nlp~a/versions/1.0.0/purge"
    assert (await registry.send("POST", version)).status == 200
    assert await used(registry) == (KB, 1)
    assert (await registry.put("/models/nlp~a/3.0.0/f", of("c"))).status == 201

    await registry.send("DELETE", "/api/v1/models/nlp~a")
    purge = f"/api/v1/models/{model['id']}/purge"
    assert (await registry.send("POST", purge)).status in (200, 202, 204)
    assert await used(registry) == (0, 0)


async def spoiled(registry: Registry) -> None:
    """A namespace of one version of `KB` bytes, whose row says something else."""
    await registry.publish("nlp~a", "1.0.0", {"f": of("a")})
    wrong = Statement(text("UPDATE namespace_usage SET bytes = 7, versions = 9 WHERE bytes > 0"))

    async def spoil(tx: Tx) -> int:
        return await tx.run(wrong)

    await registry.store.index.run(spoil)


async def test_fsck_finds_and_repairs_usage_that_is_wrong(registry: Registry) -> None:
    await spoiled(registry)
    said = "usage: 7 bytes and 9 versions are counted, 1024 and 1 are there"

    for repair, action in ((False, "none"), (True, "counted anew")):
        started = await registry.send("POST", "/api/v1/fsck", json={"repair": repair})
        done = started.json
        while done["state"] == "running":
            await asyncio.sleep(0)
            done = (await registry.get(started.json["url"])).json
        [found] = done["report"]["findings"]
        assert (found["problem"], found["action"], done["findings"]) == (said, action, 1)
    assert await registry.store.index.read(miscounted) == {}
    assert await used(registry) == (KB, 1)


@pytest.mark.parametrize("gone", [False, True], ids=["grows", "shrinks to nothing"])
async def test_what_changes_while_usage_is_repaired_is_counted(
    registry: Registry, gone: bool
) -> None:
    await spoiled(registry)
    changes = ["PUT /models/nlp~a/2.0.0.tar"]
    if gone:
        changes = ["DELETE /api/v1/models/nlp~a/versions/1.0.0"]

    class Racing:
        """An index where something happens between the comparison and the repair."""

        read = registry.store.index.read

        async def run(self, unit: Any) -> Any:
            while changes:
                method, path = changes.pop().split()
                changed = await registry.send(method, path, data=tar_of({"f": of("b", 3 * KB)}))
                assert changed.status in (200, 201, 204), changed.body
                if gone:
                    purged = await registry.send("POST", f"{path}/purge")
                    assert purged.status in (200, 202, 204), purged.body
            return await registry.store.index.run(unit)

    [found] = await recount_usage(cast("Index", Racing()), repair=True)

    assert found.action == "counted anew"
    assert await used(registry) == ((0, 0) if gone else (4 * KB, 2))


# What is refused


async def test_what_is_announced_too_long_is_refused_before_it_travels(
    registry: Registry,
) -> None:
    await limit(registry, quota_bytes=2 * KB)
    await registry.put("/models/nlp~a/1.0.0/f", of("a", KB + 1))
    before = registry.store.ingest.blobs_stored

    assert refused(await registry.put("/models/nlp~a/1.0.0/g", of("b", 3 * KB)), 413)
    assert refused(await registry.put("/models/nlp~new/1.0.0/g", of("b", 3 * KB)), 413)
    assert refused(await registry.put("/models/nlp~a/1.0.0/g", of("b")), 429)

    assert registry.store.ingest.blobs_stored == before
    assert (await registry.put("/models/nlp~a/1.0.0/f", of("c", 2 * KB))).status in (200, 201)


@pytest.mark.parametrize("model", ["nlp/a", "nlp/new"])
async def test_not_a_byte_of_what_is_refused_early_is_read(registry: Registry, model: str) -> None:
    await limit(registry, quota_bytes=2 * KB)
    await registry.send("POST", "/api/v1/models", json={"name": "nlp/a"})
    target = Target(parse_model(model), "1.0.0", "f")

    async def unread() -> AsyncGenerator[bytes, None]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(QuotaExceeded):
        await put_file(registry.store, LOCAL, target, Body(unread(), size_bytes=3 * KB))


async def test_what_was_purged_returns_only_where_it_fits(registry: Registry) -> None:
    await limit(registry, quota_bytes=2 * KB, quota_versions=1)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a")})
    await registry.send("DELETE", "/api/v1/models/nlp~a/versions/1.0.0")
    await registry.send("POST", "/api/v1/models/nlp~a/versions/1.0.0/purge")
    await registry.publish("nlp~a", "2.0.0", {"f": of("b")})
    again = partial(registry.put, "/models/nlp~a/1.0.0.tar", tar_of({"f": of("a")}))

    assert refused(await again(), 429, "versions")
    assert await used(registry) == (KB, 1)
    await limit(registry, quota_versions=2)
    assert (await again()).status == 201
    assert await used(registry) == (2 * KB, 2)


async def test_what_is_there_already_may_be_named_again_in_a_full_namespace(
    registry: Registry,
) -> None:
    await limit(registry, quota_bytes=KB, quota_versions=1)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a")})
    await limit(registry, quota_bytes=1)

    digest = Digest.of(of("a"))
    again = await registry.put(f"/models/nlp~b/1.0.0/f?digest={digest}", of("a"))
    assert again.status == 201
    draft = await registry.send("POST", "/api/v1/models/nlp~b/versions/1.0.0/publish")
    assert refused(draft, 429, "versions")


async def test_every_door_is_refused_in_its_transaction(registry: Registry) -> None:
    await limit(registry, quota_bytes=2 * KB)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a")})
    sent = [await registry.put("/blobs/", of(letter)) for letter in "bc"]
    assert {one.status for one in sent} == {201}
    files = [{"path": c, "digest": str(Digest.of(of(c)))} for c in "bc"]
    versions = "/api/v1/models/nlp~a/versions"

    assert refused(await registry.send("POST", versions, json={"files": files}), 429)
    draft = {"files": files, "label": "2.0.0", "publish": False}
    assert refused(await registry.send("POST", versions, json=draft), 429)
    archive = tar_of({c: of(c) for c in "bc"})
    assert refused(await registry.put("/models/nlp~a/2.0.0.tar", archive), 429)
    larger = tar_of({c: of(c) for c in "bcd"})
    assert refused(await registry.put("/models/nlp~a/2.0.0.tar", larger), 413)

    assert await used(registry) == (KB, 1)
    one = await registry.send("POST", versions, json={"files": files[:1]})
    assert one.status == 201
    assert await used(registry) == (2 * KB, 2)


async def test_however_many_writers_no_more_gets_in_than_the_quota(registry: Registry) -> None:
    await limit(registry, quota_bytes=10 * KB)
    await registry.send("POST", "/api/v1/models", json={"name": "nlp/a"})

    async def put(number: int) -> int:
        path = f"/models/nlp~a/1.0.0/{number}"
        return (await registry.put(path, number.to_bytes(2, "big") * (KB // 2))).status

    outcome = sorted(await asyncio.gather(*map(put, range(64))))

    assert outcome == [201] * 10 + [429] * 54
    assert await used(registry) == (10 * KB, 0)


async def test_quotas_on_versions_stand_however_many_publish(registry: Registry) -> None:
    await limit(registry, quota_versions=3)
    blob = {"path": "f", "digest": str(Digest.of(b"x"))}
    await registry.put("/blobs/", b"x")

    async def publish(number: int) -> Answer:
        wish = {"label": f"v{number}", "files": [blob]}
        return await registry.send("POST", "/api/v1/models/nlp~a/versions", json=wish)

    answers = await asyncio.gather(*map(publish, range(16)))

    assert sorted(one.status for one in answers) == [201] * 3 + [429] * 13
    assert all(refused(one, 429, "versions") for one in answers if one.status == 429)
    assert await used(registry) == (1, 3)
