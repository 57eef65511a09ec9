"""Gateways report how bindings do, and the binding remembers.

**No contention.** A report reads, merges and writes its rows in one transaction of the one writer;
any number of them share a commit, none ever fails or is repeated because of another, and an answer
means that the report is kept. What can be added up is added up before, outside of the transaction.

**Not audited**: reports are measurements, by the thousand a second. They do not count as changes of
the binding either, so that whoever edits it is not refused because it was used meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from registry.catalog.observations import find_observed, write_observed
from registry.catalog.visible import seen_of
from registry.domain.observations import Observation, Report, joined, summed
from registry.domain.principals import Principal
from registry.errors import Invalid, NotFound
from registry.services.change import change
from registry.services.resolve import require_owner
from store.index.transactions import Tx
from store.opening import Store

MOST_OBSERVATIONS: Final = 2_000
"""In one request."""

MOST_BINDINGS: Final = 100
"""In one request: some 10 ms of the writer's time, for which everybody else who writes waits."""


class Reported(msgspec.Struct, frozen=True):
    """How many observations and requests of how many bindings count now, and who is not there."""

    observations: int
    requests: int
    bindings: int
    unknown: list[str]


async def report_observations(
    store: Store, principal: Principal, id: str, observations: Sequence[Observation]
) -> Reported:
    """Take observations of one binding; raises `NotFound`."""
    report = summed(observations)

    async def unit(tx: Tx) -> Reported:
        if not await _write(tx, principal, {id: report}):
            raise NotFound("binding", id, code="binding_not_found")
        return Reported(len(observations), report.requests, 1, [])

    return await change(store, principal, unit)


async def report_many(
    store: Store, principal: Principal, observations: Mapping[str, Sequence[Observation]]
) -> Reported:
    """Take observations of several bindings.

    Those of bindings that are not there (any more) are left out and named: one that was deleted
    must not keep a gateway from reporting the others. Raises `Invalid` for too many bindings.
    """
    if len(observations) > MOST_BINDINGS:
        raise Invalid(
            "observations",
            f"are of {len(observations)} bindings; at most {MOST_BINDINGS} go in one request",
        )
    reports = {id: summed(members) for id, members in observations.items()}

    async def unit(tx: Tx) -> Reported:
        found = await _write(tx, principal, reports)
        return Reported(
            sum(len(observations[id]) for id in found),
            sum(reports[id].requests for id in found),
            len(found),
            [id for id in reports if id not in found],
        )

    return await change(store, principal, unit)


async def _write(tx: Tx, principal: Principal, reports: Mapping[str, Report]) -> set[str]:
    """Merge reports into what was observed before; which bindings were there."""
    observed = await find_observed(tx, reports)
    of_models = {one.model_id for one in observed.values()}
    seen = await seen_of(tx, principal.visibility.seen, of_models)
    for model in seen:
        missing = NotFound("model", model, code="model_not_found")
        await require_owner(tx, principal, model, missing)
    found = {id: one for id, one in observed.items() if one.model_id in seen}
    if found:
        after = {id: joined(one.statistics, reports[id], now=tx.now) for id, one in found.items()}
        await write_observed(tx, after)
    return set(found)
