"""Starts the real server process, as a person would, and lets a test hurt it.

Use `running_server` where the server should be gone at the end of a block::

    with running_server(tmp_path / "data", workers=2) as server:
        requests.put(f"{server.url}/blobs/model.bin", data=b"…")
        server.kill_worker()
        server.kill_everything()
        server.start()                      # the same data directory, the same port

A server is forked from a process that has imported the product (`tests.support.forked`), unless it
is `by_exec`: for tests of the start itself, of memory, and of what only a fresh interpreter has.

Every process is started with an empty environment but PATH, so settings of the machine do not leak
into tests, and everything it wrote is readable in `Server.log` when a test fails.

A data directory that is not there is not made by the server, unless its `is_first_start`: the test
gives it one that is like new (`tests.support.fresh`), which spares a process and 0.6 s of CPU.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.forked import Forked, can_fork
from tests.support.secrecy import leaks

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
POLL_SECONDS = 0.005


class ServerDied(AssertionError):
    """The server ended, or never became ready; carries everything it wrote."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which only the code under test and `extra` can have an influence."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        **(extra or {}),
    }


def start_digestry(
    *args: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    by_exec: bool = False,
    **popen: Any,
) -> subprocess.Popen[Any]:
    """Start one command: by a fork where nobody could tell, by exec where `by_exec` or need be."""
    surroundings = environment(env)
    if not by_exec and can_fork(surroundings, environment(), popen):
        return Forked(*args, env=surroundings, cwd=cwd, **popen)
    command = [sys.executable, "-m", "registry", *args]
    return subprocess.Popen(command, env=surroundings, cwd=cwd, **popen)


def run_digestry(
    *args: str, timeout_seconds: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, with options of `start_digestry`: what it wrote, its code."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_digestry(*args, text=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout_seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def make_like_new(data: Path) -> None:
    """The data directory that a first start would make."""
    from registry.catalog.migrations import CHAINS  # most who start processes import no registry
    from tests.support.fresh import initialize_like_new

    data.mkdir(mode=0o700)
    initialize_like_new(data, CHAINS)


def children_of(pid: int) -> list[int]:
    """The direct children of a process, oldest first."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(encoding="utf-8")
        except OSError:
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z":
            found.append(int(entry))
    return sorted(found)


def wait_until(
    condition: Callable[[], Any], what: str = "condition", timeout_seconds: float = START_SECONDS
) -> Any:
    """Poll until `condition` answers something true, and return it."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_seconds} s")
        time.sleep(POLL_SECONDS)
    return answer


