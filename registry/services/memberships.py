"""Who is in a team, and as what: decided by its admins and by administrators of the registry.

A role in a team is what its member may do in the namespaces that the team owns, so nobody gives a
higher one than they hold in the team. Everybody may leave. A team without an admin is looked after
by the administrators of the registry.
"""

from __future__ import annotations

import msgspec

from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.memberships import (
    Member,
    change_role,
    delete_membership,
    find_membership,
    insert_membership,
    members_after,
)
from registry.domain.accounts import Membership, User
from registry.domain.models import Team
from registry.domain.principals import Principal
from registry.domain.roles import NO_WORDS, WORDS, Words
from registry.errors import Denied, NotFound
from registry.services.authority import require_account, require_held
from registry.services.change import change
from registry.services.teams import require_team
from registry.services.users import require_user
from store.index.transactions import Tx
from store.opening import Store


class PutMember(msgspec.Struct, frozen=True):
    """A member as it is now, and whether they were none before."""

    member: Member
    is_new: bool


async def list_members(
    store: Store, principal: Principal, team: str, *, after: str = "", limit: int = 100
) -> list[Member]:
    """A page of a team's members in order of ids; for members and administrators."""

    async def unit(tx: Tx) -> list[Member]:
        found = await require_team(tx, team)
        if not principal.may_everywhere("admin"):
            await _require_member(tx, principal, found)
        return await members_after(tx, found.id, after, limit)

    return await store.index.read(unit)


async def _require_member(tx: Tx, principal: Principal, team: Team) -> None:
    if await find_membership(tx, team.id, require_account(principal)) is None:
        raise Denied("read", f"members of {team.name}")


async def put_member(
    store: Store, principal: Principal, team: str, reference: str, role: str
) -> PutMember:
    """Take a user into a team, or give a member another role."""

    async def unit(tx: Tx) -> PutMember:
        found = await require_team(tx, team)
        held = await _held(tx, principal, found)
        user = await require_user(tx, reference)
        before = await find_membership(tx, found.id, user.id)
        require_held(principal, WORDS[role], held, found.name)
        if before is not None:
            require_held(principal, WORDS[before.role], held, found.name)
        return await keep_member(tx, principal, found, user, before, role)

    return await change(store, principal, unit)


async def keep_member(
    tx: Tx, principal: Principal, team: Team, user: User, before: Membership | None, role: str
) -> PutMember:
    """Write a membership, for whoever made sure that it may be."""
    if before is None:
        after = Membership(
            team=team.id, user=user.id, role=role, created_at=tx.now, created_by=principal.id
        )
        await insert_membership(tx, after)
    else:
        after = msgspec.structs.replace(before, role=role)
        if after != before:
            await change_role(tx, team.id, user.id, role)
    if after != before:
        await identity.touch(tx)
        await record(tx, principal, _entry(team, user, before, after))
    return PutMember(Member(after, user.username, user.kind, user.is_active), before is None)


async def remove_member(store: Store, principal: Principal, team: str, reference: str) -> None:
    """Take a user out of a team; raises `NotFound` for who is not in it."""

    async def unit(tx: Tx) -> None:
        found = await require_team(tx, team)
        user = await require_user(tx, reference)
        if user.id != principal.id:
            await _held(tx, principal, found)
        before = await find_membership(tx, found.id, user.id)
        if before is None:
            raise NotFound("member", user.username, code="member_not_found")
        await drop_member(tx, principal, found, user, before)

    await change(store, principal, unit)


async def drop_member(
    tx: Tx, principal: Principal, team: Team, user: User, before: Membership
) -> None:
    """Remove a membership, for whoever made sure that it may be."""
    await delete_membership(tx, team.id, user.id)
    await identity.touch(tx)
    await record(tx, principal, _entry(team, user, before, None))


async def _held(tx: Tx, principal: Principal, team: Team) -> Words:
    """What the caller may give in a team; raises `Denied` for who does not administer it."""
    limit = principal.rights.limit
    if principal.may_everywhere("admin"):
        return principal.rights.everywhere
    own = await find_membership(tx, team.id, require_account(principal))
    words = NO_WORDS if own is None else WORDS[own.role]
    held = words if limit is None else words & limit
    if "namespace.admin" not in held:
        raise Denied("namespace.admin", f"members of {team.name}")
    return held


def _entry(team: Team, user: User, before: Membership | None, after: Membership | None) -> Entry:
    def said(one: Membership | None) -> dict[str, str] | None:
        if one is None:
            return None
        return {"user": user.id, "username": user.username, "role": one.role}

    action = "create" if before is None else "delete" if after is None else "update"
    return Entry(
        action=action,
        kind="member",
        id=team.id,
        name=f"{user.username} in {team.name}",
        before=said(before),
        after=said(after),
    )
