"""Is the load generator the limit?

Decides whether figures of the other scenarios speak of servers at all: a client that reaches, with
a peer that only discards or only sends from the page cache, no more than a server reaches with
real work, measures itself. `socket` is the client that all scenarios use; `curl` is what people
use, and the reason not to measure with it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.clients import Connection, curl, download
from bench.data import MIB, Body
from bench.harness import Bench, Figures, Measured, Scenario
from bench.processes import HOST

_HEAD = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


class Client(msgspec.Struct, frozen=True):
    name: str
    upload: Callable[[int, Body], float]
    download: Callable[[int, Body], float]


def _socket_upload(port: int, body: Body) -> float:
    started = time.perf_counter()
    with Connection(port) as connection:
        connection.send_head("PUT", "/", {"Content-Length": str(body.size_bytes)})
        connection.send_body(body)
        connection.answer(expect=(201,))
    return time.perf_counter() - started


def _curl_upload(port: int, body: Body) -> float:
    return curl("-H", "Expect:", "-T", str(body.path), f"http://{HOST}:{port}/")


CLIENTS = (
    Client("socket", _socket_upload, lambda port, body: download(port, "/", body.size_bytes)),
    Client("curl", _curl_upload, lambda port, body: curl(f"http://{HOST}:{port}/")),
)


def _serve_one(listener: socket.socket, body: Body) -> None:
    """Answer one request without work: discard what comes, or send a file from the page cache."""
    connection, _ = listener.accept()
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        if head.startswith(b"GET"):
            connection.sendall(_HEAD % (b"200 OK", body.size_bytes))
            _send(connection, body)
        else:
            _discard(connection, body.size_bytes - len(head.partition(b"\r\n\r\n")[2]))
            connection.sendall(_HEAD % (b"201 Created", 0))


def _send(connection: socket.socket, body: Body) -> None:
    with body.path.open("rb", buffering=0) as file:
        sent = 0
        while sent < body.size_bytes:
            sent += os.sendfile(connection.fileno(), file.fileno(), sent, body.size_bytes - sent)


def _discard(connection: socket.socket, remaining: int) -> None:
    room = bytearray(4 * MIB)
    while remaining > 0:
        remaining -= connection.recv_into(room, min(remaining, len(room)), socket.MSG_TRUNC)


def measure(bench: Bench, client: Client, _: Any) -> Measured:
    body = bench.data.file(bench.settings.size_bytes)
    yield "upload", _timed(client.upload, body)
    yield "download", _timed(client.download, body)


def _timed(move: Callable[[int, Body], float], body: Body) -> Figures:
    with socket.create_server((HOST, 0)) as listener:
        peer = threading.Thread(target=_serve_one, args=(listener, body))
        peer.start()
        seconds = move(listener.getsockname()[1], body)
        peer.join()
    return {"mib_per_s": body.size_bytes / MIB / seconds}


SCENARIO = Scenario(
    name="client",
    title="the load generators against a peer that does nothing",
    measure=measure,
    own=CLIENTS,
    rounds=3,
)
