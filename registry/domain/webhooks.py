"""Webhooks: what they may listen to, what they are told, and when it is tried again.

An **event** is the kind and the action of an audit entry, ``version.publish``. A webhook belongs to
a namespace and is told of what happens to the namespace, its models and its experiments.

A **delivery** is one entry told to one webhook; its message id never changes, however often it is
sent, so that a receiver can leave out what it has seen::

    waiting -> delivered, failed        and back to waiting when somebody asks for it again

Between attempts lie 10 s, 40 s, 160 s, and so on four times as long, at most 8 hours, each by up to
a fifth longer or shorter, so that what failed together is not tried together. After nine attempts,
which is about 20 hours, it is given up. ``Retry-After`` can make a wait longer, up to a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeAlias

import msgspec

from registry.domain.deployments import ACTIONS
from registry.errors import Invalid
from store.clock import SECOND

DeliveryState: TypeAlias = Literal["waiting", "delivered", "failed"]

EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "alias": ("move", "remove", "rollback"),
    "binding": ("create", "update", "delete"),
    "card": ("create", "update", "delete"),
    "deployment": ACTIONS,
    "draft": ("create", "update", "download", "delete"),
    "experiment": ("create", "update", "rename", "delete", "restore", "purge"),
    "guard": ("create", "update", "delete", "override"),
    "lineage": ("create", "delete"),
    "model": (
        "create",
        "update",
        "rename",
        "tag",
        "untag",
        "export",
        "import",
        "download",
        "override",
        "delete",
        "restore",
        "purge",
    ),
    "namespace": ("create", "update", "delete"),
    "policy": ("create", "update", "delete"),
    "redirect": ("remove",),
    "review": ("create", "update", "delete"),
    "run": ("create", "update", "status", "delete", "restore", "purge"),
    "version": (
        "publish",
        "update",
        "status",
        "tag",
        "untag",
        "measure",
        "rate",
        "download",
        "retire",
        "unretire",
        "archive",
        "thaw",
        "override",
        "delete",
        "restore",
        "purge",
    ),
}
"""What can happen to each kind of thing that belongs to a namespace."""

UNTOLD: Final = frozenset(
    (
        "access",
        "archive",
        "audit",
        "backup",
        "environment",
        "fsck",
        "gc",
        "grant",
        "hold",
        "member",
        "pin",
        "retention",
        "scrub",
        "session",
        "tag",
        "team",
        "token",
        "user",
    )
)
"""Kinds in the audit log that belong to no namespace."""

OVERLAP_SECONDS: Final = 86_400
"""How long a secret signs on after another was set, unless something else is said."""
MOST_OVERLAP_SECONDS: Final = 30 * 86_400

EVERYTHING: Final = "*"
MOST_EVENTS: Final = 100
MOST_DESCRIPTION: Final = 4096
MOST_RESPONSE_BYTES: Final = 65_536
"""What is kept of an answer."""

ATTEMPTS: Final = 9
FIRST_DELAY_SECONDS: Final = 10
DELAY_FACTOR: Final = 4
MOST_DELAY_SECONDS: Final = 8 * 3600
JITTER: Final = 0.2
MOST_RETRY_AFTER_SECONDS: Final = 86_400
KEPT_DAYS: Final = 30
"""How long a delivery is kept after it was delivered or given up."""

_DIGITS: Final = re.compile(r"[0-9]{1,9}\Z")


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is told of events; secrets are encrypted. Deleted: no namespace.

    `former_secret` signs beside `secret` until `former_until`.
    """

    id: str
    namespace_id: str | None
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: bytes
    secret_set_at: int
    is_active: bool = True
    since: int = 0
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    former_secret: bytes | None = None
    former_until: int | None = None

    def __repr__(self) -> str:
        return f"Webhook({self.id})"

    def hears(self, kind: str, action: str) -> bool:
        """Whether it listens to that event."""
        wanted = (EVERYTHING, f"{kind}.{EVERYTHING}", f"{kind}.{action}")
        return any(event in self.events for event in wanted)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An audit entry told to a webhook, and how the last attempt at it went."""

    webhook_id: str
    entry: int
    model_name: str | None = None
    state: str
    attempts: int = 0
    due_at: int | None = None
    ended_at: int | None = None
    attempted_at: int | None = None
    status: int | None = None
    error: str = ""
    response: str = ""
    milliseconds: float | None = None
    created_at: int


def message_id(webhook_id: str, entry: int, happened_at: int) -> str:
    """What the receiver knows a delivery by.

    The time is part of it because an index that is restored from a backup gives numbers of entries
    out again, to other events.
    """
    return f"msg_{webhook_id.partition('_')[2]}_{entry}_{happened_at:x}"


def parse_events(events: Iterable[str], *, field: str = "events") -> tuple[str, ...]:
    """Check what a webhook shall listen to; raises `Invalid`, code ``event_unknown``.

    An event is ``kind.action``, ``kind.*`` or ``*``; the answer is sorted and has each once.
    """
    given = list(events)
    problems = [
        (f"{field}[{place}]", f"{event[:80]!r} is not an event", f"one of {', '.join(known())}")
        for place, event in enumerate(given)
        if event not in _KNOWN
    ]
    if problems:
        raise Invalid(
            problems[0][0],
            problems[0][1],
            code="event_unknown",
            problems=problems,
            details={"known": list(known())},
        )
    if not given:
        raise Invalid(field, "is empty; '*' is everything")
    return tuple(sorted(set(given)))


def known() -> tuple[str, ...]:
    """Every word that a webhook may listen to."""
    return _KNOWN


_KNOWN: Final = (
    EVERYTHING,
    *(
        f"{kind}.{action}"
        for kind, actions in sorted(EVENTS.items())
        for action in (EVERYTHING, *actions)
    ),
)


def delay_seconds(attempts: int, jitter: float) -> float | None:
    """How long to wait after so many failed attempts; None: no more.

    `jitter` is a random number from 0 to 1.
    """
    if attempts >= ATTEMPTS:
        return None
    plain: float = min(FIRST_DELAY_SECONDS * DELAY_FACTOR ** (attempts - 1), MOST_DELAY_SECONDS)
    return plain * (1 - JITTER + 2 * JITTER * jitter)


def retry_after_seconds(value: str | None, now: int) -> float:
    """How long a receiver asks us to wait, within bounds; 0 where it does not say."""
    if value is None:
        return 0
    text = value.strip()
    if _DIGITS.match(text):
        asked = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return 0
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        asked = (moment - datetime.fromtimestamp(now / SECOND, UTC)).total_seconds()
    return min(max(asked, 0.0), MOST_RETRY_AFTER_SECONDS)
