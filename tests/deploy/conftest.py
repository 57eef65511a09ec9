"""One scrape of a server with two workers, one of which was killed; for all who read metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.promtool import samples
from tests.support.servers import running_server, wait_until

ROOT = Path(__file__).resolve().parents[2]

ASKED = {
    "digestry_http_received_bytes_total": 1000,
    'digestry_http_requests_total{method="GET",route="/healthz",status="200"}': 8,
    "digestry_workers": 2,
}
"""What is told once both workers have written down what they were asked."""


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

        # Each worker writes down for others on a timer what it counted; some of it may have been
        # before the last of these requests.
        wait_until(lambda: ASKED.items() <= samples(scrape()).items(), "all that was asked")
        before = scrape()
        server.kill_worker()
        wait_until(
            lambda: (
                (after := samples(scrape()))["digestry_worker_restarts_total"] == 1
                and after["digestry_workers"] == 2
                and after["digestry_leaders"] == 1
            ),
            "another worker and another leader",
        )
        return before, scrape()
