"""What the audit log says of policies, and the policy that goes with its namespace."""

from __future__ import annotations

from typing import Any

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.retention import delete_policy, find_policy_at
from registry.domain.models import Namespace
from registry.domain.principals import Principal
from registry.domain.retention import Policy
from store.index.transactions import Tx


async def remove_policy_of_namespace(tx: Tx, principal: Principal, namespace: Namespace) -> None:
    """Let the policy of a namespace go with it."""
    policy = await find_policy_at(tx, namespace_id=namespace.id)
    if policy is not None:
        await delete_policy(tx, policy.id)
        entry = entry_of("delete", policy, namespace.slug, before=said_of(policy))
        await record(tx, principal, entry)


def said_of(policy: Policy) -> dict[str, Any]:
    """What a policy says and covers."""
    kept = ("id", "created_at", "created_by", "updated_at", "changes")
    said = msgspec.structs.asdict(policy)
    return {name: value for name, value in said.items() if name not in kept}


def entry_of(
    action: str, policy: Policy, covers: str, *, before: Any = None, after: Any = None
) -> Entry:
    """An entry about a policy, named by what it covers."""
    return Entry(
        action=action,
        kind="policy",
        id=policy.id,
        name=covers or "registry",
        model=policy.model_id,
        before=before,
        after=after,
    )
