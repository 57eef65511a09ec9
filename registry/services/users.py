"""Users and service accounts, as administrators make, change, disable and delete them.

Whoever is deleted loses every token, session, membership and grant in the same transaction, and
keeps the row with its name: what they made still says who made it. The name is free for somebody
else. Disabling takes away nothing but the power to act, and can be undone.

Someone must be able to undo things, so the last administrator who may act can be neither deleted
nor disabled nor made an ordinary user. Whoever makes administrators or sets passwords of others can
become anybody, so that takes all rights, not only the word: a token with scopes does not have them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from registry.auth.passwords import Passwords, parse_password
from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.grants import delete_grants_to
from registry.catalog.memberships import delete_memberships_of
from registry.catalog.sessions import revoke_sessions_of
from registry.catalog.tokens import revoke_tokens_of
from registry.catalog.users import (
    deleted_users_after,
    find_user,
    find_user_by_id,
    find_user_by_subject,
    has_other_admin,
    insert_user,
    update_user,
    users_after,
)
from registry.domain.accounts import User
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import USER, is_id, new_id
from registry.domain.names import fold, parse_username
from registry.domain.principals import Principal
from registry.errors import Conflict, Invalid, NotFound
from registry.services.authority import require_everything, require_everywhere
from registry.services.change import change
from store.index.transactions import Tx
from store.opening import Store


class UserWish(msgspec.Struct, frozen=True, kw_only=True):
    """A user to make; `owner` is a username or an id."""

    username: str
    kind: str = "user"
    email: str | None = None
    description: str = ""
    password: str | None = None
    is_admin: bool = False
    active: bool = True
    owner: str | None = None
    issuer: str | None = None
    subject: str | None = None

    def __repr__(self) -> str:
        return f"UserWish({self.username!r})"


class UserPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is."""

    username: str | UnsetType = UNSET
    email: str | UnsetType | None = UNSET
    description: str | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    issuer: str | UnsetType | None = UNSET
    subject: str | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        return {
            "is_active" if name == "active" else name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not UNSET
        }


class Revoked(msgspec.Struct, frozen=True):
    """How many tokens and sessions were ended."""

    tokens: int
    sessions: int


async def require_user(tx: Tx, reference: str) -> User:
    """The living user with this name or id; raises `NotFound`."""
    if is_id(reference, USER):
        found = await find_user_by_id(tx, reference)
    else:
        found = await find_user(tx, fold(reference))
    if found is None or found.deleted_at is not None:
        raise NotFound("user", reference, code="user_not_found")
    return found


