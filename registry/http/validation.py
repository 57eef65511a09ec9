"""Name every bad field of a request at once, where msgspec stops at the first.

The fast path is msgspec's alone. Only once it has refused a value is the value walked beside its
type, and each field that is wrong becomes a `FieldProblem`: its path (``files[3].digest``), what
came, and what would be accepted. What the walk does not find (a rule in ``__post_init__``) is told
in msgspec's words, so a refused value always has at least one problem.

The walk *must* end soon, since it runs on the event loop for whatever a stranger sends: it stops
after `MOST_PROBLEMS` problems and after `MOST_VISITS` values, and it goes only as deep as types go,
because free JSON has no problems of its own.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import re
import uuid
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Final, TypeAlias, cast

import msgspec
from msgspec import inspect

from registry.errors import Invalid
from registry.http.problems import FieldProblem
from registry.http.wording import accepted, choices, described, nearest, plain

MOST_PROBLEMS: Final = 100
MOST_VISITS: Final = 50_000

UNEXPLAINED: Final = object()
"""In place of a value that cannot be walked: msgspec's own words must do."""

Problems: TypeAlias = Iterator[FieldProblem]

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_WHERE: Final = re.compile(r"(.*?)(?: - at `(?:key in )?\$(.*)`)?\Z", re.DOTALL)
_MOST_NAME: Final = 80

_OBJECTS: Final = (
    inspect.DictType,
    inspect.StructType,
    inspect.TypedDictType,
    inspect.DataclassType,
)
_SEQUENCES: Final = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
)
_ARRAYS: Final = (*_SEQUENCES, inspect.TupleType, inspect.NamedTupleType)
_ANYTHING: Final = (inspect.AnyType, inspect.RawType, inspect.CustomType)

_TEXTUAL: Final[Mapping[type[inspect.Type], Any]] = {
    inspect.BytesType: bytes,
    inspect.ByteArrayType: bytearray,
    inspect.MemoryViewType: bytes,
    inspect.DateType: datetime.date,
    inspect.TimeType: datetime.time,
    inspect.TimeDeltaType: datetime.timedelta,
    inspect.UUIDType: uuid.UUID,
    inspect.DecimalType: decimal.Decimal,
}
"""Types that JSON carries as text in a form of their own, and what converts them."""


def refusal(value: Any, kind: Any, error: msgspec.ValidationError, *, whole: str) -> Invalid:
    """The error that names every bad field of `value`, which msgspec refused with `error`.

    `whole` stands for the value itself where a path would be empty.
    """
    found, is_cut = ([], False) if value is UNEXPLAINED else problems_of(value, kind)
    return invalid([_named(one, whole) for one in found or [first(error)]], is_cut=is_cut)


def problems_of(value: Any, kind: Any) -> tuple[list[FieldProblem], bool]:
    """What is wrong with `value`, and whether there may be more than was looked at."""
    walk = _Walk()
    found = list(islice(walk.value(value, described_type(kind), ""), MOST_PROBLEMS + 1))
    return found[:MOST_PROBLEMS], len(found) > MOST_PROBLEMS or walk.is_tired


def invalid(found: Sequence[FieldProblem], *, is_cut: bool = False) -> Invalid:
    """The error for these fields; `is_cut` says that there may be more."""
    return Invalid(
        found[0].field,
        found[0].reason,
        problems=[
            (one.field, one.reason, *([] if one.accepted is None else [one.accepted]))
            for one in found
        ],
        details={"errors_truncated": True} if is_cut else None,
    )


def first(error: msgspec.ValidationError, *, under: str = "") -> FieldProblem:
    """What msgspec itself said, in our form; `under` is the path of the value it looked at."""
    match = _WHERE.match(str(error))
    assert match is not None  # the pattern takes any text
    path = (match[2] or "") if under else (match[2] or "").removeprefix(".")
    return FieldProblem(under + path, match[1].replace("`", ""))


def described_type(kind: Any) -> inspect.Type:
    """What `msgspec.inspect` knows of a type; kept, because finding it out is slow."""
    return _described(cast(Hashable, kind))


@functools.cache
def _described(kind: Hashable) -> inspect.Type:
    return inspect.type_info(kind)


def _named(problem: FieldProblem, whole: str) -> FieldProblem:
    return problem if problem.field else msgspec.structs.replace(problem, field=whole)


def _expected(path: str, kind: inspect.Type, value: object) -> FieldProblem:
    words = accepted(kind)
    return FieldProblem(path, f"expected {words}, not {described(value)}", words)