def port_to_keep() -> int:
    """A free port of loopback that stays free while its server is down.

    It lies below those that the kernel gives to whoever asks for any or connects from one.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)  # others are seeded alike
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One ``digestry serve`` on one data directory; may be killed and started again."""

    def __init__(
        self,
        data: Path,
        *,
        workers: int = 1,
        port: int = 0,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        is_first_start: bool = False,
        by_exec: bool = False,
        **popen: Any,
    ) -> None:
        self.data = data
        self.by_exec = by_exec
        self.is_first_start = is_first_start
        self.workers = workers
        self.port = port or port_to_keep()
        self.config = config
        self.env = dict(env or {})
        self.args = tuple(args)
        self.popen = popen
        self.log_path = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def staged_bytes(self, location: str) -> int:
        """How much of an upload session is in its staging file: to ask the server would end it."""
        staged = self.data / "uploads" / location.rpartition("/")[2]
        return staged.stat().st_size if staged.exists() else 0

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None, "the server was not started"
        return self.process.pid

    @property
    def log(self) -> str:
        """Everything the server wrote to both its streams, over all its starts."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def arguments(self) -> list[str]:
        """What follows the name of the program."""
        config = []
        if self.config is not None:
            path = self.data.parent / f"{self.data.name}.toml"
            path.write_text(self.config, encoding="utf-8")
            config = ["--config", str(path)]
        listen = ["--host", "127.0.0.1", "--port", str(self.port)]
        rest = ["--data", str(self.data), "--workers", str(self.workers), *self.args]
        return ["serve", *config, *listen, *rest]

    def launch(self) -> Server:
        """Start the process and return at once."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if not self.is_first_start and not self.data.exists():
            make_like_new(self.data)
        with self.log_path.open("ab") as log:
            self.process = self.started(
                cwd=self.data.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self.popen,
            )
        return self

    def started(self, **options: Any) -> subprocess.Popen[bytes]:
        """A process that serves; `launch` makes the rest ready for it."""
        return start_digestry(*self.arguments(), env=self.env, by_exec=self.by_exec, **options)

    def start(self) -> Server:
        """Start the process and wait until it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until ``/readyz`` answers 200; raises `ServerDied` if the process ends before.

        Time in which others have the processors does not count.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None:
                code = None if self.process is None else self.process.returncode
                raise ServerDied(f"server ended with {code}:\n{self.log}")
            if time.monotonic() > deadline and time.monotonic() > deadline + self.starved_seconds():
                raise ServerDied(f"not ready after {timeout_seconds} s:\n{self.log}")
            time.sleep(POLL_SECONDS)

    def starved_seconds(self) -> float:
        """How long its processes were ready to run and had no processor, as on a busy machine."""
        return sum(_run_delay(pid) for pid in (self.pid, *children_of(self.pid)))

    def is_ready(self) -> bool:
        """Whether this process (not a predecessor) listens and answers ``/readyz`` with 200."""
        facts = self.facts()
        if facts is None or facts["pid"] != self.pid:
            return False
        self.port = int(facts["url"].rpartition(":")[2])
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def facts(self) -> dict[str, Any] | None:
        """What ``server.json`` says, if it is there."""
        try:
            facts: dict[str, Any] = json.loads((self.data / "server.json").read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return facts

    def get(self, path: str, timeout_seconds: float = 10) -> tuple[int, bytes]:
        """Status and body of one GET on a connection of its own."""
        return self.request("GET", path, timeout_seconds=timeout_seconds)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10,
    ) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def worker_pids(self) -> list[int]:
        """Process ids of the living workers."""
        return children_of(self.pid)

    def kill_worker(self, index: int = 0) -> int:
        """SIGKILL one worker and return its process id; the supervisor replaces it."""
        pid = wait_until(self.worker_pids, "a worker")[index]
        os.kill(pid, signal.SIGKILL)
        return int(pid)

    def kill_everything(self) -> None:
        """SIGKILL the supervisor and every worker, as a power cut would, and wait for it."""
        assert self.process is not None, "the server was not started"
        os.kill(self.pid, signal.SIGSTOP)  # so that it starts no worker while we count them
        # A fork that was under way ends first, with a worker that would not be counted.
        wait_until(lambda: _state(self.pid) in "TZ", "a supervisor that stands still")
        workers = children_of(self.pid)
        for pid in (self.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(START_SECONDS)
        wait_until(lambda: not any(_is_left(pid) for pid in workers), "death of the workers")

    def terminate(self, signum: int = signal.SIGTERM) -> None:
        """Ask for a drain and return at once."""
        os.kill(self.pid, signum)

    def wait(self, timeout_seconds: float = START_SECONDS) -> int:
        """Wait for the end of the supervisor and return its exit code."""
        assert self.process is not None, "the server was not started"
        return self.process.wait(timeout_seconds)

    def stop(self) -> int:
        """Drain and wait; return the exit code."""
        self.terminate()
        return self.wait()

    def close(self) -> None:
        """Leave nothing running, whatever state the server is in, and no secret in its log."""
        if self.process is not None and self.process.poll() is None:
            self.kill_everything()
        if self.log_path.exists():
            assert leaks(self.log) == []


def _state(pid: int) -> str:
    """The letter of what a process does; Z if it does nothing any more."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8")
    except OSError:
        return "Z"
    return stat.rpartition(")")[2].split()[0]


def _is_left(pid: int) -> bool:
    """Whether a thread of a process is left; each has its open files, and with them its locks.

    The first one, of which the state of a process is told, can end before another that waits for a
    disk.
    """
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8")
    except OSError:
        return False
    fields = stat.rpartition(")")[2].split()
    return fields[0] != "Z" or int(fields[17]) > 1


def _run_delay(pid: int) -> float:
    """For how many seconds a process was ready to run and did not."""
    try:
        return int(Path("/proc", str(pid), "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@contextmanager
def running_server(data: Path, **settings: Any) -> Iterator[Server]:
    """A ready server (arguments as for `Server`) that is killed at the end if it still runs."""
    server = Server(data, **settings)
    try:
        yield server.start()
    finally:
        server.close()
