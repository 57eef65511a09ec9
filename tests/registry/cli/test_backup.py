"""``digestry backup`` and ``digestry restore``, beside a server and on a free directory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.auth.keys import make_root_key
from registry.cli import backups, presence
from registry.cli.commands import run_command
from registry.cli.exits import FAILED, REFUSED, CommandError
from registry.cli.offices import RemoteOffice, ServerSilent
from registry.cli.presence import Presence
from registry.cli.schema import SCHEMA_NUMBER
from store.digest import Digest
from store.errors import Unavailable
from store.holds import HOLD_SECONDS
from store.layout import blob_key
from tests.support.builders import running_registry
from tests.support.earlier import directory_of_schema_1001
from tests.support.servers import Server, running_server
from tests.support.soundness import assert_store_is_sound

CONTENT = b"weights" * 1000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A free directory with a key and one published version."""
    root = tmp_path / "data"

    async def fill() -> None:
        async with running_registry(root) as registry:
            await registry.publish("nlp~bert", "1.0.0", {"model.bin": CONTENT, "README.md": b"#"})

    asyncio.run(fill())
    make_root_key(root)
    return root


class Run:
    """Commands in this process, with what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        ended = run_command([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        assert ended == code, printed
        return printed.out if code < 2 else printed.err

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def damage(data: Path, content: bytes) -> str:
    digest = Digest.of(content)
    path = data / blob_key(digest)
    path.chmod(0o600)
    path.write_bytes(b"x" * len(content))
    return str(digest)


def test_a_backup_is_made_listed_verified_and_restored(
    run: Run, data: Path, tmp_path: Path
) -> None:
    target, new = tmp_path / "backup", tmp_path / "new"
    made = run("backup", target, "--data", data)
    assert f"backup 1 in {target}: 2 blobs, 6.8 KiB; 2 of them new, 6.8 KiB" in made
    assert "same file system" in made
    assert "the root key is not in it" in made
    assert "0 of them new" in run("backup", target, "--data", data)

    assert "generation 1 and 2: 2 blobs read, 6.8 KiB: every byte is right" in run(
        "backup", "verify", target
    )
    listed = run("backup", "list", target)
    assert [line.split("\t")[0] for line in listed.splitlines()[:3]] == ["GENERATION", "1", "2"]
    assert "a backup of store sto_" in listed

    told = run("restore", target, "--data", new, "--verify", "--generation", "1")
    assert f"{new} is generation 1 of store" in told
    assert "the root key did not come along" in told
    assert "digestry gc --confirm" in told
    assert (new / blob_key(Digest.of(CONTENT))).read_bytes() == CONTENT
    assert_store_is_sound(new)
    assert "index and directory agree" in run("fsck", "--data", new)


def test_everything_is_told_as_json_too(run: Run, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    made = run.json("backup", target, "--with-keys", "--data", data)
    verified = run.json("backup", "verify", target)
    (listed,) = run.json("backup", "list", target)["generations"]
    restored = run.json("restore", target, "--data", tmp_path / "new")

    assert (made["number"], made["kind"], made["private"]) == (1, "backup", ["keys/root"])
    assert (verified["exit_code"], verified["blobs"], verified["problems"]) == (0, 2, [])
    assert (listed["blobs"], listed["missing"]) == (2, [])
    assert (restored["blobs"], restored["private"]) == (2, ["keys/root"])
    assert (tmp_path / "new/keys/root").read_bytes() == (data / "keys/root").read_bytes()


def test_damage_is_told_by_digest_and_version(run: Run, data: Path, tmp_path: Path) -> None:
    digest = damage(data, CONTENT)
    target = tmp_path / "backup"
    made = run("backup", target, "--data", data, code=1)
    told = run("restore", target, "--data", tmp_path / "new", code=1)

    assert f"{digest}  the bytes do not match (mdl_" in made
    assert "needed by nlp/bert:1.0.0 model.bin" in made
    assert f"{digest}  not in the backup; needed by nlp/bert:1.0.0 model.bin" in told
    (file,) = run.json("backup", target, "--data", data, code=1)["files"]
    assert (file["model"], file["number"], file["path"]) == ("nlp/bert", 1, "model.bin")


def test_damage_in_the_backup_is_found_and_replaced_by_checking(
    run: Run, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    run("backup", target, "--data", data)
    digest = damage(target, CONTENT)

    assert f"generation 1: {digest}  the bytes do not match" in run(
        "backup", "verify", target, code=1
    )
    assert "damaged" in run("restore", target, "--data", tmp_path / "new", code=3)
    run("backup", target, "--check", "--data", data)
    assert "every byte is right" in run("backup", "verify", target)


def test_what_cannot_be_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    target, new = tmp_path / "backup", tmp_path / "new"
    assert "is not a backup" in run("backup", "verify", tmp_path, code=2)
    assert "is not a backup" in run("backup", "list", tmp_path, code=2)
    assert "is not a backup" in run("restore", tmp_path, "--data", new, code=2)
    assert not new.exists()
    assert "lie in each other" in run("backup", data / "inside", "--data", data, code=2)
    assert "there is no data directory" in run("backup", target, "--data", new / "no", code=2)
    assert "at least 1" in run("backup", target, "--keep", "0", "--data", data, code=2)
    assert not target.exists()
    run("backup", target, "--snapshot", "--data", data)
    assert "is a snapshot" in run("backup", target, "--data", data, code=2)
    assert "data directory already" in run("restore", target, "--data", data, code=2)


def test_an_index_of_an_earlier_schema_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    """Neither backing up nor restoring upgrades anything; the next start does."""
    data, target, new = tmp_path / "data", tmp_path / "backup", tmp_path / "new"
    directory_of_schema_1001(data)
    run("backup", target, "--data", data)
    told = run("restore", target, "--data", new)

    assert f"its index has schema 1001; the next start upgrades it to {SCHEMA_NUMBER}" in told
    assert run.json("db", "current", "--data", new, code=1)["index"] == 1001
    run("db", "upgrade", "--data", new)
    assert "index and directory agree" in run("fsck", "--data", new)


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    with running_server(data) as running:
        yield running


def test_beside_a_server_the_files_stay_until_the_backup_is_done(
    run: Run, data: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the server takes new versions, and purges nothing."""
    target, new = tmp_path / "backup", tmp_path / "new"
    held: list[Any] = []
    make = backups.make_backup

    def looked_at(*args: Any, **options: Any) -> Any:
        held.extend(json.loads(server.get("/api/v1/holds")[1])["items"])
        assert server.request("PUT", "/models/nlp~bert/1.1.0/m?publish=true", body=b"new")[0] < 300
        (purged,) = [run.json("gc", "--purge", "--everything", "--data", data)["report"]]
        assert purged["held_until"] is not None
        assert "a backup keeps quarantine as it is until" in run("gc", "--purge", "--data", data)
        return make(*args, **options)

    monkeypatch.setattr(backups, "make_backup", looked_at)
    assert "backup 1" in run("backup", target, "--data", data)

    assert [hold["reason"] for hold in held] == ["digestry backup"]
    assert json.loads(server.get("/api/v1/holds")[1]) == {"items": []}
    last = json.loads(server.get("/api/v1/backups")[1])["last"]
    assert (last["kind"], last["number"], last["blobs"], last["missing"]) == ("backup", 1, 3, 0)
    assert "in use by the server" in run("restore", target, "--data", data, code=2)
    run("restore", target, "--data", new)
    found = {path.name for path in (new / "blobs").rglob("*") if path.is_file()}
    assert found == {Digest.of(one).hex for one in (CONTENT, b"#", b"new")}


