"""Models as JSON: made, found, described, renamed, deleted, brought back and purged."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET

from registry.api.errors import ADAPTER
from registry.api.wire import Urls, version_answer
from registry.api.wire_models import (
    ModelAnswer,
    ModelCreate,
    ModelQuery,
    ModelRename,
    ModelRestore,
    ModelsCreate,
    ModelsMade,
    ModelsQuery,
    ModelUpdate,
    VersionsOfModel,
    model_answer,
)
from registry.auth.policy import allows
from registry.catalog.version_lists import ANY
from registry.domain.lists import MOST_COUNTED
from registry.domain.names import fold, parse_model_name
from registry.domain.references import ModelId, ModelReference, parse_model
from registry.domain.tags import parse_key, parse_tag, parse_value
from registry.errors import Denied, Invalid
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after, total_of
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.full_models import FullModel
from registry.services.model_lists import ModelsAsked, list_models
from registry.services.models import (
    ModelPatch,
    ModelWish,
    change_model,
    create_model,
    create_models,
    delete_model,
    get_deleted_model,
    get_model,
    restore_model,
)
from registry.services.purges import purge_model
from registry.services.tags import TagWish
from registry.services.versions import FIRST, list_versions_of_model

MOST_INCLUDED: Final = 20
"""How many versions ``include=versions`` shows; there is a list for the others."""


def model_in_path(request: web.Request) -> ModelReference:
    """The model of ``/api/v1/models/{model}…``."""
    return parse_model(decoded(raw_segments(request, 5)[3], field="model"))


async def get_models(request: web.Request) -> web.StreamResponse:
    """Models in order of name, or of making (the newest first); with ``deleted=true`` deleted ones.

    All filters that are given must hold. ``q`` is part of the name, the description or a tag in any
    case; with one or two characters it is how the name begins.
    """
    query = read_query(request, ModelsQuery)
    kinds = tuple[str] if query.order == "name" and not query.deleted else tuple[int, str]
    found = await list_models(
        request.app[STORE],
        request[PRINCIPAL],
        _asked(query),
        place=place_after(query, kinds),
        limit=query.limit,
        is_counted=query.total,
    )
    urls = Urls(request)
    total = total_of(found.total, MOST_COUNTED)
    following = None if found.place is None else cursor(query, *found.place)
    return page_answer(
        request, [model_answer(urls, full) for full in found.items], following, total
    )


def _asked(query: ModelsQuery) -> ModelsAsked:
    return ModelsAsked(
        namespace=query.namespace,
        team=query.team,
        kind=query.kind,
        task_type=query.task,
        subject_domain=query.subject,
        risk_level=query.risk,
        visibility=query.visibility,
        active=query.active,
        tags=tuple(parse_tag(text) for text in query.tag),
        text=query.q,
        is_deleted=query.deleted,
        order=query.order,
    )


async def post_model(request: web.Request) -> web.StreamResponse:
    """Make a model; the first one in a namespace makes that too."""
    wish = await read_json(request, ModelCreate)
    store, principal = request.app[STORE], request[PRINCIPAL]
    [made] = wishes(store.clock(), [wish])
    _refuse_hold(request, wish.legal_hold)
    call = partial(create_model, store, principal, made)
    return await answer_once(request, call, partial(_model, request, status=201))


async def post_models(request: web.Request) -> web.StreamResponse:
    """Make up to 1,000 models, all or none; the refusal lists every one that cannot be made."""
    batch = await read_json(request, ModelsCreate)
    store, principal = request.app[STORE], request[PRINCIPAL]
    made = wishes(store.clock(), batch.models, field="models")
    _refuse_hold(request, any(wish.legal_hold for wish in batch.models))

    def render(models: list[FullModel]) -> web.Response:
        urls = Urls(request)
        return json_answer(ModelsMade([model_answer(urls, full) for full in models]), status=201)

    return await answer_once(request, partial(create_models, store, principal, made), render)


def wishes(now: int, asked: list[ModelCreate], *, field: str = "") -> list[ModelWish]:
    """What a body asks to make; raises `Invalid` with every bad name and tag in it."""
    made, problems, code = list[ModelWish](), list[tuple[str, ...]](), None
    for index, wish in enumerate(asked):
        at = f"{field}[{index}]." if field else ""
        try:
            made.append(_wish(now, wish, at))
        except Invalid as error:
            problems += error.problems
            code = error.code
    if problems:
        raise Invalid(problems[0][0], problems[0][1], problems=problems[:100], code=code)
    return made


def _wish(now: int, wish: ModelCreate, at: str) -> ModelWish:
    said = msgspec.structs.asdict(wish)
    name = parse_model_name(said.pop("name"), field=f"{at}name")
    tags = tuple(
        TagWish.fresh(
            now,
            parse_key(key, field=f"{at}tags"),
            parse_value(value, field=f"{at}tags.{key}"),
        )
        for key, value in said.pop("tags").items()
    )
    if len({fold(tag.key) for tag in tags}) < len(tags):
        raise Invalid(f"{at}tags", "has one key in several spellings", code="tag_invalid")
    return ModelWish.fresh(now, name, tags=tags, **said)


def _refuse_hold(request: web.Request, is_meant: object) -> None:
    """Holds are for those who administer: they keep everybody from deleting."""
    if is_meant not in (False, UNSET) and not allows(request[PRINCIPAL], "namespace.admin"):
        raise Denied("namespace.admin", request.path)


async def get_one_model(request: web.Request) -> web.StreamResponse:
    """A model by name (a former one too) or id.

    ``include=versions`` adds its newest versions, without an ``ETag``, because they change on their
    own.
    """
    query = read_query(request, ModelQuery)
    reference = model_in_path(request)
    store, principal = request.app[STORE], request[PRINCIPAL]
    if query.deleted:
        full = await get_deleted_model(store, principal, _id(reference))
        return _model(request, full)
    full = await get_model(store, principal, reference)
    if query.include is not None:
        return await _with_versions(request, full)
    etag = etag_of_row(full.model.id, full.model.changes, under=full.under)
    if is_unmodified(request, etag):
        return web.Response(status=304, headers=revalidated(etag))
    return _model(request, full)


async def _with_versions(request: web.Request, full: FullModel) -> web.Response:
    page = await list_versions_of_model(
        request.app[STORE],
        request[PRINCIPAL],
        ModelId(full.model.id),
        ANY,
        before=FIRST,
        limit=MOST_INCLUDED,
    )
    urls = Urls(request)
    url = urls.model(full.model) + "/versions"
    items = [version_answer(urls, full.model, listed.version) for listed in page.items]
    following = None if page.next is None else f"{url}?limit={MOST_INCLUDED}"
    versions = VersionsOfModel(items, following, url)
    return json_answer(model_answer(urls, full, versions))


def _id(reference: ModelReference) -> str:
    if not isinstance(reference, ModelId):
        raise Invalid("model", "a deleted model is named by its id; its name is anybody's")
    return reference.id


def _model(request: web.Request, full: FullModel, *, status: int = 200) -> web.Response:
    answer = model_answer(Urls(request), full)
    headers = revalidated(etag_of_row(full.model.id, full.model.changes, under=full.under))
    if status == 201:
        headers[hdrs.LOCATION] = answer.url
    return json_answer(answer, status=status, headers=headers)


async def patch_model(request: web.Request) -> web.StreamResponse:
    """Change what is said of a model; with ``name`` rename it."""
    patch = await read_json(request, ModelUpdate)
    _refuse_hold(request, patch.legal_hold is not UNSET)
    said: dict[str, Any] = msgspec.structs.asdict(patch)
    if patch.name is not UNSET:
        said["name"] = parse_model_name(patch.name, field="name")
    full = await change_model(
        request.app[STORE],
        request[PRINCIPAL],
        model_in_path(request),
        ModelPatch(**said),
        expected_rows(request),
    )
    return _model(request, full)


async def rename_model(request: web.Request) -> web.StreamResponse:
    """Give a model another name; its former one leads to it, and nobody else can take it."""
    wish = await read_json(request, ModelRename)
    call = partial(
        change_model,
        request.app[STORE],
        request[PRINCIPAL],
        model_in_path(request),
        ModelPatch(name=parse_model_name(wish.name, field="name")),
        expected_rows(request),
    )
    return await answer_once(request, call, partial(_model, request))


async def delete_one_model(request: web.Request) -> web.StreamResponse:
    """Delete a model; it can be restored by its id until it is purged. Its name is free at once."""
    await delete_model(
        request.app[STORE], request[PRINCIPAL], model_in_path(request), expected_rows(request)
    )
    return web.Response(status=204)


async def restore_one_model(request: web.Request) -> web.StreamResponse:
    """Bring a deleted model back by its id, with everything it held."""
    wish = await read_json(request, ModelRestore, is_optional=True)
    name = None if wish.name is None else parse_model_name(wish.name, field="name")
    call = partial(
        restore_model, request.app[STORE], request[PRINCIPAL], model_in_path(request), name
    )
    return await answer_once(request, call, partial(_model, request))


async def purge_one_model(request: web.Request) -> web.StreamResponse:
    """Remove a deleted model by its id, for good, with everything it held.

    Its bytes go with the next collection where nothing else refers to them. Versions of other
    models that came from it keep an edge to its name.
    """
    id = _id(model_in_path(request))
    call = partial(purge_model, request.app[STORE], request[PRINCIPAL], id)
    return await answer_once(request, call, lambda _: web.Response(status=204))


_MODELS: Final = "/api/v1/models"
_MODEL: Final = _MODELS + "/{model:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_MODELS,
        handler=get_models,
        permission="model.read",
        adapter=ADAPTER,
        summary="List models",
        tag="models",
        query=ModelsQuery,
        answers={200: Page[ModelAnswer]},
        problems=(404,),
    ),
    Route(
        method="POST",
        path=_MODELS,
        handler=post_model,
        permission="model.create",
        adapter=ADAPTER,
        body="json",
        summary="Make a model",
        tag="models",
        accepts=ModelCreate,
        answers={201: ModelAnswer},
        problems=(404, 409),
    ),
    Route(
        method="POST",
        path=_MODELS + "/batch",
        handler=post_models,
        permission="model.create",
        adapter=ADAPTER,
        body="json",
        summary="Make many models, all or none",
        tag="models",
        accepts=ModelsCreate,
        answers={201: ModelsMade},
        problems=(409,),
    ),
    Route(
        method="GET",
        path=_MODEL,
        handler=get_one_model,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a model",
        tag="models",
        repeats=True,
        query=ModelQuery,
        answers={200: ModelAnswer, 304: None},
        problems=(404, 412),
    ),
    Route(
        method="PATCH",
        path=_MODEL,
        handler=patch_model,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Change a model",
        tag="models",
        accepts=ModelUpdate,
        answers={200: ModelAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_MODEL,
        handler=delete_one_model,
        permission="model.write",
        adapter=ADAPTER,
        summary="Delete a model",
        tag="models",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_MODEL + "/rename",
        handler=rename_model,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Rename a model",
        tag="models",
        accepts=ModelRename,
        answers={200: ModelAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_MODEL + "/restore",
        handler=restore_one_model,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Bring a deleted model back",
        tag="models",
        accepts=ModelRestore,
        is_body_optional=True,
        answers={200: ModelAnswer},
        problems=(404, 409),
    ),
    Route(
        method="POST",
        path=_MODEL + "/purge",
        handler=purge_one_model,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Remove a deleted model for good",
        tag="models",
        answers={204: None},
        problems=(404, 409),
    ),
]
