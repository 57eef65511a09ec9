"""``digestry retention`` on a free directory and through a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.cli import offices
from registry.cli import retention as work
from registry.cli.presence import Presence
from store.clock import SECOND
from tests.registry.cli.shells import Shell
from tests.support.clock import ManualClock
from tests.support.deploying import publish
from tests.support.retaining import policy, retained

LONG_AGO = 1_700_000_000 * SECOND
"""The commands go by the clock of the machine, so what they find must be old by it."""


async def filled(root: Path) -> None:
    """Three versions and a policy that lets two of them go."""
    async with retained(root, ManualClock(LONG_AGO)) as registry:
        await publish(registry, 3)
        await policy(registry)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    asyncio.run(filled(root))
    return root


@pytest.fixture
def shell(data: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell("retention", data, capsys)


def test_a_plan_is_shown_and_applied_on_a_free_directory(shell: Shell) -> None:
    shown = shell.run("plan")

    assert "retire\tbert:1.0.0\t6 B\tsurplus (not among the last 1)\n" in shown
    assert "1 version kept, 2 to retire, 0 to purge\n" in shown
    command = shown.rpartition("with: digestry retention ")[2].split()
    done = shell.run(*command)
    assert "2 versions retired, 0 purged\n" in done
    assert "applied" in shell.run(*command, code=2)
    status = shell.run("status")
    assert "policies: 1\n" in status
    assert "retired: 2, 12 B; brought back: 0\n" in status
    assert "last operation: apply" in status


def test_what_is_kept_is_shown_when_asked_for_up_to_a_limit(shell: Shell) -> None:
    shown = shell.run("plan", "--model", "bert", "--kept", "--limit", "1")

    assert "retire\tbert:1.0.0" in shown
    assert "2.0.0" not in shown
    assert "... and 2 more" in shown
    assert "keep\tbert:3.0.0" in shell.run("plan", "--namespace", "default", "--kept")


def test_json_is_one_document_with_the_lines(shell: Shell) -> None:
    found = shell.json("plan")

    assert (found["command"], found["report"]["retire"]) == ("retention plan", 2)
    assert [line["version"] for line in found["lines"]] == ["1.0.0", "2.0.0"]
    done = shell.json("apply", found["report"]["plan"])
    assert done["report"]["retired"] == 2
    assert shell.json("status")["total"]["retired"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--model", "nobody"], "no model nobody"),
        (["plan", "--namespace", "nobody"], "no namespace nobody"),
        (["plan", "--model", "a", "--namespace", "b"], "cannot go together"),
        (["plan", "--limit", "0"], "at least 1"),
        (["apply", "pln_01kagz6y5n8s3v0c4t7x9b2d1f"], "no plan pln_"),
        (["apply", "../gc"], "no plan ../gc"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(shell: Shell, arguments: list[str], said: str) -> None:
    told = shell.run(*arguments, code=2)

    assert said in told
    assert told.count("\n") == 1


async def test_the_same_through_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retained(tmp_path / "data", ManualClock(LONG_AGO)) as registry:
        await publish(registry, 3)
        await policy(registry)
        presence = Presence(1, registry.url, "secret")

        @contextmanager
        def remote(**_: Any) -> Iterator[offices.RemoteOffice]:
            yield offices.RemoteOffice(presence)

        monkeypatch.setattr(work, "open_office", remote)
        monkeypatch.setattr(offices, "authorization", lambda _: "")  # the open mode
        monkeypatch.setattr(work, "_AT_ONCE", 1)
        shell = Shell("retention", tmp_path / "data", capsys)
        plan = await asyncio.to_thread(shell.json, "plan", "--kept")
        done = await asyncio.to_thread(shell.run, "apply", plan["report"]["plan"])
        status = await asyncio.to_thread(shell.json, "status")
        refused = await asyncio.to_thread(shell.run, "plan", "--model", "nobody", code=2)

    assert [line["number"] for line in plan["lines"]] == [1, 2, 3]
    assert "2 versions retired" in done
    assert (status["policies"], status["total"]["retired"]) == (1, 2)
    assert "no model nobody" in refused
