"""Storage as JSON: what a namespace, a model or a version takes, and why a blob is kept."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from aiohttp import web

from registry.api.asking import Nothing
from registry.api.blobs import parse_digest
from registry.api.errors import ADAPTER
from registry.api.registering import model_of
from registry.api.versions import target_of
from registry.http.answers import json_answer
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.storage import (
    Explained,
    Kept,
    explain_blob,
    explain_model,
    explain_version,
    usage_of_namespace,
)


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a namespace takes beside its quotas, null for none.

    ``pins`` are those of the user that has its name, told to that user and to operators.
    """

    namespace: str
    bytes: int
    versions: int
    pins: int | None
    quota_bytes: int | None
    quota_versions: int | None
    quota_pins: int | None


class StorageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Blobs that something names, each once, and what purging it would free.

    ``frees_of_model`` is in nothing else of the model; ``frees_of_namespace`` in nothing else of
    the namespace, told to who reads all of it; ``frees_of_store`` is nobody else's, told to
    operators: the next collection may take it.
    """

    model: str
    version: str | None
    blobs: int
    bytes: int
    frees_of_model: int
    frees_of_namespace: int | None
    frees_of_store: int | None


class KeepingFile(msgspec.Struct, frozen=True):
    """A file that is the blob: of a version with its number, or of a draft with its label."""

    number: int | None
    label: str | None
    path: str
    deleted: bool


class KeepingModel(msgspec.Struct, frozen=True):
    """A model that refers to the blob, with some of the files of its newest versions and drafts."""

    id: str
    name: str
    deleted: bool
    files: list[KeepingFile]


class KeepingPin(msgspec.Struct, frozen=True):
    """A pin of the caller; operators see everybody's."""

    owner: str
    kind: Literal["pin", "kept"]
    created_at: str


class KeepingLease(msgspec.Struct, frozen=True):
    """A lease, for operators."""

    holder: str
    expires_at: str


class OwnersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a blob, as far as the caller sees it; what is hidden is not even counted."""

    digest: str
    size: int
    models: list[KeepingModel]
    more_models: bool
    pins: list[KeepingPin]
    uploads: list[str]
    leases: list[KeepingLease] | None


async def get_usage(request: web.Request) -> web.StreamResponse:
    """Bytes of a namespace, each blob once, and its versions, deleted ones included."""
    read_query(request, Nothing)
    _, _, _, raw, _ = raw_segments(request, 5)
    reference = decoded(raw, field="namespace")
    found = await usage_of_namespace(request.app[STORE], request[PRINCIPAL], reference)
    namespace = found.namespace
    return json_answer(
        UsageAnswer(
            namespace=namespace.slug,
            bytes=found.bytes,
            versions=found.versions,
            pins=found.pins,
            quota_bytes=namespace.quota_bytes,
            quota_versions=namespace.quota_versions,
            quota_pins=namespace.quota_pins,
        )
    )


async def get_model_storage(request: web.Request) -> web.StreamResponse:
    """What a model takes with all its versions and drafts, and what purging it would free."""
    read_query(request, Nothing)
    found = await explain_model(request.app[STORE], request[PRINCIPAL], model_of(request))
    return json_answer(_storage(found))


async def get_version_storage(request: web.Request) -> web.StreamResponse:
    """What a version or a draft takes, and what purging it alone would free."""
    read_query(request, Nothing)
    found = await explain_version(request.app[STORE], request[PRINCIPAL], *target_of(request))
    return json_answer(_storage(found))


async def get_owners(request: web.Request) -> web.StreamResponse:
    """Why a blob is kept: models with files that are it, pins, uploads and leases."""
    read_query(request, Nothing)
    digest = parse_digest(request.match_info["digest"])
    return json_answer(_owners(await explain_blob(request.app[STORE], request[PRINCIPAL], digest)))


def _storage(found: Explained) -> StorageAnswer:
    return StorageAnswer(
        model=found.model.name,
        version=found.name,
        blobs=found.blobs,
        bytes=found.bytes,
        frees_of_model=found.frees_of_model,
        frees_of_namespace=found.frees_of_namespace,
        frees_of_store=found.frees_of_store,
    )


def _owners(kept: Kept) -> OwnersAnswer:
    leases = kept.leases
    return OwnersAnswer(
        digest=str(kept.digest),
        size=kept.size_bytes,
        models=[
            KeepingModel(
                owning.model.id,
                owning.model.name,
                owning.model.is_deleted,
                [KeepingFile(f.number, f.label, f.path, f.is_deleted) for f in owning.files],
            )
            for owning in kept.models
        ],
        more_models=kept.has_more_models,
        pins=[
            KeepingPin(pin.owner, pin.kind, rfc3339(pin.created_at))  # type: ignore[arg-type]  # no other kinds are asked for
            for pin in kept.pins
        ],
        uploads=kept.uploads,
        leases=None if leases is None else [KeepingLease(h, rfc3339(at)) for h, at in leases],
    )


_MODEL: Final = "/api/v1/models/{model:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/namespaces/{namespace:[^/]+}/usage",
        handler=get_usage,
        permission="content.write",
        adapter=ADAPTER,
        summary="Get what a namespace takes",
        tag="namespaces",
        query=Nothing,
        answers={200: UsageAnswer},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_MODEL + "/storage",
        handler=get_model_storage,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get what a model takes, and what purging it would free",
        tag="models",
        query=Nothing,
        answers={200: StorageAnswer},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_MODEL + "/versions/{version:[^/]+}/storage",
        handler=get_version_storage,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get what a version takes, and what purging it would free",
        tag="versions",
        query=Nothing,
        answers={200: StorageAnswer},
        problems=(404,),
    ),
    Route(
        method="GET",
        path="/api/v1/blobs/{digest}/owners",
        handler=get_owners,
        permission="content.read",
        adapter=ADAPTER,
        summary="Get why a blob is kept",
        tag="blobs",
        query=Nothing,
        answers={200: OwnersAnswer},
        problems=(404,),
    ),
]
