"""The one way an alias or a status moves, whichever door asks for it.

Publishing, deleting, restoring, rolling back and moving by hand all end here, so that nothing can
walk round a check. A check is a function that gets the wish before anything is written and raises
to refuse it; it reads through the same transaction, so what it saw still holds when the move
commits. A wish that changes nothing is granted without asking.

Every move leaves an audit entry in its own transaction; a move of an alias its event as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.aliases import find_alias, write_move
from registry.catalog.audit import Entry, record
from registry.catalog.statuses import write_status
from registry.domain.models import Alias, Model, Version
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.statuses import allowed_after
from registry.domain.wishes import AliasWish, StatusWish, Together
from registry.errors import Conflict
from registry.services.guarding import check_alias, check_status
from store.index.transactions import Tx

AliasCheck: TypeAlias = Callable[[Tx, Principal, AliasWish], Awaitable[None]]
StatusCheck: TypeAlias = Callable[[Tx, Principal, StatusWish], Awaitable[None]]

ALIAS_CHECKS: Final[list[AliasCheck]] = [check_alias]
"""Asked in this order before an alias points elsewhere or goes."""

STATUS_CHECKS: Final[list[StatusCheck]] = [check_status]
"""Asked in this order before a version's status changes, once the table of statuses allows it."""


async def move_alias(
    tx: Tx,
    principal: Principal,
    model: Model,
    name: str,
    to: str | None,
    *,
    reason: str,
    is_held: bool,
    restored: int | None = None,
    is_automatic: bool = False,
    together: Together | None = None,
    found: Alias | UnsetType | None = UNSET,
) -> bool:
    """Point an alias at a revision of its model, make it, or with None remove it.

    `found` is the alias as it was read in this transaction, where it was.
    `restored` is the event whose target a rollback goes back to. `is_automatic` says that nobody
    asked for it, `together` which aliases move there at once. Says whether it moved; one that is
    only held, or let go, has not.
    """
    if found is UNSET:
        found = await find_alias(tx, model.id, fold(name))
    before = None if found is None else found.revision
    if before == to and (found is None or found.is_held == is_held):
        return False
    if before != to:
        wish = AliasWish(
            model=model,
            name=name,
            before=before,
            to=to,
            reason=reason,
            is_held=is_held,
            is_automatic=is_automatic,
            together=together,
        )
        for check in ALIAS_CHECKS:
            await check(tx, principal, wish)
    await write_move(
        tx,
        model.id,
        name,
        found,
        to,
        actor=principal.id,
        reason=reason,
        is_held=is_held,
        restored=restored,
    )
    await record(
        tx,
        principal,
        Entry(
            action=_action(to, restored),
            kind="alias",
            id=f"{model.id}@{fold(name)}",
            name=name if found is None else found.name,
            model=model.id,
            before=None if found is None else _place(found.revision, found.is_held),
            after=None if to is None else _place(to, is_held),
            reason=reason,
        ),
    )
    return before != to


async def replay_move(
    tx: Tx, principal: Principal, model: Model, name: str, to: str | None, *, reason: str
) -> None:
    """Write a move that an alias made elsewhere, before its model came here.

    Nobody sees it: in the same transaction `move_alias` goes on to where the alias shall point, and
    that is what checks are asked about and what is recorded.
    """
    found = await find_alias(tx, model.id, fold(name))
    await write_move(
        tx, model.id, name, found, to, actor=principal.id, reason=reason, is_held=False
    )


def _action(to: str | None, restored: int | None) -> str:
    if to is None:
        return "remove"
    return "move" if restored is None else "rollback"


def _place(revision: str, is_held: bool) -> dict[str, str | bool]:
    return {"revision": revision, "held": is_held}


async def move_status(
    tx: Tx, principal: Principal, model: Model, version: Version, status: str, *, reason: str
) -> Version:
    """Give a version another status; the version as it then is.

    `version` was read in this transaction. Raises `Conflict`, code ``transition_forbidden``.
    """
    if version.status == status:
        return version
    allowed = allowed_after(version.status)
    if status not in allowed:
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            f"cannot go from {version.status} to {status}",
            code="transition_forbidden",
            details={"from": version.status, "to": status, "allowed": list(allowed)},
        )
    wish = StatusWish(model=model, version=version, status=status, reason=reason)
    for check in STATUS_CHECKS:
        await check(tx, principal, wish)
    await write_status(tx, version.id, status)
    await record(
        tx,
        principal,
        Entry(
            action="status",
            kind="version",
            id=version.id,
            name=version.name,
            model=model.id,
            before={"status": version.status},
            after={"status": status},
            reason=reason,
        ),
    )
    return msgspec.structs.replace(
        version, status=status, updated_at=tx.now, changes=version.changes + 1
    )
