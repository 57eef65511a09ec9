"""A bare handler that keeps files durably: the least that one request a file can cost.

`python -m bench.one_hop PORT DIRECTORY` reads a body, and in one hop to a thread hashes it, writes
it to a new file, syncs that and renames it to its digest. It asks nobody, keeps no index, and does
not sync the directory: what Digestry adds to this is the price of being a registry.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from bench.processes import HOST

_LARGEST_BYTES = 1 << 20
_THREADS = 8


class Files:
    """Bodies as files below a directory, two levels deep."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._serial = itertools.count()
        self._made: set[str] = set()

    async def put(self, request: web.Request) -> web.Response:
        content = await request.read()
        loop = asyncio.get_running_loop()
        digest = await loop.run_in_executor(self._pool, self._keep, content)
        return web.json_response({"digest": digest, "size": len(content)}, status=201)

    def _keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        staged = f"{self._directory}/staged-{next(self._serial)}"
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        folder = f"{self._directory}/{digest[:2]}/{digest[2:4]}"
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        os.rename(staged, f"{folder}/{digest}")
        return digest


async def ready(request: web.Request) -> web.Response:
    return web.Response()


def application(directory: Path) -> web.Application:
    app = web.Application(client_max_size=_LARGEST_BYTES)
    app.router.add_get("/ready", ready)
    app.router.add_put("/{path:.+}", Files(directory).put)
    return app


if __name__ == "__main__":
    web.run_app(
        application(Path(sys.argv[2])),
        host=HOST,
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        backlog=1024,
    )
