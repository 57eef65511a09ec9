"""Memory does not grow with the size of a blob, on its way in or out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SIZE_MIB = 256
LIMIT_MIB = 40

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from store.opening import StoreSettings, initialize, open_store
from tests.support.storing import pinned

PIECE = os.urandom(1 << 18)

def resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024

async def source(mib):
    for n in range(4 * mib):
        yield PIECE

async def main(root, mib):
    store = await open_store(StoreSettings(root=root, reserve_bytes=0, reserve_share=0))
    await store.ingest.receive(source(1), pinned())
    before = resident()
    stored, _ = await store.ingest.receive(source(mib), pinned())
    async for piece in store.blobs.open(stored.digest):
        pass
    await store.scrub.run()
    upload = await store.uploads.create("usr_a", length=mib << 20, expected=None)
    await store.uploads.append(upload.id, 0, source(mib))
    print(resident() - before)
    await store.close()

root = Path(sys.argv[1])
initialize(root)
asyncio.run(main(root, int(sys.argv[2])))
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Storing, streaming, scrubbing and resuming a large blob needs no more than a few batches."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(SIZE_MIB)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < LIMIT_MIB
