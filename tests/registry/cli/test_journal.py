"""The supervisor's own lines keep to the level that the workers' do."""

from __future__ import annotations

import json

import pytest

from registry.cli import journal, logs


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is one of the whole process."""
    monkeypatch.setattr(journal, "_written", journal._written)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("level", logs.LEVELS)
def test_what_is_less_severe_than_the_level_is_not_written(
    level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.configure(level)
    for one in logs.LEVELS:
        journal.log(one, f"is {one}")

    least = logs.LEVELS[level]
    assert told(capsys) == [f"is {one}" for one, value in logs.LEVELS.items() if value >= least]


def test_everything_is_written_until_a_level_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    journal.log("debug", "early")

    assert told(capsys) == ["early"]
