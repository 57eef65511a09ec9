"""Alert rules: well-formed, silent while all is well, and each one speaks of what it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.promtool import promtool

RULES: Final = Path(__file__).resolve().parents[2] / "deploy/prometheus/digestry.rules.yml"
INTERVAL_MINUTES: Final = 5
HOUR: Final = 60 // INTERVAL_MINUTES
SAMPLES: Final = 3 * HOUR
PATIENT: Final = {"DigestryNoBackup": 49 * HOUR}
"""How long the alerts take that wait longer."""

_SECONDS: Final = "digestry_http_request_duration_seconds"

# One server on which all is well: series to the notation of promtool, `{n}` samples on.
HEALTHY: Final = {
    "up": "1x{n}",
    "digestry_index_up": "1x{n}",
    "digestry_workers": "2x{n}",
    "digestry_leaders": "1x{n}",
    "digestry_worker_restarts_total": "1x{n}",
    "digestry_process_open_fds": "90x{n}",
    "digestry_process_max_fds": "20000x{n}",
    "digestry_event_loop_late_seconds": "0.01x{n}",
    _SECONDS + '_count{area="models",method="GET",status="2xx"}': "0+1000x{n}",
    _SECONDS + '_count{area="models",method="GET",status="5xx"}': "0+10x{n}",
    _SECONDS + '_bucket{area="models",method="GET",status="2xx",le="3.0"}': "0+1000x{n}",
    _SECONDS + '_bucket{area="models",method="GET",status="2xx",le="10.0"}': "0+1000x{n}",
    _SECONDS + '_bucket{area="models",method="GET",status="2xx",le="+Inf"}': "0+1000x{n}",
    _SECONDS + '_bucket{area="blobs",method="GET",status="2xx",le="3.0"}': "0x{n}",
    _SECONDS + '_bucket{area="blobs",method="GET",status="2xx",le="10.0"}': "0+1000x{n}",
    _SECONDS + '_bucket{area="blobs",method="GET",status="2xx",le="+Inf"}': "0+1000x{n}",
    "digestry_disk_free_bytes": "500e9-1e6x{n}",
    "digestry_disk_reserve_bytes": "2e9x{n}",
    "digestry_index_wal_bytes": "2e6x{n}",
    "digestry_index_queued_units": "3x{n}",
    'digestry_blobs{state="present"}': "1000x{n}",
    'digestry_blobs{state="damaged"}': "0x{n}",
    "digestry_blobs_oldest_verification_timestamp_seconds": "0x{n}",
    'digestry_housekeeping_runs_total{task="settle"}': "0+30x{n}",
    'digestry_housekeeping_failures_total{task="settle"}': "0+1x{n}",
    'digestry_operation_last_success{group="scrub"}': "1x{n}",
    "digestry_collection_off": "0x{n}",
    "digestry_catalog_versions": "20x{n}",
    "digestry_backup_last_finish_timestamp_seconds": "0+300x{n}",
    "digestry_backup_missing_blobs": "0x{n}",
    "digestry_audit_seal_lag_seconds": "0.5x{n}",
    "digestry_webhooks_waiting": "4x{n}",
    "digestry_webhooks_unfollowed_entries": "2x{n}",
    'digestry_component_status{component="disk"}': "0x{n}",
    "digestry_health_sample_timestamp_seconds": "0+300x{n}",
}

# What is otherwise, by the alert that it sets off; None takes a series away.
ILL: Final[dict[str, dict[str, str | None]]] = {
    "DigestryDown": {"up": "0x{n}"},
    "DigestryIndexUnreadable": {"digestry_index_up": "0x{n}"},
    "DigestryWorkersRestart": {"digestry_worker_restarts_total": "0+2x{n}"},
    "DigestryFilesRunOut": {"digestry_process_open_fds": "33000x{n}"},
    "DigestryEventLoopLate": {"digestry_event_loop_late_seconds": "1.5x{n}"},
    "DigestryErrors": {_SECONDS + '_count{area="models",method="GET",status="5xx"}': "0+60x{n}"},
    "DigestrySlow": {
        _SECONDS + '_bucket{area="models",method="GET",status="2xx",le="3.0"}': "0+980x{n}"
    },
    "DigestryDiskFull": {"digestry_disk_free_bytes": "1e9x{n}"},
    "DigestryDiskFillsSoon": {"digestry_disk_free_bytes": "800e9-1.5e9x{n}"},
    "DigestryWalLong": {"digestry_index_wal_bytes": "300e6x{n}"},
    "DigestryWritesQueue": {"digestry_index_queued_units": "1200x{n}"},
    "DigestryDamagedBlobs": {'digestry_blobs{state="damaged"}': "1x{n}"},
    "DigestryVerificationOld": {
        "digestry_blobs_oldest_verification_timestamp_seconds": "-7900000x{n}"
    },
    "DigestryNoLeader": {"digestry_leaders": "0x{n}"},
    "DigestryHousekeepingFails": {'digestry_housekeeping_runs_total{task="settle"}': "7x{n}"},
    "DigestryOperationFailed": {'digestry_operation_last_success{group="scrub"}': "0x{n}"},
    "DigestryCollectionOff": {"digestry_collection_off": "1x{n}"},
    "DigestryNoBackup": {
        "digestry_backup_last_finish_timestamp_seconds": None,
        "digestry_backup_missing_blobs": None,
    },
    "DigestryBackupOld": {"digestry_backup_last_finish_timestamp_seconds": "-180000x{n}"},
    "DigestryBackupIncomplete": {"digestry_backup_missing_blobs": "2x{n}"},
    "DigestrySealsLate": {"digestry_audit_seal_lag_seconds": "90x{n}"},
    "DigestryDeliveriesWait": {"digestry_webhooks_waiting": "10000x{n}"},
    "DigestryComponentFailed": {'digestry_component_status{component="disk"}': "2x{n}"},
    "DigestryComponentDegraded": {'digestry_component_status{component="disk"}': "1x{n}"},
    "DigestryHealthNotSampled": {"digestry_health_sample_timestamp_seconds": "0x{n}"},
}


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def labelled(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    own = 'job="digestry",instance="one"'
    return f"{name}{{{own},{labels}}}" if labels else f"{name}{{{own}}}"


def case(name: str, otherwise: dict[str, str | None], firing: list[str]) -> dict[str, Any]:
    count = PATIENT.get(name, SAMPLES)
    series = {**HEALTHY, **otherwise}
    return {
        "name": name,
        "interval": f"{INTERVAL_MINUTES}m",
        "input_series": [
            {"series": labelled(one), "values": values.replace("{n}", str(count))}
            for one, values in series.items()
            if values is not None
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{count * INTERVAL_MINUTES}m",
                "exp_samples": [
                    {
                        "labels": json.dumps({"alertname": one}).replace(
                            '"alertname": ', "alertname="
                        ),
                        "value": 1,
                    }
                    for one in firing
                ],
            }
        ],
    }


def test_promtool_has_nothing_to_object() -> None:
    promtool("check", "rules", RULES)


def test_all_is_silent_while_all_is_well_and_each_alert_speaks_alone(tmp_path: Path) -> None:
    cases = [case("all is well", {}, [])]
    cases += [case(alert, otherwise, [alert]) for alert, otherwise in ILL.items()]
    written = tmp_path / "test.yml"
    written.write_text(
        json.dumps(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": f"{INTERVAL_MINUTES}m",
                "tests": cases,
            }
        )
    )

    promtool("test", "rules", written)


def test_every_alert_is_set_off_by_a_test() -> None:
    assert {rule["alert"] for rule in rules()} == set(ILL)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_the_matter_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    for sentence in ("summary", "runbook"):
        assert rule["annotations"][sentence].endswith(".")
        assert len(rule["annotations"][sentence].split()) >= 5
