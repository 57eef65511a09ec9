"""Long work on the store as it is told of: what it is, how far it came, how it ended."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Group: TypeAlias = Literal["gc", "scrub", "fsck", "retention", "archive"]
State: TypeAlias = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]

GROUPS: Final[tuple[Group, ...]] = ("gc", "scrub", "fsck", "retention", "archive")


class Progress(msgspec.Struct, frozen=True):
    """How far an operation is; `total` 0 where nobody knows yet."""

    done: int
    total: int
    unit: Literal["bytes", "blobs", "entries", "versions"]
    stage: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why an operation ended without a report; a refusal is one that changed nothing."""

    reason: str
    is_refusal: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of long work, running or ended. Times are microseconds since the epoch."""

    id: str
    group: Group
    verb: str
    state: State
    actor: str
    started_at: int
    ended_at: int | None = None
    progress: Progress | None = None
    findings: int = 0
    report: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
