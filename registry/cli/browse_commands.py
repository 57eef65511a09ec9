"""The flags and help of ``ls``, ``show`` and ``search``; what they do is in
`registry.cli.browsing`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Json, Server, tells_exits

Limit = Annotated[int, Parameter(help="Most lines; 0 lists all (default 100).")]


@tells_exits
def ls(
    place: Annotated[str | None, Parameter(name="PLACE")] = None,
    /,
    *,
    limit: Limit = 100,
    newest: Annotated[
        bool, Parameter(negative=(), help="Models: the newest first, instead of by name.")
    ] = False,
    tag: Annotated[
        list[str] | None,
        Parameter(negative=(), help="Models: with this key or key=value; may be repeated."),
    ] = None,
    status: Annotated[str | None, Parameter(help="Versions: in this status.")] = None,
    server: Server = None,
    json: Json = False,
) -> int:
    """List models, the versions of a model, or the files of a version.

    PLACE is nothing for all models, NAMESPACE/ for those of a namespace, MODEL for its versions,
    MODEL:VERSION for its files, MODEL:VERSION/PATH for those below a path.
    """
    from registry.cli.browsing import Asked
    from registry.cli.browsing import ls as run

    asked = Asked(limit=limit, newest=newest, status=status, tag=tuple(tag or ()))
    return run(place, asked, server=server, as_json=json)


@tells_exits
def show(
    what: Annotated[str, Parameter(name="MODEL[:VERSION]")],
    /,
    *,
    server: Server = None,
    json: Json = False,
) -> int:
    """Tell everything about a model or a version.

    VERSION is a number, label, alias, tree or id, written behind : or @.
    """
    from registry.cli.browsing import show as run

    return run(what, server=server, as_json=json)


@tells_exits
def search(
    *words: Annotated[
        str, Parameter(help='Words, "a phrase", -unwanted, begin*.', allow_leading_hyphen=True)
    ],
    limit: Limit = 100,
    server: Server = None,
    json: Json = False,
) -> int:
    """Find models by words in their names, tags, descriptions and cards, the best match first."""
    from registry.cli.browsing import Asked
    from registry.cli.browsing import search as run
    from registry.cli.exits import CommandError

    if not words:
        raise CommandError("say what to look for")
    return run(" ".join(words), Asked(limit=limit), server=server, as_json=json)
