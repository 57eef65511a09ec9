"""Metrics of two workers: named as Prometheus wants it, documented, and whole after a death."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.promtool import families, names, promtool, samples

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "digestry_"

# Only there once there is something to say.
NOT_YET = {
    "backup_last_finish_timestamp_seconds",
    "backup_missing_blobs",
    "component_status",
    "health_sample_timestamp_seconds",
    "operation_last_end_timestamp_seconds",
    "operation_last_findings",
    "operation_last_success",
}


def documented() -> set[str]:
    section = (ROOT / "registry/API.md").read_text().partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| (`.*?`) \| (?:counter|gauge|histogram) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def test_promtool_has_nothing_to_object(scrapes: tuple[str, str]) -> None:
    for text in scrapes:
        promtool("check", "metrics", text=text)


def test_every_metric_is_documented_and_nothing_else_is(scrapes: tuple[str, str]) -> None:
    for text in scrapes:
        told = {name.removeprefix(PREFIX) for name in families(text)}

        assert {name for name in names(text) if not name.startswith(PREFIX)} == set()
        assert documented() - NOT_YET == told - NOT_YET


def test_no_counter_falls_when_a_worker_is_killed_and_replaced(scrapes: tuple[str, str]) -> None:
    before, after = map(samples, scrapes)
    counters = {
        line.split()[2]
        for line in scrapes[0].splitlines()
        if line.startswith("# TYPE ")
        if line.endswith((" counter", " histogram"))
    }
    fallen = {
        name: (value, after.get(name))
        for name, value in before.items()
        if any(name.startswith(counter) for counter in counters)
        if after.get(name, 0) < value
    }

    assert fallen == {}


def test_requests_of_all_workers_are_counted(scrapes: tuple[str, str]) -> None:
    for found in map(samples, scrapes):
        assert (
            found['digestry_http_requests_total{method="GET",route="/healthz",status="200"}'] == 8
        )
        assert (
            found[
                "digestry_http_request_duration_seconds_count"
                '{area="blobs",method="PUT",status="2xx"}'
            ]
            == 1
        )
        assert found["digestry_http_received_bytes_total"] == 1000
        assert found['digestry_blob_bytes{state="present"}'] == 1000
