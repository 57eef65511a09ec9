"""What runs is neither deleted nor purged; what ran goes with its version or its model."""

from __future__ import annotations

from functools import partial
from typing import Final

from registry.catalog.deployment_purges import forget_some_deployments
from registry.catalog.deployments import running_of_model, running_of_version
from registry.domain.deployments import Deployment, named
from registry.domain.models import Model, Version
from registry.errors import Conflict
from store.index.transactions import Tx
from store.opening import Store

MOST_NAMED: Final = 10
"""How many of the deployments are named that are in the way."""


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
