"""The flags and help of ``digestry user`` and ``token``; what they do is in
`registry.cli.people`."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import App, Parameter

from registry.cli.arguments import Json, ServedData, Server, tells_exits

user: Final = App(
    name="user",
    help="Manage users and service accounts, as an administrator of the registry.",
    help_format="plaintext",
)
token: Final = App(
    name="token", help="Manage API tokens: list, make and end them.", help_format="plaintext"
)

HOLDS: Final = "How long it holds (default for ever, or as long as the token that makes it)."
Username = Annotated[str, Parameter(name="USER")]


@user.command(name="list")
@tells_exits
def list_users(
    *,
    service: Annotated[bool, Parameter(negative=(), help="Only service accounts.")] = False,
    deleted: Annotated[bool, Parameter(negative=(), help="Deleted ones instead.")] = False,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """List users and service accounts."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    query = "?deleted=true" if deleted else "?kind=service" if service else ""
    desk = open_desk(server, data)
    return people.list_all(desk, f"users{query}", people.USERS, as_json=json)


@user.command(name="show")
@tells_exits
def show_user(
    user: Username, /, *, server: Server = None, data: ServedData = None, json: Json = False
) -> int:
    """Tell everything about a user."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.show(open_desk(server, data), f"users/{part(user)}", as_json=json)


@user.command(name="make")
@tells_exits
def make_user(
    user: Username,
    /,
    *,
    email: str | None = None,
    description: str | None = None,
    admin: Annotated[
        bool, Parameter(negative=(), help="Make an administrator of the registry.")
    ] = False,
    service: Annotated[
        bool, Parameter(negative=(), help="Make a service account, which acts by tokens alone.")
    ] = False,
    owner: Annotated[str | None, Parameter(help="Who answers for a service account.")] = None,
    password: Annotated[
        bool,
        Parameter(negative=(), help="Ask for a password, or take the next line of the input."),
    ] = False,
    issuer: Annotated[str | None, Parameter(help="The provider of identities of theirs.")] = None,
    subject: Annotated[str | None, Parameter(help="What that provider calls them.")] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Make a user or a service account."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    wish = {
        "username": user,
        "kind": "service" if service else None,
        "email": email,
        "description": description,
        "is_admin": admin or None,
        "owner": owner,
        "issuer": issuer,
        "subject": subject,
    }
    desk = open_desk(server, data)
    return people.make_user(desk, wish, asks_password=password, as_json=json)


@user.command(name="change")
@tells_exits
def change_user(
    user: Username,
    /,
    *,
    username: Annotated[str | None, Parameter(help="Another name.")] = None,
    email: str | None = None,
    description: str | None = None,
    admin: Annotated[
        bool | None, Parameter(help="Make an administrator, or no longer one.")
    ] = None,
    active: Annotated[
        bool | None, Parameter(help="Let them act again, or take the power to act.")
    ] = None,
    owner: Annotated[str | None, Parameter(help="Who answers for a service account.")] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Change what is said of a user."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    patch = {
        "username": username,
        "email": email,
        "description": description,
        "is_admin": admin,
        "active": active,
        "owner": owner,
    }
    return people.change(open_desk(server, data), f"users/{part(user)}", patch, as_json=json)


@user.command(name="password")
@tells_exits
def change_password(
    user: Annotated[str | None, Parameter(name="USER")] = None,
    /,
    *,
    server: Server = None,
    data: ServedData = None,
) -> int:
    """Give a user another password; without USER yourself.

    It is asked for at the terminal, or read from the input: one line, or for yourself two, the old
    one first.
    """
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.set_password(open_desk(server, data), user)


@user.command(name="revoke")
@tells_exits
def revoke_user(
    user: Username, /, *, server: Server = None, data: ServedData = None, json: Json = False
) -> int:
    """End every token and session of a user."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.revoke(open_desk(server, data), user, as_json=json)


@user.command(name="delete")
@tells_exits
def delete_user(user: Username, /, *, server: Server = None, data: ServedData = None) -> int:
    """Delete a user: nothing of theirs opens anything any more, what they made stays."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.delete(open_desk(server, data), f"users/{part(user)}", user)


@token.command(name="list")
@tells_exits
def list_tokens(
    *,
    user: Annotated[str | None, Parameter(help="Of this user, as an administrator.")] = None,
    ended: Annotated[bool, Parameter(negative=(), help="Revoked and expired ones too.")] = False,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """List your tokens, without their secrets."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    query = f"?ended={str(ended).lower()}" + ("" if user is None else f"&user={part(user)}")
    desk = open_desk(server, data)
    return people.list_all(desk, f"tokens{query}", people.TOKENS, as_json=json)


@token.command(name="show")
@tells_exits
def show_token(
    token: Annotated[str, Parameter(name="ID")],
    /,
    *,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Tell everything about a token but its secret."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.show(open_desk(server, data), f"tokens/{part(token)}", as_json=json)


@token.command(name="make")
@tells_exits
def make_token(
    name: Annotated[str, Parameter(name="NAME", help="What it is for.")],
    /,
    *,
    scope: Annotated[
        list[str] | None,
        Parameter(negative=(), help="Only this permission; may be repeated (default all)."),
    ] = None,
    days: Annotated[int | None, Parameter(help=HOLDS)] = None,
    user: Annotated[
        str | None, Parameter(help="For this service account, as an administrator.")
    ] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Make a token, and print its secret, which is never shown again."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    desk = open_desk(server, data)
    return people.make_token(desk, name, scopes=scope or (), days=days, user=user, as_json=json)


@token.command(name="delete")
@tells_exits
def delete_token(
    token: Annotated[str, Parameter(name="ID")],
    /,
    *,
    server: Server = None,
    data: ServedData = None,
) -> int:
    """End a token, at once."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.delete(open_desk(server, data), f"tokens/{part(token)}", token)
