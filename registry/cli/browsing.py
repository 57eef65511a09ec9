"""``digestry ls``, ``show`` and ``search``: what a server has, as tables for people or as JSON.

With ``--json`` entries are printed as the server gave them; the tables pick what people ask for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from registry.cli.exits import CLEAN, CommandError, printable
from registry.cli.output import many, say, say_json, size
from registry.cli.tables import show as show_table
from registry.cli.transfers import with_server
from registry.client.connection import Connection, part
from registry.domain.references import ModelId, parse_model, parse_reference
from registry.errors import Invalid

PAGE: Final = 1000
_FEW: Final = 100

_OF_MODELS: Final = ("NAME", "KIND", "VERSIONS", "UPDATED", "TAGS", "DESCRIPTION")
_OF_VERSIONS: Final = (
    *("NUMBER", "LABEL", "STATUS", "FILES", "SIZE", "FRAMEWORK", "PUBLISHED", "BY"),
)
_OF_FILES: Final = ("PATH", "SIZE", "DIGEST")
_NUMBERS: Final = ("VERSIONS", "NUMBER", "FILES", "SIZE")

_MODEL_FACTS: Final = (
    *("id", "kind", "visibility", "description", "use_case", "task_type", "subject_domain"),
    *("team", "risk_level", "compliance_required", "active", "legal_hold", "tags"),
    *("version_count", "created_at", "created_by", "updated_at", "url"),
)
_VERSION_FACTS: Final = (
    *("id", "number", "label", "status", "description", "files", "size", "tree", "revision"),
    *("source", "framework", "framework_version", "python_version", "region", "eval_score"),
    *("cost_per_1k", "slo_target", "slo_met", "tier", "tags", "parameters"),
    *("standardisation_parameters", "performance_metrics", "metadata"),
    *("created_at", "created_by", "updated_at", "retired_at", "url"),
)
_DRAFT_FACTS: Final = ("label", "created_at", "created_by", "touched_at", "url")


class Place(msgspec.Struct, frozen=True):
    """What a word on the command line names: a namespace, a model, a version, a path in it."""

    namespace: str | None = None
    model: str | None = None
    version: str | None = None
    path: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a list, in which order, and which part of it."""

    limit: int
    newest: bool = False
    status: str | None = None
    tag: tuple[str, ...] = ()


def place_of(text: str) -> Place:
    """``nlp/`` is a namespace, ``nlp/bert`` a model, ``nlp/bert:1.0.0/sub`` a path of a version."""
    if text.endswith("/") and ":" not in text and "@" not in text:
        return Place(namespace=text[:-1])
    cut = min((at for at in (text.find(":"), text.find("@")) if at >= 0), default=len(text))
    name, rest = text[:cut], text[cut + 1 :]
    version, _, path = rest.partition("/")
    try:
        model = parse_model(name)
        if cut < len(text):
            parse_reference(version)
    except Invalid as error:
        raise CommandError(
            f"{error.reason}; write NAMESPACE/, MODEL, MODEL:VERSION or MODEL:VERSION/PATH"
        ) from error
    segment = model.id if isinstance(model, ModelId) else model.segment
    return Place(model=segment, version=version or None, path=path)


def ls(text: str | None, asked: Asked, *, server: str | None, as_json: bool) -> int:
    """List models, versions of a model, or files of a version."""
    place = Place() if text is None else place_of(text)
    if place.model is None:
        query = {
            "order": "created" if asked.newest else "name",
            **({} if place.namespace is None else {"namespace": place.namespace}),
        }
        items, more = _items(server, "/api/v1/models", query, asked)
        return _print(items, more, _OF_MODELS, map(_model_row, items), as_json=as_json)
    if place.version is None:
        query = {} if asked.status is None else {"status": asked.status}
        items, more = _items(server, f"/api/v1/models/{part(place.model)}/versions", query, asked)
        return _print(items, more, _OF_VERSIONS, map(_version_row, items), as_json=as_json)
    items, more = _files(server, place, asked)
    return _print(items, more, _OF_FILES, map(_file_row, items), as_json=as_json)


def search(words: str, asked: Asked, *, server: str | None, as_json: bool) -> int:
    """Find models by words, the best match first."""
    items, more = _items(server, "/api/v1/search", {"q": words}, asked)
    rows = (_model_row(item["model"]) for item in items)
    return _print(items, more, _OF_MODELS, rows, as_json=as_json)


def show(text: str, *, server: str | None, as_json: bool) -> int:
    """Tell everything about a model or a version."""
    place = place_of(text)
    if place.model is None or place.path:
        raise CommandError("show tells of a model or a version; ls lists the rest")
    base = f"/api/v1/models/{part(place.model)}"
    if place.version is None:
        found = _get(server, base, {"include": "versions"})
        aliases = _get(server, f"{base}/aliases", {"limit": str(PAGE)})["items"]
        if as_json:
            say_json({**found, "aliases": aliases})
        else:
            _show_model(found, aliases)
        return CLEAN
    found = _get(server, f"{base}/versions/{part(place.version)}", {})
    if as_json:
        say_json(found)
    elif "number" in found:
        say(f"{found['model']} {found['label'] or found['number']}")
        _show_facts(found, _VERSION_FACTS)
        say(f"get it with: digestry pull {found['model']}:{found['label'] or found['number']}")
    else:
        say(f"draft {found['label']}")
        _show_facts(found, _DRAFT_FACTS)
    return CLEAN


