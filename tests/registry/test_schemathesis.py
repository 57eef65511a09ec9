"""Ask a live server all that its own OpenAPI document allows, and much that it does not.

Schemathesis makes the requests: every boundary of every parameter and field, valid and not, then
random ones for as long as there is time. Half of them go to resources that exist. No answer may be
5xx, have a status that is not documented, or differ from its schema, and what breaks the schema of
a request must be refused.

``DIGESTRY_TESTS_SCHEMATHESIS_SECONDS`` is how long the random part of all operations together takes
(40), ``DIGESTRY_TESTS_SCHEMATHESIS_SEED`` what it is made from; both are printed.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import tarfile
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
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
from tests.support.servers import Server, running_server, wait_until

SECONDS: Final = float(os.environ.get("DIGESTRY_TESTS_SCHEMATHESIS_SECONDS", "40"))
SEED: Final = int(os.environ.get("DIGESTRY_TESTS_SCHEMATHESIS_SEED", "3"))
CONFIG: Final = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EMPTY: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NEEDED: Final[Mapping[str, Mapping[str, str]]] = {
    # What tus demands by method, where the document cannot say so.
    "POST /uploads": {"Upload-Length": "99999"},
    "POST /uploads/": {"Upload-Length": "99999"},
    "POST /uploads/{session}": {"X-HTTP-Method-Override": "HEAD"},
    "PATCH /uploads/{session}": {"Upload-Offset": "0"},
}
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
MOST_FAILURES: Final = 5
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

    def __init__(self, server: Server, session: requests.Session) -> None:
        self.server = server
        self.session = session
        self.failures: dict[str, str] = {}
        self.asked = 0
        self.known: dict[str, str] = {}
        self.space = ""

    def ask(self, case: Any, *, is_bad: bool) -> None:
        """Send one case; every second one goes to a resource that exists."""
        self.asked += 1
        if self.asked % 2 and case.path_parameters:
            for name in case.path_parameters.keys() & self.known.keys():
                case.path_parameters[name] = self.known[name]
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


def plain(operation: Any, known: Mapping[str, str], space: str) -> Any:
    """The request as the document itself shows it: what is required, and the example of a body."""
    declared = DOCUMENT["paths"][operation.path][operation.method.lower()]
    parts: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}}
    for one in declared.get("parameters", ()):
        if one["required"]:
            parts[one["in"]][one["name"]] = known.get(one["name"], one.get("example"))
    parts["header"].update(NEEDED.get(operation.label, {}))
    return operation.Case(
        path_parameters=parts["path"],
        query=parts["query"],
        headers=parts["header"],
        **plain_body(declared.get("requestBody", {}).get("content", {}), space),
    )


def plain_body(content: Mapping[str, Any], space: str) -> dict[str, Any]:
    for media_type, described in content.items():
        reference = described["schema"].get("$ref")
        if reference is None:
            return {"media_type": media_type, "body": archive()}
        example = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]["examples"][0]
        named = json.dumps(example).replace("nlp/", f"{space}/").replace("speech", f"s-{space}")
        return {"media_type": media_type, "body": json.loads(named)}
    return {}


def archive() -> bytes:
    """Bytes that every route takes, those of archives too."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("config.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    return buffer.getvalue()


def seeded(server: Server, space: str) -> dict[str, str]:
    """Put what the examples of the document name there; what paths may name of it."""
    model, team, tag = f"{space}~bert", f"vision-{space}", f"language-{space}"
    put(server, "/blobs/nothing.bin", b"")
    for label in ("1.3.0", "1.4.0", "1.5.0"):
        put(server, f"/models/{model}/{label}/model.safetensors?publish=true", label.encode())
    put(server, f"/models/{model}/draft/model.safetensors", b"a draft")
    for version in ("1.3.0", "1.4.0"):
        api(server, "PUT", f"models/{model}/aliases/champion", {"version": version})
    api(server, "PUT", f"models/{model}/tags/{tag}", {"value": "en"})
    api(server, "PUT", f"models/{model}/versions/1.4.0/tags/{tag}", {"value": "en"})
    api(server, "POST", "teams", {"name": team})
    lineage = f"models/{model}/versions/1.4.0/lineage"
    edge = api(server, "POST", lineage, {"relation": "merged", "parent": {"uri": "hf:squad"}})
    return {
        "model": model,
        "version": "1.4.0",
        "other": "1.5.0",
        "path": "model.safetensors",
        "alias": "champion",
        "tag": f"{tag}=en",
        "key": tag,
        "team": team,
        "edge": edge["id"],
        "digest": EMPTY,
        "namespace": space,
        "id": api(server, "GET", f"models/{model}/versions/1.4.0")["id"],
        "operation": ended_operation(server),
        "session": new_session(server),
        "uri": "hf:squad",
        "q": "bert",
    }


def ended_operation(server: Server) -> str:
    """The id of a check; nothing that excludes another operation is running then."""
    api(server, "POST", "fsck", {})

    def last() -> Any:
        found = api(server, "GET", "fsck")["operation"]
        return found["state"] != "running" and found["id"]

    return str(wait_until(last, "end of the check"))


def new_session(server: Server) -> str:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "99999"}
    answer = requests.post(f"{server.url}/uploads", headers=headers, timeout=60)
    return answer.headers["Location"].rpartition("/")[2]


