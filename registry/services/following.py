"""The aliases that follow: `latest` and `main` go along as versions come, go and come back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from registry.catalog.aliases import find_reserved_aliases
from registry.catalog.versions import (
    find_version_by_number,
    find_version_by_revision,
    latest_candidates,
)
from registry.domain.models import Alias, Model, Version
from registry.domain.names import RESERVED_ALIASES
from registry.domain.principals import Principal
from registry.domain.versions import PLAIN, choose_latest, precedence
from registry.domain.wishes import Together
from registry.services.guarding import GuardsFailed
from registry.services.moves import move_alias
from store.index.transactions import Tx

ALIASES_THAT_FOLLOW = ("latest", "main")
"""In the order in which they move; `RESERVED_ALIASES` holds the same names."""
assert frozenset(ALIASES_THAT_FOLLOW) == RESERVED_ALIASES


async def let_aliases_follow(
    tx: Tx,
    model: Model,
    principal: Principal,
    reason: str,
    *,
    published: Version | None = None,
    is_newest: bool = False,
    found: Mapping[str, Alias] | None = None,
) -> None:
    """Point `latest` and `main` at what `choose_latest` says.

    An alias that was moved by hand stays, unless the version just published is the choice itself
    or what the alias points at is no longer a live version. A version that a guard holds back is
    not followed: the alias stays, or goes with what it pointed at.

    `is_newest` says that what was published has the highest number of all, `found` which of these
    aliases there are, where that was read in this transaction.
    """
    number: int | None
    if published is not None and is_newest and precedence(published.label) == PLAIN:
        number = published.number  # no other can be it
    else:
        number = choose_latest(await latest_candidates(tx, model.id))
    if published is not None and published.number == number:
        chosen: Version | None = published
    else:
        chosen = None if number is None else await find_version_by_number(tx, model.id, number)
    together = Together(ALIASES_THAT_FOLLOW)
    if found is None:
        found = await find_reserved_aliases(tx, model.id)
    for name in ALIASES_THAT_FOLLOW:
        alias = found.get(name)
        if alias is not None and alias.is_held and chosen is not published:
            continue
        if alias is None and chosen is None:
            continue
        move = partial(
            move_alias,
            tx,
            principal,
            model,
            name,
            reason=reason,
            is_held=False,
            is_automatic=True,
            together=together,
            found=alias,
        )
        try:
            await move(None if chosen is None else chosen.revision)
        except GuardsFailed:
            # What is held back cannot be followed; what is gone cannot be pointed at either.
            if alias is not None and not await _lives(tx, model, alias.revision):
                await move(None)


async def _lives(tx: Tx, model: Model, revision: str) -> bool:
    version = await find_version_by_revision(tx, revision)
    return version is not None and version.model_id == model.id and version.deleted_at is None
