"""What a type accepts, in words that a person can act on: ``a whole number from 1 to 1000``."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

import msgspec
from msgspec import inspect

MOST_WORDS: Final = 40
"""Of a longer enumeration or list of names only so many are told."""

_NEAR: Final = 0.5

_PLAIN: Final[dict[type[inspect.Type], str]] = {
    inspect.AnyType: "any JSON",
    inspect.RawType: "any JSON",
    inspect.CustomType: "any JSON",
    inspect.NoneType: "null",
    inspect.BoolType: "true or false",
    inspect.BytesType: "a base64 text",
    inspect.ByteArrayType: "a base64 text",
    inspect.MemoryViewType: "a base64 text",
    inspect.TimeDeltaType: "an ISO 8601 duration",
    inspect.UUIDType: "a UUID",
    inspect.DecimalType: "a decimal number",
    inspect.DateType: "a date such as 2026-11-20",
    inspect.TimeType: "a time such as 12:30:00",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
    inspect.TypedDictType: "an object",
    inspect.DataclassType: "an object",
}


def plain(kind: inspect.Type) -> inspect.Type:
    """A type without the description and the examples that documentation adds to it."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def accepted(kind: inspect.Type) -> str:
    """What `kind` takes; for an object only that, since its fields have problems of their own."""
    kind = plain(kind)
    if isinstance(kind, inspect.UnionType):
        words = [accepted(one) for one in kind.types]
        return " or ".join(dict.fromkeys(words))
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _range(kind)
    if isinstance(kind, inspect.FloatType):
        return "a number" + _range(kind)
    if isinstance(kind, inspect.StrType):
        return "a text" + _text_limits(kind)
    if isinstance(kind, inspect.DateTimeType):
        return _time(kind)
    if isinstance(kind, inspect.LiteralType | inspect.EnumType):
        return enumeration(choices(kind))
    return _collection(kind) or _PLAIN.get(type(kind), "something else")


def _collection(kind: inspect.Type) -> str | None:
    match kind:
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            return "a list" + _length(kind, "entries")
        case inspect.FrozenSetType():
            return "a list" + _length(kind, "entries")
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)} entries"
        case inspect.DictType():
            return "an object" + _length(kind, "members")
        case inspect.StructType(array_like=True) | inspect.NamedTupleType():
            return "a list"
    return None


def choices(kind: inspect.LiteralType | inspect.EnumType) -> list[Any]:
    """The words of an enumeration, in a stable order."""
    found = kind.values if isinstance(kind, inspect.LiteralType) else [e.value for e in kind.cls]
    return sorted(found, key=lambda value: (str(type(value)), value is not None and value))


def enumeration(values: list[Any]) -> str:
    told = ", ".join(_spelled(value) for value in values[:MOST_WORDS])
    more = "" if len(values) <= MOST_WORDS else f" and {len(values) - MOST_WORDS} more"
    return told + more if len(values) == 1 else f"one of {told}{more}"


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that was probably meant; None if none is like it."""
    folded = {name.casefold(): name for name in known}
    found = get_close_matches(word[:80].casefold(), folded, n=1, cutoff=_NEAR)
    return folded[found[0]] if found else None


def described(value: object) -> str:
    """What came instead; texts are named and not repeated, since one may be a secret."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            text = str(value) if isinstance(value, float) or abs(value) < 10**20 else ""
            return text or "a number beyond all bounds"
        case str():
            return f"a text of {len(value)} characters" if value else "an empty text"
        case dict():
            return "an object" if value else "an empty object"
        case list() | tuple():
            return f"a list of {len(value)} entries"
    return type(value).__name__


def _spelled(value: Any) -> str:
    return msgspec.json.encode(value).decode() if not isinstance(value, str) else value


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    words = ""
    if kind.ge is not None:
        words += f" from {kind.ge}"
    if kind.gt is not None:
        words += f" above {kind.gt}"
    if kind.le is not None:
        words += f" to {kind.le}" if words else f" up to {kind.le}"
    if kind.lt is not None:
        words += f" below {kind.lt}"
    if kind.multiple_of is not None:
        words += f", a multiple of {kind.multiple_of}"
    return words


def _text_limits(kind: inspect.StrType) -> str:
    words = _length(kind, "characters")
    return words + (f" matching {kind.pattern}" if kind.pattern is not None else "")


def _length(kind: Any, unit: str) -> str:
    least, most = kind.min_length, kind.max_length
    if least and most is not None:
        return f" of {least} {unit}" if least == most else f" of {least} to {most} {unit}"
    if least:
        return f" of at least {least} {unit}"
    return f" of at most {most} {unit}" if most is not None else ""


def _time(kind: inspect.DateTimeType) -> str:
    example = "2026-11-20T12:30:00" + ("" if kind.tz is False else "Z")
    return f"an RFC 3339 time such as {example}"
