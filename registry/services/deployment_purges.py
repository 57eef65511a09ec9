"""What runs is neither deleted nor purged; what ran goes with its version or its model.

Who administers the namespace may delete it all the same and say why, in the header
``Digestry-Override``: the deployments stay as they are, and can be terminated or given another
version once what they run is restored. Purging is never overridden: it would take away what runs.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from registry.catalog.audit import Entry, record
from registry.catalog.deployment_purges import forget_some_deployments
from registry.catalog.deployments import running_of_model, running_of_version
from registry.domain.deployments import Deployment, named
from registry.domain.models import Model, Version
from registry.domain.principals import Principal, place_of
from registry.errors import Conflict
from registry.services.guarding import OVERRIDE_WORD
from store.index.transactions import Tx
from store.opening import Store

MOST_NAMED: Final = 10
"""How many of the deployments are named that are in the way."""


async def settle_running_version(
    tx: Tx, principal: Principal, model: Model, version: Version
) -> None:
    """The same before it is deleted; whoever may say why it goes is let through, and audited."""
    try:
        await refuse_running_version(tx, model, version)
    except Conflict as refused:
        await _override(tx, principal, model, ("version", version.id, version.name), refused)


async def settle_running_model(tx: Tx, principal: Principal, model: Model) -> None:
    """The same of a model."""
    try:
        await refuse_running_model(tx, model)
    except Conflict as refused:
        await _override(tx, principal, model, ("model", model.id, model.name), refused)


async def _override(
    tx: Tx, principal: Principal, model: Model, of: tuple[str, str, str], refused: Conflict
) -> None:
    if not principal.override or not principal.may(OVERRIDE_WORD, place_of(model)):
        raise refused
    kind, id, name = of
    entry = Entry(
        action="override",
        kind=kind,
        id=id,
        name=name,
        model=model.id,
        after=refused.details,
        reason=principal.override,
    )
    await record(tx, principal, entry)


async def refuse_running_version(tx: Tx, model: Model, version: Version) -> None:
    """Raise `Conflict`, code ``version_deployed``, while the version runs anywhere."""
    running = await running_of_version(tx, version.id, MOST_NAMED)
    if running:
        name = f"{version.name} of {model.name}"
        raise _in_use("version", name, running, code="version_deployed")


async def refuse_running_model(tx: Tx, model: Model) -> None:
    """Raise `Conflict`, code ``model_deployed``, while any of its versions runs anywhere."""
    running = await running_of_model(tx, model.id, MOST_NAMED)
    if running:
        raise _in_use("model", model.name, running, code="model_deployed")


def _in_use(kind: str, name: str, running: list[Deployment], *, code: str) -> Conflict:
    return Conflict(
        kind,
        name,
        f"is deployed; terminate first: {', '.join(one.name for one in running)}",
        code=code,
        details={"deployments": [named(one) for one in running]},
    )


async def forget_deployments(store: Store, version_id: str) -> None:
    """Let go of the deployments that ended with a version that is purged."""
    while await store.index.run(partial(forget_some_deployments, version_id=version_id)):
        pass
