"""The dashboard and the rules name only metrics that a server tells, in expressions that parse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.test_alerts import rules
from tests.deploy.test_metrics import NOT_YET
from tests.support.promtool import names, promtool

ROOT: Final = Path(__file__).resolve().parents[2]
DASHBOARD: Final = ROOT / "deploy/grafana/digestry.json"

_NAME = re.compile(r"\bdigestry_[a-z_]+")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def targets() -> list[tuple[str, str]]:
    """Titles of panels and their expressions, with Grafana's variables filled in."""
    return [
        (panel["title"], filled(target["expr"]))
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]


def filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    """promtool reads rules; each expression becomes one."""
    recorded = [
        {"record": f"panel:{number}", "expr": expression, "labels": {"panel": title}}
        for number, (title, expression) in enumerate(targets())
    ]
    written = tmp_path / "rules.yml"
    written.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))

    assert len(recorded) > 50
    assert f"{len(recorded)} rules found" in promtool("check", "rules", written)


@pytest.mark.parametrize(
    ("what", "expressions"),
    [
        ("dashboard", [DASHBOARD.read_text()]),
        ("alerts", [rule["expr"] for rule in rules()]),
    ],
)
def test_only_metrics_that_are_told_are_named(
    what: str, expressions: list[str], scrapes: tuple[str, str]
) -> None:
    told = names(scrapes[0]) | {f"digestry_{name}" for name in NOT_YET}
    named = {name for expression in expressions for name in _NAME.findall(expression)}

    assert len(named) > 20
    assert named - told == set()


def test_panels_do_not_lie_on_each_other_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells

    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_panel_asks_the_chosen_source_about_the_chosen_servers() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            assert target["expr"].count("digestry_") == target["expr"].count(
                'instance=~"$instance"'
            )
