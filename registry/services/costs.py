"""What training runs cost, as far as somebody said: overall, by model, by team."""

from __future__ import annotations

from registry.catalog.costs import CostFilters, Group, Spending, spent_by, spent_in_all
from registry.domain.principals import Principal
from store.index.transactions import Tx
from store.opening import Store


async def sum_costs(
    store: Store,
    principal: Principal,
    *,
    by: Group | None,
    since: int | None,
    until: int | None,
    limit: int,
) -> Spending:
    """What the runs cost that the principal may see; one statement, whatever it is by."""
    filters = CostFilters(since=since, until=until, seen=principal.visibility.seen)

    async def unit(tx: Tx) -> Spending:
        if by is None:
            return Spending([], 0, await spent_in_all(tx, filters))
        return await spent_by(tx, by, filters, limit)

    return await store.index.read(unit)
