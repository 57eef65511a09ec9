"""The OpenAPI 3.1 document of the routes that are served, made from their declarations alone.

Schemas are those of the very structs that read requests and write answers, so what is documented
cannot differ from what is validated. What every route may answer, and what follows from a route's
method and body, is added here once; a route declares only what is its own. The document depends on
nothing but the routes and `Words`: equal programs make equal bytes.

Whether a request needs a login is a setting of the server, so ``security`` says that all are
possible without; what `Words.security` names are the ways to show who asks. The permission that a
route asks for is in ``x-permission``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import hdrs

from registry.http.examples import REF, example_of
from registry.http.problems import MEDIA_TYPE, FieldProblem
from registry.http.routing import Media, Route
from registry.http.schemas import description, form, references, referred, schemas_of, without_null

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
FORM: Final = "multipart/form-data"
SAFE: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)

ANY_ROUTE: Final = (400, 401, 403, 421, 500, 503)
"""A malformed request, nobody, a stranger, another host, a fault of ours, a server that ends."""

_WITH_BODY: Final = (408, 413, 415, 417)
_WITH_KEY: Final = (409, 422)
_WITH_PATH: Final = (404,)
_WITH_WRITE: Final = (507,)
_WITH_CONDITION: Final = (412,)

_PARAMETER: Final = re.compile(r"[A-Za-z_]\w*")
_LITERAL: Final = re.compile(r"``([^`]+)``")

_ANY_TEXT: Final = {"type": "string", "minLength": 1}

_REASONS: Final[Mapping[int, str]] = {
    460: "Checksum Mismatch",  # tus's own
    499: "Client Closed Request",
}


class Problem(msgspec.Struct):
    """An RFC 9457 problem document; further members are the facts of one kind of problem."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] = []


class Parameter(msgspec.Struct, frozen=True):
    """What a part of a path or a header of that name means on every route that has it."""

    description: str
    example: Any
    schema: Mapping[str, Any] = msgspec.field(default_factory=lambda: _ANY_TEXT)
    is_required: bool = False


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """All that the document says beside what routes declare."""

    title: str
    version: str
    description: str
    tags: Mapping[str, str]
    path: Mapping[str, Parameter]
    query: Mapping[str, str]
    headers: Mapping[str, Parameter]
    examples: Mapping[str, Any]
    bodies: Mapping[str, Any]
    security: Mapping[str, Mapping[str, str]] = {}


def describe(routes: Iterable[Route], words: Words) -> dict[str, Any]:
    """The whole document as plain values."""
    shown = [route for route in routes if not route.is_hidden]
    return _Description(shown, words).document()


def template(path: str) -> tuple[str, list[str]]:
    """A path pattern without the expressions of its parameters, and their names in order."""
    plain, names, position = "", [], 0
    while position < len(path):
        if path[position] != "{":
            plain += path[position]
            position += 1
            continue
        end = _closing(path, position)
        match = _PARAMETER.match(path, position + 1)
        assert match is not None, f"{path} has a parameter without a name"
        names.append(match[0])
        plain += f"{{{match[0]}}}"
        position = end + 1
    return plain, names


