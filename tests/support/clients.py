"""People at work on a server, each of whom remembers what was answered with success.

`Client` puts, uploads in pieces, publishes, moves an alias, deletes, restores, reads and releases;
it bears a server that dies, and says afterwards what of its promises the next one has forgotten.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from contextlib import suppress

import msgspec

from tests.support.servers import Server

TUS = {"Tus-Resumable": "1.0.0"}
JSON = {"Content-Type": "application/json"}
LOST = (OSError, http.client.HTTPException)
"""What a client sees of a server that dies."""

SIZES = (40, 300, 70_000, 1_200_000)


class Version(msgspec.Struct):
    """The one file of a version, and in which states it may be."""

    content: bytes
    states: set[str]


class Client:
    """One person's work, and what they were promised."""

    def __init__(self, server: Server, number: int, *, most: int = 1 << 30) -> None:
        self.server = server
        self.chance = random.Random()
        self.prefix = f"{number}-{self.chance.random()}"
        self.kept: dict[str, bytes] = {}
        self.uncertain: set[str] = set()
        """Digests that were being released; of all that ever were, so without their bytes."""
        self.uploads: dict[str, tuple[bytes, int]] = {}
        self.versions: dict[str, Version] = {}
        self.wrong: list[str] = []
        self.nameless = 0
        """Uploads that may have begun although nobody was told their address."""
        self.answers = 0
        self._model = f"m{number}-{self.chance.randrange(1 << 60):x}"
        self._count = 0
        self._most = most

    def work(self, stop: threading.Event) -> None:
        works = [self.put, self.put, self.upload, self.read, self.release]
        works += [self.publish, self.delete, self.restore, self.purge]
        while not stop.is_set():
            try:
                self.chance.choice(works)()
                self.bound()
            except LOST:
                time.sleep(0.01)  # a worker died; another one, or the next server, answers

    def bound(self) -> None:
        """Own no more than so much of each."""
        while len(self.kept) > self._most:
            self.release()
        while len(self.versions) > self._most and (self.some("live") or self.some("deleted")):
            self.delete()
            self.purge()

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
            if answer.status != 201:
                return
            url = answer.headers["Location"].removeprefix(self.server.url)
        except LOST:
            self.nameless += 1
            raise
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
        self.uncertain.add(digest)
        del self.kept[digest]
        self.ask("DELETE", f"/blobs/sha256:{digest}")

    def read(self) -> None:
        if self.kept:
            self.check(self.chance.choice(list(self.kept)))

    def publish(self) -> None:
        label, content = f"{self._count}.0.0", self.fresh()
        path = f"/models/{self._model}/{label}/f?publish=true"
        if self.ask("PUT", path, content)[0] == 201:
            self.versions[label] = Version(content, {"live"})

    def delete(self) -> None:
        label = self.some("live")
        if label is not None:
            self.move("DELETE", label, "", {"live", "deleted"}, "deleted")

    def restore(self) -> None:
        label = self.some("deleted")
        if label is not None:
            self.move("POST", label, "/restore", {"live", "deleted"}, "live")

    def purge(self) -> None:
        label = self.some("deleted")
        if label is not None:
            self.move("POST", label, "/purge", {"deleted", "purged"}, "")

    def some(self, state: str) -> str | None:
        """A version that is in that state for certain."""
        found = [label for label, one in self.versions.items() if one.states == {state}]
        return self.chance.choice(found) if found else None

    def move(self, method: str, label: str, verb: str, between: set[str], after: str) -> None:
        """What a version becomes is uncertain until the answer is there; purged ones are let go."""
        version = self.versions[label]
        version.states = between
        path = f"/api/v1/models/{self._model}/versions/{label}{verb}"
        status, said = self.ask(method, path, None if method == "DELETE" else b"{}", JSON)
        if status not in (200, 204):
            self.wrong.append(f"{method} {path} is answered with {status}: {said!r}")
        elif after:
            version.states = {after}
        else:
            del self.versions[label]

    def check_version(self, label: str) -> None:
        """It is as it was answered, or as an answer that never came would have said."""
        version = self.versions[label]
        status, content = self.ask("GET", f"/models/{self._model}/{label}/f")
        if status == 200:
            is_fine = "live" in version.states and content == version.content
        else:
            is_fine = status in (404, 410) and version.states != {"live"}
        if not is_fine:
            self.wrong.append(f"{label} of {self._model} is answered with {status}")

    def check(self, digest: str) -> None:
        status, content = self.ask("GET", f"/blobs/sha256:{digest}")
        if (status, content) != (200, self.kept[digest]):
            self.wrong.append(f"{digest} is answered with {status} and {len(content)} bytes")

    def check_everything(self) -> None:
        """What the next server must know."""
        for digest in self.kept:
            self.check(digest)
        for digest in self.uncertain:
            status, found = self.ask("GET", f"/blobs/sha256:{digest}")
            if status != 404 and (status, hashlib.sha256(found).hexdigest()) != (200, digest):
                self.wrong.append(f"released {digest} is answered with {status}")
        for label in self.versions:
            self.check_version(label)
        for url in list(self.uploads):
            self.go_on(url)
        assert self.wrong == []

    def fresh(self) -> bytes:
        self._count += 1
        chance = random.Random(f"{self.prefix}-{self._count}")
        return chance.randbytes(chance.choice(SIZES))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        self.answers += 1
        return self.server.request(method, path, body, headers)


def keep_house(server: Server, stop: threading.Event, begun: list[str]) -> None:
    """Collect, purge and scrub again and again until told to stop; notes what was begun."""
    chance = random.Random()
    while not stop.is_set():
        work = chance.choice(["gc/apply", "gc/apply", "gc/purge", "scrub"])
        said = json.dumps({"everything": True} if work == "gc/purge" else {}).encode()
        with suppress(*LOST):
            if server.request("POST", f"/api/v1/{work}", said, JSON)[0] == 202:
                begun.append(work)  # 409 while one is running
        time.sleep(0.05)
