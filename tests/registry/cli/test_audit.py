"""``digestry audit`` on a free directory and through the server that holds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.auth.keys import ROOT_FILE
from registry.catalog.audit import Entry, record
from registry.domain.principals import LOCAL
from registry.services.seals import Seals
from store.index.transactions import Statement, Tx
from tests.support.commands import run_here
from tests.support.servers import run_digestry, running_server
from tests.support.serving import opened


def made(data: Path) -> str:
    """A log of three sealed entries; returns its head."""

    async def unit(tx: Tx) -> None:
        for name in "abc":
            await record(tx, LOCAL, Entry(action="create", kind="model", id=name, name=name))

    async def fill() -> str:
        async with opened(data) as store:
            await store.index.run(unit)
            seal = await Seals(store).seal()
            assert seal is not None
            return seal.head

    return asyncio.run(fill())


def edit(data: Path, sql: str) -> None:
    async def unit(tx: Tx) -> None:
        await tx.run(Statement(text(sql)))

    async def change() -> None:
        async with opened(data) as store:
            await store.index.run(unit)

    asyncio.run(change())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def head(data: Path) -> str:
    return made(data)


@pytest.fixture(scope="module", params=["in process", "through a server"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A directory, free or held by a server, and its head; for commands that only look."""
    data = tmp_path_factory.mktemp("audit") / "data"
    head = made(data)
    if request.param == "in process":
        yield data, head
        return
    with running_server(data):
        yield data, head


def run(*args: str, data: Path, code: int = 0) -> str:
    done = run_here("audit", *args, "--data", str(data))
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout if code < 2 else done.stderr


def document(*args: str, data: Path, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", data=data, code=code))


def test_the_log_is_listed_newest_first(place: tuple[Path, str]) -> None:
    data, _ = place
    lines = run("ls", "--kind", "model", "--limit", "2", data=data).splitlines()
    found = document("ls", "--entity", "a", data=data)["items"]

    assert [line.split("\t")[4] for line in lines] == ["NAME", "c", "b"]
    assert [(one["name"], one["before"]) for one in found] == [("a", None)]
    assert run("ls", "--actor", "nobody", data=data) == "no entries\n"


def test_the_head_is_printed_to_be_kept(place: tuple[Path, str]) -> None:
    data, head = place
    assert run("head", data=data) == f"{head}\n"
    assert document("head", data=data)["seal"]["last"] == 3


def test_the_log_is_exported_as_lines(place: tuple[Path, str], tmp_path: Path) -> None:
    data, head = place
    target = tmp_path / "log.jsonl"
    run("export", str(target), data=data)
    lines = [json.loads(line) for line in target.read_text().splitlines()]

    assert [(line["seal"], line.get("name")) for line in lines[:3]] == [(1, x) for x in "abc"]
    assert lines[3]["head"] == head
    assert len(lines) == 4 or lines[4]["seal"] > 1  # a server that began notes some of its own
    assert (
        run("export", "--since", "2", "-", data=data).splitlines()[:2]
        == (target.read_text().splitlines()[2:4])
    )
    assert "exists" in run("export", str(target), data=data, code=2)
    assert len(target.read_text().splitlines()) == len(lines)


def test_a_log_is_verified_against_a_head(place: tuple[Path, str]) -> None:
    data, head = place
    assert "intact: 1 seal, entries sealed: 3" in run("verify", "--since", head, data=data)
    assert document("verify", "--since", head, "--only-after", data=data)["seals"] == 0


@pytest.mark.parametrize(
    "arguments",
    [("verify", "--since", "nonsense"), ("ls", "--since", "yesterday"), ("ls", "--limit", "0")],
)
def test_what_is_not_understood_is_refused(
    place: tuple[Path, str], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments, data=place[0], code=2).startswith("digestry: ")


def test_an_edited_log_is_exit_code_one(data: Path, head: str) -> None:
    edit(data, "UPDATE audit SET actor = 'usr_other' WHERE id = 2")
    told = run("verify", data=data, code=1)
    found = document("verify", data=data, code=1)

    assert "entries_changed  seal 1 (entries 1 to 3)" in told
    assert "NOT INTACT" in told
    assert found["is_intact"] is False


def test_a_log_that_was_cut_off_is_found(data: Path, head: str) -> None:
    edit(data, "DELETE FROM audit_seals")
    edit(data, "DELETE FROM audit")

    assert "head_missing" in run("verify", "--since", head, data=data, code=1)
    run("verify", data=data)


def test_without_its_key_a_sealed_log_stops_every_start(data: Path, head: str) -> None:
    """And beginning again on purpose is what makes it go on."""
    (data / ROOT_FILE).unlink()
    refused = run_digestry("serve", "--data", str(data), "--port", "0")
    told = run("verify", data=data, code=3)
    unsure = run("rekey", data=data, code=2)
    assert not (data / ROOT_FILE).exists()

    run("rekey", "--yes", data=data)
    with running_server(data):
        found = document("verify", data=data, code=1)

    assert refused.returncode == 2
    for text_ in (refused.stderr, told):
        assert "digestry audit rekey" in text_
    assert "--yes" in unsure
    assert [one["kind"] for one in found["findings"]] == ["key_missing"]


def test_a_key_is_not_changed_under_a_running_server(data: Path, head: str) -> None:
    with running_server(data):
        assert "a server runs" in run("rekey", "--yes", data=data, code=2)
