"""``digestry export`` and ``import``: a model as one file, out of a registry and into one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registry.cli.exits import CLEAN, CommandError, complain
from registry.cli.output import many, say, say_json, size
from registry.cli.transfers import with_server
from registry.client.archives import (
    Exported,
    Imported,
    fetch_archive,
    send_archive,
    send_stream,
    stream_archive,
)
from registry.client.connection import Connection
from registry.client.transfer import Watch
from registry.domain.names import parse_model_name
from registry.domain.references import ModelId, parse_model, parse_reference
from registry.errors import Invalid

_PIPE: Final = "-"


def run_export(
    model: str, versions: Sequence[str], target: str, *, server: str | None, as_json: bool
) -> int:
    """Fetch a model as one file, or onto the output."""
    named = _model(model, versions)
    if target == _PIPE and as_json:
        raise CommandError("the output takes the archive; --json needs a file")

    async def work(connection: Connection, watch: Watch) -> Exported:
        if target == _PIPE:
            return await stream_archive(connection, named, versions, sys.stdout.buffer, watch)
        return await fetch_archive(connection, named, versions, Path(target), watch)

    exported = with_server(server, "export", work)
    if target == _PIPE:
        sys.stdout.flush()
    elif as_json:
        say_json(exported)
    else:
        say(f"{model}: {size(exported.size)} in {target}")
    return CLEAN


def run_import(file: str, name: str | None, *, server: str | None, as_json: bool) -> int:
    """Send an exported model, and say what became of it."""
    called = None if name is None else _name(name)

    async def work(connection: Connection, watch: Watch) -> Imported:
        if file == _PIPE:
            return await send_stream(connection, sys.stdin.buffer, called, watch)
        return await send_archive(connection, Path(file), called, watch)

    imported = with_server(server, "import", work)
    if as_json:
        say_json(imported)
        return CLEAN
    burnt = f", {imported.burnt} burnt" if imported.burnt else ""
    say(f"{imported.model.name}: {many(imported.versions, 'version')}{burnt}")
    for what, count in imported.left_out.items():
        complain(f"left out: {what.replace('_', ' ')} ({count})")
    return CLEAN


def _model(text: str, versions: Sequence[str]) -> str:
    try:
        model = parse_model(text)
        for version in versions:
            parse_reference(version)
    except Invalid as error:
        raise CommandError(f"{error.reason}; write MODEL [VERSION...] FILE") from error
    return model.id if isinstance(model, ModelId) else model.segment


def _name(text: str) -> str:
    try:
        return parse_model_name(text).text
    except Invalid as error:
        raise CommandError(error.reason) from error
