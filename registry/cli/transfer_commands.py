"""The flags and help of ``push`` and ``pull``; what they do is in `registry.cli.transfers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Json, Server, tells_exits


@tells_exits
def push(
    target: Annotated[str, Parameter(name="MODEL[:LABEL]")],
    /,
    *paths: Annotated[Path, Parameter(help="Files, or directories with all that is in them.")],
    base: Annotated[
        str | None, Parameter(help="Take over the files of this version that are not sent.")
    ] = None,
    about: Annotated[
        Path | None,
        Parameter(
            help="A JSON object with what is to be said of the version: description, framework, "
            "parameters, metadata, status and so on. - reads the input.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    draft: Annotated[
        bool, Parameter(negative=(), help="Make a draft of that label, to be published later.")
    ] = False,
    server: Server = None,
    json: Json = False,
) -> int:
    """Make a version of files, sending only those that the server does not have.

    A file is called by its last segment, the files of a directory by their path below it.
    MODEL@LABEL means the same as MODEL:LABEL; without a label the version has its number only.

    Everything is hashed first. A push that breaks, or is killed, continues where it stopped when it
    is run again; there is no version before every byte has arrived.
    """
    from registry.cli.exits import CommandError
    from registry.cli.transfers import run_push

    if not paths:
        raise CommandError("name the files or directories to send")
    return run_push(
        target,
        paths,
        server=server,
        base=base,
        about=about,
        is_draft=draft,
        as_json=json,
    )


@tells_exits
def pull(
    target: Annotated[str, Parameter(name="MODEL[:VERSION]")],
    /,
    *paths: Annotated[
        str, Parameter(help="Only these files, directories or patterns such as *.json.")
    ],
    to: Annotated[
        Path | None, Parameter(help="Directory to write into (default: the model's last name).")
    ] = None,
    replace: Annotated[
        bool, Parameter(negative=(), help="Replace files that are there and differ.")
    ] = False,
    sync: Annotated[
        bool,
        Parameter(
            negative="--no-sync",
            help="Wait for the disk before a file gets its name. Without, a power cut can leave "
            "wrong files.",
        ),
    ] = True,
    server: Server = None,
    json: Json = False,
) -> int:
    """Fetch the files of a version and verify each.

    VERSION is a number, label, alias, tree or id, written behind : or @; without one it is latest.
    Files that are there and right are not fetched again. What is interrupted stays as .part files,
    which the next run continues; a file under its final name is always whole and right.
    """
    from registry.cli.transfers import run_pull

    return run_pull(target, paths, to=to, server=server, replace=replace, sync=sync, as_json=json)
