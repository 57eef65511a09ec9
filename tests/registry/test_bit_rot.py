"""Random bits of random blobs flip: scrub finds each, strict reads send none, an upload heals.

Each run draws another seed, which is printed when a test fails.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from store.backends.local import LocalBlobStore
from store.digest import Digest
from store.segments import SEGMENT_BYTES
from tests.support.builders import Registry, files_in
from tests.support.serving import head, opened, serving

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
BLOBS = 120 if LONG else 16
LABEL = "1.0.0"


class Rotting(Registry):
    """A registry on a disk that changes bits."""

    chance: random.Random

    async def fill(self) -> dict[str, bytes]:
        """Files of one version, by their paths, of every size that is read in another way."""
        files = {}
        for number in range(BLOBS):
            most = self.chance.choice([20, 300, 70_000, 3 * SEGMENT_BYTES])
            files[f"f{number:03}"] = self.chance.randbytes(self.chance.randrange(9, most))
        await self.publish("rot", LABEL, files)
        return files

    def flip(self, content: bytes) -> None:
        """Change one to three bits on the disk, behind everybody's back."""
        assert isinstance(self.store.blobs, LocalBlobStore)
        path = self.store.blobs.path_of(Digest.of(content))
        rotten = bytearray(content)
        while rotten == content:
            for _ in range(self.chance.randrange(1, 4)):
                rotten[self.chance.randrange(len(rotten))] ^= 1 << self.chance.randrange(8)
        path.chmod(0o600)
        path.write_bytes(rotten)
        self.store.reading.forget(Digest.of(content))  # small ones are kept in memory for a while

    def some(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """A third of the files."""
        return {path: files[path] for path in self.chance.sample(sorted(files), len(files) // 3)}

    async def received(self, path: str, span: tuple[int, int] | None = None) -> tuple[int, bytes]:
        """Status and whatever came of a body before the connection ended, whole or not."""
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        if span is not None:
            lines.append(f"Range: bytes={span[0]}-{span[1] - 1}")
        reader, writer = await self.site.connect()
        writer.write("\r\n".join([*lines, "", ""]).encode())
        raw = b""
        with suppress(ConnectionResetError):
            while piece := await reader.read(1 << 16):
                raw += piece
        writer.close()
        status, _, body = head(raw)
        return status, body


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Rotting]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    async with opened(tmp_path / "data", verify_reads="strict") as store, serving(store) as site:
        registry = Rotting(site)
        registry.chance = random.Random(seed)
        yield registry


async def test_scrub_finds_every_flipped_bit(registry: Rotting) -> None:
    files = await registry.fill()
    bad = registry.some(files)
    for content in bad.values():
        registry.flip(content)

    report = await registry.store.scrub.run()

    assert report.blobs == len(files)
    assert {one.digest for one in report.findings} == {str(Digest.of(c)) for c in bad.values()}
    for path, content in bad.items():
        answer = await registry.get(f"/models/rot/{LABEL}/{path}")
        assert answer.status >= 400, path
        assert (await registry.put(f"/blobs/{Digest.of(content)}", content)).status in (200, 201)
    for path, content in files.items():
        assert (await registry.get(f"/models/rot/{LABEL}/{path}")).body == content
    assert (await registry.store.scrub.run()).findings == []


async def test_no_strict_read_sends_a_damaged_byte(registry: Rotting) -> None:
    """Whatever arrives of a file, a range or an archive is what was stored, or less of it."""
    files = await registry.fill()
    tar = (await registry.get(f"/models/rot/{LABEL}.tar")).body
    assert files_in(tar) == files
    bad = registry.some(files)
    for content in bad.values():
        registry.flip(content)

    status, body = await registry.received(f"/models/rot/{LABEL}.tar")
    assert status >= 400 or tar.startswith(body)
    assert len(body) < len(tar)
    for path in registry.chance.sample(sorted(files), len(files)):
        content = files[path]
        start = registry.chance.randrange(len(content))
        stop = registry.chance.randrange(start, len(content)) + 1
        for door in (f"/models/rot/{LABEL}/{path}", f"/blobs/{Digest.of(content)}"):
            status, body = await registry.received(door, (start, stop))
            whole_status, whole = await registry.received(door)
            assert status >= 400 or content[start:stop].startswith(body), path
            assert whole_status >= 400 or content.startswith(whole), path
            if path in bad:
                assert whole_status >= 400 or len(whole) < len(content), path
            else:
                assert (whole_status, whole) == (200, content)
                assert (status, body) == (206, content[start:stop])
    await registry.store.reading.settle()

    for content in bad.values():
        assert (await registry.put(f"/blobs/{Digest.of(content)}", content)).status in (200, 201)
    assert (await registry.get(f"/models/rot/{LABEL}.tar")).body == tar
    assert (await registry.store.scrub.run()).findings == []
