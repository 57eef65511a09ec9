"""Names of models: who may take one, and what becomes of the name a model had.

A renamed model leaves a redirect: its former name leads to it through every door, and nobody else
can take it. Redirects point at the model and not at a name, so renaming twice makes no chain; a
model that takes a former name of its own back loses that redirect. A redirect ends when the
model that it leads to releases it (`release_name`) or is purged; those of a deleted one hold no
name.

They are followed on the server instead of being answered with 301: ``curl -T`` and the clients of
other protocols do not follow one.
"""

from __future__ import annotations

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.folders import move_uploads
from registry.catalog.models import find_model, find_model_by_id
from registry.catalog.redirects import (
    delete_redirect,
    find_redirect,
    insert_redirect,
    redirects_to,
)
from registry.domain.models import Model, Redirect
from registry.domain.names import ModelName, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.errors import Conflict, NotFound
from registry.services.change import change
from registry.services.guarding import check_place
from registry.services.namespaces import namespace_for, require_creation
from registry.services.resolve import require_model
from store.index.transactions import Tx
from store.opening import Store


async def claim_name(
    tx: Tx, principal: Principal, name: ModelName, *, model: Model | None = None
) -> None:
    """Make `name` free to be written for a model; None for one that had no name so far.

    A model that had another one leaves a redirect. Raises `Conflict`: ``model_name_taken`` where a
    model has the name, ``name_redirects`` where it is a former one of another model.
    """
    await refuse_taken(tx, principal, name, model=model)
    await delete_redirect(tx, name.folded)
    if model is not None and model.folded != name.folded:
        await insert_redirect(tx, model.folded, model.name, model.id, principal.id)
        await move_uploads(tx, model.folded, name.folded)


async def renamed(
    tx: Tx, principal: Principal, model: Model, name: ModelName, namespace_id: str
) -> Model:
    """`model` under another name that it now holds; the caller writes it.

    The id is for the namespace, if there is none of that name. Raises as `claim_name` does, and
    `GuardsFailed` where guards of the new namespace hold the model back.
    """
    if name.text == model.name:
        return model
    await claim_name(tx, principal, name, model=model)
    namespace = await namespace_for(tx, principal, namespace_id, name)
    if namespace.id != model.namespace_id:
        await check_place(tx, principal, model, namespace.id, is_new=True)
    return msgspec.structs.replace(
        model, name=name.text, folded=name.folded, namespace_id=namespace.id
    )


async def refuse_taken(
    tx: Tx, principal: Principal, name: ModelName, *, model: Model | None = None
) -> None:
    """Raise what `claim_name` would for a name that is not free; changes nothing.

    Refuses, before it looks, who may not make models in the namespace that a model would be new to.
    """
    if model is None or fold(name.namespace) != fold(ModelName(model.name, "").namespace):
        await require_creation(tx, principal, name.namespace)
    holder = await find_model(tx, name.folded)
    if holder is not None and (model is None or holder.id != model.id):
        raise name_taken(principal, name, holder)
    redirect = await find_redirect(tx, name.folded)
    if redirect is not None and (model is None or redirect.model_id != model.id):
        raise await _redirects(tx, principal, name, redirect)


def name_taken(principal: Principal, name: ModelName, holder: Model) -> Conflict:
    """That a model has the name, or one that differs in case; which, for who sees it."""
    reason, details = "is there already", dict[str, str]()
    if principal.visibility.shows(holder):
        details = {"existing": holder.name, "id": holder.id}
        if holder.name != name.text:
            reason = f"is taken: there is {holder.name}, and names that differ only in case are one"
    return Conflict("model", name.text, reason, code="model_name_taken", details=details)


async def _redirects(tx: Tx, principal: Principal, name: ModelName, redirect: Redirect) -> Conflict:
    to = await find_model_by_id(tx, redirect.model_id)
    assert to is not None, "only redirects to living models are found"
    is_seen = principal.visibility.shows(to)
    details = {"existing": to.name, "id": to.id} if is_seen else {}
    return Conflict(
        "model",
        name.text,
        "was the name of another model, to which it still leads",
        code="name_redirects",
        details=details,
    )


async def list_former_names(
    store: Store, principal: Principal, model: ModelReference, *, after: str = "", limit: int = 100
) -> list[Redirect]:
    """A page of the names that lead to a model, in their order."""

    async def unit(tx: Tx) -> list[Redirect]:
        found = await require_model(tx, principal, model)
        return await redirects_to(tx, found.id, after, limit)

    return await store.index.read(unit)


async def release_name(
    store: Store, principal: Principal, model: ModelReference, name: ModelName
) -> None:
    """Let a former name lead to its model no more, so that anybody may take it."""

    async def unit(tx: Tx) -> None:
        found = await require_model(tx, principal, model)
        redirect = await find_redirect(tx, name.folded)
        if redirect is None or redirect.model_id != found.id:
            raise NotFound(
                "former name", f"{name.text} of {found.name}", code="former_name_not_found"
            )
        await delete_redirect(tx, name.folded)
        entry = Entry(
            action="remove",
            kind="redirect",
            id=found.id,
            name=redirect.name,
            model=found.id,
            before={"name": redirect.name, "to": found.name},
        )
        await record(tx, principal, entry)

    await change(store, principal, unit)
