"""The real server process: start, drain, death and return, and every reason not to start."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.auth.local_secret import authorization
from registry.cli.imports import certificates_unread
from tests.support.servers import (
    ROOT,
    Server,
    children_of,
    environment,
    run_digestry,
    running_server,
    start_digestry,
    wait_until,
)

BODY = b"0123456789abcdef" * 65536


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a server has prepared, so that each test need not wait for that."""
    data = tmp_path_factory.mktemp("template") / "data"
    with running_server(data) as server:
        assert server.stop() == 0
    return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(template, copy)
    return copy


def put(server: Server, content: bytes) -> str:
    """Store bytes and return their digest."""
    status, answer = server.request("PUT", "/blobs/any.bin", content)
    assert status == 201, answer
    return str(json.loads(answer)["digest"])


class SlowUpload:
    """A PUT whose body stops half way until the test says so; the server is known to be in it."""

    def __init__(self, server: Server, content: bytes) -> None:
        self.content = content
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.socket.sendall(
            b"PUT /blobs/slow.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(content)
        )
        assert self.socket.recv(100).startswith(b"HTTP/1.1 100")
        self.socket.sendall(content[: len(content) // 2])

    def finish(self) -> tuple[int, dict[str, str], bytes]:
        self.socket.sendall(self.content[len(self.content) // 2 :])
        answer = http.client.HTTPResponse(self.socket, method="PUT")
        try:
            answer.begin()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            answer.close()
            self.close()

    def close(self) -> None:
        self.socket.close()


def logged(server: Server) -> list[dict[str, Any]]:
    """What the log says so far; a line that is still being written is none yet."""
    whole = server.log.rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def refuses_connections(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


# Start.


def test_the_first_start_makes_everything_and_says_what_to_try(tmp_path: Path) -> None:
    new = tmp_path / "new" / "data"
    with running_server(new, is_first_start=True, by_exec=True) as server:
        greeting = [line for line in server.log.splitlines() if not line.startswith("{")]

        assert len(greeting) == 1
        assert server.url in greeting[0]
        assert "curl -T" in greeting[0]
        assert server.stop() == 0


def test_the_log_is_json_lines(data: Path) -> None:
    with running_server(data) as server:
        server.get("/healthz")
        server.stop()
        lines = [line for line in server.log.splitlines() if not line.startswith("digestry ")]

    for line in lines:
        assert {"event", "level", "timestamp", "pid"} <= json.loads(line).keys()


def test_the_presence_file_is_private_and_gone_at_the_end(data: Path) -> None:
    with running_server(data) as server:
        path = data / "server.json"

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        server.stop()
        assert not path.exists()


def test_the_local_secret_is_checked_where_it_is_offered(data: Path) -> None:
    with running_server(data) as server:
        secret = (server.facts() or {})["secret"]

        def ask(value: str) -> int:
            return server.request("GET", "/api/v1/gc", headers={"Authorization": value})[0]

        assert ask(authorization(secret)) == 200
        assert ask(authorization("0" * 64)) == 401


def test_a_stale_presence_file_is_no_obstacle(data: Path) -> None:
    (data / "server.json").write_text(
        json.dumps({"pid": 2**22 + 1, "url": "http://127.0.0.1:1", "secret": "x"})
    )
    with running_server(data) as server:
        assert server.get("/healthz")[0] == 200


def test_settings_come_from_the_environment_and_flags_go_before(data: Path) -> None:
    with running_server(
        data, env={"DIGESTRY_SERVER_PORT": "1", "DIGESTRY_LOG_LEVEL": "error"}
    ) as s:
        s.get("/healthz")
        s.stop()

        assert s.port != 1
        assert '"level":"info"' not in s.log


def test_an_index_of_another_epoch_is_adopted_and_collection_stays_off(data: Path) -> None:
    facts = json.loads((data / "store.json").read_text())
    (data / "store.json").write_text(json.dumps(facts | {"epoch": facts["epoch"] + 1}))

    with running_server(data) as server:
        off = json.loads(server.get("/api/v1/gc")[1])["quarantine"]["off"]

        assert "epoch" in off


def test_file_descriptors_are_raised_to_the_hard_limit(data: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))

    with running_server(data, preexec_fn=lower) as server:
        for pid in (server.pid, *server.worker_pids()):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (1024, 1024)


# Imports are the start-up budget.


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_supervisor_imports_the_standard_library_and_msgspec_alone() -> None:
    code = """
from registry.cli import run
from registry.cli.flags import parse
import registry.cli.serve
"""
    ours = {"registry", "store", "msgspec", "typing_extensions", "_virtualenv", "sitecustomize"}
    loaded = modules_after(code)
    foreign = {name.partition(".")[0] for name in loaded - modules_after("pass") if name} - set(
        sys.stdlib_module_names
    )

    assert foreign <= ours
    assert not {"asyncio", "logging", "sqlite3", "importlib.metadata"} & loaded


def test_a_worker_imports_neither_migrations_nor_what_draws_for_people() -> None:
    code = """
from registry.cli.imports import hide_terminal_libraries
hide_terminal_libraries()
import registry.cli.worker
import sys
del sys.modules["rich"]
"""
    tops = {name.partition(".")[0] for name in modules_after(code)}

    unwanted = {"alembic", "cryptography", "rich", "cyclopts", "uvloop", "rich_rst"}
    assert not tops & {*unwanted, "opentelemetry", "google"}


def test_a_worker_reads_no_certificates_when_it_imports() -> None:
    """What is imported trusts nobody; later calls check against what the machine trusts."""
    code = """
import ssl
trusted = ssl.create_default_context().cert_store_stats()
from registry.cli.imports import certificates_unread
with certificates_unread():
    import registry.cli.worker
import aiohttp.connector
print(aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"])
print(ssl.create_default_context().cert_store_stats() == trusted)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "True"]


def test_variables_of_certificates_are_as_they_were_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/somewhere")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with certificates_unread():
        assert os.environ["SSL_CERT_FILE"] == os.environ["SSL_CERT_DIR"] == os.devnull

    assert os.environ["SSL_CERT_FILE"] == "/somewhere"
    assert "SSL_CERT_DIR" not in os.environ


def test_hardly_a_statement_is_made_before_somebody_asks() -> None:
    """Hundreds of them, made when their modules are imported, were a fifth of the start."""
    code = """
import gc, registry.cli.worker
from sqlalchemy import ClauseElement
from store.index.transactions import Statement
all_ = [each for each in gc.get_objects() if isinstance(each, Statement)]
print(len(all_), sum(isinstance(each._given, ClauseElement) for each in all_))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, made = map(int, done.stdout.split())

    assert count > 500
    assert made < 0.2 * count


def test_the_running_supervisor_never_loads_the_database(data: Path) -> None:
    with running_server(data, workers=2, by_exec=True) as server:
        maps = Path(f"/proc/{server.pid}/maps").read_text()

        assert not [
            word for word in ("sqlite", "aiohttp", "multidict", "sqlalchemy") if word in maps
        ]


# Drain.


def test_an_upload_in_flight_completes_while_new_connections_are_refused(data: Path) -> None:
    with running_server(data) as server:
        upload = SlowUpload(server, BODY)
        server.terminate()
        wait_until(lambda: refuses_connections(server), "refusal")

        status, headers, answer = upload.finish()
        assert status == 201
        assert headers["connection"] == "close"
        assert server.wait() == 0

        server.start()
        assert server.get(json.loads(answer)["url"]) == (200, BODY)


def test_drain_reaches_every_worker_before_any_closes(data: Path) -> None:
    with running_server(data, workers=2) as server:
        uploads = [SlowUpload(server, BODY + bytes([n])) for n in range(8)]
        server.terminate(signal.SIGINT)
        wait_until(lambda: refuses_connections(server), "refusal")

        assert [upload.finish()[0] for upload in uploads] == [201] * 8
        assert server.wait() == 0


def test_an_idle_connection_does_not_hold_up_the_end(data: Path) -> None:
    with running_server(data) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        idle.request("GET", "/healthz")
        idle.getresponse().read()
        started = time.monotonic()

        assert server.stop() == 0
        assert time.monotonic() - started < 5
        idle.close()


def test_a_second_signal_ends_at_once(data: Path) -> None:
    with running_server(data) as server:
        upload = SlowUpload(server, BODY)
        server.terminate()
        wait_until(lambda: refuses_connections(server), "refusal")
        started = time.monotonic()
        server.terminate()

        assert server.wait(10) == 0
        assert time.monotonic() - started < 8
        upload.close()


def test_the_drain_has_an_end(data: Path) -> None:
    with running_server(data, env={"DIGESTRY_SERVER_DRAIN_SECONDS": "0.2"}) as server:
        upload = SlowUpload(server, BODY)

        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 6
        upload.close()


# Death and return.


def test_a_killed_worker_is_replaced(data: Path) -> None:
    with running_server(data) as server:
        digest = put(server, b"before")
        dead = server.kill_worker()
        wait_until(lambda: server.worker_pids() and dead not in server.worker_pids(), "worker")
        wait_until(server.is_ready, "readiness")

        assert server.get(f"/blobs/{digest}") == (200, b"before")
        assert '"event":"worker died"' in server.log


def test_a_worker_that_hangs_is_killed_and_replaced(data: Path) -> None:
    with running_server(data, env={"DIGESTRY_SERVER_HANG_SECONDS": "2"}) as server:
        digest = put(server, b"before")
        hanging = server.worker_pids()[0]
        os.kill(hanging, signal.SIGSTOP)
        wait_until(lambda: server.worker_pids() and hanging not in server.worker_pids(), "worker")
        wait_until(server.is_ready, "readiness")

        assert server.get(f"/blobs/{digest}") == (200, b"before")
        put(server, b"after")
        assert '"event":"worker hangs"' in server.log


def test_a_worker_that_is_told_to_end_is_replaced(data: Path) -> None:
    with running_server(data) as server:
        old = server.worker_pids()[0]
        os.kill(old, signal.SIGTERM)
        wait_until(lambda: server.worker_pids() and old not in server.worker_pids(), "worker")
        wait_until(server.is_ready, "readiness")


def test_after_a_kill_of_everything_the_next_start_finds_it_intact(data: Path) -> None:
    with running_server(data, workers=2) as server:
        digest = put(server, BODY)
        server.kill_everything()
        assert (data / "server.json").exists()

        server.start()
        assert server.get(f"/blobs/{digest}") == (200, BODY)


def test_workers_end_when_their_supervisor_is_killed_and_the_next_start_waits(data: Path) -> None:
    with running_server(data, workers=2) as server:
        workers = server.worker_pids()
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server.port = 0
        server.start()

        assert not set(workers) & set(server.worker_pids())
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "end")


def test_two_workers_share_the_connections(data: Path) -> None:
    with running_server(data, workers=2) as server:

        def serving() -> set[int]:
            opened = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(40)]
            for connection in opened:
                connection.request("GET", "/healthz")
            for connection in opened:
                connection.getresponse().read()
                connection.close()
            return {line["pid"] for line in logged(server) if line["event"] == "request"}

        wait_until(lambda: serving() == set(server.worker_pids()), "both workers")


def test_one_worker_leads_and_another_takes_over(data: Path) -> None:
    with running_server(data, workers=2, env={"DIGESTRY_LOG_LEVEL": "debug"}) as server:

        def leaders() -> list[int]:
            return [line["pid"] for line in logged(server) if line["event"] == "leading"]

        first = wait_until(leaders, "a leader")
        assert len(first) == 1
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(leaders()) == 2, "another leader")


def shared_numbers(server: Server) -> Path:
    """Where the workers of a server add their numbers up."""
    parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
    (found,) = parent.glob(f"digestry-{os.geteuid()}-{server.pid}-*")
    return found


def test_workers_add_their_numbers_up_without_the_dead(data: Path) -> None:
    with running_server(data, workers=2) as server:
        directory = shared_numbers(server)
        wait_until(lambda: len(server.worker_pids()) == 2, "both workers")

        def readings(pid: int) -> list[Path]:
            server.get("/metrics")
            return list(directory.glob(f"gauge_live*_{pid}.db"))

        dead = server.worker_pids()[0]
        wait_until(lambda: readings(dead), "readings of a worker")
        server.kill_worker()
        wait_until(lambda: len(set(server.worker_pids()) - {dead}) == 2, "its successor")
        wait_until(lambda: not readings(dead), "their end")

        assert b"digestry_http_requests_in_flight" in server.get("/metrics")[1]
        assert directory.stat().st_mode & 0o777 == 0o700
        server.kill_everything()
        # It is left behind until a server is started, which may be one of another test.
        server.start()
        wait_until(lambda: not directory.exists(), "the end of what was left behind")
        directory = shared_numbers(server)
        assert server.stop() == 0
    wait_until(lambda: not directory.exists(), "the end of its own, if another start looks at it")


def test_running_out_of_descriptors_is_survived(data: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))

    with running_server(data, preexec_fn=lower) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        for connection in crowd:
            connection.close()

        wait_until(server.is_ready, "readiness")
        put(server, b"after the crowd")


