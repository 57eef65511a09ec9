"""What differs between two versions: files by path and digest, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

import msgspec

from registry.catalog.diffs import added, count_differences, gone_or_changed
from registry.domain.facts import facts_of
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.trees import TreeFile
from registry.errors import Conflict, NotFound
from registry.services.resolve import DraftFiles, follow, require_model
from registry.services.versions import FullVersion, full_version
from store.index.transactions import Tx
from store.opening import Store

MOST_FACTS: Final = 1000
"""Of more that is said differently only so much is told."""

Difference: TypeAlias = Literal["added", "removed", "changed"]


class Side(msgspec.Struct, frozen=True):
    """One of the two versions, by name."""

    model: ModelReference
    version: VersionReference


class FileChange(msgspec.Struct, frozen=True):
    """A path and what was and is there; None for nothing."""

    path: str
    before: TreeFile | None
    after: TreeFile | None

    @property
    def kind(self) -> Difference:
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


class FactChange(msgspec.Struct, frozen=True):
    """Something said differently; `field` is a path into free objects, None is nothing said."""

    field: str
    before: Any
    after: Any


class Diff(msgspec.Struct, frozen=True):
    """A page of differing files in order of path, and all that is said differently."""

    old: FullVersion
    new: FullVersion
    files: list[FileChange]
    next: str | None
    facts: list[FactChange]
    are_facts_cut: bool
    counts: tuple[int, int, int] | None
    """Files added, removed and changed, where that was asked for."""


async def compare_versions(
    store: Store,
    principal: Principal,
    old: Side,
    new: Side,
    *,
    after: str = "",
    limit: int = 100,
    is_counted: bool = False,
) -> Diff:
    """What is different in the second version; raises `NotFound`, and `Conflict` for drafts."""

    async def unit(tx: Tx) -> Diff:
        before, now = await _side(tx, principal, old), await _side(tx, principal, new)
        trees = before.version.tree, now.version.tree
        files: list[FileChange] = []
        if trees[0] != trees[1]:
            gone = await gone_or_changed(tx, *trees, after, limit + 1)
            files = [FileChange(was.path, was, there) for was, there in gone]
            extra = await added(tx, *trees, after, limit + 1)
            files += [FileChange(file.path, None, file) for file in extra]
            files.sort(key=lambda change: change.path.encode())
        facts = list(islice(_facts(before, now), MOST_FACTS + 1))
        return Diff(
            before,
            now,
            files[:limit],
            files[limit - 1].path if len(files) > limit else None,
            facts[:MOST_FACTS],
            len(facts) > MOST_FACTS,
            await count_differences(tx, *trees) if is_counted else None,
        )

    return await store.index.read(unit)


async def _side(tx: Tx, principal: Principal, side: Side) -> FullVersion:
    model = await require_model(tx, principal, side.model)
    place = await follow(tx, model, side.version)
    if isinstance(place, DraftFiles):
        raise Conflict(
            "draft",
            f"{place.name} of {model.name}",
            "may still change; versions are compared",
            code="diff_of_draft",
        )
    if place.version is None:
        raise NotFound("version", f"{place.name} of {model.name}", code="version_not_found")
    return await full_version(tx, model, place.version)


def _facts(old: FullVersion, new: FullVersion) -> Iterator[FactChange]:
    before, after = _said(old), _said(new)
    for name in before:
        yield from _differing(name, before[name], after[name])


def _said(full: FullVersion) -> dict[str, Any]:
    source = full.version.source
    return {
        "status": full.version.status,
        "source": {}
        if source is None
        else {
            "uri": source.uri,
            "digest": None if source.digest is None else str(source.digest),
            "size": source.size_bytes,
        },
        "tags": {tagging.tag.key: tagging.tag.value for tagging in full.tags},
        **facts_of(full.version, full.details),
    }


def _differing(field: str, before: Any, after: Any) -> Iterator[FactChange]:
    """Objects are compared member by member, all else as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _differing(f"{field}.{name}", before.get(name), after.get(name))
    elif msgspec.json.encode(before, order="sorted") != msgspec.json.encode(after, order="sorted"):
        yield FactChange(field, before, after)
