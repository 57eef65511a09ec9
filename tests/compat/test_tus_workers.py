"""One tus upload and two real workers: takeovers from half-open connections, and kills.

A worker is stopped while a connection is opened, so that the other one takes it; which worker holds
a connection is read from the kernel's tables.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, running_server, wait_until

CONFIG = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
CONTENT = secrets.token_bytes(6 << 20)
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path / "data", workers=2, config=CONFIG) as server:
        wait_until(lambda: len(server.worker_pids()) == 2, "two workers")
        yield server


class Connection:
    """One connection to the server, and the worker at its other end, which is not `avoiding`."""

    def __init__(self, server: Server, *, avoiding: int | None = None) -> None:
        self.server = server
        self.avoiding = avoiding
        self.open()

    def open(self) -> None:
        with (
            contextlib.nullcontext()
            if self.avoiding is None
            else stopped(self.server, self.avoiding)
        ):
            self.socket = socket.create_connection(("127.0.0.1", self.server.port), timeout=20)
            self.worker = int(wait_until(self._worker, "a worker that accepts"))
        assert self.worker != self.avoiding

    def _worker(self) -> int | None:
        inode = inode_of(self.server.port, self.socket.getsockname()[1])
        for pid in self.server.worker_pids():
            if inode is not None and holds(pid, inode):
                return pid
        return None

    def patch(self, session: str, offset: int, body: bytes, *, length: int) -> None:
        head = (
            f"PATCH {session} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + body)

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer, which has no body worth reading."""
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.socket.recv(65_536)
            if not piece:
                raise ConnectionError("closed without an answer")
            received += piece
        first, *lines = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split()[1]), headers

    def close(self) -> None:
        self.socket.close()


def inode_of(server_port: int, client_port: int) -> int | None:
    """The inode of the server's end of an accepted connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        if (here, there) == (server_port, client_port) and fields[9] != "0":
            return int(fields[9])
    return None


def holds(pid: int, inode: int) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") == f"socket:[{inode}]":
                return True
    return False


def stands_still(pid: int) -> bool:
    """Whether every thread has stopped: a signal is sent before it has arrived."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    try:
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    except OSError:  # a thread has ended instead
        return False
    return all(state == "T" for state in states)


