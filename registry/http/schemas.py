"""Schemas of structs as OpenAPI 3.1 wants them: what msgspec makes, and what it leaves to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, get_args

import msgspec

from registry.http.examples import REF


def schemas_of(
    named: Iterable[Any],
) -> tuple[dict[int, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The schema of every type, by identity, and the components that they refer to."""
    named = list(named)
    single = {id(one): one for kind in named for one in _alternatives(kind)}
    schemas, components = msgspec.json.schema_components(
        single.values(), ref_template=REF + "{name}"
    )
    by_id = dict(zip(single, schemas, strict=True))
    for kind in named:
        several = _alternatives(kind)
        if len(several) > 1:
            by_id[id(kind)] = {"anyOf": [by_id[id(one)] for one in several]}
    return by_id, components


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, which msgspec can write but not describe if they have no tags."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def without_null(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: one that is null in the struct is not given in the query."""
    schema = {key: value for key, value in field.items() if key != "description"}
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(others) == len(schema.get("anyOf", ())):
        return schema
    schema.pop("anyOf")
    if schema.get("default", ...) is None:
        schema.pop("default")
    if len(others) > 1:
        return {"anyOf": others, **schema}
    return {key: value for key, value in {**others[0], **schema}.items() if key != "description"}


def description(schema: Mapping[str, Any]) -> str:
    """What the field says of itself, or the first of its alternatives that says something."""
    told = (description(one) for one in schema.get("anyOf", ()))
    return schema.get("description") or next(filter(None, told), "")


def form(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A form of JSON and files; a part's own file name says what the file is called."""
    return {
        "type": "object",
        "properties": {"metadata": metadata, "file": {"type": "string", "format": "binary"}},
    }


def references(schema: Any) -> list[str]:
    """Names of all components that a schema refers to."""
    if isinstance(schema, Mapping):
        own = [schema["$ref"].removeprefix(REF)] if "$ref" in schema else []
        mapped = [name.removeprefix(REF) for name in _mapping(schema)]
        inner = [schema[key] for key in schema if key != "discriminator"]
        return own + mapped + [name for one in inner for name in references(one)]
    if isinstance(schema, list):
        return [name for one in schema for name in references(one)]
    return []


def _mapping(schema: Mapping[str, Any]) -> list[str]:
    found = schema.get("discriminator")
    mapping = found.get("mapping", {}) if isinstance(found, Mapping) else {}
    return [name for name in mapping.values() if name.startswith(REF)]


def referred(schema: Mapping[str, Any]) -> str:
    name: str = schema["$ref"]
    return name.removeprefix(REF)
