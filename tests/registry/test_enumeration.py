"""What is hidden and what is missing are one, route by route, for whoever may not see it.

A world of its own, private and with one of everything (`ExampleWorld`), is asked for by somebody
without any grant, and by nobody. Each route is asked twice, by requests that differ in names alone:
those of the world, and others of the same length that name nothing. Status, headers and body must
not differ but for the names, and neither must the number of statements that the index ran, nor,
where names are asked for, that of the rows it read: a row takes ten microseconds, and names can be
guessed a thousand times, ids cannot. Lists, totals, searches and sums must be what they were before
there was more to hide.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from typing import Any, Final
from unittest.mock import patch

import msgspec
import pytest

from registry.catalog import visible
from registry.config import AuthConfig, Config
from registry.services import accesses, downloads, identities
from store.digest import Digest
from store.index.driver import Transaction
from store.index.transactions import Statement
from tests.registry.test_openapi import DOCUMENT
from tests.registry.test_permissions import OPERATIONS
from tests.support.example_world import ExampleWorld
from tests.support.people import Person, make_person
from tests.support.serving import Answer, Site, opened, serving

CONFIG: Final = Config(
    auth=AuthConfig(
        mode="authenticated",
        anonymous_read=True,
        password_memory_kib=8,
        password_passes=1,
        password_lanes=1,
    )
)
ELSEWHERE: Final = (
    *("{team}", "{tag}", "{environment}", "{operation}", "{hold}", "{plan}", "{user}"),
    *("/login", "/register", "/imports"),
)
"""What belongs to nobody: everybody sees the names, or only an administrator anything. An archive
that is imported cannot be renamed; who may make models where is asked of all that make some."""

_ID: Final = re.compile(r"\b([a-z]{3}_[0-9a-z]{26})\b")
_REQUEST_ID: Final = re.compile(rb'"request_id":"[0-9a-f]+"')
_OF_THE_REQUEST: Final = ("date", "x-request-id")

HIDDEN_FILE: Final = b"1.4.0"
"""What `ExampleWorld` puts into a version, and nobody else anywhere."""


class Place:
    """A server that asks who you are, its administrator, and somebody without any grant."""

    def __init__(self, site: Site, root: Person, reviewer: Person, outsider: Person) -> None:
        self.site = site
        self.url = site.url
        self.port = site.port
        self.root = root
        self.reviewer = reviewer
        self.outsider = outsider

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """As `tests.support.servers.Server` asks, from another thread."""
        connection = HTTPConnection("127.0.0.1", self.site.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def world(self, space: str) -> ExampleWorld:
        server: Any = self
        return await asyncio.to_thread(
            ExampleWorld, server, DOCUMENT, space, self.root.headers, self.reviewer.headers
        )

    async def api(self, who: Person, method: str, path: str, content: Any = None) -> Any:
        answer = await self.site.ask(method, f"/api/v1/{path}", json=content, headers=who.headers)
        assert answer.status < 300, answer.body
        return answer.json if answer.body else None


class Rows:
    """Counts what look-ups find."""

    def __init__(self) -> None:
        self.read = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        one, every = Transaction.one, Transaction.all

        async def counted_one(tx: Transaction, statement: Statement, /, **values: Any) -> Any:
            row = await one(tx, statement, **values)
            self.read += row is not None
            return row

        async def counted_all(tx: Transaction, statement: Statement, /, **values: Any) -> Any:
            rows = await every(tx, statement, **values)
            self.read += len(rows)
            return rows

        with (
            patch.object(Transaction, "one", counted_one),
            patch.object(Transaction, "all", counted_all),
        ):
            yield


ROWS: Final = Rows()


@contextmanager
def notes_wait() -> Iterator[None]:
    """What is noted off the path of requests is written at the end, not beside one of them."""
    with (
        patch.object(accesses, "TICK_SECONDS", 3600.0),
        patch.object(downloads, "FLUSH_SECONDS", 3600.0),
        patch.object(identities, "NOTE_SECONDS", 3600.0),
    ):
        yield


@asynccontextmanager
async def placed() -> AsyncIterator[Place]:
    with notes_wait():
        async with opened(None) as store, serving(store, CONFIG) as site:
            root = await make_person(store, "root", is_admin=True)
            reviewer = await make_person(store, "reviewer", is_admin=True)
            yield Place(site, root, reviewer, await make_person(store, "outsider"))


class Asked(msgspec.Struct, frozen=True):
    """A request as it is sent."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | None

    def renamed(self, names: Mapping[str, str]) -> Asked:
        """The same request for other things."""
        return msgspec.structs.replace(
            self,
            path=_renamed(self.path, names),
            query=_renamed(self.query, names),
            body=None
            if self.body is None
            else _renamed(self.body.decode("latin-1"), names).encode("latin-1"),
        )


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def asked_of(world: ExampleWorld, operation: Any) -> Asked:
    case = world.request(operation, is_prepared=False)
    body = case.body if isinstance(case.body, bytes) else None
    headers = {name: str(value) for name, value in (case.headers or {}).items()}
    if body is None and case.media_type is not None:
        body = msgspec.json.encode(case.body)
    if case.media_type is not None:
        headers["Content-Type"] = case.media_type
    path = operation.path
    for name, value in case.path_parameters.items():
        path = path.replace(f"{{{name}}}", str(value).replace("/", "%2F"))
    query = "&".join(f"{name}={value}" for name, value in (case.query or {}).items())
    return Asked(case.method, path, query, headers, body)


