"""What does an interruption in the middle of an upload cost?

Decides what a session keeps: bytes that arrived before the cut should not travel again, and the
hash of them should not be computed again unless its worker is gone. `whole` is one uninterrupted
tus upload; `cut` loses the connection at half; `killed` loses the server with SIGKILL at half
(its start is not counted). Times run from the loss to the final answer, so half the bytes travel.
"""

from __future__ import annotations

import base64
import time
from typing import Any

from bench.clients import Answer, Connection, Unexpected
from bench.data import MIB, Body
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender, target_of
from bench.processes import Server

_TUS = {"Tus-Resumable": "1.0.0"}
_PATIENCE_SECONDS = 30


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    size = bench.settings.size_bytes
    with bench.fresh(contender) as server:
        body = bench.data.fresh(size)
        upload = _create(server, body)
        server.mark()
        started = time.perf_counter()
        _append(server, upload, body, 0)
        seconds = time.perf_counter() - started
        figures = {"seconds": seconds, "mib_per_s": size / MIB / seconds}
        yield "whole", figures | costs(server.usage(), moved_bytes=size)
    with bench.fresh(contender) as server:
        body = bench.data.fresh(size)
        upload = _create(server, body)
        _lose(server, upload, body)
        server.mark()
        yield "cut", _continue(server, upload, body) | costs(server.usage())
    with bench.passing_directory() as directory:
        body = bench.data.fresh(size)
        with bench.again(contender, directory) as server:
            upload = _create(server, body)
            connection = _half(server, upload, body)
            server.kill()
            connection.close()
        with bench.again(contender, directory) as server:
            server.mark()
            yield "killed", _continue(server, upload, body) | costs(server.usage())


def _create(server: Server, body: Body) -> str:
    digest = base64.b64encode(body.digest.encode()).decode()
    headers = _TUS | {
        "Upload-Length": str(body.size_bytes),
        "Upload-Metadata": f"digest {digest}",
    }
    with Connection(server.port) as connection:
        answer = connection.ask("POST", "/uploads", headers, expect=(201,))
    return target_of(answer.headers["location"])


def _append_head(connection: Connection, upload: str, body: Body, offset: int) -> None:
    headers = _TUS | {
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(body.size_bytes - offset),
    }
    connection.send_head("PATCH", upload, headers)


def _append(server: Server, upload: str, body: Body, offset: int) -> Answer:
    with Connection(server.port) as connection:
        _append_head(connection, upload, body, offset)
        connection.send_body(body, offset)
        return connection.answer(expect=(204,))


def _half(server: Server, upload: str, body: Body) -> Connection:
    """Send half of the body and leave the request open."""
    connection = Connection(server.port)
    _append_head(connection, upload, body, 0)
    connection.send_body(body, 0, body.size_bytes // 2)
    return connection


def _lose(server: Server, upload: str, body: Body) -> None:
    _half(server, upload, body).close()


def _offset(server: Server, upload: str) -> int:
    with Connection(server.port) as connection:
        answer = connection.ask("HEAD", upload, _TUS, expect=(200, 204))
    return int(answer.headers["upload-offset"])


def _continue(server: Server, upload: str, body: Body) -> Figures:
    """Ask and append as a tus client does, asking again where the server wants that."""
    started = time.perf_counter()
    offset = _offset(server, upload)
    first_ms = (time.perf_counter() - started) * 1000
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        try:
            _append(server, upload, body, offset)
        except (Unexpected, BrokenPipeError, ConnectionResetError):
            offset = _offset(server, upload)
            continue
        return {
            "seconds": time.perf_counter() - started,
            "first_ms": first_ms,
            "resent_mib": max(0, body.size_bytes // 2 - offset) / MIB,
        }
    raise Unexpected("the upload could not be continued")


SCENARIO = Scenario(
    name="resume",
    title="a tus upload that is interrupted at half",
    measure=measure,
    speaks=("digestry",),
    rounds=3,
)
