"""``digestry login`` and the commands that manage people and rights, against a served application.

The commands run in a thread of the tests' own process, as `tests.support.commands` has it.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.auth.local_secret import LocalSecret
from registry.cli.presence import Presence, announce
from registry.config import AuthConfig
from registry.keys import LOCAL_SECRET
from store.clock import system_clock
from tests.registry.accounts.conftest import CHEAP, People
from tests.support.clock import ManualClock
from tests.support.commands import run_here
from tests.support.people import Person

PASSWORD = "correct horse battery staple"


class Shell:
    """Somebody at a terminal, with files of their own."""

    def __init__(self, people: People, home: Path) -> None:
        self.people = people
        self.home = home
        self.environment = {
            "DIGESTRY_URL": people.url,
            "XDG_CONFIG_HOME": str(home),
            "HOME": str(home),
        }

    async def run(self, *words: str, input: str = "", code: int = 0, **more: str) -> str:
        """What a command says, on its error stream where it fails."""
        done = await asyncio.to_thread(
            run_here, *words, input=input, env={**self.environment, **more}, cwd=self.home
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr if code else done.stdout

    async def json(self, *words: str, **more: Any) -> Any:
        return json.loads(await self.run(*words, "--json", **more))

    @property
    def file(self) -> Path:
        return self.home / "digestry" / "credentials.json"


@pytest.fixture
def clock() -> ManualClock:
    """Commands reckon with the time of their machine."""
    return ManualClock(system_clock())


@pytest.fixture
def shell(people: People, tmp_path: Path) -> Shell:
    return Shell(people, tmp_path)


@pytest.fixture
async def admin(shell: Shell, root: Person) -> Shell:
    """An administrator who is logged in."""
    await shell.run("login", "--token-stdin", input=f"{await real_token(shell, root)}\n")
    return shell


async def real_token(shell: Shell, person: Person) -> str:
    answer = await shell.people.ask(person, "POST", "tokens", {"name": "shell"})
    return str(answer.json["secret"])


async def test_a_password_becomes_a_token_of_this_machine(
    shell: Shell, people: People, root: Person
) -> None:
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})

    said = await shell.run("login", "--username", "ada", input=f"{PASSWORD}\n")

    assert "as ada" in said
    assert oct(shell.file.stat().st_mode & 0o777) == "0o600"
    kept = shell.file.read_text()
    assert PASSWORD not in kept
    listed = (await shell.json("token", "list"))["items"]
    assert [token["name"].startswith("digestry on ") for token in listed] == [True]
    assert listed[0]["expires_at"] is not None
    assert await people.rows("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == [(0,)]
    me = await shell.json("whoami")
    assert (me["username"], me["came_by"]) == ("ada", "token")
    assert (await shell.run("whoami")).startswith("ada (user), by a token\n")
    await shell.run("logout")
    assert (await shell.json("whoami"))["came_by"] == "nothing"
    assert await people.rows("SELECT count(*) FROM tokens WHERE revoked_at IS NULL") == [(1,)]
    assert "nobody is logged in" in await shell.run("logout", code=2)


async def test_what_is_wrong_is_said_and_nothing_kept(
    shell: Shell, people: People, root: Person
) -> None:
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    for words, given, sentence in (
        (("--username", "ada"), "wrong\n", "the name or the password is not right"),
        (("--username", "ada"), "", "the input ended where the password was expected"),
        (("--username", "ada"), "\n", "the password is empty"),
        ((), "\n", "the username is empty"),
        (("--token-stdin",), "dgt_wrong\n", "this needs a login or a token"),
        (("--days", "0"), "", "--days is from 1"),
    ):
        said = await shell.run("login", *words, input=given, code=2)
        assert sentence in said, words
    assert not shell.file.exists()


async def test_no_command_takes_a_secret_as_an_argument(shell: Shell) -> None:
    for words in (
        ("login", "--password", "x"),
        ("login", "--token", "x"),
        ("user", "make", "ada", "--password", "x"),
        ("user", "password", "ada", "x"),
    ):
        said = await shell.run(*words, code=2)
        assert "--help" in said, words


async def test_a_file_that_others_may_read_is_not_used(admin: Shell) -> None:
    admin.file.chmod(0o640)

    said = await admin.run("whoami", code=2)

    assert "may be read by others" in said
    admin.file.chmod(0o600)
    admin.file.write_text("{")
    assert "is damaged" in await admin.run("whoami", code=2)


async def test_a_token_is_kept_for_one_address(admin: Shell, people: People) -> None:
    other = people.url.replace("127.0.0.1", "localhost")
    assert (await admin.json("whoami"))["came_by"] == "token"
    assert (await admin.json("whoami", DIGESTRY_URL=f"{people.url}/"))["came_by"] == "token"
    assert (await admin.json("whoami", DIGESTRY_URL=other))["came_by"] == "nothing"


async def test_the_environment_goes_before_the_file(
    admin: Shell, people: People, root: Person
) -> None:
    ada = await people.make("ada")
    me = await admin.json("whoami", DIGESTRY_TOKEN=await real_token(admin, ada))
    assert me["username"] == "ada"
    stale = await admin.run("ls", code=2, DIGESTRY_TOKEN="dgt_stale")
    assert "needs a login or a token; the token that was shown does not hold" in stale


async def test_every_command_shows_the_kept_token(admin: Shell, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    await admin.run("push", "nlp/bert:1.0.0", "model.bin")
    assert "nlp/bert" in await admin.run("ls")
    await admin.run("pull", "nlp/bert:1.0.0", "--to", "there")
    assert (tmp_path / "there" / "model.bin").read_bytes() == b"weights"
    nobody = await admin.run("ls", code=2, XDG_CONFIG_HOME=str(tmp_path / "no"))
    assert f"needs a login or a token; try digestry login {admin.people.url}" in nobody


async def test_users_from_the_shell(admin: Shell) -> None:
    made = await admin.run(
        "user", "make", "ada", "--email", "ada@example.org", "--password", input=f"{PASSWORD}\n"
    )
    assert "username: ada\n" in made
    assert PASSWORD not in made
    await admin.run("user", "make", "robot", "--service", "--owner", "ada")
    rows = (await admin.run("user", "list")).splitlines()
    assert rows[0].split("\t")[:4] == ["USERNAME", "KIND", "ADMIN", "ACTIVE"]
    assert [row.split("\t")[:4] for row in rows[1:]] == [
        ["ada", "user", "no", "yes"],
        ["robot", "service", "no", "yes"],
        ["root", "user", "yes", "yes"],
    ]
    services = (await admin.json("user", "list", "--service"))["items"]
    assert [one["username"] for one in services] == ["robot"]
    assert (await admin.json("user", "change", "ada", "--admin"))["is_admin"]
    assert not (await admin.json("user", "change", "ada", "--no-active"))["active"]
    assert "say what shall be different" in await admin.run("user", "change", "ada", code=2)
    assert "active: no" in await admin.run("user", "show", "ada")
    said = await admin.run("user", "password", "ada", input="another long one\n")
    assert "the password of ada is changed" in said
    assert "0 tokens and 0 sessions of ada ended" in await admin.run("user", "revoke", "ada")
    assert "ada is deleted" in await admin.run("user", "delete", "ada")
    assert "no user ada" in await admin.run("user", "show", "ada", code=2)
    deleted = (await admin.json("user", "list", "--deleted"))["items"]
    assert [one["username"] for one in deleted] == ["ada"]
    assert "last administrator" in await admin.run("user", "delete", "root", code=2)


async def test_ones_own_password_from_the_shell(shell: Shell, people: People, root: Person) -> None:
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    await shell.run("login", input=f"ada\n{PASSWORD}\n")

    said = await shell.run("user", "password", input=f"{PASSWORD}\nanother long one\n")

    assert "your password is changed" in said
    await shell.run("login", input="ada\nanother long one\n")


async def test_tokens_from_the_shell(admin: Shell, people: People) -> None:
    await admin.run("user", "make", "robot", "--service")
    words = ("--scope", "model.read", "--scope", "content.read", "--days", "7", "--user", "robot")
    secret = await admin.run("token", "make", "build", *words)

    assert secret.startswith("dgt_")
    assert len(secret.splitlines()) == 1
    me = await admin.json("whoami", DIGESTRY_TOKEN=secret.strip())
    assert (me["username"], me["scopes"]) == ("robot", ["content.read", "model.read"])
    [listed] = (await admin.json("token", "list", "--user", "robot"))["items"]
    assert secret.strip() not in await admin.run("token", "show", listed["id"])
    await admin.run("token", "delete", listed["id"])
    assert "nothing" in await admin.run("token", "list", "--user", "robot")
    ended = await admin.run("token", "list", "--user", "robot", "--ended")
    assert "revoked" in ended


async def test_a_token_made_after_a_login_holds_as_long_as_that(
    shell: Shell, people: People, root: Person
) -> None:
    await people.ask(root, "POST", "users", {"username": "ada", "password": PASSWORD})
    await shell.run("login", "--username", "ada", "--days", "9", input=f"{PASSWORD}\n")
    [login] = (await shell.json("token", "list"))["items"]

    ends = (await shell.json("token", "make", "ci"))["token"]["expires_at"]

    assert ends == login["expires_at"]
    longer = await shell.run("token", "make", "ci", "--days", "10", code=2)
    assert f"this one ends at {ends}" in longer


async def test_teams_and_grants_from_the_shell(admin: Shell, people: People) -> None:
    await admin.run("user", "make", "ada")
    await admin.run("team", "make", "vision", "--department", "research")
    assert "ada is writer in vision" in await admin.run("team", "add", "vision", "ada")
    await admin.run("team", "add", "vision", "ada", "--role", "admin")
    shown = await admin.run("team", "show", "vision")
    assert "department: research" in shown
    assert "ada\tadmin\tyes" in shown
    changed = await admin.json("team", "change", "vision", "--name", "sight")
    assert changed["name"] == "sight"
    assert "sight" in await admin.run("team", "list")

    said = await admin.run("grant", "make", "reader", "--team", "sight", "--namespace", "nlp*")
    assert said.startswith("team sight is reader on namespace nlp*")
    await admin.run("grant", "make", "writer", "--everyone", "--registry")
    rows = [row.split("\t")[1:] for row in (await admin.run("grant", "list")).splitlines()]
    assert rows[0] == ["TO", "ROLE", "ON"]
    assert sorted(rows[1:]) == [
        ["everyone", "writer", "registry"],
        ["team sight", "reader", "namespace nlp*"],
    ]
    [one] = (await admin.json("grant", "list", "--team", "sight"))["items"]
    assert "role: reader" in await admin.run("grant", "show", one["id"])
    await admin.run("grant", "delete", one["id"])
    for words in (
        ("--user", "ada"),
        ("--user", "ada", "--everyone", "--registry"),
        ("--registry",),
    ):
        assert "exactly one of" in await admin.run("grant", "make", "reader", *words, code=2)
    assert "ada is no longer in sight" in await admin.run("team", "remove", "sight", "ada")
    assert "sight is deleted" in await admin.run("team", "delete", "sight")


async def test_namespaces_from_the_shell(admin: Shell) -> None:
    made = await admin.json("namespace", "make", "nlp", "--visibility", "internal")
    assert (made["slug"], made["visibility"]) == ("nlp", "internal")
    changed = await admin.json("namespace", "change", "nlp", "--description", "language")
    assert changed["description"] == "language"
    assert "visibility: internal" in await admin.run("namespace", "show", "nlp")
    assert "nlp\tinternal\tuser root" in await admin.run("namespace", "list")
    used = (await admin.run("namespace", "usage", "nlp")).splitlines()
    assert {"bytes: 0 B", "versions: 0"} <= set(used)
    await admin.run("team", "make", "vision")
    given = await admin.json("namespace", "change", "nlp", "--owner-team", "vision")
    assert given["owner"]["kind"] == "team"
    assert "owner: team vision" in await admin.run("namespace", "show", "nlp")
    both = ("--owner-team", "vision", "--owner-user", "root")
    assert "exactly one of" in await admin.run("namespace", "change", "nlp", *both, code=2)
    assert "nlp is deleted" in await admin.run("namespace", "delete", "nlp")


async def test_who_owns_the_directory_needs_no_login(
    shell: Shell, people: People, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert "no server runs on" in await shell.run("user", "list", "--data", str(data), code=2)
    people.site.app._frozen = False
    people.site.app[LOCAL_SECRET] = LocalSecret("the secret")
    announce(data, Presence(os.getpid(), people.url, "the secret"))

    made = await shell.json("user", "make", "ada", "--admin", "--data", str(data))

    assert made["is_admin"]
    token = await shell.run("token", "make", "first", "--user", "ada", "--data", str(data))
    assert (await shell.json("whoami", DIGESTRY_TOKEN=token.strip()))["is_admin"]
    both = ("--data", str(data), "--server", people.url)
    assert "give one of them" in await shell.run("user", "list", *both, code=2)
    announce(data, Presence(os.getpid(), people.url, "a stale secret"))
    assert "needs a login" in await shell.run("user", "list", "--data", str(data), code=2)


class TestWhereNobodyIsAsked:
    @pytest.fixture
    def auth(self) -> AuthConfig:
        return msgspec.structs.replace(CHEAP, mode="open")

    async def test_no_token_is_kept(self, shell: Shell) -> None:
        said = await shell.run("login", "--token-stdin", input="dgt_x\n", code=2)
        assert "does not ask who calls; nothing was kept" in said
        assert not shell.file.exists()