def missing_names(world: ExampleWorld) -> dict[str, str]:
    """Of everything that names the world something of the same length that names nothing."""
    space = world.known["namespace"]
    names = {space: space[:-6] + "absent"}
    for value in world.known.values():
        for id in _ID.findall(str(value)):
            names[id] = id[:-4] + ("zzzz" if not id.endswith("zzzz") else "yyyy")
    hidden = Digest.of(HIDDEN_FILE)
    names[hidden.hex] = Digest.of(b"no such thing").hex
    return names


class Work(msgspec.Struct, frozen=True):
    """What an answer took of the index."""

    statements: int
    rows: int = 0


async def sent(place: Place, asked: Asked, who: Person | None) -> tuple[Answer, Work]:
    """The answer, and what it took: rows only where names alone say what is meant."""
    headers = {**asked.headers, **({} if who is None else who.headers)}
    index = place.site.store.index
    before = index.statement_count()
    path = asked.path + (f"?{asked.query}" if asked.query else "")
    ROWS.read = 0
    with ROWS.counted():
        answer = await place.site.ask(asked.method, path, data=asked.body, headers=headers)
    is_by_id = _ID.search(path + (asked.body or b"").decode("latin-1"))
    return answer, Work(index.statement_count() - before, 0 if is_by_id else ROWS.read)


