"""``digestry push`` and ``pull``: the words on the command line, the client's work, the report."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from registry.cli.credentials import token_for
from registry.cli.exits import CLEAN, FAILED, REFUSED, CommandError, complain
from registry.cli.output import many, say, say_json, size
from registry.cli.progress import shown
from registry.client.connection import Connection, masked
from registry.client.errors import (
    ClientError,
    NotARegistry,
    Refused,
    SourceRefused,
    TargetRefused,
)
from registry.client.pull import Pulled, Wish, pull
from registry.client.push import Publication, Pushed, push
from registry.client.transfer import Step, Watch
from registry.client.unfinished import Unfinished
from registry.domain.names import ModelName, parse_label
from registry.domain.operations import Progress
from registry.domain.references import ModelId, parse_model, parse_reference
from registry.errors import Invalid

T = TypeVar("T")

SERVER_VARIABLE: Final = "DIGESTRY_URL"
DEFAULT_SERVER: Final = "http://127.0.0.1:8080"

_SPLIT: Final = re.compile(r"[:@]")
_OURS: Final = frozenset(("files", "label", "base", "publish", "source"))


def server_url(given: str | None) -> str:
    """The server that a command talks to: flag, environment, this machine."""
    return given or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER


def run_push(
    target: str,
    places: Sequence[Path],
    *,
    server: str | None,
    base: str | None,
    about: Path | None,
    is_draft: bool,
    as_json: bool,
) -> int:
    """Send files and make them a version."""
    publication = _publication(target, base, about, is_draft=is_draft)

    async def work(connection: Connection, watch: Watch) -> Pushed:
        return await push(connection, places, publication, unfinished=_unfinished(), watch=watch)

    try:
        pushed = with_server(server, "push", work)
    except CommandError as error:
        cause = error.__cause__
        if isinstance(cause, Refused) and cause.code == "model_not_found":
            raise CommandError(f"{error}; {_may_not(publication.model)}", error.code) from error
        raise
    if as_json:
        say_json(pushed)
        return CLEAN
    sent = f"{pushed.sent} sent ({size(pushed.sent_size)})"
    say(f"{many(pushed.files, 'file')}, {size(pushed.size)}: {sent}, {pushed.already_there} there")
    if pushed.state == "draft":
        say(f"{pushed.model}:{pushed.label} is a draft")
    else:
        name = f"version {pushed.number}" + (f" ({pushed.label})" if pushed.label else "")
        say(f"{pushed.model}: {name}" + ("" if pushed.is_new else ", which was there already"))
        say(f"get it with: digestry pull {pushed.model}:{pushed.label or pushed.number}")
    return CLEAN


def _may_not(model: ModelName) -> str:
    """What to do where a model is neither seen nor may be made: the same, whether it is there."""
    return (
        "a push makes a model that is not there only for whoever may write in "
        f"{model.namespace}: ask its owner for the role writer, or look who you are with "
        "digestry whoami"
    )


def run_pull(
    target: str,
    paths: Sequence[str],
    *,
    to: Path | None,
    server: str | None,
    replace: bool,
    sync: bool,
    as_json: bool,
) -> int:
    """Fetch files of a version."""
    wish, name = wish_of(target, paths)
    root = to or Path(name)

    async def work(connection: Connection, watch: Watch) -> Pulled:
        return await pull(connection, wish, root, watch=watch, replace=replace, sync=sync)

    try:
        pulled = with_server(server, "pull", work)
    except CommandError as error:
        if isinstance(error.__cause__, TargetRefused) and "differs" in str(error):
            raise CommandError(f"{error}; --replace replaces what differs", error.code) from error
        raise
    if as_json:
        say_json(pulled)
        return CLEAN
    version = "" if pulled.number is None else f" version {pulled.number}"
    label = f" ({pulled.label})" if pulled.label else ""
    say(f"{pulled.model}{version}{label} in {pulled.target}")
    fetched = f"{pulled.fetched} fetched ({size(pulled.fetched_size)})"
    there = f"{pulled.already_there} there"
    say(f"{many(pulled.files, 'file')}, {size(pulled.size)}: {fetched}, {there}")
    return CLEAN


def with_server(
    server: str | None,
    title: str,
    work: Callable[[Connection, Watch], Awaitable[T]],
    *,
    token: str | None = None,
) -> T:
    """Do something at a server; what goes wrong there ends the command with one line.

    It is shown `token`, an empty one being none, or what ``digestry login`` kept for it.
    """
    url = server_url(server)
    shown = token_for(url) if token is None else token or None

    async def whole(watch: Watch) -> T:
        async with Connection(url, token=shown) as connection:
            return await work(connection, watch)

    way = f"digestry login {masked(url)}"
    unknown = (
        f"try {way}" if shown is None else f"the token that was shown does not hold, try {way}"
    )
    with refusals(unknown), _drawn(title) as watch:
        return asyncio.run(whole(watch))


@contextmanager
def refusals(unknown: str = "") -> Iterator[None]:
    """Turn what the client raises into the end of a command.

    `unknown` is what to say to whom the server does not know.
    """
    try:
        yield
    except (Refused, SourceRefused, TargetRefused) as error:
        is_theirs = isinstance(error, Refused) and error.status >= 500
        is_unknown = isinstance(error, Refused) and error.code == "unauthenticated"
        hint = f"; {unknown}" if is_unknown and unknown else ""
        raise CommandError(_sentence(error) + hint, FAILED if is_theirs else REFUSED) from error
    except NotARegistry as error:
        raise CommandError(str(error), FAILED) from error
    except ClientError as error:
        raise CommandError(str(error), FAILED) from error


def _sentence(error: ClientError) -> str:
    """What was refused, with every field that the server names."""
    problems = error.details.get("errors") if isinstance(error, Refused) else None
    if not isinstance(problems, list):
        return str(error)
    named = [
        f"{problem['field']}: {problem['reason']}"
        for problem in problems
        if isinstance(problem, dict) and {"field", "reason"} <= problem.keys()
    ]
    return "; ".join(named) or str(error)


@contextmanager
def _drawn(title: str) -> Iterator[Watch]:
    with shown(title) as watch:

        def draw(step: Step) -> None:
            watch(Progress(stage=step.stage, done=step.done, total=step.total, unit="bytes"))

        yield draw


def push_target(text: str) -> tuple[ModelName, str | None]:
    """A model, and the label that the version shall have, if one is given."""
    name, label = _split(text)
    try:
        model = parse_model(name)
        if isinstance(model, ModelId):
            raise CommandError(f"{name} is an id; name the model")
        return model, None if label is None else parse_label(label)
    except Invalid as error:
        raise CommandError(f"{error.reason}; a version is labelled as in bert:1.0.0") from error


def wish_of(text: str, paths: Sequence[str]) -> tuple[Wish, str]:
    """What a pull asks for, and what a directory for it would be called."""
    name, reference = _split(text)
    try:
        model = parse_model(name)
        asked = "latest" if reference is None else reference
        parse_reference(asked)
    except Invalid as error:
        raise CommandError(f"{error.reason}; write MODEL, MODEL:LABEL or MODEL@VERSION") from error
    segment = model.id if isinstance(model, ModelId) else model.segment
    directory = segment.rpartition("~")[2]
    return Wish(model=segment, reference=asked, paths=tuple(paths)), directory


def _split(text: str) -> tuple[str, str | None]:
    """At the first ``:`` or ``@``, neither of which a name can contain."""
    parts = _SPLIT.split(text, maxsplit=1)
    return parts[0], parts[1] if len(parts) == 2 else None


def _publication(
    target: str, base: str | None, about: Path | None, *, is_draft: bool
) -> Publication:
    model, label = push_target(target)
    if is_draft and label is None:
        raise CommandError("a draft needs a label, as in bert:1.0.0")
    said = {} if about is None else _said(about)
    return Publication(model=model, label=label, base=base, said=said, is_draft=is_draft)


def _said(path: Path) -> dict[str, Any]:
    """What a file says of the version; ``-`` is the input."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        said = msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is not a JSON object: {error}") from error
    clash = sorted(_OURS & said.keys())
    if clash:
        raise CommandError(f"{path} says {clash[0]!r}, which the command line decides")
    return said


def _unfinished() -> Unfinished:
    try:
        return Unfinished.of(os.environ)
    except OSError as error:
        complain(f"a push that is killed will start over: {error.filename}: {error.strerror}")
        return Unfinished(None)