def is_free(path: Path) -> bool:
    """Whether nobody has locked a file; one that the other worker has removed is nobody's."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError) as error:
        return isinstance(error, FileNotFoundError)
    return True


@contextlib.contextmanager
def stopped(server: Server, pid: int) -> Iterator[None]:
    """A worker that hangs between two transactions and two batches of bytes.

    One that hangs inside holds ``writer.lock`` or the upload's file, and others wait until it goes
    on or is killed; that is the nature of locks, not what these tests are about.
    """

    def stops_without_locks() -> bool:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: stands_still(pid), "every thread's stop")
        if all(map(is_free, [server.data / "writer.lock", *(server.data / "uploads").iterdir()])):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(stops_without_locks, "a moment at which the worker holds no lock")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def begin(server: Server, length: int = len(CONTENT)) -> str:
    connection = Connection(server)
    request = (
        "POST /uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Length: {length}\r\nContent-Length: 0\r\n\r\n"
    )
    connection.socket.sendall(request.encode())
    status, headers = connection.answer()
    connection.close()
    assert status == 201
    return headers["Location"]


def head(connection: Connection, session: str) -> tuple[int, dict[str, str]]:
    connection.socket.sendall(
        f"HEAD {session} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
    )
    return connection.answer()


def offset_of(connection: Connection, session: str) -> int:
    status, headers = head(connection, session)
    assert status == 200
    return int(headers["Upload-Offset"])


def resume(connection: Connection, session: str, content: bytes) -> dict[str, str]:
    """Ask for the offset and go on, as clients do; again where it moved meanwhile."""
    while True:
        offset = offset_of(connection, session)
        connection.patch(session, offset, content[offset:], length=len(content) - offset)
        status, headers = connection.answer()
        if status == 204:
            return headers
        assert status in (409, 423)
        connection.close()
        connection.open()


def assert_stored(server: Server, content: bytes) -> None:
    status, body = server.get(f"/blobs/sha256:{hashlib.sha256(content).hexdigest()}")
    assert status == 200
    assert body == content


def stalled_upload(server: Server, session: str, sent: int) -> Connection:
    """A connection that delivered `sent` bytes of everything and then fell silent."""
    old = Connection(server)
    old.patch(session, 0, CONTENT[:sent], length=len(CONTENT))
    wait_until(lambda: server.staged_bytes(session) > sent - (2 << 20), "bytes that arrive")
    return old


def test_a_retry_on_another_worker_takes_over(server: Server) -> None:
    session = begin(server)
    old = stalled_upload(server, session, 4 << 20)

    new = Connection(server, avoiding=old.worker)
    headers = resume(new, session, CONTENT)

    assert headers["Content-Location"].startswith("/blobs/sha256:")
    assert_stored(server, CONTENT)
    old.close()
    new.close()


def test_a_retry_takes_over_while_the_old_worker_hangs(server: Server) -> None:
    session = begin(server)
    old = stalled_upload(server, session, 4 << 20)

    with stopped(server, old.worker):
        new = Connection(server)
        resume(new, session, CONTENT)
        assert_stored(server, CONTENT)

    old.socket.sendall(b"x" * (2 << 20))
    status, headers = old.answer()
    # The old writer finds the upload finished by somebody else, and may say so.
    assert (status, headers.get("Upload-Offset", str(len(CONTENT)))) in (
        (204, str(len(CONTENT))),
        (409, str(len(CONTENT))),
    )
    assert_stored(server, CONTENT)
    old.close()
    new.close()


def test_late_bytes_of_the_old_worker_do_not_mix_in(server: Server) -> None:
    session = begin(server)
    old = stalled_upload(server, session, 4 << 20)
    new = Connection(server, avoiding=old.worker)
    resume(new, session, CONTENT[:-10])

    old.socket.sendall(b"x" * (2 << 20))
    assert old.answer()[0] == 409

    resume(new, session, CONTENT)
    assert_stored(server, CONTENT)
    old.close()
    new.close()


def test_pieces_may_go_to_any_worker(server: Server) -> None:
    """Whoever did not see the beginning hashes it again."""
    session = begin(server)
    pids = server.worker_pids()
    connections = [Connection(server, avoiding=pid) for pid in pids]
    assert {connection.worker for connection in connections} == set(pids)

    for number, end in enumerate(range(1 << 20, len(CONTENT) + 1, 1 << 20)):
        resume(connections[number % 2], session, CONTENT[:end])

    assert_stored(server, CONTENT)
    for connection in connections:
        connection.close()


def test_a_killed_worker_loses_nothing_that_was_acknowledged(server: Server) -> None:
    session = begin(server)
    first = Connection(server)
    first.patch(session, 0, CONTENT[: 2 << 20], length=2 << 20)
    assert first.answer()[0] == 204
    first.patch(session, 2 << 20, CONTENT[2 << 20 : 3 << 20], length=4 << 20)

    os.kill(first.worker, signal.SIGKILL)
    wait_until(lambda: first.worker not in server.worker_pids(), "the worker's end")

    second = Connection(server)
    assert offset_of(second, session) >= 2 << 20
    resume(second, session, CONTENT)
    assert_stored(server, CONTENT)
    first.close()
    second.close()


def test_a_server_killed_anywhere_continues_from_what_it_acknowledged(server: Server) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(4):
        content = bytes([number]) + CONTENT
        session = begin(server, len(content))
        acknowledged = 0
        connection = Connection(server)
        for _ in range(chance.randrange(3)):
            end = chance.randrange(acknowledged + 1, len(content))
            connection.patch(
                session, acknowledged, content[acknowledged:end], length=end - acknowledged
            )
            assert connection.answer()[0] == 204
            acknowledged = end
        sent = content[acknowledged : chance.randrange(acknowledged, len(content) + 1)]
        connection.patch(session, acknowledged, sent, length=len(content) - acknowledged)

        server.kill_everything()
        connection.close()
        server.start()

        connection = Connection(server)
        offset = offset_of(connection, session)
        assert acknowledged <= offset <= acknowledged + len(sent), f"seed {seed}"
        resume(connection, session, content)
        assert_stored(server, content)
        connection.close()
