"""Users with their tokens and grants, written straight into the index.

For tests of what somebody may do; how people come to be is tested through the API.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Table, text

from registry.auth.tokens import hash_of, new_token, prefix_of
from registry.catalog import identity
from registry.catalog.schema import grants, memberships, tokens, users
from registry.config import AuthConfig, Config
from registry.domain.ids import GRANT, TOKEN, USER, new_id
from store.index.transactions import Statement, Tx
from store.opening import Store

AUTHENTICATED = Config(auth=AuthConfig(mode="authenticated"))
ANONYMOUS_READ = Config(auth=AuthConfig(mode="authenticated", anonymous_read=True))


class Person(msgspec.Struct, frozen=True):
    """Somebody who can sign in, and a token of theirs."""

    id: str
    name: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def make_person(
    store: Store, name: str, *, is_admin: bool = False, kind: str = "user", **token: Any
) -> Person:
    """A user with one token; keywords are columns of the token."""
    person = Person(new_id(USER, store.clock()), name, new_token())
    now = store.clock()
    common = {"created_at": now, "created_by": "usr_local"}
    user = {
        **common,
        "id": person.id,
        "kind": kind,
        "username": name,
        "folded": name,
        "description": "",
        "is_admin": int(is_admin),
        "active": 1,
        "updated_at": now,
    }
    shown = {
        **common,
        "id": new_id(TOKEN, now),
        "user": person.id,
        "name": "test",
        "prefix": prefix_of(person.token),
        "secret_hash": hash_of(person.token),
        **token,
    }
    if isinstance(shown.get("scopes"), list):
        shown["scopes"] = msgspec.json.encode(shown["scopes"]).decode()
    await _insert(store, users, user)
    await _insert(store, tokens, shown)
    return person


async def grant(
    store: Store, subject: Person | str, role: str, *, kind: str = "registry", on: str = ""
) -> None:
    """Give `subject` (a person, a team's id, or ``everyone``) a role."""
    if isinstance(subject, Person):
        who = {"subject_kind": "user", "subject": subject.id}
    elif subject == "everyone":
        who = {"subject_kind": "everyone", "subject": ""}
    else:
        who = {"subject_kind": "team", "subject": subject}
    row = {
        "id": new_id(GRANT, store.clock()),
        **who,
        "resource_kind": kind,
        "resource": on,
        "role": role,
        "created_at": store.clock(),
        "created_by": "usr_local",
    }
    await _insert(store, grants, row)


async def join(store: Store, person: Person, team: str, role: str) -> None:
    """Make a person a member of a team."""
    row = {
        "team": team,
        "user": person.id,
        "role": role,
        "created_at": store.clock(),
        "created_by": "usr_local",
    }
    await _insert(store, memberships, row)


async def own(store: Store, slug: str, kind: str, owner: str) -> None:
    """Make a user or a team the owner of a namespace."""
    await _change(store, _OWN, {"slug": slug, "kind": kind, "owner": owner})


async def revoke_tokens(store: Store, person: Person) -> None:
    """Revoke every token of a person."""
    await _change(store, _REVOKE, {"user": person.id, "at": store.clock()})


_OWN = Statement(
    text("UPDATE namespaces SET owner_kind = :kind, owner = :owner WHERE slug = :slug")
)
_REVOKE = Statement(
    text("UPDATE tokens SET revoked_at = :at, revoked_by = 'usr_local' WHERE user = :user")
)


async def _insert(store: Store, table: Table, row: dict[str, Any]) -> None:
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    await _change(
        store, Statement(text(f"INSERT INTO {table.name} ({names}) VALUES ({values})")), row
    )


async def _change(store: Store, statement: Statement, values: dict[str, Any]) -> None:
    async def unit(tx: Tx) -> None:
        await tx.run(statement, **values)
        await identity.touch(tx)

    await store.index.run(unit)