# Asking


def _get(server: str | None, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    return with_server(
        server, "asking", lambda connection, _: connection.get(path, dict[str, Any], query)
    )


def _items(
    server: str | None, path: str, query: Mapping[str, str], asked: Asked
) -> tuple[list[dict[str, Any]], bool]:
    """Entries of a list, as many as asked for, and whether there are more."""

    async def page(connection: Connection, after: str | None, limit: int) -> _Page:
        sent = [*query.items(), ("limit", str(limit)), *(("tag", tag) for tag in asked.tag)]
        if after is not None:
            sent.append(("after", after))
        return await connection.get(path, _Page, sent)

    return _paged(server, page, asked)


def _files(server: str | None, place: Place, asked: Asked) -> tuple[list[dict[str, Any]], bool]:
    """The files of a version, those below the path if there is one."""
    assert place.model is not None
    assert place.version is not None
    address = f"/models/{part(place.model)}/{part(place.version)}/"
    below = unicodedata.normalize("NFC", place.path).rstrip("/")

    async def page(connection: Connection, after: str | None, limit: int) -> _Page:
        sent = (
            [("limit", str(limit))] if after is None else [("limit", str(limit)), ("after", after)]
        )
        found = await connection.get(address, _Files, sent)
        kept = [
            file
            for file in found.files
            if not below or file["path"] == below or file["path"].startswith(f"{below}/")
        ]
        return _Page(kept, found.next)

    items, more = _paged(server, page, asked)
    if below and not items:
        raise CommandError(f"there is nothing at {below}")
    return items, more


def _paged(
    server: str | None,
    page: Callable[[Connection, str | None, int], Awaitable[_Page]],
    asked: Asked,
) -> tuple[list[dict[str, Any]], bool]:
    if asked.limit < 0:
        raise CommandError("--limit is 0 or more")

    async def work(connection: Connection, _: object) -> tuple[list[dict[str, Any]], bool]:
        items: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            left = PAGE if not asked.limit else min(PAGE, asked.limit - len(items))
            found = await page(connection, after, left)
            items += found.items
            after = found.next
            if after is None or 0 < asked.limit <= len(items):
                return items, after is not None

    return with_server(server, "listing", work)


class _Page(msgspec.Struct):
    items: list[dict[str, Any]]
    next: str | None


class _Files(msgspec.Struct):
    files: list[dict[str, Any]]
    next: str | None


# Printing


def _print(
    items: Sequence[Mapping[str, Any]],
    more: bool,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    as_json: bool,
) -> int:
    if as_json:
        say_json({"items": items, "is_complete": not more})
        return CLEAN
    if items:
        show_table(heads, list(rows), right=_NUMBERS)
    else:
        say("nothing")
    if more:
        say(f"... the first {many(len(items), 'line')}; --limit 0 lists all")
    return CLEAN


def _model_row(model: Mapping[str, Any]) -> tuple[str, ...]:
    tags = " ".join(_tag(tag) for tag in model["tags"])
    described = " ".join(str(model["description"]).split())
    described = described if len(described) <= _FEW else described[: _FEW - 1] + "\u2026"
    return (
        *(model["name"], model["kind"], str(model["version_count"])),
        *(_day(model["updated_at"]), tags, described),
    )


def _version_row(version: Mapping[str, Any]) -> tuple[str, ...]:
    framework = " ".join(filter(None, (version["framework"], version["framework_version"])))
    return (
        *(str(version["number"]), version["label"] or "", version["status"]),
        *(str(version["files"]), size(version["size"]), framework),
        *(_day(version["created_at"]), version["created_by"]),
    )


def _file_row(file: Mapping[str, Any]) -> tuple[str, ...]:
    return file["path"], size(file["size"]), file["digest"]


def _tag(tag: Mapping[str, Any]) -> str:
    return f"{tag['key']}={tag['value']}" if tag["value"] else str(tag["key"])


def _day(time: str) -> str:
    return time[:10]


def _show_model(found: Mapping[str, Any], aliases: Sequence[Mapping[str, Any]]) -> None:
    say(str(found["name"]))
    _show_facts(found, _MODEL_FACTS)
    if aliases:
        pointed = [(each["name"], _pointed(each), _day(each["moved_at"])) for each in aliases]
        show_table(("ALIAS", "VERSION", "SINCE"), pointed)
    versions = found["versions"]["items"]
    if versions:
        show_table(_OF_VERSIONS, [_version_row(each) for each in versions], right=_NUMBERS)
    if found["versions"]["next"] is not None:
        say(f"all of them: digestry ls {found['name']}")


def _pointed(alias: Mapping[str, Any]) -> str:
    version = alias.get("version")
    if version is None:
        return str(alias.get("revision", ""))
    return f"{version['number']}" + (f" ({version['label']})" if version["label"] else "")


def _show_facts(found: Mapping[str, Any], names: Sequence[str]) -> None:
    """One line for each fact that says something."""
    for name in names:
        value = found.get(name)
        if value in (None, "", [], {}):
            continue
        print(f"  {name}: {printable(_fact(name, value))}")


def _fact(name: str, value: Any) -> str:
    if name == "size":
        return f"{size(value)} ({value} bytes)"
    if name == "tags":
        return " ".join(_tag(tag) for tag in value)
    if name == "team":
        return f"{value['name']}{' (deleted)' if value['deleted'] else ''}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)
