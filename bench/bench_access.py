"""What does it cost to know who asks, and to count, audit and remember it?

Decides what of a small read may be worked out once and believed until something is committed.
`digestry` asks for tokens; a service account with a grant on one namespace reads. Beside it stand
the open mode, and a server without authorisation, audit, metrics and download history at all
(`bench/without.py`). All three are alive in a round and take turns, so that a difference of a few
percent is not what the machine did meanwhile. The same three things are read by 16 connections: a
blob of 4 KiB by its digest, the same bytes as a file of a version, and the metadata of its model.
Then the blob is given 20,000 owners that the reader may not see.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.clients import Connection, wrk
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender
from bench.processes import HOST, Server, free_port
from bench.records import OURS, Goal
from store.index import driver

CONNECTIONS = 16
HIDDEN_OWNERS = 20_000
_REPOSITORY = Path(__file__).parent.parent
_BODY = b"small weights 16" * 256
_DIGEST = hashlib.sha256(_BODY).hexdigest()
_JSON = {"Content-Type": "application/json"}

TARGETS = {
    "blob": f"/blobs/sha256:{_DIGEST}",
    "file": "/models/nlp~bert/1.0.0/weights",
    "model": "/api/v1/models/nlp~bert",
}


class Way(msgspec.Struct, frozen=True):
    """How a server is run, and whether it asks who its readers are."""

    name: str
    asks: bool = False
    without: tuple[str, ...] = ()

    def start(self, directory: Path, settle_seconds: float) -> Server:
        port = free_port()
        settings = '[auth]\nmode = "authenticated"\n' if self.asks else ""
        (directory / "digestry.toml").write_text(settings)
        options = ["serve", "--config", str(directory / "digestry.toml"), "--host", HOST]
        options += ["--port", str(port), "--data", str(directory / "data")]
        ours = {name: value for name, value in os.environ.items() if "DIGESTRY_" not in name}
        return Server(
            self.name,
            [sys.executable, "-m", "bench.without", *self.without, "--", *options],
            port=port,
            ready_path="/readyz",
            log=directory / "log",
            working_directory=directory,
            environment=ours | {"PYTHONPATH": str(_REPOSITORY)},
            settle_seconds=settle_seconds,
        )


WAYS = (
    Way(OURS, asks=True),
    Way("open mode"),
    Way("nothing of it", without=("metrics", "audit", "history")),
)


def measure(bench: Bench, way: Way, _: None) -> Measured:
    with (
        bench.passing_directory() as directory,
        way.start(directory, bench.settings.settle_seconds) as server,
    ):
        shown = fill(server.port, directory / "data", way)
        for name, target in TARGETS.items():
            yield name, read(bench, server, target, shown)
        hide_owners(directory / "data" / "index.sqlite3", HIDDEN_OWNERS)
        for name, target in TARGETS.items():
            yield f"{name}, 20,000 hidden owners", read(bench, server, target, shown)


def read(bench: Bench, server: Server, target: str, shown: str) -> Figures:
    targets = bench.new_directory() / "targets"
    targets.write_text(target)
    server.mark()
    got = wrk(
        server.port,
        "get.lua",
        *(str(targets), "0", shown),
        connections=CONNECTIONS,
        seconds=bench.settings.rate_seconds,
    )
    figures = {"requests_per_s": got.requests / got.seconds, "p99_ms": got.p99_us / 1000}
    return figures | costs(server.usage(), requests=got.requests)


def fill(port: int, data: Path, way: Way) -> str:
    """A version of one small file; what its reader shows, empty where nobody asks."""
    with Connection(port) as connection:
        admin = f"Bearer {(data / 'admin-token').read_text().strip()}" if way.asks else ""
        by_admin = {"Authorization": admin} if admin else {}
        upload = f"{TARGETS['file']}?publish=true"
        connection.ask("PUT", upload, by_admin, _BODY, expect=(200, 201))
        if not way.asks:
            return ""

        def make(what: str, /, **facts: object) -> dict[str, object]:
            sent = json.dumps(facts).encode()
            target = f"/api/v1/{what}"
            made = connection.ask("POST", target, _JSON | by_admin, sent, expect=(201,))
            return dict(json.loads(made.body))

        make("users", username="fleet", kind="service")
        token = make("tokens", name="reads", user="fleet")["secret"]
        place = {"kind": "namespace", "name": "nlp"}
        make("grants", subject={"kind": "user", "name": "fleet"}, resource=place, role="reader")
        return f"Bearer {token}"


def hide_owners(index: Path, count: int) -> None:
    """Give the blob owners in a namespace that nobody was let into, past the server."""
    connection = driver.connect(index, busy_seconds=10)
    try:
        connection.execute("PRAGMA foreign_keys=OFF")
        columns = "digest, owner, kind, count, created_at, realm, level"
        rows = (
            (bytes.fromhex(_DIGEST), f"mdl_{n:026d}", "tree", 1, time.time_ns() // 1000)
            for n in range(count)
        )
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"INSERT INTO refs ({columns}) VALUES (?, ?, ?, ?, ?, 'nsp_hidden', 'private')",
            rows,
        )
        connection.execute("COMMIT")
    finally:
        connection.close()


def _goals() -> Iterator[Goal]:
    for case in ("blob", "model"):
        for hidden in ("", ", 20,000 hidden owners"):
            yield Goal(
                case=case + hidden, figure="requests_per_s", against="open mode", at_least=0.9
            )
    yield Goal(case="blob", figure="requests_per_s", against="nothing of it", at_least=0.85)
    yield Goal(case="file", figure="requests_per_s", against="nothing of it", at_least=0.85)
    yield Goal(case="file", figure="requests_per_s", against="open mode", at_least=0.9)


def nobody(_: Bench, __: Sequence[Contender]) -> None:
    """Nothing is shared by the rounds."""


SCENARIO = Scenario(
    name="access",
    title="small reads by 16 connections, with and without authorisation and what it writes down",
    prepare=nobody,
    measure=measure,
    rounds=12,
    alternates=True,
    own=WAYS,
    speaks=(),
    goals=tuple(_goals()),
)
