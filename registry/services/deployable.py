"""Which version a reference means for whoever wants to run it, and why one cannot run.

Unlike reading, deploying tells a deleted version from one that never was: whoever deploys must know
that it is gone, and may restore it.
"""

from __future__ import annotations

from registry.catalog.aliases import find_alias
from registry.catalog.models import find_model_by_id
from registry.catalog.versions import (
    find_version_anywhere,
    find_version_by_id,
    find_version_by_label,
    find_version_by_number,
    find_version_by_revision,
)
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import (
    ByAlias,
    ById,
    ByName,
    ByNumber,
    ByRevision,
    ByTree,
    ModelReference,
    VersionReference,
)
from registry.errors import Conflict, Invalid, NotFound
from registry.services.resolve import DraftFiles, follow, require_model, require_word
from store.index.transactions import Tx


async def require_version_to_deploy(
    tx: Tx, principal: Principal, model: ModelReference | None, reference: VersionReference
) -> tuple[Model, Version]:
    """A version with its model, deleted or archived ones too: whether they run is decided later.

    Without a model only an id says which. Raises `NotFound`, and `Conflict`, code
    ``version_is_draft`` or ``revision_unpublished``.
    """
    found = await _model(tx, principal, model, reference)
    try:
        place = await follow(tx, found, reference)
    except NotFound:
        deleted = await _deleted(tx, found, reference)
        if deleted is None:
            raise
        return found, deleted
    if isinstance(place, DraftFiles):
        raise Conflict(
            "version",
            f"{place.name} of {found.name}",
            "is a draft; publish it first",
            code="version_is_draft",
        )
    if place.version is None:
        raise Conflict(
            "version",
            f"{place.name} of {found.name}",
            "is a revision that was never published; publish it first",
            code="revision_unpublished",
        )
    return found, place.version


async def _model(
    tx: Tx, principal: Principal, model: ModelReference | None, reference: VersionReference
) -> Model:
    if model is not None:
        return await require_model(tx, principal, model)
    if not isinstance(reference, ById):
        raise Invalid("version", "needs a model beside it, or is a ver_ id")
    version = await find_version_anywhere(tx, reference.id)
    found = await find_model_by_id(tx, "" if version is None else version.model_id)
    if found is None or not principal.visibility.shows(found):
        raise NotFound("version", reference.id, code="version_not_found")
    require_word(principal, found)
    return found


async def _deleted(tx: Tx, model: Model, reference: VersionReference) -> Version | None:
    """The deleted version that a reference led to while it lived."""
    match reference:
        case ByNumber(number=number):
            return await find_version_by_number(tx, model.id, number)
        case ById(id=id):
            return await find_version_by_id(tx, model.id, id)
        case ByName(folded=folded):
            found = await find_version_by_label(tx, model.id, folded)
            return found or await _pointed_at(tx, model, folded)
        case ByAlias(folded=folded):
            return await _pointed_at(tx, model, folded)
        case ByRevision(revision=revision):
            return await _of_revision(tx, model, revision)
        case ByTree():
            return None


async def _pointed_at(tx: Tx, model: Model, folded: str) -> Version | None:
    alias = await find_alias(tx, model.id, folded)
    return None if alias is None else await _of_revision(tx, model, alias.revision)


async def _of_revision(tx: Tx, model: Model, revision: str) -> Version | None:
    version = await find_version_by_revision(tx, revision)
    return version if version is not None and version.model_id == model.id else None