def _closing(path: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(path)):
        depth += {"{": 1, "}": -1}.get(path[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"{path} has a brace that is not closed")


def statuses_of(route: Route) -> list[int]:
    """Every status that a route may answer, its own and those that follow from what it is."""
    found = {*ANY_ROUTE, *route.answers, *route.problems}
    if route.body != "none":
        found.update(_WITH_BODY)
    if takes_key(route):
        found.update(_WITH_KEY)
    if "{" in route.path:
        found.update(_WITH_PATH)
    if route.method not in SAFE:
        found.update(_WITH_WRITE)
    if route.takes_if_match:
        found.update(_WITH_CONDITION)
    return sorted(found)


def takes_key(route: Route) -> bool:
    """Whether ``Idempotency-Key`` makes repeating the request safe; a question is safe anyway."""
    is_ours = route.adapter.name == "native" and not route.permission.endswith(".read")
    return route.method == hdrs.METH_POST and is_ours


class _Description:
    """One document in the making."""

    def __init__(self, routes: Sequence[Route], words: Words) -> None:
        self._routes = routes
        self._words = words
        self._schemas, self._components = schemas_of([Problem, *_types_of(routes)])
        self._codes = _codes_by_status(routes)
        self._used: set[str] = set()

    def document(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for route in self._routes:
            path, _ = template(route.path)
            paths.setdefault(path, {})[route.method.lower()] = self._operation(route)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": self._words.title,
                "version": self._words.version,
                "description": self._words.description,
            },
            "servers": [{"url": "/"}],
            "security": [{}, *({name: []} for name in self._words.security)],
            "tags": [
                {"name": name, "description": text}
                for name, text in self._words.tags.items()
                if any(route.tag == name for route in self._routes)
            ],
            "paths": paths,
            "components": self._shared(),
        }

    def _shared(self) -> dict[str, Any]:
        statuses = sorted({s for route in self._routes for s in _problems_of(route)})
        schemas = {name: self._exemplified(name) for name in sorted(self._reachable())}
        return {
            "schemas": schemas,
            "responses": {f"Problem{status}": self._problem(status) for status in statuses},
            "securitySchemes": dict(self._words.security),
        }

    def _exemplified(self, name: str) -> dict[str, Any]:
        schema = {**self._components[name]}
        if "description" in schema:
            schema["description"] = _markdown(schema["description"])
        if schema.get("type") == "object" and name != "Problem":
            known = self._words.bodies.get(name)
            schema["examples"] = [self._example(schema) if known is None else known]
        return schema

    def _example(self, schema: Mapping[str, Any]) -> Any:
        return example_of(schema, self._components, self._words.examples)

    def _reachable(self) -> set[str]:
        """Names of schemas that the document refers to; structs of query strings are not."""
        found: set[str] = set()
        left = ["Problem", *self._used]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += references(self._components[name])
        return found

    def _operation(self, route: Route) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "tags": [route.tag],
            "summary": route.summary,
            "description": _markdown(inspect.getdoc(route.handler) or ""),
            "operationId": self._name(route),
            "x-permission": route.permission,
        }
        parameters = [*self._in_path(route), *self._in_query(route), *self._in_headers(route)]
        if parameters:
            operation["parameters"] = parameters
        if route.accepts is not None:
            operation["requestBody"] = self._body(route)
        operation["responses"] = {
            str(status): self._answer(route, status) for status in statuses_of(route)
        }
        return operation

    def _name(self, route: Route) -> str:
        """``tag.handler``, with what tells it from the handler's other routes."""
        same = [one for one in self._routes if _handler_name(one) == _handler_name(route)]
        name = f"{route.tag}.{_handler_name(route)}"
        if sum(one.method == route.method for one in same) > 1:
            path, _ = template(route.path)
            name += "." + (re.sub(r"\W+", "_", path).strip("_") or "root")
            name += "_" if path.endswith("/") else ""
        # Swagger UI warns about underscores in links to an operation.
        return name.replace("_", "-") + ("" if len(same) == 1 else f".{route.method.lower()}")

    def _in_path(self, route: Route) -> Iterator[dict[str, Any]]:
        for name in template(route.path)[1]:
            known = self._words.path.get(name)
            yield {
                "name": name,
                "in": "path",
                "required": True,
                **(_told(known) if known else {"schema": {"type": "string"}}),
            }

    def _in_query(self, route: Route) -> Iterator[dict[str, Any]]:
        if route.query is None:
            return
        described = self._components[referred(self._schemas[id(route.query)])]
        for name, field in described.get("properties", {}).items():
            schema = without_null(field)
            self._used.update(references(schema))
            yield {
                "name": name,
                "in": "query",
                "required": name in described.get("required", ()),
                "description": _markdown(description(field) or self._words.query.get(name, "")),
                "schema": schema,
            }

    def _in_headers(self, route: Route) -> Iterator[dict[str, Any]]:
        names = dict(route.headers)
        shared = self._words.headers
        if route.takes_if_match:
            names.setdefault(hdrs.IF_MATCH, shared[hdrs.IF_MATCH].description)
        if 304 in route.answers:
            names.setdefault(hdrs.IF_NONE_MATCH, shared[hdrs.IF_NONE_MATCH].description)
        if takes_key(route):
            names.setdefault("Idempotency-Key", shared["Idempotency-Key"].description)
        for name, text in names.items():
            known = shared.get(name)
            yield {
                "name": str(name),  # aiohttp's constants are texts of their own kind
                "in": "header",
                "required": known is not None and known.is_required,
                **(_told(known) if known else {"schema": {"type": "string"}}),
                "description": _markdown(text or (known.description if known else "")),
            }

    def _body(self, route: Route) -> dict[str, Any]:
        accepted = route.accepts
        if isinstance(accepted, Media):
            content: dict[str, Any] = {}
            if accepted.also is not None:
                content[JSON] = {"schema": self._schema(accepted.also)}
            content[accepted.media_type] = {"schema": {}}
            if accepted.media_type == FORM and JSON in content:
                content[FORM] = {"schema": form(content[JSON]["schema"])}
            return {"required": False, "description": accepted.description, "content": content}
        media_types = (JSON, MERGE_PATCH) if route.method == hdrs.METH_PATCH else (JSON,)
        return {
            "required": not route.is_body_optional,
            "content": {one: {"schema": self._schema(accepted)} for one in media_types},
        }

    def _answer(self, route: Route, status: int) -> dict[str, Any]:
        if status not in route.answers:
            shared = {"$ref": f"#/components/responses/Problem{status}"}
            return shared if route.method != hdrs.METH_HEAD else {"description": _reason(status)}
        content = route.answers[status]
        answer: dict[str, Any] = {"description": _reason(status)}
        headers = self._answer_headers(route, status)
        bodies: dict[str, Any] = {}
        if isinstance(content, Media):
            answer["description"] = _markdown(content.description)
            headers.update({name: _header(text) for name, text in content.headers.items()})
            if content.media_type:
                bodies[content.media_type] = {"schema": {}}
            if content.also is not None:
                bodies[JSON] = {"schema": self._schema(content.also)}
        elif content is not None:
            bodies[JSON] = {"schema": self._schema(content)}
        if headers:
            answer["headers"] = headers
        if bodies and route.method != hdrs.METH_HEAD:
            answer["content"] = bodies
        return answer

    def _answer_headers(self, route: Route, status: int) -> dict[str, Any]:
        has_tag = route.takes_if_match or 304 in route.answers
        if has_tag and status in (200, 201, 304) and route.method != hdrs.METH_DELETE:
            return {"ETag": _header("The state of the resource, for `If-Match`.")}
        return {}

    def _problem(self, status: int) -> dict[str, Any]:
        codes = self._codes.get(status, [])
        told = f". Codes, among others: {', '.join(f'`{code}`' for code in codes)}" if codes else ""
        code = codes[0] if codes else "http_error"
        example: dict[str, Any] = {
            "type": f"urn:digestry:problem:{code}",
            "title": _reason(status),
            "status": status,
            "detail": "what is wrong, in one sentence",
            "code": code,
            "request_id": self._words.examples["request_id"],
        }
        if status == HTTPStatus.BAD_REQUEST:
            example["errors"] = [
                {
                    "field": "files[3].digest",
                    "reason": "is required: a text",
                    "accepted": "a text",
                }
            ]
        return {
            "description": _reason(status) + told,
            "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}, "example": example}},
        }

    def _schema(self, kind: Any) -> dict[str, Any]:
        schema = self._schemas[id(kind)]
        self._used.update(references(schema))
        return schema


