"""``digestry user``, ``token``, ``team``, ``grant`` and ``namespace``: lists, one of them, changes.

Each command is one or two requests of the native API; what is refused there ends it with the
server's own sentence. With ``--json`` the server's answer is printed as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from registry.cli.desks import Desk, all_of
from registry.cli.exits import CLEAN, CommandError, complain, printable
from registry.cli.output import many, say, say_json, size
from registry.cli.secrets_in import ask_new_password, ask_secret
from registry.cli.tables import show as show_table
from registry.client.connection import part

Row = Mapping[str, Any]


class Shown(msgspec.Struct, frozen=True):
    """How a kind of thing is listed: heads, and the fields under them."""

    heads: tuple[str, ...]
    fields: tuple[str, ...]


USERS: Final = Shown(
    ("USERNAME", "KIND", "ADMIN", "ACTIVE", "E-MAIL", "CREATED"),
    ("username", "kind", "is_admin", "active", "email", "created_at"),
)
TOKENS: Final = Shown(
    ("ID", "NAME", "BEGINS", "STATE", "SCOPES", "EXPIRES", "LAST USED"),
    ("id", "name", "prefix", "state", "scopes", "expires_at", "last_used_at"),
)
TEAMS: Final = Shown(
    ("NAME", "ACTIVE", "DEPARTMENT", "CREATED"), ("name", "active", "department", "created_at")
)
MEMBERS: Final = Shown(("USERNAME", "ROLE", "ACTIVE"), ("username", "role", "active"))
NAMESPACES: Final = Shown(
    ("SLUG", "VISIBILITY", "OWNER", "QUOTA", "CREATED"),
    ("slug", "visibility", "owner", "quota_bytes", "created_at"),
)


def list_all(desk: Desk, path: str, shown: Shown, *, as_json: bool) -> int:
    """Every entry of a list, as a table."""
    items = all_of(desk, path)
    if as_json:
        say_json({"items": items})
    elif items:
        named = with_owners(desk, items)
        rows = [[_cell(item.get(field), field) for field in shown.fields] for item in named]
        show_table(shown.heads, rows)
    else:
        say("nothing")
    return CLEAN


def show(desk: Desk, path: str, *, as_json: bool) -> int:
    """One thing with all that is said of it."""
    return tell(desk, desk.ask("GET", path), as_json=as_json)


def tell(desk: Desk, found: Row, *, as_json: bool) -> int:
    """What the server answered about one thing: a line for each fact that says something."""
    if as_json:
        say_json(found)
        return CLEAN
    [named] = with_owners(desk, [found])
    for name, value in named.items():
        if _says_something(value) or name == "active":
            print(f"{name}: {printable(_cell(value, name, is_short=False))}")
    return CLEAN


def with_owners(desk: Desk, items: Sequence[Row]) -> list[Row]:
    """The same with the names of owners, as far as whoever asks may know them; else with ids."""
    kinds = {one["owner"]["kind"] for one in items if isinstance(one.get("owner"), dict)}
    names = dict[str, str]()
    if "team" in kinds:
        names |= {team["id"]: team["name"] for team in all_of(desk, "teams")}
    if "user" in kinds:
        me = desk.ask("GET", "me")
        names[me["id"]] = me["username"]
        if "admin" in me["rights"]["everywhere"]:
            names |= {user["id"]: user["username"] for user in all_of(desk, "users")}
    return [
        {**one, "owner": f"{whose['kind']} {names.get(whose['id'], whose['id'])}"}
        if isinstance(whose := one.get("owner"), dict)
        else one
        for one in items
    ]


def make(desk: Desk, path: str, wish: Row, *, as_json: bool) -> int:
    """Make something of what was said; what was not said is the server's to choose."""
    return tell(desk, desk.ask("POST", path, given(wish)), as_json=as_json)


def change(desk: Desk, path: str, patch: Row, *, as_json: bool) -> int:
    """Change what was said of something."""
    said = given(patch)
    if not said:
        raise CommandError("say what shall be different; see --help")
    return tell(desk, desk.ask("PATCH", path, said), as_json=as_json)


def delete(desk: Desk, path: str, what: str) -> int:
    """Delete something that has a name here."""
    desk.ask("DELETE", path)
    say(f"{what} is deleted")
    return CLEAN


def given(wish: Row) -> dict[str, Any]:
    """What was said on the command line, without what was not."""
    return {name: value for name, value in wish.items() if value is not None}


# Users


def make_user(desk: Desk, wish: Row, *, asks_password: bool, as_json: bool) -> int:
    """Make a user, with a password from the terminal or the input where one is wanted."""
    said = given(wish)
    if asks_password:
        said["password"] = ask_new_password()
    return make(desk, "users", said, as_json=as_json)


