"""What may be written under a name: the model it means, and who holds the label.

Names and labels that differ only in case are one, and aliases hold no files. Every door that puts
files asks here, inside the transaction that puts them.
"""

from __future__ import annotations

from registry.catalog.aliases import find_alias
from registry.catalog.folders import find_draft
from registry.catalog.versions import find_version_by_label
from registry.domain.models import Draft, Model, Version
from registry.domain.names import RESERVED_ALIASES, ModelName, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference
from registry.errors import Conflict, NotFound
from registry.services import models
from registry.services.namespaces import may_create
from registry.services.renames import name_taken, refuse_taken
from registry.services.resolve import require_model
from store.index.transactions import Tx


async def model_to_write(tx: Tx, principal: Principal, reference: ModelReference) -> Model | None:
    """The model if it is there, None if it may be made; one that differs only in case is refused.

    A former name of a renamed model leads to it, in any spelling. Raises `NotFound` where the
    caller neither sees a model of that name nor may make one, and `Conflict` where it may make
    models there but does not see the one that has the name.
    """
    try:
        model = await require_model(tx, principal, reference)
    except NotFound:
        if isinstance(reference, ModelId) or not await may_create(tx, principal, reference):
            raise
        if not principal.visibility.everything:
            await refuse_taken(tx, principal, reference)
        return None
    if isinstance(reference, ModelId) or model.folded != reference.folded:
        return model
    if model.name != reference.text:
        raise name_taken(principal, reference, model)
    return model


async def label_holder(tx: Tx, model: Model, label: str) -> tuple[Version | None, Draft | None]:
    """The live version or the draft under a label; raises `Conflict` if an alias has the name."""
    folded = fold(label)
    version = await find_version_by_label(tx, model.id, folded)
    draft = await find_draft(tx, model.id, folded)
    holder = version or draft
    if holder is not None and holder.label != label:
        raise Conflict(
            "label",
            label,
            f"is taken: there is {holder.label}, and labels that differ only in case are one",
            code="label_taken",
            details={"existing": holder.label},
        )
    alias = await find_alias(tx, model.id, folded)
    if alias is not None:
        raise _is_alias(alias.name)
    return (None if version is None or version.deleted_at is not None else version), draft


def refuse_reserved(label: str) -> None:
    """`latest` and `main` are aliases even before they exist; raises `Conflict`."""
    if fold(label) in RESERVED_ALIASES:
        raise _is_alias(fold(label))


def _is_alias(name: str) -> Conflict:
    return Conflict(
        "label",
        name,
        "is an alias; files are put under the label of a version",
        code="label_is_alias",
    )


def would_change(model: Model, version: Version, reason: str) -> Conflict:
    """That a published version stays as it is; `reason` says why what was asked would change it."""
    return Conflict(
        "version",
        f"{version.name} of {model.name}",
        f"is published and does not change: {reason}",
        code="version_published",
        details={"number": version.number, "tree": str(version.tree)},
    )


async def make_model(tx: Tx, principal: Principal, id: str, name: ModelName) -> Model:
    """Make the model whose name was used first by putting something into it."""
    return await models.make_model(tx, principal, models.ModelWish(id=id, name=name))