def told(answer: Answer, names: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
    """All that an answer tells, in the names of what is missing."""
    headers = {
        name: _renamed(value, names)
        for name, value in answer.headers.items()
        if name.lower() not in _OF_THE_REQUEST
    }
    body = _REQUEST_ID.sub(b"", answer.body).decode("latin-1")
    return answer.status, headers, _renamed(body, names)


def all_asked(world: ExampleWorld) -> dict[str, Asked]:
    """A request of each route that can be about something hidden."""
    return {
        label: asked_of(world, operation)
        for label, operation in OPERATIONS.items()
        if not any(part in operation.path for part in ELSEWHERE)
    }


async def differing(
    place: Place, who: Person | None, hidden: Asked, missing: Asked, names: Mapping[str, str]
) -> str:
    """How the answers differ; statements are counted again where the server did something else."""
    for _ in range(3):
        found, steps = await sent(place, hidden, who)
        other, others = await sent(place, missing, who)
        if found.status >= 500 or told(found, names) != told(other, names):
            return f"{told(found, {})} but {told(other, {})}"
        if steps == others:
            return ""
    return f"{steps} but {others}"


async def test_hidden_and_missing_are_answered_alike_and_take_as_many_statements() -> None:
    differences = []
    async with placed() as place:
        world = await place.world("hidden")
        world.known["digest"] = str(Digest.of(HIDDEN_FILE))
        names = missing_names(world)
        absent = {"name": names[world.known["namespace"]], "type": "staging"}
        await place.api(place.root, "POST", "environments", absent)  # those are everybody's
        outsider = place.outsider
        requests = await asyncio.to_thread(all_asked, world)
        for who in (outsider, None):
            await place.site.ask(
                "GET", "/api/v1/models", headers={} if who is None else who.headers
            )
            for label, hidden in requests.items():
                missing = hidden.renamed(names)
                if hidden == missing:
                    continue
                difference = await differing(place, who, hidden, missing, names)
                if difference:
                    differences.append(f"{label}: {difference}")
    assert not differences, "\n".join(differences)


LISTS: Final = (
    "models?total=true",
    "models?order=created&total=true",
    "models?q=ber&total=true",
    "models?q=be",
    "models?deleted=true&total=true",
    "models?tag=language-seen&total=true",
    "models?visibility=private&total=true",
    "models?risk=medium&total=true",
    "search?q=bert",
    "search?q=tickets",
    "versions?total=true",
    "versions?status=registered&total=true",
    "versions?min_eval_score=0.1&total=true",
    "tags",
    "tags/language-seen=en",
    "namespaces",
    "experiments?total=true",
    "runs?total=true",
    "runs?status=running&total=true",
    "runs/costs",
    "runs/costs?by=model",
    "runs/costs?by=team",
    "deployments?total=true",
    "deployments?active=true&total=true",
    "deployments/summary",
    "bindings?total=true",
    "resolve",
    "resolve?task=chat",
    "analytics/teams",
    "analytics/retraining?days=0",
    "pins",
    "audit",
    "grants",
    "webhooks",
    "retention/policies",
    "lineage/descendants?uri=hf%3Asquad",
    "lineage/impact?uri=hf%3Asquad",
)
"""Everything that lists, counts, sums, ranks or searches, as somebody without a grant asks it."""


async def fill(place: Place, who: Person, name: str, team: str) -> None:
    """A model with one of everything that a list could tell."""
    model = name.replace("/", "~")
    wish = {"name": name, "description": "routes tickets", "team": team, "task_type": "chat"}
    await place.api(who, "POST", "models", wish)
    version = {"source": {"uri": "s3://weights"}, "eval_score": 0.9, "status": "production"}
    made = await place.api(who, "POST", f"models/{model}/versions", version)
    await place.api(who, "PUT", f"models/{model}/tags/language-seen", {"value": "en"})
    await place.api(who, "PUT", f"models/{model}/tags/of-{model.partition('~')[0]}", {})
    edge = {"relation": "trained-on", "parent": {"uri": "hf:squad"}}
    await place.api(who, "POST", f"models/{model}/versions/1/lineage", edge)
    run = {"model": name, "cost_usd": 12.5, "gpu_hours": 3.0, "status": "succeeded"}
    await place.api(who, "POST", "runs", run)
    await place.api(who, "POST", "runs", {"model": name})
    space = name.partition("/")[0]
    await place.api(who, "POST", "experiments", {"name": name, "namespace": space})
    binding = {"version": made["version"]["id"], "provider": "self-hosted"}
    await place.api(who, "POST", "bindings", binding)


async def lists_as(place: Place, who: Person | None) -> dict[str, tuple[int, str]]:
    found = {}
    for path in LISTS:
        headers = {} if who is None else who.headers
        answer = await place.site.ask("GET", f"/api/v1/{path}", headers=headers)
        found[path] = answer.status, UNSTEADY.sub(b"", answer.body).decode()
    page = await place.site.ask("GET", "/", headers={} if who is None else who.headers)
    return {**found, "/": (page.status, page.body.decode())}


UNSTEADY: Final = re.compile(
    rb'"(request_id|now|until|as_of|asked_at)":"[^"]*"|"age_days":[0-9.e-]+'
)


@pytest.mark.parametrize("few", [visible.FEW, -1], ids=["few", "many"])
async def test_lists_totals_searches_and_sums_are_as_if_nothing_was_hidden(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """For those who see few models, whose lists run along them, and for those who see many."""
    monkeypatch.setattr(visible, "FEW", few)
    async with placed() as place:
        root, outsider = place.root, place.outsider
        await place.api(root, "POST", "teams", {"name": "vision"})
        await place.api(root, "POST", "environments", {"name": "prod", "type": "production"})
        await fill(place, root, "open/bert", "vision")
        await place.api(root, "PATCH", "models/open~bert", {"visibility": "public"})
        before = [await lists_as(place, who) for who in (outsider, None)]

        for name in ("secret/bert", "secret/another"):
            await fill(place, root, name, "vision")
        deployment = {"environment": "prod", "model": "secret/bert", "version": "1"}
        await place.api(root, "POST", "deployments", {"name": "first", **deployment})
        await place.api(root, "DELETE", "models/secret~another")
        after = [await lists_as(place, who) for who in (outsider, None)]

    for was, now in zip(before, after, strict=True):
        assert {path: now[path] for path in now if now[path] != was[path]} == {}
    told = before[0]
    assert [path for path, (status, _) in told.items() if status not in (200, 403)] == []
    assert '"total":1' in told["models?total=true"][1]
    assert '"total":1' in told["versions?min_eval_score=0.1&total=true"][1]
    assert '"total":2' in told["runs?total=true"][1]
    for path in ("search?q=bert", "resolve", "runs/costs?by=model", "/"):
        assert "open/bert" in told[path][1], path
