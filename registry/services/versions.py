"""Versions as they are found, listed and changed: everything but their files, which are frozen."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import merge
from itertools import islice
from typing import Any, Final

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.models import find_model_by_id
from registry.catalog.tags import all_tags_of_version
from registry.catalog.version_lists import (
    ANY,
    COUNTED,
    Latest,
    ListedVersion,
    NamedModel,
    VersionFilter,
    count_everywhere,
    count_in_span,
    count_of_model,
    latest_created,
    place_of,
    versions_everywhere,
    versions_in_span,
    versions_of_model,
)
from registry.catalog.versions import (
    find_details,
    find_version_anywhere,
    update_version,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.facts import facts_of, patched, with_facts
from registry.domain.models import Model, Tagging, Version, VersionDetails
from registry.domain.principals import Principal
from registry.domain.ranges import Range, Span
from registry.domain.references import ModelReference, VersionReference
from registry.domain.statuses import Status
from registry.errors import NotFound
from registry.services.change import change
from registry.services.moves import move_status
from registry.services.resolve import DraftFiles, follow, require_model, require_word
from store.index.transactions import Tx
from store.opening import Store

FIRST: Final = 2**62
"""Above every number: where a list of a model's versions begins."""

_EVERY_LABEL: Final = Range((Span("", "~"),), (Span("", "~"),))


class FullVersion(msgspec.Struct, frozen=True):
    """A version with all that is said of it."""

    model: Model
    version: Version
    details: VersionDetails
    tags: list[Tagging]


class VersionPage(msgspec.Struct, frozen=True):
    """A page of a list; `next` is the place to go on from, `count` one above what is counted."""

    items: list[ListedVersion]
    next: tuple[Any, Any] | None
    count: int | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different: a merge-patch of facts, and a status."""

    facts: Mapping[str, Any]
    status: Status | None = None
    reason: str = ""


async def get_version(
    store: Store, principal: Principal, model: ModelReference, reference: VersionReference
) -> FullVersion | DraftFiles:
    """What a reference leads to; raises `NotFound`."""

    async def unit(tx: Tx) -> FullVersion | DraftFiles:
        found = await require_model(tx, principal, model)
        place = await follow(tx, found, reference)
        if isinstance(place, DraftFiles):
            return place
        if place.version is None:
            raise _missing(found, place.name)
        return await full_version(tx, found, place.version)

    return await store.index.look(unit)


async def get_version_by_id(store: Store, principal: Principal, id: str) -> FullVersion:
    """A living version of whichever model; raises `NotFound`."""

    async def unit(tx: Tx) -> FullVersion:
        version = await find_version_anywhere(tx, id)
        # Asked of what is not there too, so that it takes as long as what is hidden.
        model = await find_model_by_id(tx, "" if version is None else version.model_id)
        if (
            version is None
            or version.deleted_at is not None
            or model is None
            or not principal.visibility.shows(model)
        ):
            raise NotFound("version", id, code="version_not_found")
        require_word(principal, model)
        return await full_version(tx, model, version)

    return await store.index.look(unit)


async def full_version(tx: Tx, model: Model, version: Version) -> FullVersion:
    """Everything that is said of a version that was found."""
    return FullVersion(
        model,
        version,
        await find_details(tx, version.id),
        await all_tags_of_version(tx, version.id),
    )


async def change_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    reference: VersionReference,
    wish: Change,
    *,
    expected: Expected = ANYTHING,
) -> FullVersion:
    """Say something else of a version; what is so already changes nothing.

    Raises `NotFound`, `PreconditionFailed`, `Invalid`, and `Conflict` for a forbidden status.
    """

    async def unit(tx: Tx) -> FullVersion:
        found = await require_model(tx, principal, model)
        place = await follow(tx, found, reference)
        if isinstance(place, DraftFiles) or place.version is None:
            raise _missing(found, place.name)
        version = place.version
        expected.require(version.id, version.changes, under=found.name)
        version = await _say(tx, principal, found, version, wish)
        if wish.status is not None:
            version = await move_status(
                tx, principal, found, version, wish.status, reason=wish.reason
            )
        return await full_version(tx, found, version)

    return await change(store, principal, unit)


async def _say(
    tx: Tx, principal: Principal, model: Model, version: Version, wish: Change
) -> Version:
    if not wish.facts:
        return version
    details = await find_details(tx, version.id)
    before = facts_of(version, details)
    after = patched(before, wish.facts)
    if not after:
        return version
    said, written = with_facts(version, details, after)
    said = await update_version(tx, said, None if written == details else written)
    await record(
        tx,
        principal,
        Entry(
            action="update",
            kind="version",
            id=version.id,
            name=version.name,
            model=model.id,
            before={name: before[name] for name in after},
            after=after,
            reason=wish.reason,
        ),
    )
    return said


async def list_versions(
    store: Store,
    principal: Principal,
    wanted: VersionFilter,
    *,
    after: tuple[float, str] | None,
    limit: int,
    is_counted: bool = False,
) -> VersionPage:
    """A page of the living versions of all models that the principal may see."""

    async def unit(tx: Tx) -> VersionPage:
        visibility = principal.visibility
        items = await versions_everywhere(tx, visibility, wanted, after, limit + 1)
        following = place_of(wanted, items[limit - 1].version) if len(items) > limit else None
        count = await count_everywhere(tx, visibility, wanted) if is_counted else None
        return VersionPage(items[:limit], following, count)

    return await store.index.read(unit)


async def list_versions_of_model(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wanted: VersionFilter,
    *,
    before: int,
    limit: int,
    is_deleted: bool = False,
    is_counted: bool = False,
) -> VersionPage:
    """A page of one model's versions, newest number first."""

    async def unit(tx: Tx) -> VersionPage:
        found = await require_model(tx, principal, model)
        items = await versions_of_model(
            tx, found.id, wanted, before, limit + 1, is_deleted=is_deleted
        )
        following = ("", items[limit - 1].number) if len(items) > limit else None
        count = None
        if is_counted and wanted == ANY and not is_deleted:
            count = min(found.version_count, COUNTED + 1)
        elif is_counted:
            count = await count_of_model(tx, found.id, wanted, is_deleted=is_deleted)
        return VersionPage(_listed(found, items[:limit]), following, count)

    return await store.index.read(unit)


