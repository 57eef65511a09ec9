"""The table of registry/PERMISSIONS.md, held against the routes and against a live server.

Every route is asked as everybody who must be refused, and as the least who must not be: in a
private, an internal and a public world, where everything has an example (`ExampleWorld`). A refusal
is 401, 403 or 404; what is let in may fail otherwise, because examples wear out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
import pytest
import requests
import schemathesis
from schemathesis.core.result import Ok

from registry.api.routes import ROUTES
from registry.domain.roles import ALL_WORDS, ROLES, WORDS
from registry.http.openapi import template
from registry.http.routing import Route
from registry.protocols.tus import handlers as tus
from tests.registry.test_openapi import DOCUMENT
from tests.support.example_world import ExampleWorld
from tests.support.servers import ROOT, Server, running_server

TABLE: Final = ROOT / "registry" / "PERMISSIONS.md"
ALL_ROUTES: Final = [*ROUTES, *tus.ROUTES]
LEVELS: Final = ("private", "internal", "public")
PASSWORD: Final = "correct horse battery staple"
REFUSED: Final = (401, 403, 404)
HARMLESS: Final = ("PUT /models/{model}/{version}",)
"""What preparing changes nothing for, so that who must be refused is asked with it, too."""
REFUSED_BEFORE: Final = ("POST /api/v1/imports", "POST /api/v1/models/{model}/purge")
"""Their examples here are bad: the name is in the archive, and what lives has no id to purge by.

Who may is tested in test_exports.py and test_authenticate.py.
"""
SPENT_FOR: Final = 10
"""So many routes that change something share a world, and may find what another one left of it."""
LET_IN: Final[tuple[int, ...]] = ()
HIDDEN: Final = (404,)
OWN: Final = (404, 0)
"""Let in, to find that what the example names is somebody else's."""
CONFIG: Final = """
[auth]
mode = "authenticated"
anonymous_read = true
self_registration = true
password_memory_kib = 8
password_passes = 1
password_lanes = 1
[store]
reserve_bytes = 0
reserve_share = 0.0
[rates]
logins_per_minute = 0
[events]
stream_seconds = 0  # else a stream would end only after an hour
"""

_ROW: Final = re.compile(r"\| `([A-Z ]+)` \| `(/[^`]*)` \| `([a-z.]+)` \| (\w+) \| ([\w ]+) \|")


class Row(msgspec.Struct, frozen=True):
    """One route of the table."""

    method: str
    path: str
    word: str
    on: str
    least: str

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"


def rows() -> list[Row]:
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        match = _ROW.fullmatch(line.strip())
        if match is not None:
            methods, *rest = match.groups()
            found += [Row(method, *rest) for method in methods.split()]
    return found


TABLE_ROWS: Final = rows()


def shown_path(route: Route) -> str:
    """The path as the documentation of the API shows it."""
    return template(route.path)[0]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    declared = {(route.method, shown_path(route), str(route.permission)) for route in ALL_ROUTES}
    listed = {(row.method, row.path, row.word) for row in TABLE_ROWS}

    assert declared - listed == set(), "routes without a row"
    assert listed - declared == set(), "rows without a route"
    assert len(TABLE_ROWS) == len(listed), "a route has two rows"


@pytest.mark.parametrize("row", TABLE_ROWS, ids=lambda row: row.label)
def test_the_least_role_is_the_first_that_holds_the_word(row: Row) -> None:
    if row.on == "team":
        expected = "member"
    elif row.word == "public":
        expected = {"anyone": "anybody", "account": "anybody who signed in"}[row.on]
    elif row.on == "registry" and row.word not in WORDS["admin"]:
        expected = "administrator"
    else:
        expected = next(role for role in ROLES if row.word in WORDS[role])

    assert row.least == expected


def test_words_of_the_registry_are_asked_on_the_registry() -> None:
    own_to_it = ALL_WORDS - WORDS["admin"]

    wrong = [row.label for row in TABLE_ROWS if row.word in own_to_it and row.on != "registry"]

    assert wrong == []


