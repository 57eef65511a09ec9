"""The shapes in which models, versions and files travel as JSON, and the URLs that lead to them."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web

from registry.domain.models import Draft, Model, Version
from registry.http.targets import encoded
from registry.http.times import rfc3339
from registry.keys import ADDRESSES


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A published version."""

    id: str
    number: int
    label: str | None
    revision: str
    tree: str
    files: int
    size: int
    created_at: str
    created_by: str
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


class Urls:
    """Absolute URLs under the address that the client itself used."""

    __slots__ = ("_base",)

    def __init__(self, request: web.Request) -> None:
        self._base = request.app[ADDRESSES].base_url(request)

    def version(self, model: Model, name: str) -> str:
        return f"{self._base}/models/{encoded(model.name.replace('/', '~'))}/{encoded(name)}"

    def file(self, model: Model, name: str, path: str) -> str:
        return f"{self.version(model, name)}/{encoded(path, keep='/')}"

    def publish(self, model: Model, label: str) -> str:
        name = encoded(model.name.replace("/", "~"))
        return f"{self._base}/api/v1/models/{name}/versions/{encoded(label)}/publish"


def version_answer(urls: Urls, model: Model, version: Version) -> VersionAnswer:
    url = urls.version(model, version.name)
    return VersionAnswer(
        id=version.id,
        number=version.number,
        label=version.label,
        revision=version.revision,
        tree=str(version.tree),
        files=version.files,
        size=version.size_bytes,
        created_at=rfc3339(version.created_at),
        created_by=version.created_by,
        url=url + "/",
        archive_url=url + ".tar",
    )


def draft_answer(urls: Urls, model: Model, draft: Draft) -> DraftAnswer:
    return DraftAnswer(
        label=draft.label,
        created_at=rfc3339(draft.created_at),
        created_by=draft.created_by,
        touched_at=rfc3339(draft.touched_at),
        url=urls.version(model, draft.label) + "/",
        publish_url=urls.publish(model, draft.label),
    )
