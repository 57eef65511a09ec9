"""Retired versions in the cold tier: read through every door as before, and brought back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.domain.principals import HOUSEKEEPING
from registry.services.archive import archive_retired, keep_archive, show_archive, thaw_wanted
from store.digest import Digest
from store.segments import SEGMENT_BYTES
from tests.support.builders import tar_of
from tests.support.clock import ManualClock
from tests.support.deploying import trail
from tests.support.retaining import Retained, done, ended, policy, retained, version
from tests.support.storing import row_of

ARCHIVE = "/api/v1/archive"
BERT = "/api/v1/models/bert/versions"
WEIGHTS = random.Random(3).randbytes(SEGMENT_BYTES) + b"0123456789abcdef" * (SEGMENT_BYTES // 8)
FILES = {"config.json": b'{"layers": 2}' * 20, "weights/model.bin": WEIGHTS, "empty": b""}


@pytest.fixture
def mode() -> str:
    return "boot"


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock, mode: str) -> AsyncIterator[Retained]:
    async with retained(tmp_path / "data", clock, verify_reads=mode) as running:
        yield running
        await running.check()


async def is_cold(registry: Retained, content: bytes) -> bool:
    row = await row_of(registry.store, Digest.of(content))
    assert row is not None
    assert row.is_present
    return row.is_cold


async def retire_first(registry: Retained) -> Any:
    """Two versions of bert, of which a policy retires the first; returns that."""
    first = await registry.publish("bert", "1.0.0", FILES)
    await registry.publish("bert", "2.0.0", {"config.json": b"two"})
    await policy(registry, purge_after_days=None)
    assert (await done(registry))["retired"] == 1
    return first


async def archived(registry: Retained) -> Any:
    first = await retire_first(registry)
    assert await keep_archive(registry.store, bytes_per_second=0) == 1
    return first


@pytest.mark.parametrize("mode", ["boot", "strict", "scrub"])
async def test_a_cold_version_is_listed_as_such_and_read_through_every_door(
    registry: Retained,
) -> None:
    first = await archived(registry)

    assert (await version(registry, 1))["tier"] == "cold"
    assert (await version(registry, 2))["tier"] == "hot"
    listed = await registry.get("/api/v1/versions?tier=cold")
    assert [item["number"] for item in listed.json["items"]] == [1]
    for content in FILES.values():
        assert await is_cold(registry, content)
    for path, content in FILES.items():
        whole = await registry.get(f"/models/bert/1.0.0/{path}")
        assert (whole.status, whole.body) == (200, content)
        head = await registry.send("HEAD", f"/models/bert/1.0.0/{path}")
        assert head.headers["Content-Length"] == str(len(content))
        by_digest = await registry.get(f"/blobs/{Digest.of(content)}")
        assert by_digest.body == content
    for start, stop in ((0, 1), (SEGMENT_BYTES - 5, SEGMENT_BYTES + 5), (17, len(WEIGHTS) - 1)):
        part = await registry.get(
            "/models/bert/1.0.0/weights/model.bin", Range=f"bytes={start}-{stop - 1}"
        )
        assert (part.status, part.body) == (206, WEIGHTS[start:stop])
    tar = await registry.get("/models/bert/1.0.0.tar")
    assert hashlib.sha256(tar.body).hexdigest()
    assert WEIGHTS in tar.body
    by_tree = await registry.get(f"/models/bert/{first['tree']}/config.json")
    assert by_tree.body == FILES["config.json"]
    sums = await registry.get("/models/bert/1.0.0/SHA256SUMS")
    assert Digest.of(WEIGHTS).hex in sums.body.decode()
    assert await trail(registry, first["id"]) == ["publish", "retire", "archive"]


async def test_restoring_brings_the_bytes_back_verified(registry: Retained) -> None:
    first = await archived(registry)

    restored = await registry.send("POST", f"{BERT}/1.0.0/restore")
    assert (restored.status, restored.json["tier"]) == (200, "cold")
    assert (await registry.get("/models/bert/1.0.0/config.json")).body == FILES["config.json"]
    assert await thaw_wanted(registry.store) == 1

    assert (await version(registry, 1))["tier"] == "hot"
    assert not any([await is_cold(registry, content) for content in FILES.values()])
    assert (await registry.get("/models/bert/1.0.0/weights/model.bin")).body == WEIGHTS
    assert await trail(registry, first["id"]) == [
        *("publish", "retire", "archive", "unretire", "thaw"),
    ]
    counted = (await registry.get("/api/v1/retention/statistics")).json
    sizes = sum(map(len, FILES.values()))
    for told in (counted["total"], counted["days"][0]["done"]):
        assert (told["archived"], told["archived_bytes"], told["thawed"]) == (1, sizes, 1)
    metrics = (await registry.get("/metrics")).body.decode()
    assert 'digestry_retention_versions_total{action="thawed"} 1.0' in metrics
    assert await thaw_wanted(registry.store) == 0


async def test_a_new_version_of_cold_bytes_brings_them_back(registry: Retained) -> None:
    """Read from the archive meanwhile; what only the retired one has stays there."""
    await archived(registry)
    content = FILES["config.json"]
    files = [{"path": "c.json", "digest": str(Digest.of(content))}]
    body = {"label": "3.0.0", "files": files, "publish": True}
    made = await registry.send("POST", BERT, json=body)
    assert made.status == 201, made.body
    assert (await version(registry, 3))["tier"] == "hot"
    assert await is_cold(registry, content)
    assert (await registry.get("/models/bert/3.0.0/c.json")).body == content

    assert await thaw_wanted(registry.store) == 1

    assert (await is_cold(registry, content), await is_cold(registry, WEIGHTS)) == (False, True)
    assert (await registry.get("/models/bert/3.0.0/c.json")).body == content
    # The retired version is not all cold any more, and goes again once it may.
    ran = await archive_retired(registry.store, HOUSEKEEPING)
    assert (ran.versions, ran.blobs, ran.kept) == (0, 0, 1)
    assert (await version(registry, 1))["tier"] == "hot"
    for path in ("", "/purge"):
        method = "POST" if path else "DELETE"
        answer = await registry.send(method, f"{BERT}/3.0.0{path}")
        assert answer.status in (200, 204), answer.body
    ran = await archive_retired(registry.store, HOUSEKEEPING)
    assert (ran.versions, ran.blobs, await is_cold(registry, content)) == (1, 1, True)


async def test_where_nothing_is_archived_a_new_version_leaves_no_note(registry: Retained) -> None:
    await registry.publish("bert", "1.0.0", FILES)

    assert await thaw_wanted(registry.store) == 0


async def test_what_a_living_version_shares_stays_hot(registry: Retained) -> None:
    shared, alone = b"in both", b"in the old one alone"
    await registry.publish("bert", "1.0.0", {"shared": shared, "alone": alone})
    await registry.publish("bert", "2.0.0", {"shared": shared})
    await registry.publish("other", "1.0.0", {"alone": b"of another model"})
    await policy(registry, purge_after_days=None)
    await done(registry)

    ran = await archive_retired(registry.store, HOUSEKEEPING)

    assert (ran.versions, ran.blobs, ran.kept, ran.failed) == (0, 1, 1, 0)
    assert (await is_cold(registry, shared), await is_cold(registry, alone)) == (False, True)
    assert (await version(registry, 1))["tier"] == "hot"


@pytest.mark.parametrize("how", ["pin", "draft", "model", "deleted"])
async def test_whoever_else_needs_a_blob_keeps_it_hot(registry: Retained, how: str) -> None:
    content = FILES["config.json"]
    if how == "model":
        await registry.publish("other", "1.0.0", {"f": content})
    if how == "deleted":
        await registry.publish("other", "1.0.0", {"f": content})
        await registry.publish("other", "2.0.0", {"f": b"else"})
        await registry.send("DELETE", "/api/v1/models/other/versions/1.0.0")
    await retire_first(registry)
    if how == "pin":
        await registry.send("POST", "/api/v1/pins", json={"digest": str(Digest.of(content))})
    if how == "draft":
        assert (await registry.put("/models/other/9.0.0/f", content)).status == 201

    ran = await archive_retired(registry.store, HOUSEKEEPING)

    assert (ran.versions, ran.blobs, ran.kept) == (0, 2, 1)
    assert not await is_cold(registry, content)


async def test_versions_of_two_models_that_share_go_together_once_both_are_retired(
    registry: Retained,
) -> None:
    content = FILES["config.json"]
    await registry.publish("other", "1.0.0", {"f": content, "again": content})
    await registry.publish("other", "2.0.0", {"f": b"else"})
    await retire_first(registry)
    assert await keep_archive(registry.store, bytes_per_second=0) == 0
    await policy(registry, model="other", purge_after_days=None)
    await done(registry, model="other")

    assert await keep_archive(registry.store, bytes_per_second=0) == 2

    assert await is_cold(registry, content)
    assert (await version(registry, 1, "other"))["tier"] == "cold"


async def test_publishing_the_same_again_makes_it_hot(registry: Retained) -> None:
    await archived(registry)

    published = await registry.publish("other", "1.0.0", FILES)

    assert published["tier"] == "hot"
    assert not any([await is_cold(registry, content) for content in FILES.values()])
    assert (await registry.get("/models/bert/1.0.0/weights/model.bin")).body == WEIGHTS
    tar = tar_of({"f": FILES["config.json"]})
    assert (await registry.put("/models/third/1.0.0.tar", tar)).status in (200, 201)


async def test_an_archive_that_is_away_answers_how_to_get_it_back(
    registry: Retained, tmp_path: Path
) -> None:
    await archived(registry)
    root = tmp_path / "data"
    (root / "archive").rename(root / "away")

    for path in ("/models/bert/1.0.0/weights/model.bin", "/models/bert/1.0.0/config.json"):
        answer = await registry.get(path)
        assert (answer.status, answer.code) == (503, "archive_unavailable")
        assert "mount" in answer.json["reason"]
        assert str(tmp_path) not in answer.body.decode()
        assert "Retry-After" in answer.headers
    shown = await registry.get(ARCHIVE)
    assert (shown.json["problem"], shown.json["where"]) == (
        answer.json["reason"],
        str(root / "archive"),
    )
    scrubbed = await registry.store.scrub.run()
    assert [finding.action for finding in scrubbed.findings] == ["none"] * 3
    checked = await registry.store.fsck.run(repair=True)
    assert [finding.action for finding in checked.findings] == ["none"]
    await registry.store.reading.settle()
    (root / "away").rename(root / "archive")
    assert (await registry.get("/models/bert/1.0.0/weights/model.bin")).body == WEIGHTS


async def test_the_archive_can_be_asked_about_and_set_to_work(registry: Retained) -> None:
    await retire_first(registry)

    operation = await ended(registry, await registry.send("POST", f"{ARCHIVE}/run"))

    assert (operation["state"], operation["group"]) == ("succeeded", "archive")
    assert operation["report"]["versions"] == 1
    assert operation["report"]["bytes"] == sum(map(len, FILES.values()))
    shown = (await registry.get(ARCHIVE)).json
    assert (shown["versions"], shown["blobs"], shown["problem"]) == (1, 3, None)
    assert shown["size"] == sum(map(len, FILES.values())) == shown["version_size"]
    assert SEGMENT_BYTES < shown["stored_size"] < shown["size"] * 0.6
    assert shown["operation"]["id"] == operation["id"]


async def test_a_pass_cut_short_is_gone_on_with(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await retire_first(registry)
    cool = registry.store.archive.cool
    moved = 0

    async def cut_short(*args: Any) -> Any:
        nonlocal moved
        if moved:
            raise RuntimeError("killed")
        moved += 1
        return await cool(*args)

    monkeypatch.setattr(registry.store.archive, "cool", cut_short)
    with pytest.raises(RuntimeError):
        await archive_retired(registry.store, HOUSEKEEPING)
    monkeypatch.undo()
    assert (await version(registry, 1))["tier"] == "hot"

    ran = await archive_retired(registry.store, HOUSEKEEPING)

    assert (ran.versions, ran.blobs) == (1, 2)


async def test_what_is_wanted_again_while_it_moves_stays_hot(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was judged when it was retired; the transaction that moves it looks again."""
    await retire_first(registry)
    cool = registry.store.archive.cool

    async def restored_first(*args: Any) -> Any:
        await registry.send("POST", f"{BERT}/1.0.0/restore")
        return await cool(*args)

    monkeypatch.setattr(registry.store.archive, "cool", restored_first)
    ran = await archive_retired(registry.store, HOUSEKEEPING)

    assert (ran.versions, ran.blobs, ran.kept) == (0, 0, 3)