class World:
    """A server that asks who you are, its people, and an example of everything at each level."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.root = (server.data / "admin-token").read_text().strip()
        self.session = requests.Session()
        self.newcomers = 0
        self.tokens: dict[str, str | None] = {"nobody": None, "administrator": self.root}
        for name in ("outsider", *ROLES):
            self.tokens[name] = self._person(name)
        self.tokens["robot"] = self._robot()
        self.examples = {level: self._example(level) for level in LEVELS}
        self._spent, self._left, self._made = self.examples["private"], 0, 0

    def spent(self, row: Row) -> ExampleWorld:
        """A private one, for what must succeed and changes something.

        Whoever takes something away has it last, a few others before.
        """
        self._left -= 1
        if self._left < 0:
            self._made += 1
            self._spent, self._left = self._example(f"spent-{self._made}"), SPENT_FOR
        if row.method == "DELETE" or row.path.endswith(("/purge", "/rename", "/revoke")):
            self._left = 0
        return self._spent

    def ask(self, case: Any, who: str) -> requests.Response:
        token = self._newcomer() if who == "somebody" else self.tokens[who]
        headers = self._headers(token)
        self.session.cookies.clear()  # one route gives some, and others would be asked with them
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the generator, about its own work
            found: requests.Response = case.call(
                base_url=self.server.url, session=self.session, headers=headers, timeout=60
            )
        return found

    @staticmethod
    def _headers(token: str | None) -> dict[str, str]:
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def _newcomer(self) -> str:
        """Somebody new, because routes of an account end the session they are asked with."""
        self.newcomers += 1
        return self._person(f"newcomer-{self.newcomers}")

    def _robot(self) -> str:
        """A service account that reads; it has no namespace of its own to write to."""
        self._api("POST", "users", {"username": "the-robot", "kind": "service"})
        self._grant("the-robot", "reader")
        return str(self._api("POST", "tokens", {"name": "x", "user": "the-robot"})["secret"])

    def _grant(self, name: str, role: str) -> None:
        for pattern in ("nlp-*", "speech-*"):
            grant = {
                "subject": {"kind": "user", "name": name},
                "resource": {"kind": "namespace", "name": pattern},
                "role": role,
            }
            self._api("POST", "grants", grant)

    def _person(self, name: str) -> str:
        """A token; roles are granted on the namespaces of all examples."""
        self._api("POST", "users", {"username": f"the-{name}", "password": PASSWORD})
        if name in ROLES:
            self._grant(f"the-{name}", name)
        answer = self._api("POST", "login", {"username": f"the-{name}", "password": PASSWORD})
        return str(answer["access_token"])

    def _example(self, level: str) -> ExampleWorld:
        maker, reviewer = self._headers(self.root), self._headers(self.tokens["writer"])
        world = ExampleWorld(self.server, DOCUMENT, level, maker, reviewer)
        if level in LEVELS:
            self._api("PATCH", f"models/{world.known['model']}", {"visibility": level})
        return world

    def _api(self, method: str, path: str, content: Any) -> Any:
        answer = self.session.request(
            method,
            f"{self.server.url}/api/v1/{path}",
            json=content,
            headers=self._headers(self.root),
            timeout=60,
        )
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("permissions") / "data"
    with running_server(data, config=CONFIG) as server:
        yield World(server)


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(_: Any, value: Any) -> bytes:
    return bytes(value)


SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Final[Mapping[str, Any]] = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)
}


def lower(role: str) -> str:
    """The role below another one."""
    return ROLES[ROLES.index(role) - 1]


def expected(row: Row) -> Iterator[tuple[str, str, Collection[int]]]:
    """Who asks of which level, and how they may be refused; an empty answer is let in."""
    is_read = row.least == "reader"
    match row.on:
        case "anyone":
            yield "nobody", "private", LET_IN
        case "account":
            yield "nobody", "private", (401,)
            yield "somebody", "private", OWN
        case "registry":
            yield "nobody", "private", (401,)
            yield "admin", "private", (403,)
            yield "administrator", "private", LET_IN
        case "model":
            yield "nobody", "private", (401,)
            yield "outsider", "private", HIDDEN
            yield "nobody", "internal", (401,)
            # A request may name an experiment or environment besides, which is still hidden.
            yield "outsider", "internal", LET_IN if is_read else (403, 404)
            yield "nobody", "public", LET_IN if is_read else (401,)
            if not is_read:
                yield lower(row.least), "private", (403,)
            yield row.least, "private", LET_IN
        case "namespace":
            yield "nobody", "private", (401,)
            yield "outsider", "private", (403, 404)
            if not is_read:
                yield lower(row.least), "private", (403, 404)
            yield row.least, "private", LET_IN
        case "cut":
            yield "nobody", "public", LET_IN if is_read else (401,)
            yield row.least, "private", LET_IN
        case "team":
            yield "nobody", "private", (401,)
            yield "outsider", "private", (403,)
            yield "admin", "private", (403,)
            yield "administrator", "private", LET_IN
        case "own":
            if not is_read:
                yield "nobody", "private", (401,)
                yield "robot", "private", (403,)
            yield row.least, "private", OWN


DOCUMENTED: Final = [row for row in TABLE_ROWS if row.label in OPERATIONS]


@pytest.mark.parametrize("row", DOCUMENTED, ids=lambda row: row.label)
def test_a_route_lets_in_whom_the_table_says_and_nobody_else(world: World, row: Row) -> None:
    wrong = []
    for who, level, refusals in expected(row):
        is_change = refusals == LET_IN and row.method not in ("GET", "HEAD")
        if is_change:
            case = world.spent(row).request(OPERATIONS[row.label])
        else:
            case = world.examples[level].request(
                OPERATIONS[row.label], is_prepared=row.label in HARMLESS
            )
        if row.label == "POST /api/v1/tokens":
            del case.body["user"]  # administrators alone make tokens of others
        answer = world.ask(case, who)
        if is_as_expected(answer.status_code, refusals) or is_beside_the_point(
            world, case, answer, refusals
        ):
            continue
        if answer.status_code == 400 and row.label in REFUSED_BEFORE and refusals != LET_IN:
            continue
        got = answer.status_code
        wanted = " or ".join(map(str, refusals)) or "being let in"
        wrong.append(
            f"{row.label}: {who} at {level}: {got} instead of {wanted}: {answer.text[:300]}"
        )

    assert not wrong, "\n".join(wrong)


def is_as_expected(status: int, refusals: Collection[int]) -> bool:
    if refusals == LET_IN:
        return status not in REFUSED
    return status in refusals or (refusals == OWN and status not in REFUSED)


def is_beside_the_point(
    world: World, case: Any, answer: requests.Response, refusals: Collection[int]
) -> bool:
    """The answer tells nothing of who asked: what is missing is missing for administrators too, and
    a batch names the refusals of its parts."""
    if refusals == LET_IN:
        return answer.status_code in (401, 404) and is_missing(world, case)
    return answer.status_code == 409 and answer.json()["code"] == "batch_refused"


def is_missing(world: World, case: Any) -> bool:
    return world.ask(case, "administrator").status_code in (401, 404)


def test_pages_are_for_anyone(world: World) -> None:
    for row in TABLE_ROWS:
        if row.label not in OPERATIONS:
            assert row.on == "anyone", row.label
            assert "{" in row.path or world.server.request(row.method, row.path)[0] < 400
