"""``digestry push`` and ``pull`` as somebody types them, and killed in the middle."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from registry.cli.exits import CommandError
from registry.cli.transfers import push_target, run_push, wish_of
from registry.client.errors import Refused
from tests.support.commands import run_here
from tests.support.servers import Server, running_server, start_digestry, wait_until

CONFIG = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
STALL = 40 << 20


@pytest.fixture(scope="module")
def large() -> bytes:
    """96 MiB, for as long as tests of this module run."""
    return bytes(range(256)) * (96 << 12)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("transfers") / "data", config=CONFIG) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def run(
    *args: str, url: str, home: Mapping[str, str], cwd: Path, code: int = 0, input: str = ""
) -> str:
    env = {**home, "DIGESTRY_URL": url}
    done = run_here(*args, env=env, cwd=cwd, input=input)

    assert done.returncode == code, (done.stdout, done.stderr)
    if code:
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr
    assert done.stderr == ""
    return done.stdout


def filled(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def content_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_whoever_may_not_make_the_model_is_told_whom_to_ask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise Refused(404, "model_not_found", "no model nlp/x", {})

    monkeypatch.setattr("registry.cli.transfers.push", refuse)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(CommandError, match=r"no model nlp/x; .* in nlp: .* the role writer"):
        run_push(
            "nlp/x:1.0.0",
            [tmp_path],
            server="http://127.0.0.1:1",
            base=None,
            about=None,
            is_draft=False,
            as_json=False,
        )


def test_a_directory_goes_there_and_back(
    server: Server, home: dict[str, str], tmp_path: Path
) -> None:
    # Bytes of this test alone: the server is shared, and says what it has already.
    files = {"model.bin": b"there" * 20_000, "sub/config.json": b'{"there": 1}'}
    filled(tmp_path / "files", files)

    said = run("push", "nlp/there:1.0.0", "files", url=server.url, home=home, cwd=tmp_path)
    assert "2 files, 97.7 KiB: 2 sent (97.7 KiB), 0 there\n" in said
    assert "nlp/there: version 1 (1.0.0)\n" in said
    again = run("push", "nlp/there:1.0.0", "files", url=server.url, home=home, cwd=tmp_path)
    assert "version 1 (1.0.0), which was there already" in again

    command = said.rpartition("with: digestry ")[2].split()
    said = run(*command, url=server.url, home=home, cwd=tmp_path)
    assert said.startswith("nlp/there version 1 (1.0.0) in there\n")
    assert content_of(tmp_path / "there") == files


def test_json_is_one_document(server: Server, home: dict[str, str], tmp_path: Path) -> None:
    filled(tmp_path, {"one": b"1", "two": b"2"})

    pushed = json.loads(
        run("push", "documents", "one", "two", "--json", url=server.url, home=home, cwd=tmp_path)
    )
    assert (pushed["number"], pushed["label"], pushed["sent"]) == (1, None, 2)
    arguments = ["pull", "documents@1", "one", "--to", "x", "--json"]
    pulled = json.loads(run(*arguments, url=server.url, home=home, cwd=tmp_path))
    assert (pulled["files"], pulled["fetched"], pulled["target"]) == (1, 1, "x")


def test_what_is_said_of_a_version_comes_from_a_file(
    server: Server, home: dict[str, str], tmp_path: Path
) -> None:
    filled(tmp_path, {"f": b"f", "about.json": b'{"framework": "onnx"}'})
    run(
        *("push", "about:1.0", "f", "--about", "-"),
        url=server.url,
        home=home,
        cwd=tmp_path,
        input='{"framework": "onnx"}',
    )
    run("push", "about:1.1", "f", "--about", "about.json", url=server.url, home=home, cwd=tmp_path)

    said = run(
        *("push", "about:1.2", "f", "--about", "-"),
        url=server.url,
        home=home,
        cwd=tmp_path,
        code=2,
        input='{"framewrok": 1, "eval_score": 7}',
    )
    assert "framewrok" in said
    assert "eval_score" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["push", "bert"], "name the files"),
        (["push", "bert:1", "f"], "digits only"),
        (["push", "bad%name", "f"], "%"),
        (["push", "bert", "missing"], "cannot be read"),
        (["push", "bert", "f", "--draft"], "label"),
        (["push", "bert", "f", "--about", "missing"], "cannot read"),
        (["push", "bert", "f", "--base", "nothing"], "no model bert"),
        (["pull", "nobody-has-this"], "nobody-has-this"),
        (["pull", "bert:a b"], "MODEL:LABEL"),
        (["pull", "bert", "--server", "nonsense"], "http://"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    server: Server, home: dict[str, str], tmp_path: Path, arguments: list[str], reason: str
) -> None:
    filled(tmp_path, {"f": b"f"})
    code = 3 if "nonsense" in arguments else 2

    assert reason in run(*arguments, url=server.url, home=home, cwd=tmp_path, code=code)


def test_a_server_that_is_not_there_is_code_3(home: dict[str, str], tmp_path: Path) -> None:
    url = "http://me:secret@127.0.0.1:1"
    said = run("pull", "bert", url=url, home=home, cwd=tmp_path, code=3)

    assert "http://***@127.0.0.1:1 cannot be reached: nothing listens there" in said
    assert "secret" not in said


def test_a_file_that_differs_is_refused_with_the_way_out(
    server: Server, home: dict[str, str], tmp_path: Path
) -> None:
    filled(tmp_path, {"f": b"theirs", "mine/f": b"mine"})
    run("push", "differs", "f", url=server.url, home=home, cwd=tmp_path)

    pull = ["pull", "differs", "--to", "mine"]
    assert "--replace" in run(*pull, url=server.url, home=home, cwd=tmp_path, code=2)
    run(*pull, "--replace", "--no-sync", url=server.url, home=home, cwd=tmp_path)
    assert (tmp_path / "mine" / "f").read_bytes() == b"theirs"


def test_without_a_place_for_state_a_push_still_works(server: Server, tmp_path: Path) -> None:
    filled(tmp_path, {"f": b"stateless", "home": b"a file"})
    env = {"DIGESTRY_URL": server.url, "XDG_STATE_HOME": str(tmp_path / "home")}
    done = run_here("push", "stateless", "f", env=env, cwd=tmp_path)

    assert done.returncode == 0
    assert "start over" in done.stderr


def test_progress_is_drawn_on_a_terminal(
    server: Server, home: dict[str, str], tmp_path: Path, large: bytes
) -> None:
    filled(tmp_path, {"large": large})
    ours, theirs = pty.openpty()
    env = {**home, "DIGESTRY_URL": server.url, "TERM": "xterm", "COLUMNS": "100"}
    process = start_digestry(
        *("push", "drawn", "large"),
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 4096):
            drawn += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert b"drawn: version 1" in out
    assert b"hashing" in drawn or b"sending" in drawn


# Killed


class Stalling:
    """A way to a server on which the first transfer stops moving; everything later passes."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.moved = [0, 0]
        self.stalls = True
        self._threads = [threading.Thread(target=self._accept)]
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Stalling:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()

    def release(self) -> None:
        """End what is stalled, and let everything pass from now on."""
        self.stalls = False
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.moved = [0, 0]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [client, server]
            for way, (source, target) in enumerate([(client, server), (server, client)]):
                thread = threading.Thread(target=self._copy, args=(source, target, way))
                self._threads.append(thread)
                thread.start()

    def _copy(self, source: socket.socket, target: socket.socket, way: int) -> None:
        try:
            while (not self.stalls or self.moved[way] < STALL) and (piece := source.recv(65_536)):
                target.sendall(piece)
                self.moved[way] += len(piece)
        except OSError:
            return
        if not self.stalls or self.moved[way] < STALL:
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def stalling(server: Server) -> Iterator[Stalling]:
    with Stalling(server.port) as link:
        yield link


