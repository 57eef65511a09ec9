"""How one protocol speaks of errors: a table from error class to status and code, and an envelope.

Each adapter owns one `Adapter`. The errors middleware takes it from the matched route, so a client
of a foreign protocol never sees our problem documents and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web


class Rule(msgspec.Struct, frozen=True):
    """What one kind of error looks like from outside.

    ``code`` None takes the word from the error itself. ``members`` and ``headers`` compute extra
    facts from the error, which arrives as the class the rule is filed under.
    """

    status: int
    code: str | None = None
    title: str | None = None
    members: Callable[[Any], Mapping[str, Any]] | None = None
    headers: Callable[[Any], Mapping[str, str]] | None = None


Table = Mapping[type[BaseException], Rule]


class Adapter(msgspec.Struct, frozen=True):
    """The error side of one protocol.

    ``render(request, error, rule)`` makes the answer; ``rule`` is None for what the table does not
    know, and then the answer *must* say nothing about the error but the request's id.
    """

    name: str
    table: Table
    render: Callable[[web.Request, BaseException, Rule | None], web.Response]

    def rule_for(self, error: BaseException) -> Rule | None:
        """The rule of the nearest class the error is of; None if none is known."""
        return rule_for(self.table, type(error))


def rule_for(table: Table, kind: type[BaseException]) -> Rule | None:
    for ancestor in kind.__mro__:
        rule = table.get(ancestor)
        if rule is not None:
            return rule
    return None
