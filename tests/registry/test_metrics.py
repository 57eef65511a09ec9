from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from registry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
from registry.metrics import Metrics
metrics = Metrics()
metrics.gauge("digestry_test", "A test.", lambda: 2.0)
for _ in range(int(sys.argv[1])):
    metrics.request("/blobs/{digest}", "GET", 200, 0.002, 10, 20)
metrics.sample()
print(metrics.render().decode())
"""


def worker(directory: Path, requests: int) -> str:
    found = subprocess.run(
        [sys.executable, "-c", WORKER, str(requests)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    return found.stdout


def test_any_worker_answers_for_all(tmp_path: Path) -> None:
    worker(tmp_path, 2)
    text = worker(tmp_path, 3)

    assert (
        'digestry_http_requests_total{method="GET",route="/blobs/{digest}",status="200"} 5.0'
    ) in text
    assert "digestry_http_received_bytes_total 50.0" in text
    assert "digestry_http_sent_bytes_total 100.0" in text


def test_files_that_were_just_made_or_are_gone_tell_nothing(tmp_path: Path) -> None:
    worker(tmp_path, 2)
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "histogram_1.db").symlink_to("gone")

    assert "digestry_http_received_bytes_total 30.0" in worker(tmp_path, 1)


def test_a_followed_counter_catches_up() -> None:
    metrics, counted = Metrics(), [3]
    metrics.counter("digestry_followed", "A test.", lambda: counted[0])

    assert b"digestry_followed_total 3.0" in metrics.render()
    counted[0] = 5
    assert b"digestry_followed_total 5.0" in metrics.render()
    assert b"digestry_followed_total 5.0" in metrics.render()


def test_applications_in_one_process_do_not_share_numbers() -> None:
    one, other = Metrics(), Metrics()
    one.request("/", "GET", 200, 0.1, 0, 7)

    assert b"digestry_http_sent_bytes_total 7.0" in one.render()
    assert b"digestry_http_sent_bytes_total 0.0" in other.render()