class _Walk:
    """One pass over one value; methods yield problems and never raise."""

    def __init__(self) -> None:
        self._left = MOST_VISITS

    @property
    def is_tired(self) -> bool:
        return self._left <= 0

    def value(self, value: Any, kind: inspect.Type, path: str) -> Problems:
        self._left -= 1
        if self.is_tired:
            return
        kind = plain(kind)
        match kind:
            case inspect.UnionType():
                yield from self._union(value, kind, path)
            case inspect.StructType(array_like=True):
                yield from _by_msgspec(value, kind.cls, kind, path)
            case inspect.StructType():
                yield from self._struct(value, kind, path)
            case inspect.TypedDictType() | inspect.DataclassType():
                yield from self._fields(value, kind, path)
            case inspect.DictType():
                yield from self._dict(value, kind, path)
            case inspect.TupleType():
                yield from self._tuple(value, kind, path)
            case _ if isinstance(kind, _SEQUENCES):
                yield from self._list(value, kind, path)
            case _:
                yield from _scalar(value, kind, path)

    def _union(self, value: Any, kind: inspect.UnionType, path: str) -> Problems:
        fitting = [one for one in map(plain, kind.types) if _is_of_its_sort(value, one)]
        if not fitting:
            yield _expected(path, kind, value)
            return
        if len(fitting) == 1:
            yield from self.value(value, fitting[0], path)
            return
        tagged = [one for one in fitting if isinstance(one, inspect.StructType)]
        if tagged and isinstance(value, dict):
            yield from self._tagged(value, tagged, path)
            return
        if all(any(True for _ in self.value(value, one, path)) for one in fitting):
            yield _expected(path, kind, value)

    def _tagged(
        self, value: dict[str, Any], structs: Sequence[inspect.StructType], path: str
    ) -> Problems:
        field = structs[0].tag_field or "type"
        words = sorted(str(one.tag) for one in structs)
        told = "one of " + ", ".join(words)
        if field not in value:
            yield FieldProblem(_member(path, field), "is required", told)
            return
        for one in structs:
            if one.tag == value[field] and type(one.tag) is type(value[field]):
                yield from self.value(value, one, path)
                return
        yield FieldProblem(_member(path, field), f"expected {told}", told)

    def _struct(self, value: Any, kind: inspect.StructType, path: str) -> Problems:
        if not isinstance(value, dict):
            yield _expected(path, kind, value)
            return
        try:
            msgspec.convert(value, kind.cls)
        except msgspec.ValidationError as error:
            found = False
            for problem in self._fields(value, kind, path):
                found = True
                yield problem
            if not found and not self.is_tired:
                yield first(error, under=path)

    def _fields(self, value: Any, kind: Any, path: str) -> Problems:
        if not isinstance(value, dict):
            yield _expected(path, kind, value)
            return
        fields = {
            field.encode_name: field for field in cast("Sequence[inspect.Field]", kind.fields)
        }
        if isinstance(kind, inspect.StructType):
            yield from _unknown(value, kind, fields, path)
        for name, field in fields.items():
            if name in value:
                yield from self.value(value[name], field.type, _member(path, name))
            elif field.required:
                words = accepted(field.type)
                yield FieldProblem(_member(path, name), f"is required: {words}", words)

    def _dict(self, value: Any, kind: inspect.DictType, path: str) -> Problems:
        if not isinstance(value, dict):
            yield _expected(path, kind, value)
            return
        yield from _length(value, kind, path)
        for key, member in value.items():
            inner = _member(path, key)
            for problem in _key(key, kind.key_type):
                yield FieldProblem(inner, f"the name: {problem.reason}", problem.accepted)
            yield from self.value(member, kind.value_type, inner)
            if self.is_tired:
                return

    def _list(self, value: Any, kind: Any, path: str) -> Problems:
        if not isinstance(value, list | tuple):
            yield _expected(path, kind, value)
            return
        yield from _length(value, kind, path)
        for place, member in enumerate(value):
            yield from self.value(member, kind.item_type, f"{path}[{place}]")
            if self.is_tired:
                return

    def _tuple(self, value: Any, kind: inspect.TupleType, path: str) -> Problems:
        if not isinstance(value, list | tuple) or len(value) != len(kind.item_types):
            yield _expected(path, kind, value)
            return
        for place, (member, item) in enumerate(zip(value, kind.item_types, strict=True)):
            yield from self.value(member, item, f"{path}[{place}]")


def _unknown(
    value: Mapping[str, Any],
    kind: inspect.StructType,
    fields: Mapping[str, inspect.Field],
    path: str,
) -> Problems:
    known = sorted(fields)
    if kind.tag_field is not None:
        known.append(kind.tag_field)
        tag = value.get(kind.tag_field, kind.tag)
        if tag != kind.tag:
            yield FieldProblem(_member(path, kind.tag_field), f"expected {kind.tag}", str(kind.tag))
    if not kind.forbid_unknown_fields:
        return
    for name in value:
        if name not in known:
            yield unknown(_member(path, name), name, known)


