"""The shapes in which models, versions and files travel as JSON, and the URLs that lead to them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec
from aiohttp import web

from registry.domain.models import Draft, Model, Source, Version
from registry.domain.statuses import Status
from registry.http.targets import encoded
from registry.http.times import rfc3339
from registry.keys import ADDRESSES

_REMEMBERED: Final = 256
"""Addresses of versions: whoever sends many files is told the same ones each time."""


class SourceAnswer(msgspec.Struct, frozen=True):
    """Bytes kept elsewhere, and what they are said to be."""

    uri: str
    digest: str | None
    size: int | None


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A published version, without what is long about it."""

    id: str
    model: str
    number: int
    label: str | None
    revision: str
    tree: str
    files: int
    size: int
    source: SourceAnswer | None
    status: Status
    framework: str
    framework_version: str
    python_version: str
    region: str
    eval_score: float | None
    cost_per_1k: float | None
    slo_target: str
    slo_met: bool | None
    tier: Literal["hot", "cold"]
    retired_at: str | None
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    purged_at: str | None
    url: str
    archive_url: str


class DraftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A draft; it is not a version yet and may still change."""

    label: str
    created_at: str
    created_by: str
    touched_at: str
    url: str
    publish_url: str


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What putting a file answers."""

    model: str
    label: str
    path: str
    digest: str
    size: int
    url: str
    state: Literal["draft", "published"]
    version: VersionAnswer | None
    publish_url: str | None


class PublishedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What publishing answers."""

    model: str
    state: Literal["published"]
    version: VersionAnswer


class FileInVersion(msgspec.Struct, frozen=True):
    path: str
    digest: str
    size: int


class ListingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files; ``next`` goes into ``after`` for the next page."""

    model: str
    version: VersionAnswer | None
    draft: DraftAnswer | None
    tree: str | None
    count: int
    size: int
    files: list[FileInVersion]
    differing_in_case: list[list[str]]
    next: str | None


class Named(Protocol):
    """A model, as far as addresses and lists tell of it."""

    @property
    def name(self) -> str: ...


class Urls:
    """Absolute URLs under the address that the client itself used."""

    __slots__ = ("_base",)

    def __init__(self, request: web.Request | str) -> None:
        """Under that of a request, or one that is known already."""
        if isinstance(request, str):
            self._base = request
        else:
            self._base = request.app[ADDRESSES].base_url(request)

    def resource(self, kind: str, name: str) -> str:
        """Where something that is not a model's is told."""
        return f"{self._base}/api/v1/{kind}/{encoded(name)}"

    def model(self, model: Named) -> str:
        """Where what is known of a model is told."""
        return f"{self._base}/api/v1/models/{encoded(model.name.replace('/', '~'))}"

    def version(self, model: Named, name: str) -> str:
        return _version_url(self._base, model.name, name)

    def file(self, model: Model, name: str, path: str) -> str:
        return f"{self.version(model, name)}/{encoded(path, keep='/')}"

    def about(self, model: Named, name: str) -> str:
        """Where what is known of a version or a draft is told."""
        return _about_url(self._base, model.name, name)

    def publish(self, model: Model, label: str) -> str:
        return self.about(model, label) + "/publish"


@lru_cache(_REMEMBERED)
def _version_url(base: str, model: str, name: str) -> str:
    return f"{base}/models/{encoded(model.replace('/', '~'))}/{encoded(name)}"


@lru_cache(_REMEMBERED)
def _about_url(base: str, model: str, name: str) -> str:
    return f"{base}/api/v1/models/{encoded(model.replace('/', '~'))}/versions/{encoded(name)}"


def version_answer(urls: Urls, model: Named, version: Version) -> VersionAnswer:
    return VersionAnswer(**version_facts(urls, model, version))


def version_facts(urls: Urls, model: Named, version: Version) -> dict[str, Any]:
    """The fields of `VersionAnswer`, for those that add to it."""
    url, source = urls.version(model, version.name), version.source
    return {
        "id": version.id,
        "model": model.name,
        "number": version.number,
        "label": version.label,
        "revision": version.revision,
        "tree": str(version.tree),
        "files": version.files,
        "size": version.size_bytes,
        "source": None if source is None else _source_answer(source),
        "status": version.status,
        "framework": version.framework,
        "framework_version": version.framework_version,
        "python_version": version.python_version,
        "region": version.region,
        "eval_score": version.eval_score,
        "cost_per_1k": version.cost_per_1k,
        "slo_target": version.slo_target,
        "slo_met": version.slo_met,
        "tier": version.tier,
        "retired_at": _time(version.retired_at),
        "created_at": rfc3339(version.created_at),
        "created_by": version.created_by,
        "updated_at": rfc3339(version.updated_at),
        "deleted_at": _time(version.deleted_at),
        "purged_at": _time(version.purged_at),
        "url": url + "/",
        "archive_url": url + ".tar",
    }


def _source_answer(source: Source) -> SourceAnswer:
    digest = None if source.digest is None else str(source.digest)
    return SourceAnswer(source.uri, digest, source.size_bytes)


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)


def draft_answer(urls: Urls, model: Model, draft: Draft) -> DraftAnswer:
    return DraftAnswer(
        label=draft.label,
        created_at=rfc3339(draft.created_at),
        created_by=draft.created_by,
        touched_at=rfc3339(draft.touched_at),
        url=urls.version(model, draft.label) + "/",
        publish_url=urls.publish(model, draft.label),
    )
