"""Read an exported model from the front of its archive, and see that it is one before it is made.

Every entry has its one place (`registry.domain.exports`), so what is missing, unknown, doubled or
out of order is named by what should stand there instead. What the documents say of each other is
checked here, once; what the registry thinks of it is asked where it is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, Protocol, TypeVar

import msgspec

from registry.domain import exports, tars
from registry.domain.exports import (
    AliasDocument,
    Format,
    Heading,
    ModelDocument,
    Move,
    VersionDocument,
)
from registry.domain.facts import require_numbers
from registry.domain.lineage import parse_uri
from registry.domain.names import ModelName, fold, parse_alias, parse_label, parse_model_name
from registry.domain.tags import parse_key, parse_value
from registry.errors import Invalid
from registry.services.unpack import Entry
from store.digest import Digest

T = TypeVar("T")

_DOCUMENTS: Final = 4
"""All documents together may be so many times as large as one."""


class Parse(Protocol):
    """Reads JSON strictly into a struct; raises `Invalid` with every bad field."""

    def __call__(self, content: bytes, kind: type[T]) -> T: ...


class Entries:
    """The entries of an archive one by one; each *must* be read to its end before the next."""

    def __init__(self, entries: AsyncGenerator[Entry, None]) -> None:
        self._entries = entries

    async def take(self, name: str) -> Entry:
        """The next entry, which must be this one."""
        found = await anext(self._entries, None)
        if found is None:
            raise wrong("archive", f"ends where {name} must stand")
        if found.path != name:
            raise wrong("archive", f"has {found.path!r} where {name} must stand")
        return found

    async def next(self) -> Entry | None:
        """Any next entry; None at the end of the archive."""
        return await anext(self._entries, None)

    async def end(self) -> None:
        """Nothing may follow."""
        found = await anext(self._entries, None)
        if found is not None:
            raise wrong("archive", f"has {found.path!r} where it must end")


class Archived(msgspec.Struct, frozen=True):
    """What an archive says of its model before the files come."""

    heading: Heading
    model: ModelDocument
    versions: list[VersionDocument]
    fingerprint: bytes
    """Of the documents, which is of everything: trees and blobs are named by what they hold."""

    @property
    def trees(self) -> list[Digest]:
        """The trees that must follow, in their order."""
        return sorted({tree_of(version) for version in self.versions})

    @property
    def living(self) -> list[VersionDocument]:
        return [version for version in self.versions if not version.burnt]


def tree_of(version: VersionDocument) -> Digest:
    return Digest.parse(version.tree)


async def read_documents(entries: Entries, parse: Parse, limit_bytes: int) -> Archived:
    """Read everything before the first tree; raises `Invalid` for what no export says."""
    hashed = hashlib.sha256()
    left = limit_bytes * _DOCUMENTS

    async def read(name: str, content: bytes, kind: type[T]) -> T:
        nonlocal left
        left -= len(content)
        if left < 0:
            raise _too_large("all documents", limit_bytes * _DOCUMENTS)
        hashed.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return _parsed(parse, name, content, kind)

    content = await _first(entries, limit_bytes)
    said = _parsed(_leniently, exports.HEADING, content, Format)
    if said.format != exports.FORMAT:
        raise wrong("archive", f"is of the format {said.format[:80]!r}, not {exports.FORMAT}")
    if said.number > exports.NUMBER:
        raise Invalid(
            "archive",
            f"has format number {said.number}; this registry reads up to {exports.NUMBER}",
            code="export_newer",
            details={"number": said.number, "known": exports.NUMBER},
        )
    heading = await read(exports.HEADING, content, Heading)
    content = await whole(await entries.take(exports.MODEL), limit_bytes)
    model = await read(exports.MODEL, content, ModelDocument)
    versions: list[VersionDocument] = []
    for _ in range(heading.versions):
        found = await entries.next()
        if found is None or not found.path.startswith("versions/"):
            raise wrong("archive", f"has {len(versions)} of {heading.versions} versions")
        content = await whole(found, limit_bytes)
        version = await read(found.path, content, VersionDocument)
        if found.path != exports.version_name(version.number):
            raise wrong("archive", f"has version {version.number} under {found.path!r}")
        versions.append(version)
    archived = Archived(heading, model, versions, hashed.digest())
    _check(archived)
    return archived


async def _first(entries: Entries, limit_bytes: int) -> bytes:
    found = await entries.next()
    if found is None or found.path != exports.HEADING:
        what = "is empty" if found is None else f"begins with {found.path!r}"
        raise Invalid(
            "archive",
            f"{what}, not with {exports.HEADING}: it is no exported model",
            code="export_unknown",
        )
    return await whole(found, limit_bytes)


async def whole(entry: Entry, limit_bytes: int) -> bytes:
    """The content of a document; raises `Invalid` for one too large to be one."""
    if entry.size_bytes > limit_bytes:
        raise _too_large(entry.path, limit_bytes)
    return b"".join([piece async for piece in entry.content])


def _parsed(parse: Parse, name: str, content: bytes, kind: type[T]) -> T:
    return _named(name, lambda: parse(content, kind))


def _leniently(content: bytes, kind: type[T]) -> T:
    """Read what every format says, whatever else a newer one may say."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("format", str(error)) from error


