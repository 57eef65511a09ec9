"""Download history: who fetched what, how often and how much, summed by what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from registry.api.errors import ADAPTER
from registry.catalog.downloads import Counted
from registry.domain.downloads import Group
from registry.domain.lineage import Member
from registry.domain.references import parse_model, parse_reference
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.cursors import PageQuery, cursor, link_headers, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.downloads import read_downloads

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Moment = Annotated[datetime, Meta(tz=True)]


class DownloadsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to sum by, given as often as wanted (`by=day&by=user`), and of which time.

    Minutes count whole: `since` is the first that counts, `until` the first that does not.
    """

    by: Annotated[tuple[Group, ...], Meta(min_length=1, max_length=6)] = ("day",)
    since: Moment | None = None
    until: Moment | None = None


class DownloadedVersion(msgspec.Struct, frozen=True):
    """The version that was downloaded."""

    id: str
    number: int
    label: str | None


class DownloadSum(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and bytes of all downloads that have in common what was summed `by`.

    `day` and `minute` are where they begin; an empty `path` is the archive of all files; `user` is
    the id of a principal; `client` the first product of its `User-Agent`.
    """

    day: str | UnsetType = UNSET
    minute: str | UnsetType = UNSET
    version: DownloadedVersion | UnsetType = UNSET
    user: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    client: str | UnsetType = UNSET
    requests: int
    bytes: int
    first: str
    last: str


class DownloadsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of sums; `requests` and `bytes` are of all pages together."""

    requests: int
    bytes: int
    items: list[DownloadSum]
    next: str | None


async def get_model_downloads(request: web.Request) -> web.StreamResponse:
    """Downloads of all versions of a model, deleted ones too."""
    return await _answer(request)


async def get_version_downloads(request: web.Request) -> web.StreamResponse:
    """Downloads of one version: of its files and of its archive."""
    return await _answer(request)


async def _answer(request: web.Request) -> web.Response:
    _, _, _, model, *rest = raw_segments(request, 7)
    version = decoded(rest[1], field="version") if rest[0] == "versions" else None
    query = read_query(request, DownloadsQuery)
    if len(set(query.by)) < len(query.by):
        raise Invalid("by", "names the same twice")
    scope = f"{decoded(model, field='model')}/{version}"
    after = place_after(query, tuple[int | str, ...], scope=scope)
    found = await read_downloads(
        request.app[STORE],
        request[PRINCIPAL],
        parse_model(decoded(model, field="model")),
        None if version is None else parse_reference(version),
        query.by,
        since=0 if query.since is None else _microseconds(query.since),
        until=1 << 62 if query.until is None else _microseconds(query.until),
        after=after,
        limit=query.limit + 1,
    )
    shown = found.items[: query.limit]
    is_last = len(found.items) <= query.limit
    next = None if is_last else cursor(query, *shown[-1].keys, scope=scope)
    answer = DownloadsAnswer(
        requests=0 if found.total is None else found.total.requests,
        bytes=0 if found.total is None else found.total.bytes,
        items=[_sum(query.by, one, found.versions) for one in shown],
        next=next,
    )
    return json_answer(answer, headers=link_headers(request, next))


def _sum(groups: Sequence[Group], counted: Counted, versions: dict[str, Member]) -> DownloadSum:
    keys: dict[str, Any] = {
        group: _shown(group, key, versions) for group, key in zip(groups, counted.keys, strict=True)
    }
    return DownloadSum(
        **keys,
        requests=counted.requests,
        bytes=counted.bytes,
        first=rfc3339(counted.first),
        last=rfc3339(counted.last),
    )


def _shown(group: Group, key: Any, versions: dict[str, Member]) -> Any:
    match group:
        case "day":
            return rfc3339(key)[:10]
        case "minute":
            return rfc3339(key)
        case "version":
            member = versions[key]
            return DownloadedVersion(member.id, member.number, member.label)
        case _:
            return key


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


_MODEL: Final = "/api/v1/models/{model:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=path,
        handler=handler,
        permission="model.read",
        adapter=ADAPTER,
        summary=summary,
        tag="downloads",
        query=DownloadsQuery,
        answers={200: DownloadsAnswer},
    )
    for path, handler, summary in (
        (_MODEL + "/downloads", get_model_downloads, "Downloads of a model"),
        (
            _MODEL + "/versions/{version:[^/]+}/downloads",
            get_version_downloads,
            "Downloads of a version",
        ),
    )
]