# Reasons not to start: one line, and a code that is not 0.


def refused(*args: str, code: int = 2, **settings: Any) -> str:
    """The one line that ``digestry serve`` complains with."""
    done = run_digestry("serve", "--port", "0", *args, **settings)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("{")]

    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert len(complaints) == 1, done.stderr
    assert complaints[0].startswith("digestry: ")
    return complaints[0]


def test_a_port_in_use_is_said(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_digestry("serve", "--port", str(port), "--data", str(data))

    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_a_second_server_on_a_directory_is_told_who_has_it(data: Path) -> None:
    with running_server(data) as server:
        sentence = refused("--data", str(data))

        assert f"process id {server.pid} at {server.url}" in sentence
        assert server.get("/healthz")[0] == 200


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")

    assert "not a data directory" in refused("--data", str(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_an_index_of_another_store_is_refused(data: Path) -> None:
    facts = json.loads((data / "store.json").read_text())
    (data / "store.json").write_text(json.dumps(facts | {"store_id": "sto_other"}))

    done = run_digestry("serve", "--port", "0", "--data", str(data))

    assert done.returncode == 2
    assert "belongs to store" in done.stderr


def test_a_newer_layout_is_refused(data: Path) -> None:
    facts = json.loads((data / "store.json").read_text())
    (data / "store.json").write_text(json.dumps(facts | {"layout_version": 99}))

    assert "newer" in refused("--data", str(data))


def test_a_damaged_index_is_refused_with_the_way_out(data: Path) -> None:
    index = data / "index.sqlite3"
    content = index.read_bytes()
    index.write_bytes(content[:100] + b"\xff" * (len(content) - 100))

    done = run_digestry("serve", "--port", "0", "--data", str(data))

    assert done.returncode == 2
    assert "fsck" in done.stderr
    assert "Traceback" not in done.stderr.replace("\\n", "\n")


def test_too_few_descriptors_are_refused(data: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    assert "ulimit -n" in refused("--data", str(data), preexec_fn=lower)


def obey_permissions() -> None:
    """In a process to be: even root may then write only where the mode bits allow it."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@pytest.fixture
def closed_place(tmp_path: Path) -> Iterator[Path]:
    """A directory that may be read but not written."""
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    yield place
    place.chmod(0o755)


def test_a_directory_that_cannot_be_made_is_said(closed_place: Path) -> None:
    path = str(closed_place / "data")

    assert "Permission denied" in refused("--data", path, preexec_fn=obey_permissions)


def test_a_directory_that_cannot_be_written_is_said(closed_place: Path) -> None:
    path = str(closed_place)

    assert "cannot write in" in refused("--data", path, preexec_fn=obey_permissions)


def test_a_store_that_cannot_be_written_is_said(data: Path) -> None:
    for path in (data, *data.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    assert "cannot write in" in refused("--data", str(data), preexec_fn=obey_permissions)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--host", "0.0.0.0"), "open_to_network"),
        (("--port", "70000"), "65535"),
        (("--workers", "0"), "workers"),
        (("--config", "/nonexistent.toml"), "nonexistent"),
        (("--prot", "1"), "--port"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, args: tuple[str, ...], word: str) -> None:
    done = run_digestry("serve", "--data", str(tmp_path / "data"), *args)

    assert done.returncode == 2
    assert word in done.stderr
    assert not (tmp_path / "data").exists()


def test_memory_needs_no_directory(tmp_path: Path) -> None:
    process = start_digestry(
        *("serve", "--port", "0"),
        env={"DIGESTRY_STORE_BACKEND": "memory"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "serves memory at http://127.0.0.1:" in process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 0
        assert os.listdir(tmp_path) == []
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def supervise(
    code: str, *, count: int = 2, hang_seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a supervisor over workers that behave as `code` (a function ``work``) says."""
    script = f"""
import socket, sys
sys.path.insert(0, {str(ROOT)!r})
from registry.cli import supervisor
supervisor.FIRST_PAUSE_SECONDS = 0.001
{code}
listener = socket.create_server(("127.0.0.1", 0))
ended = supervisor.Supervisor(
    work,
    {count},
    listener=listener,
    drain_seconds=1,
    hang_seconds={hang_seconds},
    on_ready=lambda: print("ready", flush=True),
).run()
print(ended.sentence)
sys.exit(ended.code)
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_workers_that_never_start_end_the_server_loudly() -> None:
    done = supervise("def work(channel): raise RuntimeError('broken')")

    assert done.returncode == 3
    assert "again and again (3 times)" in done.stdout


def test_workers_that_die_right_after_they_were_ready_end_the_server_loudly() -> None:
    done = supervise("def work(channel):\n    channel.send(b'ready\\n')\n    return 1")

    assert done.returncode == 3
    assert "again and again (6 times)" in done.stdout


def test_a_worker_that_answers_is_asked_again_and_left_alone() -> None:
    code = """
import os, signal
def work(channel):
    channel.send(b"ready\\n")
    for _ in range(3):
        assert channel.recv(64) == b"ping\\n"
        channel.send(b"alive\\n")
    os.kill(os.getppid(), signal.SIGTERM)
    assert "stop\\n" in channel.makefile()
    channel.send(b"stopped\\n")
    return 0
"""
    done = supervise(code, count=1, hang_seconds=0.2)

    assert done.returncode == 0, done.stderr
    assert "worker hangs" not in done.stderr
    assert "worker died" not in done.stderr
    assert "Error" not in done.stderr


def test_a_worker_that_stood_still_with_the_whole_machine_is_left_alone() -> None:
    """The clock went on while nobody did: that it did not answer meanwhile says nothing of it."""
    code = """
import fcntl, mmap, os, signal, struct, termios, time
stood_still = mmap.mmap(-1, 8)
class Clock:
    def monotonic(self):
        return time.monotonic() + struct.unpack("d", stood_still[:])[0]
supervisor.time = Clock()
def work(channel):
    channel.send(b"ready\\n")
    assert channel.recv(64) == b"ping\\n"
    stood_still[:] = struct.pack("d", 3600)
    for _ in range(2):  # when the second is taken, what follows from the first has been done
        channel.send(b"nothing\\n")
        while any(fcntl.ioctl(channel, termios.TIOCOUTQ, bytes(4))):
            time.sleep(0.001)
    channel.send(b"alive\\n")
    os.kill(os.getppid(), signal.SIGTERM)
    assert "stop\\n" in channel.makefile()
    channel.send(b"stopped\\n")
    return 0
"""
    done = supervise(code, count=1)

    assert done.returncode == 0, done.stderr
    assert "worker hangs" not in done.stderr
    assert "Error" not in done.stderr


def test_without_a_bound_nobody_is_asked() -> None:
    code = """
import os, signal
def work(channel):
    channel.send(b"ready\\n")
    os.kill(os.getppid(), signal.SIGTERM)
    heard = b""
    while not heard.endswith(b"close\\n"):
        heard += channel.recv(64)
        channel.send(b"stopped\\n")
    print(heard, flush=True)
    return 0
"""
    done = supervise(code, count=1, hang_seconds=0)

    assert done.returncode == 0, done.stderr
    assert "ping" not in done.stdout


def test_a_refusal_at_start_is_not_tried_again() -> None:
    done = supervise("def work(channel):\n    channel.send(b'refused no luck\\n')\n    return 2")

    assert done.returncode == 2
    assert done.stdout == "no luck\n"


def test_children_are_found() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in children_of(os.getpid())
    finally:
        child.kill()
        child.communicate()
