"""``registry/SCORES.md`` says of the metrics what the code does, in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from registry.domain.scoring.bus_factor import ENOUGH
from registry.domain.scoring.licences import FREEDOM, KINDS
from registry.domain.scoring.metrics import METRICS, compute
from registry.domain.scoring.size import GIB, TARGETS
from registry.services import evidence as bounds
from tests.registry.domain.test_scoring import full

DOCUMENT = (Path(__file__).resolve().parents[2] / "registry/SCORES.md").read_text()

_METRIC = re.compile(r"\| `(\w+)` \| ([\d.]+) \| (.+) \| (.+) \|")
_PART = re.compile(r"\| `(\w+)` \| ([\d.]+) \| \S.* \|")
_KIND = re.compile(r"\| ([a-z -]+) \| ([\d.]+) \| (.*) \|")
_TARGET = re.compile(r"\| `(\w+)` \| (\d+) \|")


def quoted(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", text))


def rows(section: str, pattern: re.Pattern[str]) -> list[Any]:
    return [match for line in section.splitlines() if (match := pattern.fullmatch(line))]


def sections() -> Mapping[str, str]:
    """Text by the name of the metric in the heading."""
    pieces = re.split(r"(?m)^## `(\w+)`$", DOCUMENT)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_every_metric_stands_in_the_table_as_it_is() -> None:
    general = DOCUMENT.partition("## `")[0]
    told = {
        row[1]: (float(row[2]), quoted(row[3]), quoted(row[4])) for row in rows(general, _METRIC)
    }

    assert told == {
        name: (metric.weight, metric.kinds, metric.parts) for name, metric in METRICS.items()
    }


def test_every_metric_has_a_section_that_names_its_source() -> None:
    assert list(sections()) == list(METRICS)
    for name, section in sections().items():
        assert "**Source.**" in section, name
        assert "ours" in section.lower() or "our own" in section.lower(), name


def test_the_literature_that_metrics_name_is_in_the_document() -> None:
    named = {
        number
        for metric in METRICS.values()
        for number in re.findall(r"arXiv:\S+\d", metric.source)
    }

    assert len(named) == 4
    for number in named:
        assert number in DOCUMENT


def parts_of(name: str) -> dict[str, float]:
    """The points of each part, as the metric itself says."""
    found = compute(METRICS[name], full()).evidence
    if name == "dataset_quality":
        found = found["datasets"][0]["card"]
    return {part: said["of"] for part, said in found["parts"].items()}


@pytest.mark.parametrize(
    "name",
    [
        "ramp_up_time",
        "performance_claims",
        "dataset_and_code",
        "dataset_quality",
        "code_quality",
        "reproducibility",
    ],
)
def test_the_parts_of_a_metric_are_told_with_their_points(name: str) -> None:
    told = {row[1]: float(row[2]) for row in rows(sections()[name], _PART)}

    assert told == parts_of(name)
    assert sum(told.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_what_a_function_says_of_its_parts_is_what_it_does(name: str) -> None:
    said = METRICS[name].score.__doc__ or ""
    if name in ("ramp_up_time", "performance_claims", "dataset_and_code", "reproducibility"):
        numbers = sorted(float(number) for number in re.findall(r"\d\.\d+", said))

        assert numbers == sorted(parts_of(name).values())
    assert said.endswith((".", ".\n    ")), name


def test_licences_are_told_by_kind() -> None:
    told = {row[1]: (float(row[2]), quoted(row[3])) for row in rows(sections()["licence"], _KIND)}

    assert told == {kind: (value, KINDS.get(kind, ())) for kind, value in FREEDOM.items()}


def test_targets_are_told_with_their_memory() -> None:
    told = {row[1]: int(row[2]) * GIB for row in rows(sections()["size"], _TARGET)}

    assert told == dict(TARGETS)


def test_bounds_are_told() -> None:
    assert f"first {bounds.TEXT_BYTES >> 10} KiB" in DOCUMENT
    assert f"first {bounds.SMALL_TEXT_BYTES >> 10} KiB" in DOCUMENT
    assert f"{bounds.MOST_FILES:,} files" in DOCUMENT
    assert f"{bounds.RUNS_ASKED} runs ({bounds.MOST_RUNS} of them" in DOCUMENT
    assert f"{bounds.MOST_EDGES} edges" in DOCUMENT
    assert f"cards of {bounds.DATASETS_READ} data sets" in DOCUMENT
    assert f"newest {bounds.MOST_CONTRIBUTIONS:,} of each" in DOCUMENT
    assert f"1 from {ENOUGH} on" in DOCUMENT