async def list_versions_in_range(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wanted: VersionFilter,
    within: Range,
    *,
    after: tuple[str, int] | None,
    limit: int,
    is_counted: bool = False,
) -> VersionPage:
    """A page of one model's versions whose labels lie in a range, highest first."""

    async def unit(tx: Tx) -> VersionPage:
        found = await require_model(tx, principal, model)
        items = await _highest(tx, found, wanted, within, after, limit + 1)
        following = None
        if len(items) > limit:
            key, version = items[limit - 1]
            following = key, version.number
        count = None
        if is_counted:
            count = 0
            for standing, span in _spans(within):
                count += await count_in_span(tx, found.id, standing, span, wanted)
        return VersionPage(
            _listed(found, [version for _, version in items[:limit]]), following, count
        )

    return await store.index.read(unit)


async def latest_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wanted: VersionFilter,
    *,
    by: Latest,
    within: Range | None = None,
) -> FullVersion:
    """The last version of a model in one of three orders, among those that are as wanted.

    By SemVer that is the highest release, or the highest pre-release where there is no release.
    Raises `NotFound`.
    """

    async def unit(tx: Tx) -> FullVersion:
        found = await require_model(tx, principal, model)
        version = await _latest(tx, found, wanted, by, within)
        if version is None:
            raise _missing(found, "as asked for")
        return await full_version(tx, found, version)

    return await store.index.read(unit)


async def _latest(
    tx: Tx, model: Model, wanted: VersionFilter, by: Latest, within: Range | None
) -> Version | None:
    if within is not None:
        highest = await _highest(tx, model, wanted, within, None, 1)
        return highest[0][1] if highest else None
    if by == "created":
        return await latest_created(tx, model.id, wanted)
    if by == "number":
        newest = await versions_of_model(tx, model.id, wanted, FIRST, 1, is_deleted=False)
        return newest[0] if newest else None
    for releases, prereleases in ((_EVERY_LABEL.releases, ()), ((), _EVERY_LABEL.prereleases)):
        highest = await _highest(tx, model, wanted, Range(releases, prereleases), None, 1)
        if highest:
            return highest[0][1]
    return None


async def _highest(
    tx: Tx,
    model: Model,
    wanted: VersionFilter,
    within: Range,
    after: tuple[str, int] | None,
    limit: int,
) -> list[tuple[str, Version]]:
    """The highest of a range after a place, from as many lists as the range has spans."""
    lists = [
        await versions_in_span(tx, model.id, standing, span, wanted, after, limit)
        for standing, span in _spans(within)
        if after is None or span.start <= after[0]
    ]
    found = merge(*lists, key=lambda one: (one[0], one[1].number), reverse=True)
    return list(islice(found, limit))


def _spans(within: Range) -> list[tuple[Any, Span]]:
    return [
        *(("release", span) for span in within.releases),
        *(("prerelease", span) for span in within.prereleases),
    ]


def _listed(model: Model, versions: list[Version]) -> list[ListedVersion]:
    named = NamedModel(model.id, model.name)
    return [ListedVersion(named, version) for version in versions]


def _missing(model: Model, name: str) -> NotFound:
    return NotFound("version", f"{name} of {model.name}", code="version_not_found")
