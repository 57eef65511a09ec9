"""Scrapes of a server with two workers, one of which was killed; for all who read metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.promtool import samples
from tests.support.servers import Server, make_like_new, running_server, wait_until
from tests.support.serving import opened
from tests.support.storing import put

ROOT = Path(__file__).resolve().parents[2]
CONTENT: Final = b"x" * 1000

ASKED: Final = {
    "digestry_http_received_bytes_total": len(CONTENT),
    'digestry_http_requests_total{method="GET",route="/healthz",status="200"}': 8,
    "digestry_workers": 2,
    "digestry_leaders": 1,
    "digestry_worker_restarts_total": 0,
}
"""What is told once both workers have written down for others, on a timer, what they were asked."""


async def fill(data: Path) -> None:
    """The blob is there before anybody counts blobs, which is done once in ten seconds or more."""
    async with opened(data) as store:
        await put(store, CONTENT, owner="usr_local")


def told(server: Server, wanted: Mapping[str, float]) -> str:
    """The first scrape that tells all of that."""

    def scrape() -> str | None:
        text = server.get("/metrics")[1].decode()
        return text if wanted.items() <= samples(text).items() else None

    return str(wait_until(scrape, f"{wanted}"))


@pytest.fixture(scope="session")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What ``/metrics`` says before a worker is killed, and after it was replaced."""
    data = tmp_path_factory.mktemp("scraped") / "data"
    make_like_new(data)
    asyncio.run(fill(data))
    with running_server(data, workers=2) as server:
        wait_until(lambda: len(server.worker_pids()) == 2, "two workers")
        server.request("PUT", "/blobs/model.bin", CONTENT)
        for _ in range(8):
            server.get("/healthz")
        before = told(server, ASKED)
        server.kill_worker()
        return before, told(server, {**ASKED, "digestry_worker_restarts_total": 1})