class Stopwatch:
    """An `asyncio` whose time passes in sleep alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def get_running_loop(self) -> Stopwatch:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_rate_is_kept(registry: Retained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is read to be moved, and of what is read again to see that it was."""
    await retire_first(registry)
    watch = Stopwatch()
    monkeypatch.setattr("store.pace.asyncio", watch)

    await archive_retired(registry.store, HOUSEKEEPING, bytes_per_second=len(WEIGHTS))

    assert watch.now == pytest.approx(2 * sum(map(len, FILES.values())) / len(WEIGHTS))


async def test_after_a_restore_all_is_hot_and_goes_cold_again(
    registry: Retained, tmp_path: Path
) -> None:
    """The bytes came along as they were before; versions still said that they were cold."""
    await archived(registry)
    await thaw_all(registry)
    await registry.store.index.run(_other_epoch)

    assert await keep_archive(registry.store, bytes_per_second=0) == 1

    assert (await version(registry, 1))["tier"] == "cold"
    assert (await show_archive(registry.store)).archive.totals.blobs == 3
    await registry.store.index.run(_first_epoch)


async def thaw_all(registry: Retained) -> None:
    for content in FILES.values():
        await registry.store.archive.thaw(Digest.of(content))
    await registry.store.ingest.close()


async def _other_epoch(tx: Any) -> None:
    from store.index.state import put_state

    await put_state(tx, "epoch", "2")


async def _first_epoch(tx: Any) -> None:
    from store.index.state import put_state

    await put_state(tx, "epoch", "1")
