"""``digestry login``, ``logout`` and ``whoami``: a token for this machine, kept and given back.

Logging in with a password makes an API token of the user's own, named after this machine, which
expires and can be seen and ended like any other; the password and the session it opened are
forgotten at once.
"""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from registry.cli.credentials import Credential, credential_for, forget, keep
from registry.cli.desks import Desk, ServerDesk
from registry.cli.exits import CLEAN, CommandError, complain
from registry.cli.output import say, say_json
from registry.cli.secrets_in import ask_plain, ask_secret
from registry.cli.tables import show as show_table
from registry.cli.transfers import server_url

MOST_DAYS: Final = 3650


def login(
    url: str | None, *, username: str | None, by_token: bool, days: int, as_json: bool
) -> int:
    """Get a token, by a password or from the input, and keep it for the server."""
    if not 1 <= days <= MOST_DAYS:
        raise CommandError(f"--days is from 1 to {MOST_DAYS}")
    address = server_url(url)
    token = ask_secret("Token") if by_token else _by_password(address, username, days)
    me = ServerDesk(address, token=token).ask("GET", "me")
    if me["came_by"] != "token":
        what = "does not ask who calls" if me["came_by"] == "local" else "takes that for no token"
        raise CommandError(f"{address} {what}; nothing was kept")
    path = keep(address, Credential(token, me["username"]))
    if as_json:
        say_json({"server": address, "username": me["username"], "file": str(path)})
    else:
        say(f"logged in to {address} as {me['username']}; the token is in {path}")
    return CLEAN


def _by_password(address: str, username: str | None, days: int) -> str:
    name = username or ask_plain("Username")
    if not name:
        raise CommandError("the username is empty")
    wish = {"username": name, "password": ask_secret("Password")}
    signed_in = ServerDesk(address, token="").ask("POST", "login", wish)
    desk = ServerDesk(address, token=signed_in["access_token"])
    try:
        return _new_token(desk, days)
    finally:
        desk.ask("DELETE", f"sessions/{signed_in['session']['id']}")


def _new_token(desk: Desk, days: int) -> str:
    ends = datetime.now(UTC) + timedelta(days=days)
    wish = {"name": f"digestry on {socket.gethostname()}"[:200], "expires_at": ends.isoformat()}
    return str(desk.ask("POST", "tokens", wish)["secret"])


def logout(url: str | None) -> int:
    """End the kept token, and forget it whatever the server says."""
    address = server_url(url)
    kept = credential_for(address)
    if kept is None:
        raise CommandError(f"nobody is logged in to {address}")
    try:
        ServerDesk(address, token=kept.token).ask("POST", "logout")
    except CommandError as error:
        complain(f"the token was not ended at the server: {error}")
    forget(address)
    say(f"logged out of {address}")
    return CLEAN


def whoami(desk: Desk, *, as_json: bool) -> int:
    """Tell who the server takes the caller for, and what they may do."""
    me = desk.ask("GET", "me")
    if as_json:
        say_json(me)
        return CLEAN
    by = f"a {me['came_by']}" if me["came_by"] in ("token", "session") else me["came_by"]
    say(f"{me['username']} ({me['kind']}), by {by}")
    if me["scopes"] is not None:
        say(f"  no more than: {' '.join(me['scopes'])}")
    for team in me["teams"]:
        say(f"  {team['role']} in {team['name']}")
    rows = _rights(me["rights"])
    if rows:
        show_table(("WHERE", "WHAT"), rows)
    return CLEAN


def _rights(rights: Any) -> list[tuple[str, str]]:
    rows = []
    if rights["everywhere"]:
        rows.append(("everywhere", " ".join(rights["everywhere"])))
    if rights["everything_visible"]:
        rows.append((f"{' and '.join(rights['everything_visible'])} models", "read"))
    for one in rights["namespaces"]:
        rows.append((f"{one['name']}/", " ".join(one["permissions"])))
    for one in rights["models"]:
        rows.append((one["name"], " ".join(one["permissions"])))
    return rows
