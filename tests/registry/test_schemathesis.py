"""Ask a live server all that its own OpenAPI document allows, and much that it does not.

Schemathesis makes the requests: every boundary of every parameter and field, valid and not, then
random ones for as long as there is time. Half of them go to resources that exist. No answer may be
5xx, have a status that is not documented, or differ from its schema, and what breaks the schema of
a request must be refused.

``DIGESTRY_TESTS_SCHEMATHESIS_SECONDS`` is how long the random part of all operations together takes
(20, and at least one round for each), ``DIGESTRY_TESTS_SCHEMATHESIS_SEED`` what it is made from;
both are printed.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.internal.conjecture import engine
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.registry.test_openapi import DOCUMENT
from tests.support.example_world import ExampleWorld
from tests.support.servers import Server, running_server

SECONDS: Final = float(os.environ.get("DIGESTRY_TESTS_SCHEMATHESIS_SECONDS", "20"))
SEED: Final = int(os.environ.get("DIGESTRY_TESTS_SCHEMATHESIS_SEED", "3"))
CONFIG: Final = """
[store]
reserve_bytes = 0
reserve_share = 0.0
[auth]
password_memory_kib = 8
password_passes = 1
password_lanes = 1
[rates]
logins_per_minute = 0
[events]
stream_seconds = 0  # else a stream would end only after an hour
[limits]
blob_bytes = 1048576  # larger ones would be 507 where the disk is full, which is no fault of ours
"""

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
MOST_FAILURES: Final = 5
CASES_OF_A_ROUND: Final = 5
"""Few, since the time is looked at between rounds alone."""
PATIENCE: Final = 60
"""Attempts in vain to make a first case, where Hypothesis would try for half a second of CPU.

Every operation of which something can be wrong needs less than 20.
"""
MOST_ADDRESS: Final = 7_900
"""Of longer ones the HTTP parser says 400 in plain text, before there is any route."""


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(_: Any, value: Any) -> bytes:
    """Bodies of uploads are whatever the generator makes of a type that says nothing."""
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()


SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig(seed=SEED))
OPERATIONS: Final = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)
}


class Talk:
    """One connection to one server, and what went wrong on it."""

    def __init__(self, server: Server, session: requests.Session, world: ExampleWorld) -> None:
        self.server = server
        self.session = session
        self.failures: dict[str, str] = {}
        self.asked = 0
        self.world = world

    def ask(self, case: Any, *, is_bad: bool) -> None:
        """Send one case; every second one goes to a resource that exists."""
        self.asked += 1
        if self.asked % 2 and case.path_parameters:
            for name in case.path_parameters.keys() & self.world.known.keys():
                case.path_parameters[name] = self.world.known[name]
        try:
            response = case.call(base_url=self.server.url, session=self.session, timeout=60)
        except requests.exceptions.InvalidHeader:
            return  # nothing that a client could send
        if len(response.request.url or "") > MOST_ADDRESS:
            return
        extra = [negative_data_rejection] if is_bad and is_refusable(case) else []
        try:
            case.validate_response(response, checks=[*CHECKS, *extra])
        except FailureGroup as group:
            for failure in group.exceptions:
                self.note(case, response, failure)

    def note(self, case: Any, response: Any, failure: Exception) -> None:
        title = failure.title if isinstance(failure, Failure) else type(failure).__name__
        key = f"{title} {response.status_code}"
        if key not in self.failures:
            command = case.as_curl_command({"Connection": "close"})
            self.failures[key] = f"{key}\n{str(failure)[:1500]}\n{command[:1500]}"


def is_refusable(case: Any) -> bool:
    """Whether what was made wrong is something that a server can see and must refuse.

    A header that is not what it should be is ignored where HTTP says so, and a path that is wrong
    leads elsewhere; what is left are queries and bodies.
    """
    parts = {
        str(part.value) for part, info in case.meta.components.items() if info.mode.is_negative
    }
    return parts <= {"query", "body"}


class Worlds:
    """A world for each test that changes something, and one for all that only read.

    Each has names of its own: some cannot be taken again, whatever a test does to them.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._read: ExampleWorld | None = None

    def new(self) -> ExampleWorld:
        return ExampleWorld(self._server, DOCUMENT, str(next(self._numbers)))

    def for_reading(self, *, is_again: bool = False) -> ExampleWorld:
        """The one that readers share; `is_again`, another one, since something of it is gone."""
        if self._read is None or is_again:
            self._read = self.new()
        return self._read


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    with running_server(data, config=CONFIG) as server:
        yield server


@pytest.fixture(scope="module")
def worlds(server: Server) -> Worlds:
    return Worlds(server)


@pytest.fixture
def label() -> str:
    """What the tests of this driver itself ask."""
    return "GET /healthz"


@pytest.fixture
def talk(server: Server, worlds: Worlds, label: str) -> Iterator[Talk]:
    with requests.Session() as session:
        session.trust_env = False  # it would read the environment for each request
        world = worlds.for_reading() if is_read(label) else worlds.new()
        yield Talk(server, session, world)


