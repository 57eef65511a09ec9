"""Examples made from JSON schemas, so that every request and answer of the API shows one.

A field's own ``examples`` come first, then the value that its name stands for everywhere in this
API (a table that the caller brings), then something of the right type. The result depends on the
schema and the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

REF: Final = "#/components/schemas/"
_DEEPEST: Final = 6


def example_of(
    schema: Schema, components: Mapping[str, Schema], named: Mapping[str, Any], *, name: str = ""
) -> Any:
    """A value that fits `schema`; recursive types end at empty lists and nulls."""
    return _Maker(components, named).value(schema, name, 0)


class _Maker:
    def __init__(self, components: Mapping[str, Schema], named: Mapping[str, Any]) -> None:
        self._components = components
        self._named = named

    def value(self, schema: Schema, name: str, depth: int) -> Any:
        if "examples" in schema:
            return schema["examples"][0]
        if "$ref" in schema:
            return self.value(self._components[schema["$ref"].removeprefix(REF)], name, depth)
        if "const" in schema:
            return schema["const"]
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            return self._alternative(alternatives, name, depth)
        if "enum" in schema:
            return self._word(schema, name)
        known = self._named.get(name)
        if known is not None and fits(known, schema):
            return known
        return self._plain(schema, name, depth)

    def _alternative(self, schemas: list[Schema], name: str, depth: int) -> Any:
        others = [one for one in schemas if one.get("type") != "null"]
        if len(others) < len(schemas) and depth >= _DEEPEST:
            return None
        return self.value(others[0] if others else schemas[0], name, depth)

    def _word(self, schema: Schema, name: str) -> Any:
        known = self._named.get(name)
        return known if known in schema["enum"] else schema["enum"][0]

    def _plain(self, schema: Schema, name: str, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema, name, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return "text"[: schema.get("maxLength", 4)].ljust(schema.get("minLength", 0), "x")
            case "integer":
                return _least(schema, 1)
            case "number":
                return float(_least(schema, 0.5))
            case "boolean":
                return schema.get("default", False)
            case "null":
                return None
        return self._named.get(name, {})

    def _object(self, schema: Schema, name: str, depth: int) -> Any:
        fields = schema.get("properties", {})
        if fields:
            return {
                field: self.value(inner, field, depth + 1)
                for field, inner in fields.items()
                if depth < _DEEPEST or field in schema.get("required", ())
            }
        inner = schema.get("additionalProperties")
        if isinstance(inner, Mapping) and inner and depth < _DEEPEST:
            return {"name": self.value(inner, "", depth + 1)}
        return {}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(inner, "", depth + 1) for inner in schema["prefixItems"]]
        if depth >= _DEEPEST or schema.get("maxItems") == 0 or not schema.get("items"):
            return []
        singular = name.removesuffix("s")
        return [self.value(schema["items"], singular, depth + 1)] * schema.get("minItems", 1)


def _least(schema: Schema, otherwise: float) -> Any:
    """A number within the bounds, `otherwise` if it is."""
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and otherwise < least:
        return least
    return most if most is not None and otherwise > most else otherwise


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value is of the schema's type; a schema without one takes anything."""
    wanted = schema.get("type")
    if wanted is None:
        return True
    kinds = _TYPES.get(wanted, ())
    return isinstance(value, kinds) and (isinstance(value, bool) == (wanted == "boolean"))
