"""The OpenAPI document says all that the server does, in a form that tools accept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from registry import __version__
from registry.api.documentation import WORDS, asset
from registry.api.errors import ADAPTER
from registry.api.routes import ROUTES, UNMATCHED
from registry.domain.permissions import PERMISSIONS
from registry.http.adapters import Adapter
from registry.http.examples import REF
from registry.http.openapi import SAFE, describe, statuses_of, takes_key, template
from registry.http.routing import Media, Route
from registry.protocols.tus.handlers import ROUTES as TUS_ROUTES
from tests.support.builders import Registry

ALL = [*ROUTES, *TUS_ROUTES, *UNMATCHED]
SHOWN = [route for route in ALL if not route.is_hidden]
DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(describe(ALL, WORDS)))


def name_of(route: Route) -> str:
    return f"{route.method} {template(route.path)[0]}"


def accepted_types(route: Route) -> Iterator[Any]:
    for content in (route.query, route.accepts):
        kind = content.also if isinstance(content, Media) else content
        if kind is not None:
            yield kind


def operations() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


every_route = pytest.mark.parametrize("route", ALL, ids=name_of)
every_shown_route = pytest.mark.parametrize("route", SHOWN, ids=name_of)


# What a route must say


@every_route
def test_a_route_has_a_summary_of_one_line(route: Route) -> None:
    assert 2 < len(route.summary) <= 72
    assert "\n" not in route.summary
    assert not route.summary.endswith(".")


@every_route
def test_a_route_has_a_description(route: Route) -> None:
    assert len((route.handler.__doc__ or "").split()) >= 1
    assert route.is_hidden or len((route.handler.__doc__ or "").split()) >= 3


@every_route
def test_a_route_is_in_a_section(route: Route) -> None:
    assert route.tag in WORDS.tags


@every_route
def test_a_route_asks_for_a_permission(route: Route) -> None:
    assert route.permission in PERMISSIONS


@every_shown_route
def test_a_route_says_what_it_accepts(route: Route) -> None:
    """A body that is read has a schema; one that is not read has none."""
    assert (route.accepts is not None) == (
        route.body == "bytes" or (route.body != "none" and route.accepts is not None)
    )
    if route.body == "bytes":
        assert isinstance(route.accepts, Media)
    elif route.body != "none":
        assert route.accepts is not None


@every_shown_route
def test_a_route_says_what_it_answers(route: Route) -> None:
    successes = {status for status in route.answers if 200 <= status < 400}

    assert successes - {304}
    assert {status for status in route.answers if status < 200} == set()
    for status, content in route.answers.items():
        has_none = content is None or (
            isinstance(content, Media) and not content.media_type and content.also is None
        )
        if status in (204, 304):
            assert has_none


@every_shown_route
def test_a_parameter_of_a_path_is_described(route: Route) -> None:
    assert [name for name in template(route.path)[1] if name not in WORDS.path] == []


@every_shown_route
def test_a_parameter_of_a_query_is_described(route: Route) -> None:
    undescribed = [
        parameter["name"]
        for parameter in DOCUMENT["paths"][template(route.path)[0]][route.method.lower()].get(
            "parameters", ()
        )
        if not parameter.get("description")
    ]

    assert undescribed == []


@every_shown_route
def test_what_a_route_accepts_is_strict(route: Route) -> None:
    """An unknown field is refused: it was meant to do something."""
    for kind in accepted_types(route):
        for name, schema in reachable(kind).items():
            if schema.get("type") == "object" and "properties" in schema:
                assert schema.get("additionalProperties") is False, name


@every_shown_route
def test_whole_numbers_that_a_route_accepts_have_bounds(route: Route) -> None:
    """Others reach the index, which cannot hold them."""
    for kind in accepted_types(route):
        for name, schema in reachable(kind).items():
            for path, inner in walk(schema, name):
                if inner.get("type") == "integer":
                    assert {"minimum", "exclusiveMinimum"} & inner.keys(), path
                    assert {"maximum", "exclusiveMaximum"} & inner.keys(), path


@every_shown_route
def test_the_example_of_a_body_is_accepted(route: Route) -> None:
    """People copy it."""
    kind = route.accepts.also if isinstance(route.accepts, Media) else route.accepts
    if kind is None:
        return
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF + "{name}")
    for example in DOCUMENT["components"]["schemas"][schema["$ref"].removeprefix(REF)]["examples"]:
        msgspec.convert(example, kind)


def test_every_example_of_a_body_is_of_a_schema() -> None:
    assert WORDS.bodies.keys() - DOCUMENT["components"]["schemas"].keys() == set()


def reachable(kind: Any) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")
    return {"": schema, **components}


def walk(schema: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(schema, Mapping):
        yield path, schema
        for name, inner in schema.items():
            yield from walk(inner, f"{path}.{name}")
    elif isinstance(schema, list):
        for place, inner in enumerate(schema):
            yield from walk(inner, f"{path}[{place}]")


# Every status is documented


@pytest.mark.parametrize("adapter", {route.adapter.name: route.adapter for route in ALL}.values())
def test_every_status_of_an_error_has_a_reason(adapter: Adapter) -> None:
    for rule in adapter.table.values():
        assert 400 <= rule.status < 600


def test_statuses_follow_from_what_a_route_is() -> None:
    async def handler(request: Any) -> Any: ...

    route = Route(
        method="POST",
        path="/x/{model}",
        handler=handler,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        takes_if_match=True,
        answers={201: None},
    )

    assert statuses_of(route) == [
        *(201, 400, 401, 403, 404, 408, 409, 412, 413, 415, 417, 421, 422, 500, 503, 507)
    ]


@pytest.mark.parametrize(
    ("name", "operation"), list(operations()), ids=lambda value: str(value)[:60]
)
def test_an_operation_documents_its_problems(name: str, operation: Mapping[str, Any]) -> None:
    method = name.split()[0]
    for status, answer in operation["responses"].items():
        if int(status) >= 400 and method != "HEAD" and "content" not in answer:
            assert answer == {"$ref": f"#/components/responses/Problem{status}"}
    assert {"400", "403", "421", "500", "503"} <= operation["responses"].keys()
    assert method in SAFE or "507" in operation["responses"]


# The document


def test_the_document_is_valid() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_the_document_names_every_route_that_is_shown() -> None:
    assert sorted(name for name, _ in operations()) == sorted(name_of(route) for route in SHOWN)


def test_operations_have_ids_of_their_own() -> None:
    ids = [operation["operationId"] for _, operation in operations()]

    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z]+(\.[a-z0-9-]+)+", one)] == []


def test_permissions_are_in_the_document() -> None:
    assert {name: operation["x-permission"] for name, operation in operations()} == {
        name_of(route): route.permission for route in SHOWN
    }


def test_every_schema_is_used_and_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    used = set(re.findall(re.escape(REF) + r'([^"]+)"', text))

    assert used == set(DOCUMENT["components"]["schemas"])


def test_objects_have_examples() -> None:
    bare = [
        name
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if schema.get("type") == "object" and not schema.get("examples") and name != "Problem"
    ]

    assert bare == []


def test_conditional_headers_are_documented_where_they_work() -> None:
    for route in SHOWN:
        operation = DOCUMENT["paths"][template(route.path)[0]][route.method.lower()]
        headers = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"}
        assert not route.takes_if_match or "If-Match" in headers
        assert 304 not in route.answers or "If-None-Match" in headers
        assert takes_key(route) == ("Idempotency-Key" in headers)


WITHOUT_CONDITION = {
    # Bytes under their digest, and claims on them, are there or not: no state to have seen.
    "PUT /blobs/{digest}",
    "PUT /blobs/",
    "PUT /api/v1/blobs.tar",
    "DELETE /blobs/{digest}",
    "DELETE /api/v1/pins/{digest}",
    # It makes a version, which is frozen then.
    "PUT /models/{model}/{version}",
    # Never changed, only made and taken away.
    "DELETE /api/v1/models/{model}/former-names/{name}",
    "DELETE /api/v1/models/{model}/versions/{version}/lineage/{edge}",
    "DELETE /api/v1/operations/{operation}",
    # Never changed, only made and ended.
    "DELETE /api/v1/tokens/{token}",
    "DELETE /api/v1/sessions/{login}",
    # In a browser's hands, not here.
    "PUT /api/v1/session-cookie",
    "DELETE /api/v1/session-cookie",
    # One word, a role, that whoever gives it decides anew.
    "PUT /api/v1/teams/{team}/members/{user}",
    "DELETE /api/v1/teams/{team}/members/{user}",
    "DELETE /api/v1/grants/{grant}",
    # It has no state but being there, and whoever took it ends it.
    "DELETE /api/v1/holds/{hold}",
    # A key and its value; what has them shows them and has the tag.
    "PUT /api/v1/models/{model}/tags/{key}",
    "DELETE /api/v1/models/{model}/tags/{key}",
    "PUT /api/v1/models/{model}/versions/{version}/tags/{key}",
    "DELETE /api/v1/models/{model}/versions/{version}/tags/{key}",
}


def test_what_may_change_is_changed_under_a_condition() -> None:
    """Or is named above with the reason why not."""
    without = {
        f"{route.method} {template(route.path)[0]}"
        for route in SHOWN
        if route.method in ("PUT", "PATCH", "DELETE")
        and route.adapter.name == "native"
        and not route.takes_if_match
    }

    assert without == WITHOUT_CONDITION


def test_the_document_is_the_same_each_time() -> None:
    assert msgspec.json.encode(describe(ALL, WORDS)) == msgspec.json.encode(describe(ALL, WORDS))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/{b}", ("/a/{b}", ["b"])),
        ("/{a:[^/]+}/{b:(?s:.*)}", ("/{a}/{b}", ["a", "b"])),
        ("/{a:x{2}}/c", ("/{a}/c", ["a"])),
        ("/", ("/", [])),
    ],
)
def test_patterns_become_templates(path: str, expected: tuple[str, list[str]]) -> None:
    assert template(path) == expected


# Served


async def test_the_document_is_served_and_revalidated(registry: Registry) -> None:
    answer = await registry.get("/openapi.json")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["info"]["version"] == __version__
    assert answer.json == DOCUMENT
    again = await registry.send(
        "GET", "/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_pages_name_nothing_of_other_servers(registry: Registry, path: str) -> None:
    page = await registry.get(path)
    linked = re.findall(r'(?:src|href|url)="([^"]+)"', page.body.decode())

    assert page.status == 200
    assert page.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; script-src 'self';"
    )
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert len(linked) >= 3
    for address in linked:
        assert address == "data:," or address.startswith("/")
        if address.startswith("/"):
            found = await registry.get(address)
            assert found.status == 200
            assert found.headers["X-Content-Type-Options"] == "nosniff"


async def test_scripts_and_styles_may_be_kept(registry: Registry) -> None:
    current = asset("docs.js").tag

    named = await registry.get(f"/docs/assets/docs.js?v={current}")
    unnamed = await registry.get("/docs/assets/docs.js")
    again = await registry.send(
        "GET", "/docs/assets/docs.js", headers={"If-None-Match": unnamed.headers["ETag"]}
    )

    assert named.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert unnamed.headers["Cache-Control"] == "no-cache"
    assert again.status == 304


@pytest.mark.parametrize("name", ["..%2Fdocs.css", "scalar.js", "nothing"])
async def test_other_files_are_not_served(registry: Registry, name: str) -> None:
    answer = await registry.get(f"/docs/assets/{name}")

    assert (answer.status, answer.code) == (404, "route_not_found")


def test_the_logo_of_redoc_is_not_fetched_from_its_maker() -> None:
    """The package may change; then the address must be found again."""
    assert b"redoc.ly" not in asset("redoc.js").content.replace(b"cdn.redoc.ly/redoc/logo", b"!")
    assert b"cdn.redoc.ly" not in asset("redoc.js").content