def is_read(label: str) -> bool:
    return label.startswith("GET ")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_answers_as_documented(talk: Talk, worlds: Worlds, label: str) -> None:
    operation = OPERATIONS[label]
    print(f"DIGESTRY_TESTS_SCHEMATHESIS_SEED={SEED} DIGESTRY_TESTS_SCHEMATHESIS_SECONDS={SECONDS}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generator, about its own work
        case, response = ask_plainly(talk, operation)
        if is_read(label) and not succeeds(response, label):  # another test took something away
            talk.world = worlds.for_reading(is_again=True)
            case, response = ask_plainly(talk, operation)
        assert succeeds(response, label), (response.text, case.as_curl_command())
        ask_all(talk, operation)
        ask_for(talk, operation, SECONDS / len(OPERATIONS))

    assert list(talk.failures.values()) == []


OF_ACCOUNTS: Final = (
    "GET /api/v1/login/oidc",
    "GET /api/v1/login/oidc/callback",
    "GET /api/v1/sessions",
    "GET /api/v1/tokens",
    "POST /api/v1/login/refresh",
    "POST /api/v1/logout",
    "POST /api/v1/me/password",
    "PUT /api/v1/session-cookie",
    "POST /api/v1/register",
)
"""For people with an account, which nobody has at a server that does not ask who they are."""


NOT_THERE: Final = {"POST /api/v1/archive/adopt": 409}
"""Where nothing was archived yet, there is no archive to adopt."""


def ask_plainly(talk: Talk, operation: Any) -> tuple[Any, Any]:
    """What the document shows as an example; and the answer, which is as documented."""
    case = talk.world.request(operation)
    response = case.call(base_url=talk.server.url, session=talk.session, timeout=60)
    case.validate_response(response, checks=CHECKS)
    return case, response


def succeeds(response: Any, label: str) -> bool:
    """Whether an example got what it must get where what it names is there."""
    refused = label in OF_ACCOUNTS and response.status_code in (401, 403, 404)
    return response.status_code < 400 or refused or response.status_code == NOT_THERE.get(label)


def ask_all(talk: Talk, operation: Any) -> None:
    """Every boundary that the schema has, from both sides."""
    schema = operation.schema
    config = schema.config.generation_for(operation=operation, phase="coverage")
    for mode in MODES:
        for case in schema.iter_coverage_cases(
            operation, generation_modes=[mode], generation_config=config
        ):
            if case.method.upper() == operation.method.upper():
                talk.ask(case, is_bad=mode.is_negative)


def ask_for(talk: Talk, operation: Any, seconds: float) -> None:
    """Random requests, in rounds of a few from a seed each, until the time is over."""
    end = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < end and len(talk.failures) < MOST_FAILURES:
        for mode in MODES:
            ask_some(talk, operation, mode, SEED * 1_000_003 + turn)
        turn += 1


def ask_some(talk: Talk, operation: Any, mode: GenerationMode, seed: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=CASES_OF_A_ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        talk.ask(case, is_bad=mode.is_negative)

    try:
        with mock.patch.object(engine, "INVALID_THRESHOLD_BASE", PATIENCE, create=True):
            ask()
    except hypothesis.errors.Unsatisfiable:
        return  # an operation without anything that could be wrong


KEYED: Final = [
    label
    for label, operation in OPERATIONS.items()
    if label not in (*OF_ACCOUNTS, *NOT_THERE)
    and any(
        one["name"] == "Idempotency-Key"
        for one in DOCUMENT["paths"][operation.path][operation.method.lower()].get("parameters", ())
    )
]


@pytest.mark.parametrize("label", KEYED)
def test_a_documented_idempotency_key_is_honoured(talk: Talk, label: str) -> None:
    """A key that cannot be meant is refused, so somebody looks at it; the repeat is a replay.

    Or it is refused, because the answer held a secret.
    """
    case = talk.world.request(OPERATIONS[label])

    def ask(key: str) -> Any:
        case.headers["Idempotency-Key"] = key
        return case.call(base_url=talk.server.url, session=talk.session, timeout=60)

    refused = ask("not one word")
    first, second = ask(f"key-{talk.world.space}"), ask(f"key-{talk.world.space}")

    assert refused.json()["code"] == "idempotency_key_invalid"
    assert first.status_code < 300
    if second.status_code == 409:
        assert second.json()["code"] == "idempotency_answer_secret"
        return
    assert second.headers["idempotency-replayed"] == ["true"]
    assert (second.status_code, second.content) == (first.status_code, first.content)


# The driver itself


def test_a_scrub_that_would_go_on_for_hours_is_ended_for_the_next(talk: Talk) -> None:
    talk.world.put("/blobs/slow.bin", b"a byte a second" * 100)
    talk.world.api("POST", "scrub", {"rate_bytes_per_second": 1})

    case = talk.world.request(OPERATIONS["POST /api/v1/scrub"])

    assert case.call(base_url=talk.server.url, session=talk.session, timeout=60).status_code == 202


def test_an_undocumented_status_would_be_seen(talk: Talk) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document["paths"]["/api/v1/operations/{operation}"]["get"]["responses"]["404"]

    ask_all(talk, operation_of(document, "/api/v1/operations/{operation}", "GET"))

    assert list(talk.failures) == ["Undocumented status code 404"]


def test_an_answer_that_is_not_its_schema_would_be_seen(talk: Talk) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["components"]["schemas"]["Health"]["properties"]["status"] = {"type": "integer"}

    ask_all(talk, operation_of(document, "/healthz", "GET"))

    assert list(talk.failures) == ["Response violates schema 200"]


def test_a_bad_request_that_is_accepted_would_be_seen(talk: Talk) -> None:
    document = copy.deepcopy(DOCUMENT)
    parameters = document["paths"]["/api/v1/pins"]["get"]["parameters"]
    (limit,) = (one for one in parameters if one["name"] == "limit")
    limit["schema"]["maximum"] = 10

    ask_all(talk, operation_of(document, "/api/v1/pins", "GET"))

    assert list(talk.failures) == ["Schema-violating request accepted 200"]


def operation_of(document: dict[str, Any], path: str, method: str) -> Any:
    return schemathesis.openapi.from_dict(document)[path][method]
