"""One server process under test and what its whole process tree costs.

CPU is user plus system time of every process of the tree, including children that already ended
(their parent inherits it), read until nothing more is used: work a server puts off counts as its
own. The kernel keeps these sums exactly but shows them in ticks of 10 ms, so short cases repeat.
Time that the kernel spends for nobody, such as writing pages back, is in nobody's figure.
Only processes started here are ever signalled, by their id.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
HOST = "127.0.0.1"


_GROUP = "autogroup"
_AHEAD = "-19"
_USUAL = "0"
_servers_go: list[str] = []


@contextlib.contextmanager
def sessions_ahead() -> Iterator[None]:
    """Let this process and the servers it starts run before anybody else's; raises OSError.

    Where the scheduler shares processors out among sessions, a process's own priority counts only
    inside its session, so it is the sessions that go first. A server has one of its own; this
    process makes one if it can, and lends the one it is in the right if it cannot.
    """
    with contextlib.suppress(PermissionError):
        os.setsid()
    _prefer("self", _AHEAD)
    _servers_go.append(_AHEAD)
    try:
        yield
    finally:
        _servers_go.pop()
        _prefer("self", _USUAL)


@contextlib.contextmanager
def in_real_time() -> Iterator[None]:
    """The same by the class of real time, which moves at once to a processor that others have.

    Sessions that go first still share one processor for a while where the other is never idle. But
    nobody in this class is preempted by his like, so it says little where more threads want to run
    than there are processors. The kernel keeps a twentieth of the time for everybody else.
    """
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


AHEAD = {"sessions": sessions_ahead, "real-time": in_real_time}


def _prefer(pid: int | str, priority: str) -> None:
    Path(f"/proc/{pid}/{_GROUP}").write_text(priority)


class ServerFailed(Exception):
    """The server under test ended or stayed silent; carries the end of its log."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        super().__init__(f"{name} {reason}\n{tail}".rstrip())


class Usage(msgspec.Struct, frozen=True):
    cpu_seconds: float
    peak_bytes: int
    """Largest resident set that any one process of the tree ever had."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server:
    """A started server; a context manager that leaves no process behind."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        working_directory: Path,
        environment: Mapping[str, str],
        settle_seconds: float,
        ready_within_seconds: float = 60,
    ) -> None:
        self.name = name
        self.port = port
        self.settle_seconds = settle_seconds
        self._log = log
        self._started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=working_directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            for priority in _servers_go:
                _prefer(self._process.pid, priority)
            self.ready_seconds = self._wait_until_ready(ready_path, ready_within_seconds)
        except BaseException:
            self.stop()
            raise
        self._baseline = 0.0

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def mark(self) -> None:
        """Count CPU from here on; waits first, so that start-up is not in the figure."""
        self._baseline = self._idle_cpu_seconds()

    def usage(self) -> Usage:
        """What was used since `mark`, once the tree is idle again."""
        cpu_seconds = self._idle_cpu_seconds() - self._baseline
        return Usage(cpu_seconds=cpu_seconds, peak_bytes=peak_bytes(self.pid))

    def kill(self) -> None:
        """SIGKILL, as a crash would: nothing is flushed, nobody says goodbye."""
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        if self._process.poll() is None:
            self.kill()

    def _wait_until_ready(self, path: str, seconds: float) -> float:
        deadline = self._started + seconds
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(self.name, f"ended with {self._process.returncode}", self._log)
            if _answers(self.port, path):
                return time.perf_counter() - self._started
            time.sleep(0.002)
        raise ServerFailed(self.name, f"was not ready within {seconds:.0f} s", self._log)

    def _idle_cpu_seconds(self) -> float:
        """Poll until the tree uses less than two ticks per settling time."""
        deadline = time.monotonic() + 60
        before = cpu_seconds(self.pid)
        while time.monotonic() < deadline:
            time.sleep(self.settle_seconds)
            now = cpu_seconds(self.pid)
            if now - before < 2 * TICK_SECONDS:
                return now
            before = now
        raise ServerFailed(self.name, "did not become idle within 60 s", self._log)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except OSError:
        return False
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def cpu_seconds(pid: int) -> float:
    total = 0
    for each in (pid, *descendants(pid)):
        fields = _stat_fields(each)
        if fields is not None:
            # utime, stime, cutime, cstime: fields 14 to 17 of proc(5), counted from the state
            total += sum(int(field) for field in fields[11:15])
    return total * TICK_SECONDS


def peak_bytes(pid: int) -> int:
    return max(_memory_bytes(each, "VmHWM:") for each in (pid, *descendants(pid)))


def resident_bytes(pid: int) -> int:
    """What the whole tree holds now; pages that two of its processes share count twice."""
    return sum(_memory_bytes(each, "VmRSS:") for each in (pid, *descendants(pid)))


def _memory_bytes(pid: int, which: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) * 1024
    return 0


def _stat_fields(pid: int) -> list[str] | None:
    """The fields after the command name, whose spaces and brackets would mislead a split."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None