# What documents say of each other.


def _check(archived: Archived) -> None:
    model, versions = archived.model, archived.versions
    if archived.heading.model != model.name:
        raise wrong(exports.MODEL, "is about another model than the heading")
    for one, other in pairwise(versions):
        if one.number >= other.number:
            raise wrong(exports.version_name(other.number), "is out of order")
    if versions and versions[-1].number > model.last_number:
        raise wrong(exports.MODEL, "last_number is below the number of a version")
    labels = [fold(version.label) for version in versions if version.label is not None]
    if len(set(labels)) < len(labels):
        raise wrong(exports.MODEL, "two versions have one label")
    _named(exports.MODEL, partial(_check_tags, model.tags))
    for version in archived.versions:
        _named(exports.version_name(version.number), partial(_check_version, version))
    _check_aliases(archived, set(labels))
    if archived.heading.trees != len(archived.trees):
        raise wrong(exports.HEADING, "counts other trees than the versions have")


def _check_version(version: VersionDocument) -> None:
    if version.label is not None:
        parse_label(version.label)
    if version.burnt and version != _bare(version):
        raise Invalid("burnt", "says more than what keeps it burnt")
    if version.source is not None and version.files:
        raise Invalid("source", "stands for bytes kept elsewhere; files cannot be beside it")
    if version.source is None and not version.files:
        raise Invalid("files", "are none, and there is no source")
    require_numbers(
        {"parameters": version.parameters}
        | {"standardisation_parameters": version.standardisation_parameters}
        | {"performance_metrics": version.performance_metrics}
    )
    _check_tags(version.tags)
    for edge in version.lineage:
        if (edge.parent is None) == (edge.uri is None) or (edge.uri is None) != (edge.kind is None):
            raise Invalid("lineage", "names its parent either as a version or by URI and kind")
        if edge.uri is not None:
            parse_uri(edge.uri)


def _bare(version: VersionDocument) -> VersionDocument:
    kept: dict[str, Any] = {
        name: getattr(version, name)
        for name in ("number", "label", "burnt", "tree", "files", "size", "source")
    }
    return VersionDocument(**kept, created_at=version.created_at, created_by=version.created_by)


def _check_tags(tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if parse_key(key) != key or parse_value(value) != value:
            raise Invalid("tags", f"{key!r} is not in normal form")
    if len({fold(key) for key in tags}) < len(tags):
        raise Invalid("tags", "has one key in several spellings")


def _check_aliases(archived: Archived, labels: set[str]) -> None:
    living = {version.number for version in archived.living}
    known = {version.number for version in archived.versions}
    seen: set[str] = set()
    for alias in archived.model.aliases:
        _named(exports.MODEL, partial(parse_alias, alias.name, field="aliases"))
        folded = fold(alias.name)
        if folded in seen or folded in labels:
            raise wrong(exports.MODEL, f"alias {alias.name} has a name that is taken")
        seen.add(folded)
        _check_moves(alias, alias.moves, known)
        to = alias.moves[-1].to
        if to is not None and to not in living:
            raise wrong(exports.MODEL, f"alias {alias.name} points at a burnt version")


def _check_moves(alias: AliasDocument, moves: Sequence[Move], known: set[int]) -> None:
    before: int | None = None
    for move in moves:
        if move.to == before:
            raise wrong(exports.MODEL, f"alias {alias.name} moves to where it is")
        if move.to is not None and move.to not in known:
            raise wrong(exports.MODEL, f"alias {alias.name} points at no version")
        before = move.to


def _named(name: str, read: Callable[[], T]) -> T:
    """Say of what is wrong in which document it stands."""
    try:
        return read()
    except Invalid as error:
        problems = [(f"{name}: {field}", *rest) for field, *rest in error.problems]
        raise wrong(problems[0][0], problems[0][1], problems) from error


def name_in(archived: Archived) -> ModelName:
    """The name that the model had; raises `Invalid`."""
    return parse_model_name(archived.model.name, field=f"{exports.MODEL}: name")


def wrong(name: str, reason: str, problems: Sequence[tuple[str, ...]] = ()) -> Invalid:
    """An entry, or the whole ``archive``, that no export has."""
    return Invalid(name, reason, code="export_invalid", problems=problems)


def _too_large(name: str, limit_bytes: int) -> Invalid:
    return tars.refused(name, f"is larger than {limit_bytes} bytes", code="tar_file_too_large")
