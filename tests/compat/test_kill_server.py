"""A server with two workers is killed at random moments; a client finds all it was promised.

Clients put, upload in pieces, read and release over HTTP while collections run; each remembers what
was answered with success. After the kill the server starts again on the same directory. The kill
takes everybody, or one worker, which the supervisor replaces. `DIGESTRY_TESTS_LONG=1`: ten minutes.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.support.servers import Server, running_server, wait_until
from tests.support.soundness import Tolerance, assert_store_is_sound

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
SECONDS = 600 if LONG else 12
ROUNDS_AT_LEAST = 3
CLIENTS = 5
CONFIG = """
[store]
reserve_bytes = 0
reserve_share = 0.0
[collection]
grace_seconds = 0
max_share = 1.0
"""
TUS = {"Tus-Resumable": "1.0.0"}
LOST = (OSError, http.client.HTTPException)
"""What a client sees of a server that dies."""


class Client:
    """One person's work, and what they were promised."""

    def __init__(self, server: Server, number: int) -> None:
        self.server = server
        self.chance = random.Random()
        self.prefix = f"{number}-{self.chance.random()}"
        self.kept: dict[str, bytes] = {}
        self.uncertain: dict[str, bytes] = {}
        """Digests that were being released."""
        self.uploads: dict[str, tuple[bytes, int]] = {}
        self.wrong: list[str] = []
        self._count = 0

    def work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.chance.choice([self.put, self.put, self.upload, self.release, self.read])()
            except LOST:
                time.sleep(0.01)  # a worker died; another one, or the next server, answers

    def put(self) -> None:
        content = self.fresh()
        digest = hashlib.sha256(content).hexdigest()
        if self.ask("PUT", f"/blobs/sha256:{digest}", content)[0] in (200, 201):
            self.kept[digest] = content

    def upload(self) -> None:
        content = self.fresh()
        head = {**TUS, "Upload-Length": str(len(content))}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request("POST", "/uploads", headers=head)
            answer = connection.getresponse()
            answer.read()
            url = answer.headers["Location"].removeprefix(self.server.url)
        finally:
            connection.close()
        self.uploads[url] = (content, 0)
        self.go_on(url)

    def go_on(self, url: str) -> None:
        """Send the rest in pieces, from where the server says it is."""
        content, promised = self.uploads[url]
        offset = self.offset_of(url)
        if offset < promised:
            self.wrong.append(f"{url} went back from {promised} to {offset}")
        while offset < len(content):
            stop = min(len(content), offset + self.chance.randrange(1, len(content) + 1))
            head = {
                **TUS,
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
            }
            status, _ = self.ask("PATCH", url, content[offset:stop], head)
            if status != 204:
                return
            offset = stop
            self.uploads[url] = (content, offset)
        del self.uploads[url]
        self.kept[hashlib.sha256(content).hexdigest()] = content

    def offset_of(self, url: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request("HEAD", url, headers=TUS)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.wrong.append(f"{url} is gone: {answer.status}")
                return len(self.uploads[url][0])
            return int(answer.headers["Upload-Offset"])
        finally:
            connection.close()

    def release(self) -> None:
        if not self.kept:
            return
        digest = self.chance.choice(list(self.kept))
        self.uncertain[digest] = self.kept.pop(digest)
        self.ask("DELETE", f"/blobs/sha256:{digest}")

    def read(self) -> None:
        if self.kept:
            self.check(self.chance.choice(list(self.kept)))

    def check(self, digest: str) -> None:
        status, content = self.ask("GET", f"/blobs/sha256:{digest}")
        if (status, content) != (200, self.kept[digest]):
            self.wrong.append(f"{digest} is answered with {status} and {len(content)} bytes")

    def check_everything(self) -> None:
        """What the next server must know."""
        for digest in self.kept:
            self.check(digest)
        for digest, content in self.uncertain.items():
            status, found = self.ask("GET", f"/blobs/sha256:{digest}")
            if status != 404 and (status, found) != (200, content):
                self.wrong.append(f"released {digest} is answered with {status}")
        for url in list(self.uploads):
            self.go_on(url)
        assert self.wrong == []

    def fresh(self) -> bytes:
        self._count += 1
        chance = random.Random(f"{self.prefix}-{self._count}")
        return chance.randbytes(chance.choice([40, 300, 70_000, 1_200_000]))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        return self.server.request(method, path, body, headers)


def collect(server: Server, stop: threading.Event) -> None:
    """Collect again and again until told to stop."""
    head = {"Content-Type": "application/json"}
    while not stop.is_set():
        with suppress(*LOST):
            server.request("POST", "/api/v1/gc/apply", b"{}", head)  # 409 while one is running
        time.sleep(0.05)


def test_a_client_finds_what_it_was_promised_after_every_kill(tmp_path: Path) -> None:
    chance = random.Random()
    with running_server(tmp_path / "data", workers=2, config=CONFIG) as server:
        clients = [Client(server, number) for number in range(CLIENTS)]
        started = time.monotonic()
        rounds = 0
        while rounds < ROUNDS_AT_LEAST or time.monotonic() - started < SECONDS:
            wait_until(lambda: len(server.worker_pids()) == 2, "two workers")
            stop = threading.Event()
            threads = [threading.Thread(target=one.work, args=[stop]) for one in clients]
            threads.append(threading.Thread(target=collect, args=[server, stop]))
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.2, 1.0))
            if chance.random() < 0.4:
                server.kill_worker(chance.randrange(2))
                time.sleep(chance.uniform(0.1, 0.5))
            server.kill_everything()
            stop.set()
            for thread in threads:
                thread.join()
            assert_store_is_sound(
                server.data, Tolerance(moving=True, strays=True, lost_asides=True)
            )
            server.start()
            for client in clients:
                client.check_everything()
            rounds += 1
    assert list((server.data / "quarantine").iterdir()), "nothing was ever collected"
    assert sum(len(client.kept) + len(client.uncertain) for client in clients) > 20
