"""A backup beside a busy registry: every version that was acknowledged before comes back."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from registry.catalog.schema import SCHEMA_NUMBER as CATALOG_NUMBER
from registry.services.backups import files_of_versions
from store.backups.directory import index_path
from store.backups.making import make_backup
from store.backups.restoring import restore_backup
from store.digest import Digest
from store.holds import IndexHold
from store.index.schema import SCHEMA_NUMBER as STORE_NUMBER
from tests.support.builders import Registry, running_registry
from tests.support.serving import opened, serving

NEWEST = STORE_NUMBER * 1000 + CATALOG_NUMBER
VERSION = "/api/v1/models/{model}/versions/{label}"


def files_of(model: str, label: str) -> dict[str, bytes]:
    """The files that a version of that name has, here and now and after a restore."""
    return {
        "config.json": f"{model} {label}".encode() * 20,
        "weights/model.bin": f"weights of {model} {label}".encode() * 5000,
    }


async def test_every_version_that_was_acknowledged_is_restored_byte_by_byte(
    tmp_path: Path,
) -> None:
    """While others publish, delete and purge versions, collect, and empty quarantine."""
    labels = [f"1.{number}.0" for number in range(8)]
    root, target, new = (tmp_path / name for name in ("data", "backup", "new"))
    is_over = asyncio.Event()
    begun = threading.Event()

    async def publish(registry: Registry, model: str) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            await registry.publish(model, f"{number}.0", files_of(model, f"{number}.0"))

    async def remove(registry: Registry) -> None:
        for label in labels[:6]:
            path = VERSION.format(model="bert", label=label)
            number = labels.index(label) + 1
            assert (await registry.send("DELETE", path)).status < 300
            purged = VERSION.format(model="bert", label=number) + "/purge"
            assert (await registry.send("POST", purged)).status < 300
            await registry.store.collector.apply(await registry.store.collector.plan())
            await registry.store.collector.purge(everything=True)

    def begin(stage: str, done: int, total: int) -> None:
        if stage == "blobs":
            begun.set()

    async with opened(root, grace_seconds=0, max_share=1.0) as store, serving(store) as site:
        registry = Registry(site)
        for label in labels:
            await registry.publish("bert", label, files_of("bert", label))
        writers = [asyncio.create_task(publish(registry, model)) for model in ("gpt", "t5")]
        async with IndexHold(store.index, "backup") as hold:
            making = asyncio.create_task(
                asyncio.to_thread(make_backup, root, target, hold=hold, at_once=1, report=begin)
            )
            await asyncio.to_thread(begun.wait)
            await remove(registry)
            report = await making
        is_over.set()
        await asyncio.gather(*writers)
    assert report.missing == []
    new.mkdir()
    await asyncio.to_thread(restore_backup, target, new, newest=NEWEST)

    async with running_registry(new) as restored:
        for label in labels:
            await check(restored, "bert", label)
        listed = (await restored.get("/api/v1/models")).json["items"]
        for model in {one["name"] for one in listed} - {"bert", "default/bert"}:
            versions = (
                await restored.get(f"/api/v1/models/{model.replace('/', '~')}/versions")
            ).json
            for version in versions["items"]:
                await check(restored, model.rpartition("/")[2], version["label"])
        assert (await restored.store.fsck.run(repair=False)).findings == []


async def check(registry: Registry, model: str, label: str) -> None:
    for path, content in files_of(model, label).items():
        answer = await registry.get(f"/models/{model}/{label}/{path}")
        assert (answer.status, answer.body) == (200, content), (model, label, path)


async def test_a_blob_is_named_by_the_files_of_versions(tmp_path: Path) -> None:
    files = {"a.bin": b"shared", "b.bin": b"shared", "c.bin": b"alone"}
    async with running_registry(tmp_path / "data") as registry:
        for label in ("1.0.0", "1.1.0"):
            await registry.publish("nlp~bert", label, files)
        await registry.put("/blobs/free.bin", b"in no version")
        async with IndexHold(registry.store.index, "backup") as hold:
            await asyncio.to_thread(make_backup, tmp_path / "data", tmp_path / "backup", hold=hold)
    digests = [str(Digest.of(content)) for content in (b"shared", b"in no version")]
    found = files_of_versions(index_path(tmp_path / "backup", 1), digests)

    assert {(one.digest, one.model, one.number, one.label, one.path) for one in found} == {
        (digests[0], "nlp/bert", number, label, path)
        for number, label in ((1, "1.0.0"), (2, "1.1.0"))
        for path in ("a.bin", "b.bin")
    }
    assert files_of_versions(index_path(tmp_path / "backup", 1), []) == []
