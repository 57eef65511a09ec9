"""Tags as JSON: on models and versions, and which there are."""

from __future__ import annotations

from functools import partial
from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_tags import (
    TagAnswer,
    TagAssigned,
    TagPut,
    TagsChange,
    TagsChanged,
    TagsQuery,
    TagUpdate,
    tag_answer,
    tag_assigned,
)
from registry.catalog.tag_lists import CountedTag
from registry.domain.names import fold
from registry.domain.references import parse_model, parse_reference
from registry.domain.tags import parse_key, parse_value
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row, expected_rows
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services import tags
from registry.services.tags import Assignment, Place, Removal, Step, TagWish

MOST_STEPS: Final = 1000


async def get_tags_of(request: web.Request) -> web.StreamResponse:
    """The tags of a model or version in order of their keys, with who put them there and when."""
    query = read_query(request, PageQuery)
    place, _ = _target(request)
    scope = request.path
    after = place_after(query, tuple[str], scope=scope)
    found = await tags.list_tags_of(
        request.app[STORE],
        request[PRINCIPAL],
        place,
        after="" if after is None else after[0],
        limit=query.limit + 1,
    )
    page, following = found[: query.limit], None
    if len(found) > query.limit:
        following = cursor(query, fold(page[-1].tag.key), scope=scope)
    return page_answer(request, [tag_assigned(tagging) for tagging in page], following)


async def put_tag(request: web.Request) -> web.StreamResponse:
    """Put a tag on a model or version; one of the same key with another value is replaced."""
    place, key = _target(request)
    put = await read_json(request, TagPut, is_optional=True)
    store, principal = request.app[STORE], request[PRINCIPAL]
    value = parse_value(put.value)
    wish = TagWish.fresh(store.clock(), parse_key(key), value, put.description)
    placed = await tags.put_tag(store, principal, place, wish)
    return json_answer(tag_assigned(placed.tagging), status=201 if placed.is_new else 200)


async def delete_tag_of(request: web.Request) -> web.StreamResponse:
    """Take a tag away from a model or version.

    A tag that nothing has any more goes, unless somebody described it.
    """
    place, key = _target(request)
    await tags.remove_tag(request.app[STORE], request[PRINCIPAL], place, parse_key(key))
    return web.Response(status=204)


async def post_tags(request: web.Request) -> web.StreamResponse:
    """Take keys away and put tags, on any models and versions, all or nothing."""
    wanted = await read_json(request, TagsChange)
    store = request.app[STORE]
    steps = _steps(store.clock(), wanted)
    removals = len(wanted.remove)

    def render(done: list[bool]) -> web.Response:
        return json_answer(TagsChanged(sum(done[removals:]), sum(done[:removals])))

    call = partial(tags.change_tags, store, request[PRINCIPAL], steps)
    return await answer_once(request, call, render)


def _steps(now: int, wanted: TagsChange) -> list[Step]:
    if not 1 <= len(wanted.assign) + len(wanted.remove) <= MOST_STEPS:
        raise Invalid("body", f"must have 1 to {MOST_STEPS} parts in assign and remove together")
    steps, problems = list[Step](), list[tuple[str, ...]]()
    for name in ("remove", "assign"):
        for index, part in enumerate(getattr(wanted, name)):
            at = f"{name}[{index}]."
            try:
                version = part.version
                place = Place(
                    parse_model(part.model, field=f"{at}model"),
                    None if version is None else parse_reference(version, field=f"{at}version"),
                )
                key = parse_key(part.key, field=f"{at}key")
                if name == "remove":
                    steps.append(Removal(place, key))
                    continue
                value = parse_value(part.value, field=f"{at}value")
                steps.append(Assignment(place, TagWish.fresh(now, key, value, part.description)))
            except Invalid as error:
                problems += error.problems
    if problems:
        raise Invalid(problems[0][0], problems[0][1], problems=problems[:100])
    return steps


