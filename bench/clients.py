"""The load: a socket client for large bodies, `wrk` for small requests, `curl` as users run it.

Large bodies leave from a mapped file and arrive into `MSG_TRUNC`, which drops them inside the
kernel, so that the client leaves the processor to the server; `bench_client` shows its ceiling
against a peer that does nothing. (Sending by `sendfile` was slower: the receiver then copies from
memory what a sender's copy would have left in its cache.)
The client believes no success that the status, the length and, once per case, the hash of what
arrived do not support.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from bench.data import MIB, Body
from bench.processes import HOST

_SCRIPTS = Path(__file__).parent / "wrk"
_PIECE_BYTES = 4 * MIB
_PATIENCE_SECONDS = 120

LONGEST_SECONDS = 64
"""So long a server that answers nothing is asked at most."""


class Unexpected(Exception):
    """A server answered something that makes the measurement void."""


class NoAnswer(Unexpected):
    """A server answered nothing in the time that it had."""


class CannotRun(Exception):
    """This machine lacks what a scenario needs; it is skipped and the reason printed."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One HTTP/1.1 connection that understands just what the servers under test send."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection((HOST, port), timeout=_PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a Python timeout would poll before every call; the kernel's own costs nothing
        self._socket.settimeout(None)
        patience = struct.pack("ll", _PATIENCE_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def is_open(self) -> bool:
        """Whether the server has neither closed it nor said anything that nobody asked for."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        *,
        expect: Sequence[int],
    ) -> Answer:
        """Send a request with at most a small body and read its whole answer."""
        lines = dict(headers or {})
        if content is not None or method in {"POST", "PUT", "PATCH"}:
            lines["Content-Length"] = str(len(content or b""))
        # In one piece, so that whoever counts the server's turns always counts the same.
        self._socket.sendall(self._head(method, target, lines) + (content or b""))
        return self.answer(expect=expect, has_body=method != "HEAD")

    def send_head(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        self._socket.sendall(self._head(method, target, headers))

    def _head(self, method: str, target: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def send(self, content: bytes) -> None:
        """Send a piece of a body."""
        self._socket.sendall(content)

    def send_body(self, body: Body, start: int = 0, stop: int | None = None) -> None:
        """Send bytes `start` to `stop` of a body."""
        end = body.size_bytes if stop is None else stop
        shared_bytes = len(body.shared)
        for position in range(start, min(end, shared_bytes), MIB):
            self._socket.sendall(body.shared[position : min(position + MIB, end)])
        if end > shared_bytes:
            self._socket.sendall(body.tail[max(start - shared_bytes, 0) : end - shared_bytes])

    def send_chunked(self, body: Body) -> None:
        """Send a body whose length the server is not told beforehand."""
        for start in range(0, len(body.shared), MIB):
            piece = body.shared[start : start + MIB]
            self._socket.sendall(b"%x\r\n" % len(piece), socket.MSG_MORE)
            self._socket.sendall(piece, socket.MSG_MORE)
            self._socket.sendall(b"\r\n", socket.MSG_MORE)
        self._socket.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body.tail), body.tail))

    def answer(self, *, expect: Sequence[int], has_body: bool = True) -> Answer:
        answer, length = self._read_head()
        content = self._read_exactly(length) if has_body else b""
        if answer.status not in expect:
            raise Unexpected(f"{answer.status} instead of {expect}: {content[:500]!r}")
        return msgspec.structs.replace(answer, body=content)

    def discard(self, *, expect: int, hasher: hashlib._Hash | None = None) -> int:
        """Read an answer whose body is too large to keep; its length in bytes."""
        answer, length = self._read_head()
        if answer.status != expect:
            raise Unexpected(f"{answer.status}: {self._read_exactly(min(length, 500))!r}")
        remaining = length - len(self._buffer)
        if hasher is not None:
            hasher.update(self._buffer)
        self._buffer = b""
        room = bytearray(_PIECE_BYTES)
        flags = socket.MSG_TRUNC if hasher is None else 0
        while remaining > 0:
            received = self._socket.recv_into(room, min(remaining, _PIECE_BYTES), flags)
            if received == 0:
                raise Unexpected(f"the body ended {remaining} bytes short")
            if hasher is not None:
                hasher.update(memoryview(room)[:received])
            remaining -= received
        return length

    def _read_head(self) -> tuple[Answer, int]:
        while b"\r\n\r\n" not in self._buffer:
            piece = self._socket.recv(65536)
            if not piece:
                raise Unexpected(f"the connection ended inside a head: {self._buffer[:200]!r}")
            self._buffer += piece
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        answer = Answer(int(first.split()[1]), headers, b"")
        if "transfer-encoding" in headers:
            raise Unexpected(f"no Content-Length in the answer {first!r}")
        has_none = answer.status < 200 or answer.status in {204, 304}
        return answer, 0 if has_none else int(headers.get("content-length", "0"))

    def _read_exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            piece = self._socket.recv(65536)
            if not piece:
                raise Unexpected("the body ended short")
            self._buffer += piece
        content, self._buffer = self._buffer[:length], self._buffer[length:]
        return content


def download(port: int, target: str, size_bytes: int) -> float:
    """Seconds from connecting to the last byte."""
    started = time.perf_counter()
    with Connection(port) as connection:
        connection.send_head("GET", target, {})
        length = connection.discard(expect=200)
    if length != size_bytes:
        raise Unexpected(f"{length} bytes instead of {size_bytes}")
    return time.perf_counter() - started


def check_download(port: int, target: str, sha256: str) -> None:
    hasher = hashlib.sha256()
    with Connection(port) as connection:
        connection.send_head("GET", target, {})
        connection.discard(expect=200, hasher=hasher)
    if hasher.hexdigest() != sha256:
        raise Unexpected(f"{target} arrived as {hasher.hexdigest()}")


class WrkResult(msgspec.Struct, frozen=True):
    """What the script's `done` prints; counts are of whole answers."""

    requests: int
    seconds: float
    failures: int
    p50_us: float
    p99_us: float
    stored: int = 0


def wrk(
    port: int,
    script: str,
    *arguments: str,
    connections: int,
    seconds: float,
) -> WrkResult:
    """Run one of the scripts in `bench/wrk` in a single compiled thread.

    Who lets the time pass without one answer gets a whole second, then eight times as long, up to
    `LONGEST_SECONDS`: what a slow server needs is a figure too.
    """
    with tempfile.TemporaryFile() as output:
        command = wrk_command(port, script, *arguments, connections=connections, seconds=seconds)
        subprocess.run(command, stdout=output, check=seconds >= 1)  # 124: it was cut short
        output.seek(0)
        try:
            return wrk_result(output.read())
        except Unexpected as error:
            if seconds >= 1 and not (
                isinstance(error, NoAnswer) and 8 * seconds <= LONGEST_SECONDS
            ):
                raise
    longer = 8 * seconds if seconds >= 1 else 1
    return wrk(port, script, *arguments, connections=connections, seconds=longer)


def wrk_command(
    port: int,
    script: str,
    *arguments: str,
    connections: int,
    seconds: float,
) -> list[str]:
    program = shutil.which("wrk")
    if program is None:
        raise CannotRun("wrk is not installed")
    # wrk counts whole seconds; what it is told early, before it listens to signals, is ignored
    early = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    shortened = ["timeout", "--signal=INT", f"{seconds}", *early] if seconds < 1 else []
    whole_seconds = max(1, round(seconds))
    options = ["-t1", f"-c{connections}", f"-d{whole_seconds}s", "--timeout", "60s"]
    url = f"http://{HOST}:{port}/"
    return [*shortened, program, *options, "-s", str(_SCRIPTS / script), url, "--", *arguments]


def wrk_result(output: bytes) -> WrkResult:
    line = next((each for each in output.splitlines() if each.startswith(b"{")), None)
    if line is None:
        raise NoAnswer(f"wrk reported nothing: {output[-500:]!r}")
    result = msgspec.json.decode(line, type=WrkResult)
    if result.failures:
        raise Unexpected(f"{result.failures} of {result.requests} requests failed")
    if not result.requests:
        raise NoAnswer("wrk completed no request")
    return result


def curl(*arguments: str) -> float:
    """Seconds that curl itself measured for one transfer, from its start to its end."""
    program = shutil.which("curl")
    if program is None:
        raise CannotRun("curl is not installed")
    common = [program, "-sS", "--fail", "-o", "/dev/null", "-w", "%{time_total}"]
    done = subprocess.run([*common, *arguments], capture_output=True, check=False, text=True)
    if done.returncode:
        raise Unexpected(f"curl ended with {done.returncode}: {done.stderr.strip()}")
    return float(done.stdout)
