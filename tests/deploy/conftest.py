"""One scrape of a server with two workers, one of which was killed; for all who read metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.promtool import samples
from tests.support.servers import running_server, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What ``/metrics`` says before the leader is killed, and after it was replaced."""
    with running_server(tmp_path_factory.mktemp("scraped") / "data", workers=2) as server:
        wait_until(lambda: len(server.worker_pids()) == 2, "two workers")
        server.request("PUT", "/blobs/model.bin", b"x" * 1000)
        for _ in range(8):
            server.get("/healthz")

        def scrape() -> str:
            return server.get("/metrics")[1].decode()

        # Bytes are written down for others on a timer.
        received = "digestry_http_received_bytes_total"
        wait_until(lambda: samples(scrape())[received] >= 1000, received)
        wait_until(lambda: samples(scrape())["digestry_workers"] == 2, "both are counted")
        before = scrape()
        server.kill_worker()
        wait_until(
            lambda: (
                samples(after := scrape())["digestry_worker_restarts_total"] == 1
                and samples(after)["digestry_workers"] == 2
                and samples(after)["digestry_leaders"] == 1
            ),
            "another worker and another leader",
        )
        return before, scrape()