def _types_of(routes: Iterable[Route]) -> Iterator[Any]:
    for route in routes:
        for content in (route.query, route.accepts, *route.answers.values()):
            kind = content.also if isinstance(content, Media) else content
            if kind is not None:
                yield kind


def _codes_by_status(routes: Iterable[Route]) -> dict[int, list[str]]:
    found: dict[int, set[str]] = {}
    for adapter in {id(route.adapter): route.adapter for route in routes}.values():
        for kind, rule in adapter.table.items():
            word = rule.code or getattr(kind, "code", None)
            if word:
                found.setdefault(rule.status, set()).add(word)
    found.setdefault(500, set()).add("internal_error")
    return {status: sorted(codes) for status, codes in found.items()}


def _problems_of(route: Route) -> list[int]:
    if route.method == hdrs.METH_HEAD:
        return []
    return [status for status in statuses_of(route) if status not in route.answers]


def _handler_name(route: Route) -> str:
    return getattr(route.handler, "__name__", "handler")


def _told(parameter: Parameter) -> dict[str, Any]:
    return {
        "description": _markdown(parameter.description),
        "schema": dict(parameter.schema),
        "example": parameter.example,
    }


def _header(text: str) -> dict[str, Any]:
    return {"description": _markdown(text), "schema": {"type": "string"}}


def _reason(status: int) -> str:
    return _REASONS.get(status) or HTTPStatus(status).phrase


def _markdown(text: str) -> str:
    """Docstrings write literals between two back-ticks each; CommonMark needs one."""
    return _LITERAL.sub(r"`\1`", text)
