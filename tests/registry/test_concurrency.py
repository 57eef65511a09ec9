"""64 clients write at once over HTTP, to two workers on one directory, and nothing is lost.

Nobody sees a 5xx or a locked database, small writes share commits, and of those who change one
thing with ``If-Match`` one wins and the others are told. The log of it all verifies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.support.servers import Server, running_server

CLIENTS = 64
ROUNDS = 4
BOUND_SECONDS = 90.0

CONFIG = """
[store]
reserve_bytes = 0
reserve_share = 0.0
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("concurrency") / "data"
    with running_server(data, workers=2, config=CONFIG) as running:
        yield running


class Client:
    """One of many: what it asked for, and what it was promised."""

    def __init__(self, session: ClientSession, number: int) -> None:
        self.session = session
        self.number = number
        self.model = f"model-{number}"
        self.statuses: Counter[int] = Counter()
        self.changes = 0
        self.moves = 0
        self.pins = 0
        self.ids: dict[int, str] = {}

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, str]:
        """Status, body and entity tag."""
        async with self.session.request(method, path, **options) as answer:
            self.statuses[answer.status] += 1
            content = await answer.read()
            assert answer.status < 500, content
            is_json = answer.content_type.endswith("json")
            return answer.status, await answer.json() if is_json else content, _tag(answer)

    async def change(self, method: str, path: str, *statuses: int, **options: Any) -> Any:
        """A change that must succeed."""
        status, content, _ = await self.ask(method, path, **options)
        assert status in statuses, content
        self.changes += 1
        return content

    async def work(self) -> None:
        for number in range(1, ROUNDS + 1):
            await self.publish(number)
            await self.point_own_alias(number)
            await self.pin(number)
            await self.describe(number)
            await self.contend()

    async def publish(self, number: int) -> None:
        """A file and its version; the repeat of a lost answer finds the same one."""
        content = f"{self.model} {number}".encode()
        await self.change("PUT", f"/models/{self.model}/v{number}/a.txt", 201, data=content)
        url = f"/api/v1/models/{self.model}/versions/v{number}/publish"
        key = {"Idempotency-Key": f"{self.model}-{number}"}
        made = await self.change("POST", url, 201, headers=key)
        again = await self.ask("POST", url, headers=key)
        assert again[:2] == (201, made)
        self.ids[number] = made["version"]["id"]

    async def point_own_alias(self, number: int) -> None:
        url = f"/api/v1/models/{self.model}/aliases/champion"
        await self.change("PUT", url, 200, 201, json={"version": f"v{number}"})

    async def describe(self, number: int) -> None:
        """Tags and a description of one's own; of a stale description nothing is kept."""
        url = f"/api/v1/models/{self.model}"
        await self.change("PUT", f"{url}/tags/stage", 200, 201, json={"value": f"s{number}"})
        tag = (await self.ask("GET", url))[2]
        for text, expected in ((f"round {number}", 200), ("stale", 412)):
            status, content, _ = await self.ask(
                "PATCH", url, json={"description": text}, headers={"If-Match": tag}
            )
            assert status == expected, content
        self.changes += 1

    async def pin(self, number: int) -> None:
        """A blob that everybody keeps: one principal, so one of all is first."""
        digest = (await self.ask("PUT", "/blobs/shared", data=b"shared %d" % number))[1]["digest"]
        status, content, _ = await self.ask("POST", "/api/v1/pins", json={"digest": digest})
        assert status in (200, 201), content
        self.pins += status == 201

    async def contend(self) -> None:
        """Move what all others move as well, as long as nobody else did since we looked."""
        url = "/api/v1/models/contended/aliases/champion"
        _, found, tag = await self.ask("GET", url)
        label = "b" if found["version"]["label"] == "a" else "a"
        status, content, _ = await self.ask(
            "PUT", url, json={"version": label}, headers={"If-Match": tag}
        )
        assert status in (200, 412), content
        self.moves += status == 200
        self.changes += status == 200


def _tag(answer: Any) -> str:
    return str(answer.headers.get("ETag", ""))


