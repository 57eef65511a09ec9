"""Exported models as tests take them apart and put them together, rightly or wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from registry.domain import tars
from tests.support.builders import Answer, Registry, files_in

Entries = dict[str, bytes]


def packed(entries: Mapping[str, bytes]) -> bytes:
    """An archive of these entries in their order, as the registry writes it."""
    found = bytearray()
    for name, content in entries.items():
        found += tars.header_of(name, len(content)) + content
        found += bytes(tars.padded(len(content)) - len(content))
    return bytes(found) + tars.END


def documents(archive: bytes) -> dict[str, Any]:
    """The JSON documents of an archive, by name."""
    entries = files_in(archive).items()
    return {name: json.loads(content) for name, content in entries if name.endswith(".json")}


def edited(archive: bytes, name: str, edit: Callable[[Any], object]) -> bytes:
    """The archive with another document in place of one; `edit` changes it or returns another."""
    entries = files_in(archive)
    document = json.loads(entries[name])
    changed = edit(document)
    entries[name] = json.dumps(document if changed is None else changed).encode()
    return packed(entries)


async def export(registry: Registry, model: str, query: str = "") -> bytes:
    answer = await registry.get(f"/api/v1/models/{model}/export{query}")
    assert answer.status == 200, answer.body
    return answer.body


async def import_(registry: Registry, archive: Any, query: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("POST", f"/api/v1/imports{query}", data=archive, headers=named)
