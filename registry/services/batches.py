"""What a batch that is carried out whole or not at all says of its bad parts: all of them at once.

A unit goes on past a part that cannot be, to find the others, and raises at its end, so that
nothing of what it did stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from registry.errors import Conflict, RegistryError


class BatchProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why one part of a batch cannot be; `field` is its path, as in ``models[3]``."""

    field: str
    code: str
    detail: str
    facts: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """What the problem would say beside that, were it alone."""


def batch_problem(field: str, error: RegistryError) -> BatchProblem:
    return BatchProblem(field, error.code, str(error), error.details)


def refuse_batch(kind: str, problems: Sequence[BatchProblem]) -> None:
    """Raise `Conflict`, code ``batch_refused``, if there are problems."""
    if problems:
        raise Conflict(
            "batch",
            f"of {kind}",
            f"{len(problems)} of its parts cannot be carried out; nothing was",
            code="batch_refused",
            details={"problems": [msgspec.to_builtins(problem) for problem in problems]},
        )
