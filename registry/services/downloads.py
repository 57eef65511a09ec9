"""Remember who downloaded what, off the request path, and tell of it.

**Counting costs a request nothing but an addition.** Each worker adds what left to a count in
memory; within a second one transaction adds the counts to the index. A kill loses what was added
since then and nothing else; a shutdown loses nothing. If the index cannot be written the counts
wait; beyond `MOST_WAITING` different ones new ones are given up, and the log says how many.

**Sensitive models** are different: that somebody is about to get bytes of one is in the audit log,
committed, before the first of them leaves. What left is counted as for any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from registry.catalog.audit import Entry, record
from registry.catalog.downloads import Counted, Span, add_downloads, sum_downloads
from registry.catalog.lineage import find_members
from registry.domain.downloads import MINUTE, Group
from registry.domain.lineage import Member
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.errors import NotFound
from registry.services.later import Later
from registry.services.resolve import DraftFiles, Tree, follow, require_model
from store.errors import StoreError
from store.index.transactions import Tx
from store.opening import Store

FLUSH_SECONDS: Final = 1.0

EARLY: Final = 2_000
"""So many different counts are written without waiting for the second to end."""

MOST_WAITING: Final = 20_000

_Key: TypeAlias = tuple[str, int, str, str, str]

logger = structlog.get_logger()


class DownloadLog:
    """The counts of one worker. `add` is for the event loop's thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[_Key, list[int]] = {}
        self._lost = 0
        self._later = Later(self._write)

    @property
    def waiting(self) -> int:
        """How many different counts are not yet in the index."""
        return len(self._counts)

    def add(
        self, version: Version, path: str, principal: Principal, client: str, size_bytes: int
    ) -> Callable[[], None]:
        """Count one request that sent so many bytes; what is returned counts another one."""
        again = _Again(self, (version.id, path, principal.id, client), size_bytes)
        again()
        return again

    def _count_of(self, key: _Key) -> list[int] | None:
        """Where one more request is to be counted now; None if it is given up."""
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= MOST_WAITING:
                self._lost += 1
                return None
            count = self._counts[key] = [0, 0]
        if len(self._counts) >= EARLY:
            self._later.hurry()
        else:
            self._later.want(FLUSH_SECONDS)
        return count

    async def flush(self) -> None:
        """Write what waits now; raises `StoreError` and keeps it if that fails.

        What was being written when it began has been, or waits again, before that is tried.
        """
        await self._later.settle()
        await self._flush()

    async def _flush(self) -> None:
        counts, self._counts = self._counts, {}
        if not counts:
            return
        rows = [_row(key, *count) for key, count in counts.items()]
        try:
            # No answer that may be kept tells of downloads.
            await self._store.index.run_unnoticed(lambda tx: add_downloads(tx, rows))
        except BaseException:
            self._take_back(counts)
            raise
        if self._lost:
            logger.warning("downloads not counted", requests=self._lost)
            self._lost = 0

    async def close(self) -> None:
        """Write everything; called after the last request, while the store is still open."""
        await self._later.end()
        try:
            await self._flush()
        except StoreError as error:
            logger.error("downloads lost at the end", counts=self.waiting, error=str(error))

    async def _write(self) -> None:
        try:
            await self._flush()
        except Exception as error:
            log = logger.warning if isinstance(error, StoreError) else logger.exception
            log("downloads wait", counts=self.waiting, error=str(error))
            self._later.put_off(FLUSH_SECONDS)
        if self._counts:
            self._later.want(FLUSH_SECONDS)

    def _take_back(self, counts: dict[_Key, list[int]]) -> None:
        """Put counts that were not written before those that came meanwhile."""
        newer, self._counts = self._counts, counts
        for key, (requests, size_bytes) in newer.items():
            count = counts.setdefault(key, [0, 0])
            count[0] += requests
            count[1] += size_bytes


class _Again:
    """Counts requests for the same bytes by the same principal and client.

    It holds the count of the present minute for as long as the log still has it; whoever put it
    there has seen to it that it will be written.
    """

    __slots__ = ("_clock", "_count", "_counts", "_log", "_minute", "_size_bytes", "_what")

    def __init__(self, log: DownloadLog, what: tuple[str, str, str, str], size_bytes: int) -> None:
        self._log = log
        self._clock = log._store.clock
        self._what = what
        self._size_bytes = size_bytes
        self._minute = 0
        self._counts: dict[_Key, list[int]] | None = None
        """Those of the log that the count is in."""
        self._count: list[int] | None = None

    def __call__(self) -> None:
        now = self._clock()
        if self._counts is not self._log._counts or not 0 <= now - self._minute < MINUTE:
            version, path, principal, client = self._what
            self._minute = now - now % MINUTE
            self._count = self._log._count_of((version, self._minute, path, principal, client))
            self._counts = None if self._count is None else self._log._counts
        if (count := self._count) is not None:
            count[0] += 1
            count[1] += self._size_bytes


def _row(key: _Key, requests: int, size_bytes: int) -> dict[str, Any]:
    version, minute, path, principal, client = key
    return {
        "version": version,
        "minute": minute,
        "path": path,
        "principal": principal,
        "client": client,
        "requests": requests,
        "bytes": size_bytes,
    }


async def announce_download(
    store: Store, principal: Principal, place: Tree | DraftFiles, facts: dict[str, Any]
) -> None:
    """Write down, durably, that a principal is about to get bytes of a version or a draft."""
    model = place.model
    if isinstance(place, DraftFiles):
        kind, id, name = "draft", place.draft.id, place.name
    elif place.version is not None:
        kind, id, name = "version", place.version.id, place.version.name
    else:  # a tree that no living version has
        kind, id, name = "model", model.id, model.name
        facts = {**facts, "tree": str(place.digest)}
    entry = Entry(action="download", kind=kind, id=id, name=name, model=model.id, after=facts)
    await store.index.run(lambda tx: record(tx, principal, entry))


class DownloadsPage(msgspec.Struct, frozen=True):
    """Sums in order of their keys, the sum of all of them, and the versions they speak of."""

    items: list[Counted]
    total: Counted | None
    versions: dict[str, Member]


async def read_downloads(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference | None,
    groups: Sequence[Group],
    *,
    since: int = 0,
    until: int = 2**62,
    after: Sequence[Any] | None = None,
    limit: int = 100,
) -> DownloadsPage:
    """Downloads of a version, or of all versions of a model, summed by `groups`."""

    async def unit(tx: Tx) -> DownloadsPage:
        found = await require_model(tx, principal, model)
        version_id = None if version is None else await _version_id(tx, found, version)
        span = Span(found.id, version_id, since, until)
        items = await sum_downloads(tx, span, groups, after, limit)
        totals = await sum_downloads(tx, span, (), None, 1)
        place = groups.index("version") if "version" in groups else None
        ids = set() if place is None else {item.keys[place] for item in items}
        members = await find_members(tx, ids) if ids else {}
        return DownloadsPage(items, totals[0] if totals else None, members)

    return await store.index.read(unit)


async def _version_id(tx: Tx, model: Model, reference: VersionReference) -> str:
    place = await follow(tx, model, reference)
    if not isinstance(place, Tree) or place.version is None:
        raise NotFound("version", f"{place.name} of {model.name}", code="version_not_found")
    return place.version.id