def unknown(path: str, name: str, known: Sequence[str]) -> FieldProblem:
    """A name that nobody asked for, with the one that was probably meant and all there are."""
    meant = nearest(name, list(known))
    words = ", ".join(known) or "none"
    hint = "" if meant is None else f"; did you mean {meant}?"
    return FieldProblem(path, f"is not known here{hint}", words)


def _scalar(value: Any, kind: inspect.Type, path: str) -> Problems:
    if isinstance(kind, _ANYTHING):
        return
    if not _is_of_its_sort(value, kind):
        yield _expected(path, kind, value)
        return
    match kind:
        case inspect.IntType() | inspect.FloatType():
            if not _in_range(value, kind):
                yield _expected(path, kind, value)
        case inspect.StrType():
            yield from _text(value, kind, path)
        case inspect.LiteralType() | inspect.EnumType():
            yield from _word(value, kind, path)
        case inspect.DateTimeType(tz=tz):
            exact = Annotated[datetime.datetime, msgspec.Meta(tz=tz)]
            yield from _by_msgspec(value, exact, kind, path)
        case inspect.NamedTupleType():
            yield from _by_msgspec(value, kind.cls, kind, path)
        case _ if type(kind) in _TEXTUAL:
            yield from _by_msgspec(value, _TEXTUAL[type(kind)], kind, path)


def _by_msgspec(value: Any, converted: Any, kind: inspect.Type, path: str) -> Problems:
    """Ask msgspec itself about a value that needs no walk of ours."""
    try:
        msgspec.convert(value, converted)
    except msgspec.ValidationError as error:
        problem = first(error, under=path)
        words = accepted(kind)
        if problem.field == path:
            problem = FieldProblem(path, f"expected {words}, not {described(value)}", words)
        yield problem


def _text(value: str, kind: inspect.StrType, path: str) -> Problems:
    if not _fits(value, kind):
        yield _expected(path, kind, value)
    elif kind.pattern is not None and re.search(kind.pattern, value) is None:
        words = accepted(kind)
        yield FieldProblem(path, f"expected {words}", words)


def _word(value: Any, kind: inspect.LiteralType | inspect.EnumType, path: str) -> Problems:
    known = choices(kind)
    if any(value == word and type(value) is type(word) for word in known):
        return
    words = accepted(kind)
    meant = (
        nearest(value, [w for w in known if isinstance(w, str)]) if isinstance(value, str) else 0
    )
    hint = f"; did you mean {meant}?" if meant else ""
    yield FieldProblem(path, f"expected {words}{hint}", words)


def _key(key: Any, kind: inspect.Type) -> Problems:
    """Names in JSON are texts, whatever type they are kept in."""
    kind = plain(kind)
    if isinstance(kind, inspect.StrType | inspect.LiteralType | inspect.EnumType):
        yield from _scalar(key, kind, "")
    elif isinstance(kind, inspect.IntType):
        is_whole = isinstance(key, str) and re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", key)
        yield from _scalar(int(key) if is_whole else key, kind, "")


def _length(value: Any, kind: Any, path: str) -> Problems:
    if not _fits(value, kind):
        yield _expected(path, kind, value)


def _fits(value: Any, kind: Any) -> bool:
    least, most = kind.min_length, kind.max_length
    return (least is None or len(value) >= least) and (most is None or len(value) <= most)


def _in_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    if isinstance(value, float) and value - value != 0:
        return False
    if kind.multiple_of is not None and value % kind.multiple_of:
        return False
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _is_of_its_sort(value: Any, kind: inspect.Type) -> bool:
    """Whether `kind` is what JSON of this sort (null, number, text, …) would be read as."""
    if isinstance(kind, _ANYTHING):
        return True
    if isinstance(kind, inspect.LiteralType | inspect.EnumType):
        return any(type(value) is type(word) for word in choices(kind))
    if value is None:
        return isinstance(kind, inspect.NoneType)
    if isinstance(value, bool):
        return isinstance(kind, inspect.BoolType)
    if isinstance(value, int):
        return isinstance(kind, inspect.IntType | inspect.FloatType | inspect.DecimalType)
    if isinstance(value, float):
        return isinstance(kind, inspect.FloatType | inspect.DecimalType)
    if isinstance(value, str):
        return isinstance(kind, inspect.StrType | inspect.DateTimeType) or type(kind) in _TEXTUAL
    if isinstance(value, dict):
        return isinstance(kind, _OBJECTS) and not getattr(kind, "array_like", False)
    return isinstance(kind, _ARRAYS) or getattr(kind, "array_like", False)


def _member(path: str, name: object) -> str:
    """The path of a member; a name that is no plain word is quoted as in JSON."""
    text = str(name)
    if _PLAIN_NAME.match(text) and len(text) <= _MOST_NAME:
        return f"{path}.{text}" if path else text
    return f"{path}[{json.dumps(text[:_MOST_NAME])}]"
