"""``digestry doctor``: asks everything that a server will need, and says what to do.

It changes nothing but for one small file that it writes and removes to try the disk, and it may run
beside a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from registry.cli import directory, presence
from registry.cli.exits import CLEAN, FINDINGS, CommandError
from registry.cli.output import many, say, say_json
from registry.config import Config, ConfigError, load
from store import layout

State = Literal["ok", "warning", "failure"]


class Finding(msgspec.Struct, frozen=True):
    """What one test found, and what to do about it."""

    test: str
    state: State
    detail: str
    advice: str = ""


def ok(test: str, detail: str) -> Finding:
    return Finding(test, "ok", detail)


def warning(test: str, detail: str, advice: str) -> Finding:
    return Finding(test, "warning", detail, advice)


def failure(test: str, detail: str, advice: str) -> Finding:
    return Finding(test, "failure", detail, advice)


def run(*, config: str | None, data: str | None, server: str | None, as_json: bool) -> int:
    """Print what was found, line by line as it is found."""
    findings = []
    for finding in examine(config, data, server):
        findings.append(finding)
        if not as_json:
            say(f"{finding.state:7}  {finding.test}: {finding.detail}")
            if finding.advice:
                say(f"         {finding.advice}")
    bad = sum(finding.state != "ok" for finding in findings)
    if as_json:
        say_json({"findings": findings, "healthy": not bad})
    else:
        say(f"{many(bad, 'finding')}" if bad else "all is well")
    return FINDINGS if bad else CLEAN


def examine(config: str | None, data: str | None, server: str | None) -> Iterator[Finding]:
    """All tests, each as soon as it is done."""
    from registry.cli import examinations as test

    try:
        settings = load(config, os.environ, {"store.data": data})
    except ConfigError as error:
        yield failure("configuration", str(error), "correct it; config.toml explains every key")
        return
    yield ok("configuration", "every setting is well-formed")
    yield test.versions()
    yield test.file_limit()
    yield test.clock()
    if settings.store.backend == "memory":
        yield warning(
            "data directory", "store.backend is 'memory'", "everything is lost when the server ends"
        )
    else:
        yield from _directory(settings, Path(settings.store.data).resolve())
    other = server or test.other_server()
    if other is not None:
        yield test.reachable(other)


def _directory(settings: Config, root: Path) -> Iterator[Finding]:
    from registry.cli import examinations as test

    if not root.exists():
        yield warning(
            "data directory", f"{root} is not there", "make it: digestry init, or digestry serve"
        )
        yield test.port(settings)
        return
    try:
        directory.check(root)
    except CommandError as error:
        yield failure("data directory", str(error), "choose another with --data, or restore it")
        return
    yield ok("data directory", str(root))
    yield test.permissions(root)
    yield test.file_system(root)
    yield test.disk(root)
    yield test.space(root, settings)
    if (root / layout.STORE_FILE).exists():
        yield from test.index(root)
    running = presence.find(root)
    if running is not None and directory.is_held(root):
        yield test.running_server(running)
    else:
        yield test.port(settings)
