"""The flags and help of ``digestry team``, ``grant`` and ``namespace``; what they do is in
`registry.cli.people`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from registry.cli.arguments import Json, ServedData, Server, tells_exits

Role = Literal["reader", "writer", "maintainer", "admin"]
Visibility = Literal["public", "internal", "private"]
TeamName = Annotated[str, Parameter(name="TEAM")]
UserName = Annotated[str, Parameter(name="USER")]
Slug = Annotated[str, Parameter(name="NAMESPACE")]

team: Final = App(name="team", help="Manage teams and who is in them.", help_format="plaintext")
grant: Final = App(
    name="grant",
    help="Manage grants: who has which role on which model, namespace, or on everything.",
    help_format="plaintext",
)
namespace: Final = App(
    name="namespace",
    help="Manage namespaces, the first segments of models' names.",
    help_format="plaintext",
)


@team.command(name="list")
@tells_exits
def list_teams(*, server: Server = None, data: ServedData = None, json: Json = False) -> int:
    """List teams."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.list_all(open_desk(server, data), "teams", people.TEAMS, as_json=json)


@team.command(name="show")
@tells_exits
def show_team(
    team: TeamName, /, *, server: Server = None, data: ServedData = None, json: Json = False
) -> int:
    """Tell everything about a team, and who is in it."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.show_team(open_desk(server, data), team, as_json=json)


@team.command(name="make")
@tells_exits
def make_team(
    team: TeamName,
    /,
    *,
    department: str | None = None,
    cost_center: str | None = None,
    description: str | None = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Make a team."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    wish = {
        "name": team,
        "department": department,
        "cost_center": cost_center,
        "description": description,
    }
    return people.make(open_desk(server, data), "teams", wish, as_json=json)


@team.command(name="change")
@tells_exits
def change_team(
    team: TeamName,
    /,
    *,
    name: Annotated[str | None, Parameter(help="Another name.")] = None,
    department: str | None = None,
    cost_center: str | None = None,
    description: str | None = None,
    active: bool | None = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Change what is said of a team."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    patch = {
        "name": name,
        "department": department,
        "cost_center": cost_center,
        "description": description,
        "active": active,
    }
    return people.change(open_desk(server, data), f"teams/{part(team)}", patch, as_json=json)


@team.command(name="delete")
@tells_exits
def delete_team(team: TeamName, /, *, server: Server = None, data: ServedData = None) -> int:
    """Delete a team; its models stay, and its grants give nothing any more."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.delete(open_desk(server, data), f"teams/{part(team)}", team)


