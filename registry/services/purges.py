"""Remove deleted models for good, with all they held; go on with purges that a crash stopped.

**Never half.** The first transaction marks the model and writes the audit entry; from then on it is
gone for everybody: it can be neither listed nor restored, and no reader reaches what it holds. What
it holds then goes in bounded transactions, so that a model of a million files stops nobody else
from writing. If the process dies on the way, the leader goes on (`finish_purges`), and so does who
asks once more.

Bytes go with the next collection, where nothing else refers to them. Audit entries stay.
"""

from __future__ import annotations

from registry.catalog.audit import record
from registry.catalog.models import find_marked_model, find_model_by_id
from registry.catalog.purges import first_marked, mark_purged, purge_some
from registry.domain.principals import Principal
from registry.errors import Conflict
from registry.services.change import change
from registry.services.deployment_purges import refuse_running_model
from registry.services.models import entry, refuse_held, require_deleted, said
from registry.services.removal import finish_forgetting
from registry.services.resolve import require_word
from store.index.transactions import MakesRoom, Tx
from store.opening import Store


async def purge_model(store: Store, principal: Principal, id: str) -> None:
    """Remove a deleted model; raises `Conflict` for one that lives, runs or is held, `NotFound`.

    Asked again before all of it is gone, it goes on.
    """

    async def unit(tx: Tx) -> None:
        begun = await find_marked_model(tx, id)
        if begun is not None and principal.visibility.shows(begun):
            require_word(principal, begun)
            return
        living = await find_model_by_id(tx, id)
        if living is not None and principal.visibility.shows(living):
            require_word(principal, living)
            raise Conflict(
                "model", living.name, "is not deleted; delete it first", code="model_live"
            )
        model = await require_deleted(tx, principal, id)
        refuse_held(model)
        await refuse_running_model(tx, model)
        await record(tx, principal, entry("purge", model, before=said(model)))
        await mark_purged(tx, id)

    await change(store, principal, MakesRoom(unit))
    await _finish(store, id)


async def finish_purges(store: Store) -> int:
    """Go on with purges that a crash stopped; returns how many there were."""
    done = 0
    while (id := await store.index.read(first_marked)) is not None:
        await _finish(store, id)
        done += 1
    return done + await finish_forgetting(store)


async def _finish(store: Store, id: str) -> None:
    async def unit(tx: Tx) -> bool:
        model = await find_marked_model(tx, id)
        return model is not None and await purge_some(tx, model)

    while await store.index.run(unit):
        pass
