"""Retiring versions, and bringing them back: the one place where `retired_at` changes.

A retired version stays what it was: listed, and readable through every door. Its bytes go to the
cold tier by and by (`registry.services.archive`). It is never what `latest` or `main` are moved to,
and a policy may purge it later.

Whoever registers or publishes the very same content under its name again, or restores it, has said
that it is wanted: it is retired no more, and its age counts from then. If it is cold, its bytes are
brought back within seconds; until then it is read from the archive.

The caller lets the aliases follow, in the same transaction.
"""

from __future__ import annotations

from registry.catalog.archive import want_back
from registry.catalog.audit import Entry, record
from registry.catalog.retention import add_to_day, write_return
from registry.catalog.versions import set_retired
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.times import rfc3339
from store.index.transactions import Tx


async def retire(
    tx: Tx, principal: Principal, model: Model, version: Version, *, reason: str
) -> Version:
    """Retire a living version; one that is retired already stays as it is."""
    if version.retired_at is not None:
        return version
    after = await set_retired(tx, version, at=tx.now)
    await add_to_day(tx, retired=1, retired_bytes=version.size_bytes)
    await _record(tx, principal, "retire", model, version, after, reason)
    return after


async def bring_back(
    tx: Tx, principal: Principal, model: Model, version: Version, *, reason: str = ""
) -> Version:
    """Let a version be retired no more; one that is not stays as it is."""
    if version.retired_at is None:
        return version
    after = await set_retired(tx, version, at=None)
    await write_return(tx, version.id, by=principal.id)
    await want_back(tx, version.id)
    await add_to_day(tx, returned=1)
    await _record(tx, principal, "unretire", model, version, after, reason)
    return after


async def _record(
    tx: Tx,
    principal: Principal,
    action: str,
    model: Model,
    before: Version,
    after: Version,
    reason: str,
) -> None:
    entry = Entry(
        action=action,
        kind="version",
        id=after.id,
        name=after.name,
        model=model.id,
        before=_said(before),
        after=_said(after),
        reason=reason,
    )
    await record(tx, principal, entry)


def _said(version: Version) -> dict[str, str | None]:
    at = version.retired_at
    return {"retired_at": None if at is None else rfc3339(at), "tier": version.tier}