def begin(*args: str, url: str, home: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
    return start_digestry(
        *args,
        env={**home, "DIGESTRY_URL": url},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_an_interrupted_push_goes_on_where_it_stopped(
    server: Server,
    stalling: Stalling,
    home: dict[str, str],
    tmp_path: Path,
    large: bytes,
    by: signal.Signals,
) -> None:
    content = by.name.encode() + large
    filled(tmp_path, {"large": content})
    name = f"interrupted-{by.name}"
    process = begin("push", f"{name}:1.0", "large", url=stalling.url, home=home, cwd=tmp_path)
    wait_until(lambda: stalling.moved[0] >= STALL, "a stalled push")
    # What is still on its way to the disk is given up by a question for where the upload stands.
    uploads = server.data / "uploads"
    wait_until(lambda: max(p.stat().st_size for p in uploads.iterdir()) > STALL - (1 << 20))
    process.send_signal(by)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (-9 if by is signal.SIGKILL else 130)
    assert errors == ("" if by is signal.SIGKILL else "digestry: interrupted\n")
    assert server.get(f"/models/{name}/1.0/large")[0] == 404

    stalling.release()
    said = run("push", f"{name}:1.0", "large", url=stalling.url, home=home, cwd=tmp_path)

    assert "version 1 (1.0)" in said
    assert server.get(f"/models/{name}/1.0/large", 60) == (200, content)
    assert stalling.moved[0] < len(content) - STALL + (8 << 20)
    assert os.listdir(tmp_path / "state" / "digestry" / "uploads") == []


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_an_interrupted_pull_goes_on_where_it_stopped(
    server: Server,
    stalling: Stalling,
    home: dict[str, str],
    tmp_path: Path,
    large: bytes,
    by: signal.Signals,
) -> None:
    filled(tmp_path, {"large": large})
    run("push", f"fetched-{by.name}", "large", url=server.url, home=home, cwd=tmp_path)
    pull = ["pull", f"fetched-{by.name}", "--to", "to"]
    process = begin(*pull, url=stalling.url, home=home, cwd=tmp_path)
    wait_until(lambda: stalling.moved[1] >= STALL, "a stalled pull")
    wait_until(lambda: sum(p.stat().st_size for p in (tmp_path / "to").iterdir()) > STALL // 2)
    process.send_signal(by)
    process.communicate(timeout=30)
    assert process.returncode == (-9 if by is signal.SIGKILL else 130)
    assert [path.suffix for path in (tmp_path / "to").iterdir()] == [".part"]

    stalling.release()
    run(*pull, url=stalling.url, home=home, cwd=tmp_path)

    assert content_of(tmp_path / "to") == {"large": large}
    assert stalling.moved[1] < len(large) - STALL // 2 + (1 << 20)


# Words


def test_a_version_is_named_behind_a_colon_or_an_at() -> None:
    assert push_target("nlp/bert:1.0")[1] == push_target("nlp/bert@1.0")[1] == "1.0"
    assert push_target("nlp/bert")[1] is None
    digest = "sha256:" + "a" * 64

    def asked(text: str) -> tuple[str, str, str]:
        wish, directory = wish_of(text, ())
        return wish.model, wish.reference, directory

    assert asked("nlp/bert") == ("nlp~bert", "latest", "bert")
    assert asked("default/bert@champion") == ("bert", "champion", "bert")
    assert asked(f"bert:{digest}") == asked(f"bert@{digest}") == ("bert", digest, "bert")
    assert asked("bert:@champion")[1] == asked("bert@@champion")[1] == "@champion"


@pytest.mark.parametrize("text", ["", ":1.0", "a:", "a b/c:", "a:x/y", "../a", "bert:.."])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(CommandError):
        wish_of(text, ())


def test_a_model_goes_to_another_name_by_a_file_and_by_a_pipe(
    server: Server, home: dict[str, str], tmp_path: Path
) -> None:
    filled(tmp_path / "files", {"model.bin": b"w" * 100_000})
    here = {"url": server.url, "home": home, "cwd": tmp_path}
    run("push", "nlp/leaves:1.0.0", "files", **here)
    run("push", "nlp/leaves:1.1.0", "files/model.bin", **here)

    assert "nlp/leaves: " in run("export", "nlp/leaves", "all.tar", **here)
    one = json.loads(run("export", "nlp/leaves", "1.0.0", "one.tar", "--json", **here))
    assert one["size"] == (tmp_path / "one.tar").stat().st_size
    assert "is there already" in run("export", "nlp/leaves", "all.tar", code=2, **here)
    assert "name the file" in run("export", "nlp/leaves", code=2, **here)
    said = run("import", "all.tar", "--as", "nlp/arrives", **here)
    assert said == "nlp/arrives: 2 versions\n"
    assert "is there already" in run("import", "all.tar", code=2, **here)
    assert "is this a tar archive?" in run("import", "files/model.bin", code=2, **here)
    piped = run_here("export", "nlp/leaves", "-", env={"DIGESTRY_URL": server.url, **home})
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.encode() == (tmp_path / "all.tar").read_bytes()
    said = run("import", "-", "--as", "nlp/piped", "--json", input=piped.stdout, **here)
    assert json.loads(said)["model"] == {"name": "nlp/piped"}
