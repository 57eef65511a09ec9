"""What a run belongs to: an experiment, a model, a version, in any combination.

References are followed once, when they are given; a run keeps ids. Who sees a run is decided where
it belongs: at its model, else at the namespace of its experiment, else at whoever made it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.experiments import find_experiment
from registry.catalog.models import find_model_by_id
from registry.catalog.versions import find_version_anywhere
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import ById, ModelId, ModelReference, VersionReference
from registry.domain.runs import ExperimentReference, Run
from registry.errors import Conflict, Invalid, NotFound
from registry.services.experiments import require_experiment
from registry.services.resolve import DraftFiles, follow, require_model, require_word
from store.index.transactions import Tx


class Place(msgspec.Struct, frozen=True):
    """What a run belongs to, by ids; `owner` is who decides who sees it."""

    experiment: str | None
    model: str | None
    version: str | None
    owner: str


class PlaceWish(msgspec.Struct, frozen=True):
    """Where a run shall belong; UNSET stays, None is taken back."""

    experiment: ExperimentReference | UnsetType | None = UNSET
    model: ModelReference | UnsetType | None = UNSET
    version: VersionReference | UnsetType | None = UNSET


STAYS: Final = PlaceWish()


async def placed(
    tx: Tx,
    principal: Principal,
    experiment: ExperimentReference | None,
    model: ModelReference | None,
    version: VersionReference | None,
    *,
    maker: str,
) -> Place:
    """What the references lead to; raises `NotFound` that names the first that leads nowhere."""
    found = None if experiment is None else await require_experiment(tx, principal, experiment)
    of_model = None if model is None else await require_model(tx, principal, model)
    of_version = None
    if version is not None:
        of_model, of_version = await require_version(tx, principal, of_model, version)
    model_id = None if of_model is None else of_model.id
    namespace_id = None if found is None else found.namespace_id
    return Place(
        None if found is None else found.id,
        model_id,
        None if of_version is None else of_version.id,
        model_id or namespace_id or maker,
    )


async def require_version(
    tx: Tx, principal: Principal, model: Model | None, reference: VersionReference
) -> tuple[Model, Version]:
    """A living published version, with its model; without a model only an id says which."""
    if model is None:
        if not isinstance(reference, ById):
            raise Invalid("version", "needs a model beside it, or is a ver_ id")
        version = await find_version_anywhere(tx, reference.id)
        model = await find_model_by_id(tx, "" if version is None else version.model_id)
        if model is None or not principal.visibility.shows(model):
            raise NotFound("version", reference.id, code="version_not_found")
        require_word(principal, model)
    place = await follow(tx, model, reference)
    if isinstance(place, DraftFiles):
        raise Conflict(
            "version",
            f"{place.name} of {model.name}",
            "is a draft; publish it first",
            code="version_is_draft",
        )
    if place.version is None:
        raise NotFound("version", f"{place.name} of {model.name}", code="version_not_found")
    return model, place.version


async def moved(tx: Tx, principal: Principal, run: Run, wish: PlaceWish) -> Run:
    """The run where it shall belong, not yet written.

    What the wish does not speak of stays, deleted meanwhile or not; going to another model leaves
    the version behind, and a version brings its model.
    """
    experiment = None if wish.experiment is UNSET else wish.experiment
    model = None if wish.model is UNSET else wish.model
    version = None if wish.version is UNSET else wish.version
    if version is not None and model is None and run.model_id is not None:
        model = None if isinstance(version, ById) else ModelId(run.model_id)
    place = await placed(tx, principal, experiment, model, version, maker=run.created_by)
    experiment_id = run.experiment_id if wish.experiment is UNSET else place.experiment
    model_id, version_id = run.model_id, run.version_id
    if wish.model is not UNSET:
        version_id = run.version_id if place.model == run.model_id else None
        model_id = place.model
    if wish.version is not UNSET:
        version_id = place.version
        model_id = model_id if place.model is None else place.model
    named = None if experiment_id is None else await find_experiment(tx, experiment_id)
    namespace_id = None if named is None else named.namespace_id
    return msgspec.structs.replace(
        run,
        experiment_id=experiment_id,
        model_id=model_id,
        version_id=version_id,
        owner=model_id or namespace_id or run.created_by,
    )
