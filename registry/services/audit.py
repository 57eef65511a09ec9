"""Search the audit log."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from registry.catalog.audit import AuditEntry, Wanted, find_entries
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference
from registry.services.resolve import require_model
from store.index.transactions import Tx
from store.opening import Store

WORD: Final = "audit.read"
LOG: Final = "the audit log"
"""What is refused to whoever may read but parts of it."""


async def search_audit_log(
    store: Store,
    principal: Principal,
    wanted: Wanted,
    *,
    model: ModelReference | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest entries that are wanted, of those older than the entry `before`.

    Who may not read all of the log reads what is of the models and namespaces where it may. A model
    by its id may be long gone; one by its name is the one that has the name now, and raises
    `NotFound` if there is none.
    """
    wanted = msgspec.structs.replace(wanted, places=principal.places(WORD))
    if isinstance(model, ModelId):
        wanted = msgspec.structs.replace(wanted, model=model.id)
    elif model is not None:
        named = model

        async def find(tx: Tx) -> str:
            return (await require_model(tx, principal, named)).id

        wanted = msgspec.structs.replace(wanted, model=await store.index.look(find))
    return await store.index.read(partial(find_entries, wanted=wanted, before=before, limit=limit))
