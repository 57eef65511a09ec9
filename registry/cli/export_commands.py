"""The flags and help of ``export`` and ``import``; what they do is in `registry.cli.exports`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Json, Server, tells_exits


@tells_exits
def export(
    model: Annotated[str, Parameter(name="MODEL")],
    /,
    *places: Annotated[
        str,
        Parameter(
            help="Versions to take along (default: all), then the file to write, or - for the "
            "output.",
            allow_leading_hyphen=True,
        ),
    ],
    server: Server = None,
    json: Json = False,
) -> int:
    """Write a model to one file, to be imported elsewhere: MODEL [VERSION...] FILE.

    The file is a tar of JSON documents and of every file once. It holds all versions with their
    numbers, labels, metadata, tags, metrics, scores, reviews and lineage, the names of deleted
    ones, the aliases with their history, and the card. The same model gives the same bytes.
    """
    from registry.cli.exits import CommandError
    from registry.cli.exports import run_export

    if not places:
        raise CommandError("name the file to write, or - for the output")
    *versions, target = places
    return run_export(model, versions, target, server=server, as_json=json)


@tells_exits
def import_(
    file: Annotated[
        str,
        Parameter(
            name="FILE", help="An exported model, or - for the input.", allow_leading_hyphen=True
        ),
    ],
    /,
    *,
    name: Annotated[
        str | None, Parameter(name="--as", help="Call the model so (default: as it was called).")
    ] = None,
    server: Server = None,
    json: Json = False,
) -> int:
    """Make a model of an exported one, all of it or nothing.

    Every file is verified, and what the server has is not stored again. Numbers, labels and aliases
    are those of the original; you are the author here, and metadata.imported_from of each version
    tells who was. Scores and reviews stay behind: they are judgements of the other registry.
    """
    from registry.cli.exports import run_import

    return run_import(file, name, server=server, as_json=json)
