"""A bare aiohttp handler: the least that a server on Digestry's HTTP library can do for a blob.

`python -m bench.bare PORT` keeps what it is sent in memory and answers it again: no hash, no index,
no file, no middleware, nobody asked. It is the ceiling of small requests, not a registry.
"""

from __future__ import annotations

import sys

from aiohttp import web

from bench.processes import HOST

_LARGEST_BYTES = 1 << 20


class Kept:
    """Bodies by the last part of their path."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    async def get(self, request: web.Request) -> web.Response:
        body = self._bodies.get(request.match_info["name"])
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body)

    async def put(self, request: web.Request) -> web.Response:
        self._bodies[request.match_info["name"]] = await request.read()
        return web.Response(status=201)


async def ready(request: web.Request) -> web.Response:
    return web.Response()


def application() -> web.Application:
    kept = Kept()
    app = web.Application(client_max_size=_LARGEST_BYTES)
    app.router.add_get("/ready", ready)
    app.router.add_get("/blobs/{name}", kept.get)
    app.router.add_put("/blobs/{name}", kept.put)
    return app


if __name__ == "__main__":
    web.run_app(
        application(), host=HOST, port=int(sys.argv[1]), access_log=None, print=None, backlog=1024
    )
