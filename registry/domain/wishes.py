"""What is asked for when an alias or a status shall move, as checks are told before it does."""

from __future__ import annotations

import msgspec

from registry.domain.guards import Failure, Guard
from registry.domain.models import Model, Version


class Together(msgspec.Struct):
    """Aliases that move to the same revision at once: what was asked for one is known for all."""

    names: tuple[str, ...]
    guards: list[Guard] | None = None
    """Those of their model, once they were looked up."""
    failed: dict[str, list[Failure]] = {}
    """By the ids of the guards that were asked."""
    overridden: set[str] = set()
    """Those of which it is recorded that they do not hold this once."""


class AliasWish(msgspec.Struct, frozen=True, kw_only=True):
    """An alias that shall point elsewhere: revisions, None where there is or will be none.

    `is_automatic` says that nobody asked for it: the alias follows what is published or goes.
    """

    model: Model
    name: str
    before: str | None
    to: str | None
    reason: str
    is_held: bool
    is_automatic: bool = False
    together: Together | None = None


class StatusWish(msgspec.Struct, frozen=True, kw_only=True):
    """A version that shall stand elsewhere; `version.status` is where it stands now."""

    model: Model
    version: Version
    status: str
    reason: str