# The hold at a server, which comes and goes.


class Answers:
    """Stands for the office of a server: answers, is silent, or refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.error: Callable[[Presence], CommandError | None] = lambda _: None
        answers = self

        def tell(office: RemoteOffice, method: str, path: str, body: Any = None) -> bytes:
            server = office._server
            answers.told.append((server.secret, method, path))
            error = answers.error(server)
            if error is not None:
                raise error
            return b'{"id": "hold_1"}'

        self.now = 0.0
        monkeypatch.setattr(RemoteOffice, "tell", tell)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def test_a_hold_survives_a_silent_server_for_less_than_it_lasts(
    answers: Answers, tmp_path: Path
) -> None:
    with backups._ServerHold(tmp_path, Presence(1, "http://h", "one")).held() as hold:
        answers.error = lambda _: ServerSilent("silent")
        answers.now = HOLD_SECONDS - 61
        hold.renew()
        answers.now = HOLD_SECONDS - 59
        with pytest.raises(Unavailable, match="has expired"):
            hold.renew()
    assert answers.told[-1][1:] == ("DELETE", "/api/v1/holds/hold_1")


def test_a_hold_that_the_server_does_not_know_is_lost(answers: Answers, tmp_path: Path) -> None:
    with backups._ServerHold(tmp_path, Presence(1, "http://h", "one")).held() as hold:
        answers.error = lambda _: CommandError("no hold hold_1", REFUSED)
        with pytest.raises(Unavailable, match="has expired"):
            hold.renew()


def test_a_server_that_was_started_anew_is_found(answers: Answers, tmp_path: Path) -> None:
    def refuse(server: Presence) -> CommandError | None:
        return CommandError("not you", FAILED) if server.secret == "one" else None

    with backups._ServerHold(tmp_path, Presence(1, "http://h", "one")).held() as hold:
        answers.error = refuse
        presence.announce(tmp_path, Presence(2, "http://h", "two"))
        hold.renew()
        hold.renew()

    assert [secret for secret, *_ in answers.told] == ["one", "one", "two", "two", "two"]