async def create_user(
    store: Store, principal: Principal, passwords: Passwords, wish: UserWish
) -> User:
    """Make a user or a service account; raises `Conflict`, code ``user_exists``."""
    require_everywhere(principal, "admin", "users")
    if wish.is_admin or wish.password is not None:
        require_everything(principal, "users")
    username = parse_username(wish.username)
    _check_kind(wish)
    hashed = await _hashed(passwords, wish, username)
    id = new_id(USER, store.clock())

    async def unit(tx: Tx) -> User:
        await refuse_taken(tx, username)
        user = User(
            id=id,
            kind=wish.kind,
            username=username,
            folded=fold(username),
            email=wish.email,
            description=wish.description,
            password_hash=hashed,
            password_set_at=None if hashed is None else tx.now,
            is_admin=wish.is_admin,
            is_active=wish.active,
            owner=None if wish.owner is None else (await require_user(tx, wish.owner)).id,
            issuer=wish.issuer,
            subject=wish.subject,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        return await add_user(tx, principal, user)

    return await change(store, principal, unit)


async def add_user(tx: Tx, principal: Principal, user: User) -> User:
    """Write a new user whose name is free, in the transaction of whoever makes them."""
    if user.issuer is not None and user.subject is not None:
        await _refuse_linked(tx, user)
    await insert_user(tx, user)
    await identity.touch(tx)
    await record(tx, principal, _entry("create", user, after=said(user)))
    return user


async def _hashed(passwords: Passwords, wish: UserWish, username: str) -> str | None:
    if wish.password is None:
        return None
    names = (username, *(() if wish.email is None else (wish.email,)))
    return await passwords.hash(parse_password(wish.password, names=names))


def _check_kind(wish: UserWish) -> None:
    """What the table demands too, said so that somebody can act on it."""
    if wish.kind == "service" and wish.password is not None:
        raise Invalid("password", "is not for service accounts, which act by tokens")
    if wish.kind != "service" and wish.owner is not None:
        raise Invalid("owner", "is for service accounts: who answers for it")
    if (wish.issuer is None) != (wish.subject is None):
        raise Invalid("subject", "comes with issuer, and issuer with it")


async def refuse_taken(tx: Tx, username: str) -> None:
    """Raise `Conflict`, code ``user_exists``, where a living user has that name."""
    existing = await find_user(tx, fold(username))
    if existing is not None:
        raise Conflict(
            "user",
            username,
            "is there already",
            code="user_exists",
            details={"existing": existing.username, "id": existing.id},
        )


async def _refuse_linked(tx: Tx, user: User) -> None:
    assert user.issuer is not None
    assert user.subject is not None
    other = await find_user_by_subject(tx, user.issuer, user.subject)
    if other is not None and other.id != user.id:
        raise Conflict(
            "user",
            user.username,
            "cannot have an issuer's subject that is somebody's already",
            code="subject_taken",
            details={"existing": other.username, "id": other.id},
        )


async def get_user(store: Store, principal: Principal, reference: str) -> User:
    """A living user by name or id, a deleted one by its id."""
    require_everywhere(principal, "admin", "users")

    async def unit(tx: Tx) -> User:
        if is_id(reference, USER):
            found = await find_user_by_id(tx, reference)
            if found is not None:
                return found
        return await require_user(tx, reference)

    return await store.index.look(unit)


async def list_users(
    store: Store,
    principal: Principal,
    *,
    after: str = "",
    limit: int = 100,
    kind: str | None = None,
) -> list[User]:
    """A page of living users in order of folded name."""
    require_everywhere(principal, "admin", "users")

    async def unit(tx: Tx) -> list[User]:
        return await users_after(tx, after, limit, kind=kind)

    return await store.index.read(unit)


async def list_deleted_users(
    store: Store, principal: Principal, *, after: str = "", limit: int = 100
) -> list[User]:
    """A page of deleted users in order of id."""
    require_everywhere(principal, "admin", "users")

    async def unit(tx: Tx) -> list[User]:
        return await deleted_users_after(tx, after, limit)

    return await store.index.read(unit)


async def change_user(
    store: Store,
    principal: Principal,
    reference: str,
    patch: UserPatch,
    expected: Expected = ANYTHING,
) -> User:
    """Change what is said of a user; what changes nothing leaves no trace."""
    require_everywhere(principal, "admin", "users")
    given = patch.given()
    if "username" in given:
        given["username"] = parse_username(given["username"])
        given["folded"] = fold(given["username"])

    async def unit(tx: Tx) -> User:
        before = await require_user(tx, reference)
        expected.require(before.id, before.changes)
        wanted = dict(given)
        if wanted.get("owner") is not None:
            wanted["owner"] = (await require_user(tx, wanted["owner"])).id
        after = msgspec.structs.replace(before, **wanted)
        if after == before:
            return before
        await _check_change(tx, principal, before, after)
        return await write_user(tx, principal, "update", before, after)

    return await change(store, principal, unit)


async def _check_change(tx: Tx, principal: Principal, before: User, after: User) -> None:
    if after.folded != before.folded:
        await refuse_taken(tx, after.username)
    if after.is_admin != before.is_admin or (after.issuer, after.subject) != (
        before.issuer,
        before.subject,
    ):
        require_everything(principal, before.username)
    _check_kind(
        UserWish(
            username=after.username,
            kind=after.kind,
            owner=after.owner,
            issuer=after.issuer,
            subject=after.subject,
        )
    )
    if after.issuer is not None:
        await _refuse_linked(tx, after)
    if before.is_acting_admin and not after.is_acting_admin:
        await _keep_an_admin(tx, before)


async def _keep_an_admin(tx: Tx, user: User) -> None:
    if not await has_other_admin(tx, user.id):
        raise Conflict(
            "user",
            user.username,
            "is the last administrator who may act",
            code="last_administrator",
        )


async def delete_user(
    store: Store, principal: Principal, reference: str, expected: Expected = ANYTHING
) -> None:
    """Delete a user: nothing of theirs opens anything any more, and authorship stays."""
    require_everywhere(principal, "admin", "users")

    async def unit(tx: Tx) -> None:
        before = await require_user(tx, reference)
        expected.require(before.id, before.changes)
        if before.is_acting_admin:
            await _keep_an_admin(tx, before)
        await _revoke(tx, principal, before)
        await delete_memberships_of(tx, before.id)
        await delete_grants_to(tx, "user", before.id)
        after = msgspec.structs.replace(
            before,
            email=None,
            password_hash=None,
            password_set_at=None,
            is_admin=False,
            is_active=False,
            deleted_at=tx.now,
            deleted_by=principal.id,
        )
        await write_user(tx, principal, "delete", before, after)

    await change(store, principal, unit)


async def set_password(
    store: Store, principal: Principal, passwords: Passwords, reference: str, password: str
) -> User:
    """Give a user another password, as an administrator; every session of theirs ends."""
    require_everything(principal, "passwords of others")
    target = await store.index.look(lambda tx: require_user(tx, reference))
    if target.kind == "service":
        raise Conflict("user", target.username, "is a service account", code="user_is_service")
    parsed = parse_password(password, names=(target.username, target.email or ""))
    hashed = await passwords.hash(parsed)

    async def unit(tx: Tx) -> User:
        before = await require_user(tx, target.id)
        return await put_password(tx, principal, before, hashed)

    return await change(store, principal, unit)


async def put_password(
    tx: Tx, principal: Principal, before: User, hashed: str, *, but: str = ""
) -> User:
    """Keep another password's hash and end the user's sessions, except the one named by `but`."""
    after = msgspec.structs.replace(before, password_hash=hashed, password_set_at=tx.now)
    await revoke_sessions_of(tx, before.id, but=but)
    return await write_user(tx, principal, "password", before, after)


async def revoke_everything(store: Store, principal: Principal, reference: str) -> Revoked:
    """End every token and session of a user, who may make new ones."""
    require_everywhere(principal, "admin", "users")

    async def unit(tx: Tx) -> Revoked:
        user = await require_user(tx, reference)
        revoked = await _revoke(tx, principal, user)
        after = msgspec.structs.asdict(revoked)
        await record(tx, principal, _entry("revoke", user, after=after))
        return revoked

    return await change(store, principal, unit)


async def _revoke(tx: Tx, principal: Principal, user: User) -> Revoked:
    tokens = await revoke_tokens_of(tx, user.id, principal.id)
    sessions = await revoke_sessions_of(tx, user.id)
    await identity.touch(tx)
    return Revoked(tokens, sessions)


async def write_user(tx: Tx, principal: Principal, action: str, before: User, after: User) -> User:
    """Write a user who was changed, for whoever made sure that it may be."""
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    await update_user(tx, after)
    await identity.touch(tx)
    deleted = action == "delete"
    await record(
        tx,
        principal,
        _entry(action, before, before=said(before), after=None if deleted else said(after)),
    )
    return after


def said(user: User) -> dict[str, Any]:
    """What the audit log keeps of a user: nothing that helps to sign in."""
    return {
        "kind": user.kind,
        "username": user.username,
        "email": user.email,
        "description": user.description,
        "is_admin": user.is_admin,
        "active": user.is_active,
        "owner": user.owner,
        "issuer": user.issuer,
        "subject": user.subject,
        "has_a_login": user.password_hash is not None,
    }


def _entry(action: str, user: User, *, before: Any = None, after: Any = None) -> Entry:
    return Entry(
        action=action, kind="user", id=user.id, name=user.username, before=before, after=after
    )
