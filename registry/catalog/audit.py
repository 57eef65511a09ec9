"""Rows of the audit log: who did what to which entity, before and after, for which request.

An entry is written by `record` in the transaction of the change itself, so that neither is ever
there without the other. No statement here changes or removes an entry.

**Secrets.** What stands under a name like password, secret, token or key is replaced before it is
written, see `registry.domain.masking`.

**Size.** `before` and `after` are at most `MOST_JSON_BYTES` of JSON each; a larger one is replaced
by an object that says so, with its size, its SHA-256 and its beginning.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, insert

from registry.catalog.schema import audit
from registry.domain.masking import masked
from registry.domain.principals import Principal
from store.index.transactions import Statement, Tx

MOST_JSON_BYTES: Final = 64 << 10

MOST_REASON: Final = 1024
"""Characters; the table demands it too."""

_BEGINNING_BYTES: Final = 30_000
"""Of JSON that was too long; escaped once more it can double."""

_INSERT = Statement(
    insert(audit).values(
        created_at=bindparam("now"),
        actor=bindparam("actor"),
        actor_name=bindparam("actor_name"),
        request=bindparam("request"),
        action=bindparam("action"),
        kind=bindparam("kind"),
        entity=bindparam("entity"),
        name=bindparam("name"),
        model=bindparam("model"),
        before=bindparam("before"),
        after=bindparam("after"),
        reason=bindparam("reason"),
    )
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did to one entity; `before` and `after` are JSON-encodable, None for nothing.

    `model` is the id of the model it belongs to. `name` is what the entity was called then.
    """

    action: str
    kind: str
    id: str
    name: str = ""
    model: str | None = None
    before: Any = None
    after: Any = None
    reason: str = ""


async def record(tx: Tx, principal: Principal, entry: Entry) -> None:
    """Write `entry` as done by `principal`, in the transaction of what it speaks of."""
    await tx.run(
        _INSERT,
        now=tx.now,
        actor=principal.id,
        actor_name=principal.name,
        request=principal.request_id,
        action=entry.action,
        kind=entry.kind,
        entity=entry.id,
        name=entry.name,
        model=entry.model,
        before=_json(entry.before),
        after=_json(entry.after),
        reason=entry.reason[:MOST_REASON],
    )


def _json(value: Any) -> str | None:
    """`value` as JSON without secrets and within bounds."""
    if value is None:
        return None
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    encoded = msgspec.json.encode(masked(plain))
    if len(encoded) > MOST_JSON_BYTES:
        encoded = msgspec.json.encode(
            {
                "truncated": True,
                "size": len(encoded),
                "digest": f"sha256:{hashlib.sha256(encoded).hexdigest()}",
                "beginning": encoded[:_BEGINNING_BYTES].decode(errors="ignore"),
            }
        )
    return encoded.decode()