async def get_tags(request: web.Request) -> web.StreamResponse:
    """The tags there are, in order of key and value, with how many models and versions have each.

    ``prefix`` is the beginning of ``key=value`` in any case: ``lang``, ``language=e``.
    """
    query = read_query(request, TagsQuery)
    after = place_after(query, tuple[str])
    found = await tags.list_tags(
        request.app[STORE],
        request[PRINCIPAL],
        prefix=query.prefix,
        after="" if after is None else after[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = cursor(query, page[-1].tag.folded) if len(found) > query.limit else None
    return page_answer(request, [tag_answer(counted) for counted in page], following)


async def get_one_tag(request: web.Request) -> web.StreamResponse:
    """A tag by id, or written ``key=value``, or by its key where it has no value."""
    return _answer(await tags.get_tag(request.app[STORE], request[PRINCIPAL], _tag(request)))


async def patch_tag(request: web.Request) -> web.StreamResponse:
    """Say what a tag means."""
    patch = await read_json(request, TagUpdate)
    described = await tags.describe_tag(
        request.app[STORE],
        request[PRINCIPAL],
        _tag(request),
        patch.description,
        expected_rows(request),
    )
    return _answer(described)


async def delete_tag(request: web.Request) -> web.StreamResponse:
    """Remove a tag that nothing has."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await tags.delete_tag(store, principal, _tag(request), expected_rows(request))
    return web.Response(status=204)


def _tag(request: web.Request) -> str:
    return decoded(raw_segments(request, 4)[3], field="tag")


def _target(request: web.Request) -> tuple[Place, str]:
    """The place in the path, and the key behind it if there is one."""
    _, _, _, model, what, *rest = raw_segments(request, 8)
    version = None
    if what == "versions":
        version = parse_reference(decoded(rest[0], field="version"))
        rest = rest[2:]
    key = decoded(rest[0], field="key") if rest else ""
    return Place(parse_model(decoded(model, field="model")), version), key


def _answer(counted: CountedTag) -> web.Response:
    """The counts change without the tag, so what is answered must not be kept."""
    seen = counted.models * 10**9 + counted.versions
    etag = etag_of_row(counted.tag.id, counted.tag.changes, seen)
    return json_answer(tag_answer(counted), headers={ETAG: etag, hdrs.CACHE_CONTROL: "no-store"})


_MODEL: Final = "/api/v1/models/{model:[^/]+}"
_PLACES: Final = (("model", _MODEL), ("version", _MODEL + "/versions/{version:[^/]+}"))
_TAGS: Final = "/api/v1/tags"
_TAG: Final = _TAGS + "/{tag:[^/]+}"

ROUTES: Final = [
    *(
        Route(
            method="GET",
            path=path + "/tags",
            handler=get_tags_of,
            permission="model.read",
            adapter=ADAPTER,
            summary=f"List the tags of a {thing}",
            tag="tags",
            query=PageQuery,
            answers={200: Page[TagAssigned]},
            problems=(404,),
        )
        for thing, path in _PLACES
    ),
    *(
        Route(
            method="PUT",
            path=path + "/tags/{key:[^/]+}",
            handler=put_tag,
            permission="model.write",
            adapter=ADAPTER,
            body="json",
            summary=f"Put a tag on a {thing}",
            tag="tags",
            accepts=TagPut,
            is_body_optional=True,
            answers={200: TagAssigned, 201: TagAssigned},
            problems=(404, 429),
        )
        for thing, path in _PLACES
    ),
    *(
        Route(
            method="DELETE",
            path=path + "/tags/{key:[^/]+}",
            handler=delete_tag_of,
            permission="model.write",
            adapter=ADAPTER,
            summary=f"Take a tag away from a {thing}",
            tag="tags",
            answers={204: None},
            problems=(404,),
        )
        for thing, path in _PLACES
    ),
    Route(
        method="GET",
        path=_TAGS,
        handler=get_tags,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the tags there are",
        tag="tags",
        query=TagsQuery,
        answers={200: Page[TagAnswer]},
    ),
    Route(
        method="POST",
        path=_TAGS + "/batch",
        handler=post_tags,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Put and take away many tags",
        tag="tags",
        accepts=TagsChange,
        answers={200: TagsChanged},
        problems=(409,),
    ),
    Route(
        method="GET",
        path=_TAG,
        handler=get_one_tag,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a tag",
        tag="tags",
        answers={200: TagAnswer},
        problems=(404,),
    ),
    Route(
        method="PATCH",
        path=_TAG,
        handler=patch_tag,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Say what a tag means",
        tag="tags",
        accepts=TagUpdate,
        answers={200: TagAnswer},
        problems=(404,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_TAG,
        handler=delete_tag,
        permission="model.write",
        adapter=ADAPTER,
        summary="Remove a tag that nothing has",
        tag="tags",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
]