def set_password(desk: Desk, username: str | None) -> int:
    """Another password for somebody, or with no name for oneself."""
    if username is None:
        wish = {"old": ask_secret("Old password"), "new": ask_new_password()}
        desk.ask("POST", "me/password", wish)
        say("your password is changed; every other session of yours has ended")
        return CLEAN
    wish = {"password": ask_new_password()}
    desk.ask("POST", f"users/{part(username)}/password", wish)
    say(f"the password of {username} is changed; their sessions have ended")
    return CLEAN


def revoke(desk: Desk, username: str, *, as_json: bool) -> int:
    """End all tokens and sessions of somebody."""
    ended = desk.ask("POST", f"users/{part(username)}/revoke")
    if as_json:
        say_json(ended)
    else:
        tokens, sessions = many(ended["tokens"], "token"), many(ended["sessions"], "session")
        say(f"{tokens} and {sessions} of {username} ended")
    return CLEAN


# Tokens


def make_token(
    desk: Desk,
    name: str,
    *,
    scopes: Sequence[str],
    days: int | None,
    user: str | None,
    as_json: bool,
) -> int:
    """Make a token; its secret alone goes to the output, so that it can be piped on."""
    ends = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    wish = {"name": name, "scopes": list(scopes) or None, "expires_at": ends, "user": user}
    made = desk.ask("POST", "tokens", given(wish))
    if as_json:
        say_json(made)
        return CLEAN
    print(made["secret"])
    token = made["token"]
    ends = f"ends {token['expires_at'][:10]}" if token["expires_at"] else "does not end by itself"
    complain(f"token {token['id']}, which {ends}; its secret is shown this once")
    return CLEAN


# Teams


def show_team(desk: Desk, name: str, *, as_json: bool) -> int:
    """A team with its members."""
    found = desk.ask("GET", f"teams/{part(name)}")
    members = all_of(desk, f"teams/{part(name)}/members")
    if as_json:
        say_json({**found, "members": members})
        return CLEAN
    tell(desk, found, as_json=False)
    if members:
        show_table(
            MEMBERS.heads,
            [[_cell(member[field], field) for field in MEMBERS.fields] for member in members],
        )
    return CLEAN


def put_member(desk: Desk, team: str, user: str, role: str, *, as_json: bool) -> int:
    """Take somebody into a team, or give them another role there."""
    put = desk.ask("PUT", f"teams/{part(team)}/members/{part(user)}", {"role": role})
    if as_json:
        say_json(put)
    else:
        say(f"{put['username']} is {put['role']} in {team}")
    return CLEAN


def remove_member(desk: Desk, team: str, user: str) -> int:
    """Take somebody out of a team."""
    desk.ask("DELETE", f"teams/{part(team)}/members/{part(user)}")
    say(f"{user} is no longer in {team}")
    return CLEAN


# Grants


def list_grants(desk: Desk, filters: Row, *, as_json: bool) -> int:
    """Grants on what the caller administers."""
    query = "&".join(f"{name}={part(str(value))}" for name, value in given(filters).items())
    items = all_of(desk, f"grants?{query}" if query else "grants")
    if as_json:
        say_json({"items": items})
    elif items:
        rows = [
            (one["id"], _party(one["subject"]), one["role"], _party(one["resource"]))
            for one in items
        ]
        show_table(("ID", "TO", "ROLE", "ON"), rows)
    else:
        say("nothing")
    return CLEAN


def give(desk: Desk, role: str, subject: Row, resource: Row, *, as_json: bool) -> int:
    """Give a role to one subject on one resource."""
    wish = {
        "subject": one_of(subject, "--user, --team or --everyone"),
        "resource": one_of(resource, "--model, --namespace or --registry"),
        "role": role,
    }
    made = desk.ask("POST", "grants", wish)
    if as_json:
        say_json(made)
    else:
        to, on = _party(made["subject"]), _party(made["resource"])
        say(f"{to} is {made['role']} on {on} ({made['id']})")
    return CLEAN


def one_of(named: Row, flags: str) -> dict[str, Any]:
    """The one of several flags that was given, as a kind and a name."""
    chosen = {kind: value for kind, value in named.items() if value}
    if len(chosen) != 1:
        raise CommandError(f"give exactly one of {flags}")
    [(kind, value)] = chosen.items()
    return {"kind": kind} if value is True else {"kind": kind, "name": value}


def owner(user: str | None, team: str | None) -> dict[str, Any] | None:
    """Whose a namespace shall be; None where nothing is said of it."""
    if user is None and team is None:
        return None
    return one_of({"user": user, "team": team}, "--owner-user or --owner-team")


def _says_something(value: Any) -> bool:
    """Whether a fact is worth a line: a 0 is, of how much there is, and equals False."""
    return value is not None and value is not False and value not in ("", [], {})


def _party(one: Row) -> str:
    return f"{one['kind']} {one['name']}" if one["name"] else str(one["kind"])


def _cell(value: Any, field: str, *, is_short: bool = True) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    if field.endswith("_at") and is_short:
        return str(value)[:10]
    if field in ("quota_bytes", "bytes"):
        return size(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)
