"""Read a query string into a struct, as strictly as a JSON body.

A name that the struct does not have is refused with those it has: a misspelt parameter must not be
taken for one that was not given. Numbers are written as in JSON, booleans ``true`` and ``false``,
times as in RFC 3339; texts are UTF-8 without U+0000. A field whose type is a list takes a parameter
as often as it comes; any other parameter may come once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import inspect

from registry.auth.signed_urls import PARAMETER
from registry.errors import Invalid
from registry.http.problems import FieldProblem
from registry.http.validation import (
    MOST_PROBLEMS,
    described_type,
    invalid,
    refusal,
    unknown,
)
from registry.http.wording import plain
from registry.keys import IS_SIGNED

T = TypeVar("T")

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,38})\Z")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\Z")
_SPACED_OFFSET: Final = re.compile(r"(.*T.*) ([0-9]{2}:[0-9]{2})\Z")
_LISTS: Final = (
    inspect.ListType,
    inspect.VarTupleType,
    inspect.SetType,
    inspect.FrozenSetType,
)


def read_query(request: web.Request, kind: type[T]) -> T:
    """The query string of `request` as `kind`; raises `Invalid` with every bad parameter."""
    raw = request.rel_url.raw_query_string
    if not raw:
        return _nothing(kind)
    if "%" in raw:
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError as error:
            raise Invalid("query", "is not UTF-8", code="query_encoding_invalid") from error
    given = request.query
    named = {name: given.getall(name) for name in given}
    if IS_SIGNED in request:
        named.pop(PARAMETER, None)  # the last one, which was looked at; another would not fit
    return parse_query(named, kind)


_NOTHING: Final[dict[type, Any]] = {}


def _nothing(kind: type[T]) -> T:
    """What an empty query means, which is made once for each kind that cannot change."""
    known: T | None = _NOTHING.get(kind)
    if known is not None:
        return known
    answer = parse_query({}, kind)
    if isinstance(answer, msgspec.Struct) and answer.__struct_config__.frozen:
        _NOTHING[kind] = answer
    return answer


def parse_query(given: Mapping[str, Sequence[str]], kind: type[T]) -> T:
    """Texts by name to a struct; raises `Invalid` with every bad parameter."""
    fields = _fields(kind)
    problems: list[FieldProblem] = []
    values: dict[str, Any] = {}
    for name, texts in given.items():
        field = fields.get(name)
        if field is None:
            problems.append(unknown(name[:80], name, sorted(fields)))
        elif any("\0" in text for text in texts):
            problems.append(FieldProblem(name, "holds U+0000, which no text may"))
        elif _is_list(field):
            values[name] = [_value(text, _members(field)) for text in texts]
        elif len(texts) > 1:
            problems.append(FieldProblem(name, "is given more than once", "once"))
        else:
            values[name] = _value(texts[0], (field,))
    try:
        answer = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        refused = refusal(values, kind, error, whole="query")
        if not problems:
            raise refused from error
        problems += [FieldProblem(*problem) for problem in refused.problems]
    if problems:
        raise invalid(problems[:MOST_PROBLEMS], is_cut=len(problems) > MOST_PROBLEMS)
    return answer


def _fields(kind: type[Any]) -> Mapping[str, inspect.Type]:
    described = plain(described_type(kind))
    assert isinstance(described, inspect.StructType)
    return {field.encode_name: field.type for field in described.fields}


def _alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    kind = plain(kind)
    return tuple(map(plain, kind.types)) if isinstance(kind, inspect.UnionType) else (kind,)


def _is_list(kind: inspect.Type) -> bool:
    return any(isinstance(one, _LISTS) for one in _alternatives(kind))


def _members(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return tuple(one.item_type for one in _alternatives(kind) if isinstance(one, _LISTS))


def _value(text: str, kinds: Sequence[inspect.Type]) -> Any:
    """What `text` means for the first kind that can read it; else the text, to be refused."""
    for kind in kinds:
        for one in _alternatives(kind):
            if isinstance(one, inspect.BoolType) and text in ("true", "false"):
                return text == "true"
            if isinstance(one, inspect.IntType) and _INTEGER.match(text):
                return int(text)
            if isinstance(one, inspect.FloatType) and _NUMBER.match(text):
                return float(text)
            if isinstance(one, inspect.LiteralType) and _INTEGER.match(text):
                return int(text) if int(text) in one.values else text
            if isinstance(one, inspect.DateTimeType):
                # A plus sign that was not encoded arrives as a space.
                return _SPACED_OFFSET.sub(r"\1+\2", text)
    return text