def prepare(server: Server, label: str, known: dict[str, str]) -> dict[str, str]:
    """What a request needs besides: something deleted before it is restored, and the like."""
    model = known["model"]
    version = "/api/v1/models/{model}/versions/{version}"
    if label == "PUT /blobs/{digest}":
        return {"digest": "archive.tar"}
    if label in ("PUT /models/{model}/{version}/{path}", "DELETE /models/{model}/{version}/{path}"):
        return {"version": "draft"}
    if label == "PUT /models/{model}/{version}":
        return {"version": "2.1.0.tar"}
    if label in ("DELETE /models/{model}/{version}", f"DELETE {version}"):
        return {"version": "1.3.0"}
    if label in (f"POST {version}/restore", f"POST {version}/purge"):
        api(server, "DELETE", f"models/{model}/versions/1.3.0")
        return {"version": "1"}
    if label in ("POST /api/v1/models/{model}/restore", "POST /api/v1/models/{model}/purge"):
        found = api(server, "GET", f"models/{model}")["id"]
        api(server, "DELETE", f"models/{model}")
        return {"model": found}
    if label == "DELETE /api/v1/tags/{tag}":
        api(server, "PATCH", f"tags/{known['tag']}", {"description": "stays unused"})
        for place in (model, f"{model}/versions/1.4.0"):
            api(server, "DELETE", f"models/{place}/tags/{known['key']}")
    if label.endswith("/api/v1/models/{model}/card"):
        put(server, f"/api/v1/models/{model}/card", b"# BERT")
    if label == "POST /api/v1/teams/{team}/restore":
        found = api(server, "GET", f"teams/{known['team']}")["id"]
        api(server, "DELETE", f"teams/{known['team']}")
        return {"team": found}
    if label == "DELETE /api/v1/models/{model}/former-names/{name}":
        api(server, "POST", f"models/{model}/rename", {"name": f"{known['namespace']}/new"})
        return {"model": f"{known['namespace']}~new", "name": model}
    if label == "DELETE /api/v1/namespaces/{namespace}":
        api(server, "POST", "namespaces", {"slug": f"{known['namespace']}-empty"})
        return {"namespace": f"{known['namespace']}-empty"}
    return {}


def put(server: Server, path: str, content: bytes) -> None:
    server.request("PUT", path, body=content)


def api(server: Server, method: str, path: str, content: object = None) -> Any:
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    status, answer = server.request(method, f"/api/v1/{path}", body=body, headers=headers)
    assert status < 500, answer
    return json.loads(answer) if answer else None


_NUMBERS = itertools.count(1)
"""Each test has names of its own: some cannot be taken again, whatever the test does to them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    with running_server(data, config=CONFIG) as server:
        yield server


@pytest.fixture
def talk(server: Server) -> Iterator[Talk]:
    with requests.Session() as session:
        talk = Talk(server, session)
        talk.space = f"nlp{next(_NUMBERS)}"
        talk.known = seeded(server, talk.space)
        yield talk


@pytest.mark.timeout(600)
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation_answers_as_documented(talk: Talk, label: str) -> None:
    operation = OPERATIONS[label]
    print(f"DIGESTRY_TESTS_SCHEMATHESIS_SEED={SEED} DIGESTRY_TESTS_SCHEMATHESIS_SECONDS={SECONDS}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generator, about its own work
        ask_plainly(talk, operation)
        ask_all(talk, operation)
        ask_for(talk, operation, SECONDS / len(OPERATIONS))

    assert list(talk.failures.values()) == []


def ask_plainly(talk: Talk, operation: Any) -> None:
    """What the document shows as an example must succeed where what it names is there."""
    known = {**talk.known, **prepare(talk.server, operation.label, talk.known)}
    case = plain(operation, known, talk.space)
    response = case.call(base_url=talk.server.url, session=talk.session, timeout=60)

    assert response.status_code < 400, (response.text, case.as_curl_command())
    case.validate_response(response, checks=CHECKS)


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
        max_examples=10,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        talk.ask(case, is_bad=mode.is_negative)

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        return  # an operation without anything that could be wrong


KEYED: Final = [
    label
    for label, operation in OPERATIONS.items()
    if any(
        one["name"] == "Idempotency-Key"
        for one in DOCUMENT["paths"][operation.path][operation.method.lower()].get("parameters", ())
    )
]


@pytest.mark.parametrize("label", KEYED)
def test_a_documented_idempotency_key_is_honoured(talk: Talk, label: str) -> None:
    """A key that cannot be meant is refused, so somebody looks at it; the repeat is a replay."""
    operation = OPERATIONS[label]
    known = {**talk.known, **prepare(talk.server, label, talk.known)}
    case = plain(operation, known, talk.space)

    def ask(key: str) -> Any:
        case.headers["Idempotency-Key"] = key
        return case.call(base_url=talk.server.url, session=talk.session, timeout=60)

    refused = ask("not one word")
    first, second = ask(f"key-{talk.space}"), ask(f"key-{talk.space}")

    assert refused.json()["code"] == "idempotency_key_invalid"
    assert first.status_code < 300
    assert second.headers["idempotency-replayed"] == ["true"]
    assert (second.status_code, second.content) == (first.status_code, first.content)


# The driver itself


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
