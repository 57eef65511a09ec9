"""Reviews of versions: a verdict, a comment, and whether the verdict counts.

A review counts if its reviewer can be told apart from the version's author. In open mode everybody
is `local`, so reviews are kept and count nothing. Whoever can be told apart and *is* the author may
not review at all. Of one reviewer's verdicts only the newest is taken; a comment is no verdict.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from registry.domain.principals import HOUSEKEEPING, LOCAL, RECOVERED
from registry.errors import Denied

Verdict: TypeAlias = Literal["approve", "reject", "comment"]

COMMENT_CHARACTERS: Final = 16_384

NOBODY: Final = frozenset((LOCAL.id, RECOVERED.id, HOUSEKEEPING.id))
"""Principals that stand for no particular person."""

UNCOUNTED: Final = "in open mode the reviewer cannot be told apart from the author"
"""Why a review does not count."""


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What one reviewer says of one version."""

    id: str
    version_id: str
    reviewer: str
    verdict: str
    comment: str
    counts: bool
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1


def does_count(reviewer: str, author: str) -> bool:
    """Whether a review of `author`'s version by `reviewer` counts; raises `Denied` for one's own.

    The error has the code ``review_of_own_version``.
    """
    if reviewer in NOBODY or author in NOBODY:
        return False
    if reviewer == author:
        raise Denied(
            "review",
            "one's own version",
            sentence="whoever made a version does not review it",
            code="review_of_own_version",
        )
    return True


def require_reviewer(review: Review, principal_id: str) -> None:
    """Raise `Denied`, code ``review_of_another``, unless the review is the principal's own."""
    if review.reviewer != principal_id:
        raise Denied(
            "change",
            review.id,
            sentence=f"review {review.id} is somebody else's",
            code="review_of_another",
        )
