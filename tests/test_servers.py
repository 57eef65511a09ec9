"""What hurts and asks servers in tests bears a machine on which nothing is on time."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from tests.support import clients, servers
from tests.support.clients import Client
from tests.support.servers import Server, ServerDied, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One whose process does nothing."""
    server = Server(tmp_path / "data")
    server.log_path.touch()
    server.process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=-1)
    yield server
    with server.process as process:
        process.kill()


def test_a_server_that_gets_no_processor_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, False, False, True])
    monkeypatch.setattr(Server, "is_ready", lambda self: next(asked))
    monkeypatch.setattr(servers, "_run_delay", lambda pid: 60.0)

    server.wait_ready(timeout_seconds=0)

    assert list(asked) == []


def test_a_server_that_has_one_and_does_nothing_is_not(server: Server) -> None:
    with pytest.raises(ServerDied, match="not ready"):
        server.wait_ready(timeout_seconds=-1)


def test_workers_are_counted_when_the_supervisor_stands_still(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter("RRT")
    left = []

    def children_of(pid: int) -> list[int]:
        left.append(list(states))
        return []

    monkeypatch.setattr(servers, "_state", lambda pid: next(states))
    monkeypatch.setattr(servers, "children_of", children_of)

    server.kill_everything()

    assert left == [[]]


FIRST_THREAD_ENDS = """
import ctypes, threading
threading.Thread(target=input).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_is_left_while_a_thread_of_it_is() -> None:
    command = [sys.executable, "-S", "-c", FIRST_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        wait_until(lambda: servers._state(process.pid) == "Z", "the end of its first thread")
        assert servers._is_left(process.pid)
        process.kill()
        wait_until(lambda: not servers._is_left(process.pid), "the end of all")


class Answer:
    """What a server says that cannot do anything just now."""

    status = 503
    headers: Final[Mapping[str, str]] = MappingProxyType({})

    def read(self) -> bytes:
        return b""


@pytest.mark.parametrize(("answer", "nameless"), [(Answer(), 0), (TimeoutError(), 1)])
def test_a_client_bears_that_an_upload_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Any, nameless: int
) -> None:
    class Connection:
        def __init__(self, *args: Any, **options: Any) -> None: ...

        def request(self, *args: Any, **options: Any) -> None: ...

        def close(self) -> None: ...

        def getresponse(self) -> Answer:
            if isinstance(answer, Answer):
                return answer
            raise answer

    monkeypatch.setattr(http.client, "HTTPConnection", Connection)
    client = Client(Server(tmp_path), 0)

    with suppress(*clients.LOST):
        client.upload()

    assert client.uploads == {}
    assert client.nameless == nameless


def test_a_client_of_uncertain_versions_goes_on(tmp_path: Path) -> None:
    client = Client(Server(tmp_path), 0, most=0)
    client.versions["1.0.0"] = clients.Version(b"", {"live", "deleted"})

    client.bound()

    assert list(client.versions) == ["1.0.0"]
