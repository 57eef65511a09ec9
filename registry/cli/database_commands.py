"""The flags and help of ``digestry db``; what it does is in `registry.cli.database`."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import App, Parameter

from registry.cli.arguments import Config, Data, Json, tells_exits

db: Final = App(
    name="db",
    help="Look at the index, bring it up to date, go back to a copy, start over, ask it in SQL.",
    help_format="plaintext",
)


@db.command
@tells_exits
def current(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Tell the schema of the index and the one this program needs.

    Code 1 says that they differ.
    """
    from registry.cli import database

    return database.current(config=config, data=data, as_json=json)


@db.command
@tells_exits
def history(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """List the migrations, applied and due, and the copies of the index beside it."""
    from registry.cli import database

    return database.history(config=config, data=data, as_json=json)


@db.command
@tells_exits
def upgrade(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Bring the index up to date, after copying it beside itself. Every start does this too.

    Refused while a server runs.
    """
    from registry.cli import database

    return database.upgrade(config=config, data=data, as_json=json)


@db.command
@tells_exits
def restore(
    copy: Annotated[
        str | None,
        Parameter(
            help="A copy that `db history` lists, or the path of a file. Without, the copy that "
            "the last upgrade kept."
        ),
    ] = None,
    /,
    *,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Put a copy in the place of the index: this is how an upgrade is undone.

    What was changed since the copy was made is gone from the index. The index that is replaced is
    kept beside it, and blobs stay where they are; collection stays off until `gc --confirm`.
    Refused while a server runs, and for a copy that is damaged or of another store.
    """
    from registry.cli import database

    return database.restore(copy, config=config, data=data, as_json=json)


@db.command
@tells_exits
def reset(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Start over with an empty index, once the name of the directory was typed.

    Models, versions, aliases and pins are forgotten; the index that knew them is kept beside the
    new one, and the files of blobs stay. Refused while a server runs.
    """
    from registry.cli import database

    return database.reset(config=config, data=data, as_json=json)


@db.command
@tells_exits
def shell(
    statement: Annotated[
        str | None, Parameter(help="Answer this one statement and end.", allow_leading_hyphen=True)
    ] = None,
    /,
    *,
    write: Annotated[
        bool, Parameter(negative=(), help="Allow changes. Refused while a server runs.")
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Ask the index in SQL; statements end with a semicolon, `.help` tells the rest.

    Read-only, also beside a running server, unless --write is given. Statements come from the
    terminal, from the input, or from the command line.
    """
    from registry.cli import database

    return database.shell(statement, write=write, config=config, data=data, as_json=json)
