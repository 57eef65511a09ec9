"""``digestry init`` and ``info``: a directory with a file of settings, and what is in force."""

from __future__ import annotations

import os
import platform
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from registry import __version__
from registry.cli import directory, presence
from registry.cli.exits import CLEAN, CommandError
from registry.cli.output import say, say_json
from registry.cli.schema import is_current, prepare
from registry.cli.tables import show
from registry.client.connection import masked
from registry.config import FIELDS, ConfigError, environment_name, load, load_traced
from store import layout
from store.errors import StoreError
from store.processes import is_alive

_REFERENCE: Final = "config.toml"


def init(*, data: str | None, config: str | None, as_json: bool) -> int:
    """Make what `serve` would make, and a file of settings in which everything can be changed."""
    path = Path(config or _REFERENCE)
    try:
        settings = load(None, os.environ, {"store.data": data})
    except ConfigError as error:
        raise CommandError(str(error)) from error
    if os.path.lexists(path):
        raise CommandError(f"{path} is there already; edit it, or name another with --config")
    root = Path(settings.store.data).resolve()
    was_there = (root / layout.STORE_FILE).exists()
    claimed = directory.claim(root, create=True)
    try:
        if not is_current(root):
            prepare(root)
    except StoreError as error:
        raise CommandError(str(error)) from error
    finally:
        claimed.release()
    _write(path, _settings(root))
    if as_json:
        say_json({"data": str(root), "config": str(path), "is_new": not was_there})
        return CLEAN
    say(f"{root} {'was a data directory already' if was_there else 'is a new data directory'}")
    say(f"{path} has every setting, at its default; edit it, then: digestry serve --config {path}")
    return CLEAN


def _settings(root: Path) -> str:
    """The reference with every key commented out but the place of the data.

    What stays commented out follows the defaults of later versions.
    """
    lines = []
    for line in reference().splitlines():
        if line.startswith("data = "):
            lines.append(f"data = {msgspec.json.encode(str(root)).decode()}")
        elif " = " in line and not line.startswith("#"):
            lines.append(f"#{line}")
        else:
            lines.append(line)
    head = (
        "# What is commented out, without a space, is at its default; remove the # to change it.\n"
    )
    return head + "\n".join(lines) + "\n"


def reference() -> str:
    """``config.toml`` as documented: installed with the package, or beside it in a checkout."""
    installed = files("registry").joinpath(_REFERENCE)
    if installed.is_file():
        return installed.read_text("utf-8")
    return Path(__file__).resolve().parents[2].joinpath(_REFERENCE).read_text("utf-8")


def _write(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already") from error
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def info(*, config: str | None, data: str | None, only_changed: bool, as_json: bool) -> int:
    """Every setting with its value and where that comes from; secrets in URLs are left out."""
    try:
        settings, origins = load_traced(config, os.environ, {"store.data": data})
    except ConfigError as error:
        raise CommandError(str(error)) from error
    rows = [
        (key, _shown(_value(settings, key)), origins.get(key, "default"))
        for key in FIELDS
        if key in origins or not only_changed
    ]
    facts = _facts(Path(settings.store.data).resolve(), settings.store.backend == "memory")
    if as_json:
        say_json(
            {
                **facts,
                "settings": {
                    key: {"value": _plain(_value(settings, key)), "from": origin}
                    for key, _, origin in rows
                },
            }
        )
        return CLEAN
    for name, fact in facts.items():
        say(f"{name}: {fact if fact is not None else 'none'}")
    show(("SETTING", "VALUE", "FROM"), rows)
    say(f"a variable such as {environment_name('server.port')} overrides the file, a flag both")
    return CLEAN


def _facts(root: Path, is_memory: bool) -> dict[str, Any]:
    from registry.cli.transfers import SERVER_VARIABLE, server_url
    from store.index.driver import sqlite

    server = None if is_memory else presence.find(root)
    is_running = server is not None and is_alive(server.pid)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite.sqlite_version,
        "data": None if is_memory else str(root),
        "running_server": masked(server.url) if server is not None and is_running else None,
        "commands_talk_to": masked(server_url(None)),
        "commands_are_told_by": SERVER_VARIABLE if os.environ.get(SERVER_VARIABLE) else "default",
    }


def _value(settings: Any, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return masked(value) if isinstance(value, str) and "://" in value else value


def _shown(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    return ", ".join(map(str, plain)) if isinstance(plain, list) else str(plain)
