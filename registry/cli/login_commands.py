"""The flags and help of ``login``, ``logout`` and ``whoami``; what they do is in
`registry.cli.logins`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Json, ServedData, Server, tells_exits

Url = Annotated[
    str | None,
    Parameter(
        name="URL",
        help="Address of the server (default $DIGESTRY_URL, else http://127.0.0.1:8080).",
    ),
]


@tells_exits
def login(
    url: Url = None,
    /,
    *,
    username: Annotated[str | None, Parameter(help="Who logs in; asked for if absent.")] = None,
    token_stdin: Annotated[
        bool, Parameter(negative=(), help="Keep a token, which is the first line of the input.")
    ] = False,
    days: Annotated[int, Parameter(help="How long the token holds (default 90).")] = 90,
    json: Json = False,
) -> int:
    """Log in to a server, and keep a token for the commands that follow.

    The password is asked for at the terminal, or is the next line of the input; it is never an
    argument and is not kept. What is kept is an API token that expires, in a file that only you can
    read. DIGESTRY_TOKEN in the environment goes before it.
    """
    from registry.cli.logins import login as run

    return run(url, username=username, by_token=token_stdin, days=days, as_json=json)


@tells_exits
def logout(url: Url = None, /) -> int:
    """End the token that was kept for a server, and forget it."""
    from registry.cli.logins import logout as run

    return run(url)


@tells_exits
def whoami(*, server: Server = None, data: ServedData = None, json: Json = False) -> int:
    """Tell who the server takes you for, and what you may do there."""
    from registry.cli.desks import open_desk
    from registry.cli.logins import whoami as run

    return run(open_desk(server, data), as_json=json)