@team.command(name="add")
@tells_exits
def add_member(
    team: TeamName,
    user: UserName,
    /,
    *,
    role: Annotated[
        Role, Parameter(help="What they may do in the team's namespaces (default writer).")
    ] = "writer",
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Take somebody into a team, or give a member another role."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.put_member(open_desk(server, data), team, user, role, as_json=json)


@team.command(name="remove")
@tells_exits
def remove_member(
    team: TeamName, user: UserName, /, *, server: Server = None, data: ServedData = None
) -> int:
    """Take somebody out of a team."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.remove_member(open_desk(server, data), team, user)


@grant.command(name="list")
@tells_exits
def list_grants(
    *,
    user: Annotated[str | None, Parameter(help="To this user.")] = None,
    team: Annotated[str | None, Parameter(help="To this team.")] = None,
    model: Annotated[str | None, Parameter(help="On this model.")] = None,
    namespace: Annotated[str | None, Parameter(help="On exactly this pattern.")] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """List the grants on what you administer."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    filters = {"user": user, "team": team, "model": model, "namespace": namespace}
    return people.list_grants(open_desk(server, data), filters, as_json=json)


@grant.command(name="show")
@tells_exits
def show_grant(
    grant: Annotated[str, Parameter(name="ID")],
    /,
    *,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Tell everything about a grant."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.show(open_desk(server, data), f"grants/{part(grant)}", as_json=json)


@grant.command(name="make")
@tells_exits
def make_grant(
    role: Annotated[Role, Parameter(name="ROLE")],
    /,
    *,
    user: Annotated[str | None, Parameter(help="To this user.")] = None,
    team: Annotated[str | None, Parameter(help="To this team.")] = None,
    everyone: Annotated[bool, Parameter(negative=(), help="To everyone who is signed in.")] = False,
    model: Annotated[str | None, Parameter(help="On this model.")] = None,
    namespace: Annotated[
        str | None, Parameter(help="On namespaces like this; * is anything.")
    ] = None,
    registry: Annotated[bool, Parameter(negative=(), help="On everything there is.")] = False,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Give a role to somebody on something; the one that they had there is replaced."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    subject = {"user": user, "team": team, "everyone": everyone}
    resource = {"model": model, "namespace": namespace, "registry": registry}
    return people.give(open_desk(server, data), role, subject, resource, as_json=json)


@grant.command(name="delete")
@tells_exits
def delete_grant(
    grant: Annotated[str, Parameter(name="ID")],
    /,
    *,
    server: Server = None,
    data: ServedData = None,
) -> int:
    """Take a role back, at once."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.delete(open_desk(server, data), f"grants/{part(grant)}", grant)


@namespace.command(name="list")
@tells_exits
def list_namespaces(*, server: Server = None, data: ServedData = None, json: Json = False) -> int:
    """List namespaces."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    return people.list_all(open_desk(server, data), "namespaces", people.NAMESPACES, as_json=json)


@namespace.command(name="show")
@tells_exits
def show_namespace(
    namespace: Slug, /, *, server: Server = None, data: ServedData = None, json: Json = False
) -> int:
    """Tell everything about a namespace."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.show(open_desk(server, data), f"namespaces/{part(namespace)}", as_json=json)


@namespace.command(name="usage")
@tells_exits
def usage_of_namespace(
    namespace: Slug, /, *, server: Server = None, data: ServedData = None, json: Json = False
) -> int:
    """Tell what a namespace takes beside its quotas."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.show(open_desk(server, data), f"namespaces/{part(namespace)}/usage", as_json=json)


@namespace.command(name="make")
@tells_exits
def make_namespace(
    namespace: Slug,
    /,
    *,
    visibility: Annotated[
        Visibility | None, Parameter(help="What new models in it get (default private).")
    ] = None,
    description: str | None = None,
    quota_bytes: int | None = None,
    quota_versions: int | None = None,
    quota_pins: Annotated[int | None, Parameter(help="Pins of the user that has its name.")] = None,
    owner_user: Annotated[
        str | None, Parameter(help="Make it this user's, as an administrator.")
    ] = None,
    owner_team: Annotated[
        str | None, Parameter(help="Make it this team's, as an administrator.")
    ] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Make a namespace, which is yours then."""
    from registry.cli import people
    from registry.cli.desks import open_desk

    wish = {
        "slug": namespace,
        "visibility": visibility,
        "description": description,
        "quota_bytes": quota_bytes,
        "quota_versions": quota_versions,
        "quota_pins": quota_pins,
        "owner": people.owner(owner_user, owner_team),
    }
    return people.make(open_desk(server, data), "namespaces", wish, as_json=json)


@namespace.command(name="change")
@tells_exits
def change_namespace(
    namespace: Slug,
    /,
    *,
    visibility: Annotated[Visibility | None, Parameter(help="What new models in it get.")] = None,
    description: str | None = None,
    quota_bytes: int | None = None,
    quota_versions: int | None = None,
    quota_pins: Annotated[int | None, Parameter(help="Pins of the user that has its name.")] = None,
    owner_user: Annotated[str | None, Parameter(help="Give it to this user.")] = None,
    owner_team: Annotated[str | None, Parameter(help="Give it to this team.")] = None,
    server: Server = None,
    data: ServedData = None,
    json: Json = False,
) -> int:
    """Change what is said of a namespace, and whose it is."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    patch = {
        "visibility": visibility,
        "description": description,
        "quota_bytes": quota_bytes,
        "quota_versions": quota_versions,
        "quota_pins": quota_pins,
        "owner": people.owner(owner_user, owner_team),
    }
    desk = open_desk(server, data)
    return people.change(desk, f"namespaces/{part(namespace)}", patch, as_json=json)


@namespace.command(name="delete")
@tells_exits
def delete_namespace(namespace: Slug, /, *, server: Server = None, data: ServedData = None) -> int:
    """Delete a namespace that holds nothing."""
    from registry.cli import people
    from registry.cli.desks import open_desk
    from registry.client.connection import part

    return people.delete(open_desk(server, data), f"namespaces/{part(namespace)}", namespace)
