"""The difference of two versions as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from registry.api.errors import ADAPTER
from registry.api.versions import target_of
from registry.api.wire import Urls, VersionAnswer, version_answer
from registry.domain.references import parse_model, parse_reference
from registry.domain.trees import TreeFile
from registry.http.answers import json_answer
from registry.http.cursors import CountedQuery, cursor, link_headers, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.diff import Diff, Side, compare_versions


class DiffQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the second version is, if it is not of the same model."""

    model: (
        Annotated[
            str, Meta(min_length=1, max_length=400, description="The model of the second version.")
        ]
        | None
    ) = None


class FileAt(msgspec.Struct, frozen=True):
    """What is at a path."""

    digest: str
    size: int


class FileDifference(msgspec.Struct, frozen=True):
    """A path that is not the same in both; null where there is nothing."""

    path: str
    change: Literal["added", "removed", "changed"]
    before: FileAt | None
    after: FileAt | None


class FactDifference(msgspec.Struct, frozen=True):
    """Something that is said differently; ``field`` leads into the free objects."""

    field: str
    before: Any
    after: Any


class Counts(msgspec.Struct, frozen=True):
    """How many files differ, and how."""

    added: int
    removed: int
    changed: int


class DiffAnswer(msgspec.Struct, frozen=True, kw_only=True, rename={"old": "from", "new": "to"}):
    """What is different in the second version; ``files`` is a page in order of path."""

    old: VersionAnswer
    new: VersionAnswer
    same_files: bool
    files: list[FileDifference]
    next: str | None
    facts: list[FactDifference]
    facts_truncated: bool
    total: Counts | UnsetType = UNSET


async def get_diff(request: web.Request) -> web.StreamResponse:
    """What the second version has otherwise than the first: files, and what is said of them.

    Files are compared by path and digest, a page at a time; ``total=true`` counts them all.
    """
    query = read_query(request, DiffQuery)
    model, version = target_of(request)
    *_, raw = raw_segments(request, 8)
    other = model if query.model is None else parse_model(query.model)
    reference = parse_reference(decoded(raw, field="other"), field="other")
    scope = msgspec.json.encode([str(model), str(version), str(other), str(reference)]).decode()
    after = place_after(query, tuple[str], scope=scope)
    diff = await compare_versions(
        request.app[STORE],
        request[PRINCIPAL],
        Side(model, version),
        Side(other, reference),
        after="" if after is None else after[0],
        limit=query.limit,
        is_counted=query.total,
    )
    following = None if diff.next is None else cursor(query, diff.next, scope=scope)
    return json_answer(
        _answer(Urls(request), diff, following),
        headers=link_headers(request, following),
    )


def _answer(urls: Urls, diff: Diff, following: str | None) -> DiffAnswer:
    return DiffAnswer(
        old=version_answer(urls, diff.old.model, diff.old.version),
        new=version_answer(urls, diff.new.model, diff.new.version),
        same_files=diff.old.version.tree == diff.new.version.tree,
        files=[
            FileDifference(one.path, one.kind, _at(one.before), _at(one.after))
            for one in diff.files
        ],
        next=following,
        facts=[FactDifference(one.field, one.before, one.after) for one in diff.facts],
        facts_truncated=diff.are_facts_cut,
        total=UNSET if diff.counts is None else Counts(*diff.counts),
    )


def _at(file: TreeFile | None) -> FileAt | None:
    return None if file is None else FileAt(str(file.digest), file.size_bytes)


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}/diff/{other:[^/]+}",
        handler=get_diff,
        permission="model.read",
        adapter=ADAPTER,
        summary="Compare two versions",
        tag="versions",
        query=DiffQuery,
        answers={200: DiffAnswer},
        problems=(404, 409),
    ),
]
