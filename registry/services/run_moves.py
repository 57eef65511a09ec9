"""The one way a run's status moves, whichever door asks for it.

A run that is running ends once, and how it ended stays. A wish that changes nothing is granted
without a trace; every move leaves an audit entry in its own transaction.
"""

from __future__ import annotations

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.runs import write_run_status
from registry.domain.principals import Principal
from registry.domain.runs import Run, allowed_after
from registry.errors import Conflict, Invalid
from store.index.transactions import Tx


async def move_run(
    tx: Tx,
    principal: Principal,
    run: Run,
    status: str,
    *,
    ended_at: int | None = None,
    reason: str = "",
) -> Run:
    """Give a run another status; the run as it then is. Without `ended_at` it ends now.

    `run` was read in this transaction. Raises `Conflict`, code ``transition_forbidden``, and
    `Invalid` for an end before the start.
    """
    if run.status == status:
        return run
    allowed = allowed_after(run.status)
    if status not in allowed:
        raise Conflict(
            "run",
            run.name or run.id,
            f"cannot go from {run.status} to {status}",
            code="transition_forbidden",
            details={"from": run.status, "to": status, "allowed": list(allowed)},
        )
    # Its clock may be ahead of ours; a run that is told to end now ends no earlier than it began.
    end = max(tx.now, run.started_at) if ended_at is None else ended_at
    require_order(run.started_at, end)
    await write_run_status(tx, run.id, status, end)
    after = msgspec.structs.replace(
        run, status=status, ended_at=end, updated_at=tx.now, changes=run.changes + 1
    )
    await record(
        tx,
        principal,
        Entry(
            action="status",
            kind="run",
            id=run.id,
            name=run.name,
            model=run.model_id,
            before={"status": run.status},
            after={"status": status, "ended_at": end},
            reason=reason,
        ),
    )
    return after


def require_order(started_at: int, ended_at: int | None) -> None:
    """Raise `Invalid`, code ``run_ends_before_start``."""
    if ended_at is not None and ended_at < started_at:
        raise Invalid("ended_at", "is before started_at", code="run_ends_before_start")