@asynccontextmanager
async def session(server: Server) -> AsyncIterator[ClientSession]:
    async with ClientSession(
        server.url,
        connector=TCPConnector(limit=CLIENTS),
        timeout=ClientTimeout(total=BOUND_SECONDS),
    ) as opened:
        yield opened


async def metric(client: Client, name: str) -> float:
    """A counter over both workers, once it has stood still for two samplings."""
    before = -1.0
    while True:
        _, content, _ = await client.ask("GET", "/metrics")
        lines = content.decode().splitlines()
        [now] = [float(line.split()[1]) for line in lines if line.startswith(f"{name} ")]
        if now == before:
            return now
        before = now
        await asyncio.sleep(1.1)


async def test_many_writers_at_once(server: Server) -> None:
    async with asyncio.timeout(BOUND_SECONDS), session(server) as opened:
        first = Client(opened, 0)
        for label in "ab":
            await first.change("PUT", f"/models/contended/{label}/a.txt", 201, data=label.encode())
            url = f"/api/v1/models/contended/versions/{label}/publish"
            await first.change("POST", url, 201)
        url = "/api/v1/models/contended/aliases/champion"
        await first.change("PUT", url, 201, json={"version": "a"})
        clients = [Client(opened, number) for number in range(CLIENTS)]
        await asyncio.gather(*(client.work() for client in clients))

        statuses = sum((client.statuses for client in clients), Counter[int]())
        assert set(statuses) <= {200, 201, 412}, statuses
        met = statuses[412] - CLIENTS * ROUNDS
        assert met > 0, "nobody met anybody at the contended alias: this test tests nothing"
        assert "locked" not in server.log
        await everything_promised_is_there(first, clients)
        await the_log_tells_all(first, clients)


async def everything_promised_is_there(first: Client, clients: list[Client]) -> None:
    for client in clients:
        versions = f"/api/v1/models/{client.model}/versions"
        for number, id in client.ids.items():
            found = (await first.ask("GET", f"{versions}/v{number}"))[1]
            assert (found["id"], found["number"]) == (id, number)
        alias = (await first.ask("GET", f"/api/v1/models/{client.model}/aliases/champion"))[1]
        assert alias["version"]["number"] == ROUNDS
        model = (await first.ask("GET", f"/api/v1/models/{client.model}"))[1]
        assert model["description"] == f"round {ROUNDS}"
        tags = (await first.ask("GET", f"/api/v1/models/{client.model}/tags"))[1]["items"]
        assert [(tag["key"], tag["value"]) for tag in tags] == [("stage", f"s{ROUNDS}")]


async def the_log_tells_all(first: Client, clients: list[Client]) -> None:
    """As many entries as changes were acknowledged: none lost, none of a loser."""
    moves = await entries(first, "kind=alias&action=move&model=contended")
    by_hand = [one for one in moves if one["name"] == "champion"]
    assert len(by_hand) == 1 + sum(client.moves for client in clients)
    described = await entries(first, "kind=model&action=update")
    assert len(described) == CLIENTS * ROUNDS
    published = await entries(first, "action=publish")
    assert len(published) == 2 + CLIENTS * ROUNDS
    pins = await entries(first, "kind=pin")
    assert len(pins) == ROUNDS == sum(client.pins for client in clients)

    while True:  # until the leader has sealed the last of it
        verdict = (await first.ask("GET", "/api/v1/audit/verify"))[1]
        assert verdict["is_intact"], verdict
        if not verdict["unsealed"]:
            break
        await asyncio.sleep(0.1)

    changes = sum(client.changes for client in clients)
    commits = await metric(first, "digestry_index_commits_total")
    units = await metric(first, "digestry_index_units_total")
    print(f"{changes} changes, {units:.0f} units, {commits:.0f} commits")
    assert commits < changes
    assert commits < units / 2


async def entries(client: Client, query: str) -> list[dict[str, Any]]:
    """All entries that fit, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        _, page, _ = await client.ask("GET", f"/api/v1/audit?limit=1000&{query}{after}")
        found += page["items"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"
