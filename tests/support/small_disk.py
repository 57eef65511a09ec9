"""Fills a small disk through the API and makes room again. Prints what happened.

Run as a module by `tests.compat.test_full_disk`, with a directory on a file system of its own.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

from store import descriptors
from store.digest import Digest
from store.opening import Store
from tests.support.builders import Registry
from tests.support.retaining import ended
from tests.support.serving import opened, serving
from tests.support.soundness import assert_store_is_sound

SIZES = (6_000_000, 60_000, 900)
"""What is put until the disk is full for it: the rest of the room goes to smaller ones."""

REFUSALS = 5
TUS = {"Tus-Resumable": "1.0.0"}


class Filler:
    """Somebody who goes on until they are told that it is full."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.kept: dict[str, bytes] = {}
        self.chance = random.Random(1)
        self.answers: Counter[int] = Counter()

    async def put(self, size_bytes: int) -> int:
        content = self.chance.randbytes(size_bytes)
        digest = str(Digest.of(content))
        answer = await self.registry.put(f"/blobs/{digest}", content)
        self.answers[answer.status] += 1
        if answer.status == 201:
            self.kept[digest] = content
        else:
            assert (answer.status, answer.code) == (507, "storage_full"), answer.body
        return answer.status

    async def fill(self) -> None:
        for size_bytes in SIZES:
            refused = 0
            while refused < REFUSALS:
                refused += await self.put(size_bytes) == 507

    async def others_are_refused(self) -> None:
        """Whatever else needs room is told the same, or finds some yet."""
        registry = self.registry
        file = await registry.put("/models/full/1.0.0/f?publish=true", b"f" * 200_000)
        assert (file.status, file.code) == (507, "storage_full"), file.body
        begun = await registry.send("POST", "/uploads", headers={**TUS, "Upload-Length": "500000"})
        if begun.status == 201:
            url = begun.headers["Location"].removeprefix(registry.url)
            kind = "application/offset+octet-stream"
            head = {**TUS, "Upload-Offset": "0", "Content-Type": kind}
            sent = await registry.send("PATCH", url, data=b"u" * 500_000, headers=head)
            assert sent.status == 507, sent.body
            gone = await registry.send("DELETE", url, headers=TUS)
            assert gone.status == 204, gone.body
        else:
            assert begun.status == 507, begun.body

    async def check(self) -> None:
        for digest, content in self.kept.items():
            answer = await self.registry.get(f"/blobs/{digest}")
            assert (answer.status, answer.body == content) == (200, True), digest


async def fill_and_empty(store: Store, registry: Registry) -> None:
    filler = Filler(registry)
    for label in ("1.0.0", "2.0.0"):
        await registry.publish("old", label, {"f": label.encode() * 100_000})
    await filler.fill()
    full = len(filler.kept)
    assert full > 20, filler.answers
    await filler.others_are_refused()
    await filler.check()
    assert (await registry.get("/healthz")).status == 200
    for digest in list(filler.kept)[::4]:
        answer = await registry.send("DELETE", f"/blobs/{digest}")
        assert answer.status == 204, answer.body
        del filler.kept[digest]
    for path in ("", "/purge"):
        method = "POST" if path else "DELETE"
        answer = await registry.send(method, f"/api/v1/models/old/versions/1.0.0{path}")
        assert answer.status in (200, 204), (path, answer.body)
    for work, said in (("apply", {}), ("purge", {"everything": True})):
        started = await registry.send("POST", f"/api/v1/gc/{work}", json=said)
        done = await ended(registry, started)
        assert done["state"] == "succeeded", done
    await filler.check()
    assert await filler.put(SIZES[0]) == 201
    answer = await registry.put("/models/full/1.0.0/f?publish=true", b"f" * 200_000)
    assert answer.status == 201, answer.body
    await filler.check()
    report = await store.fsck.run(repair=True)
    lost = ("missing", "dangling", "orphan: ")
    assert [f for f in report.findings if f.problem.startswith(lost)] == []
    assert (await store.fsck.run(repair=False)).findings == []
    print(f"filled with {full} blobs, emptied and used again; answers {dict(filler.answers)}")


async def main(root: Path) -> None:
    store_opened = opened(root, grace_seconds=0, undo_seconds=0, max_share=1.0)
    async with store_opened as store, serving(store) as site:
        await fill_and_empty(store, Registry(site))
    assert_store_is_sound(root)


if __name__ == "__main__":
    # What idle readers hold open keeps its room for half a minute after it was removed.
    with mock.patch.object(descriptors, "MOST_IDLE", 0):
        asyncio.run(main(Path(sys.argv[1]) / "data"))
