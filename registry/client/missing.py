"""Which of many blobs a server lacks; it keeps the others for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from registry.client.connection import Connection
from store.digest import Digest

ASKED_AT_ONCE: Final = 5_000
"""Digests in one question; a server may allow fewer than it does by default, never by much."""


class _Missing(msgspec.Struct):
    missing: list[str]


async def missing_of(connection: Connection, digests: Sequence[Digest]) -> list[Digest]:
    """Those that must be sent, in the order given."""
    missing: list[Digest] = []
    for begin in range(0, len(digests), ASKED_AT_ONCE):
        asked = {str(digest): digest for digest in digests[begin : begin + ASKED_AT_ONCE]}
        answer = await connection.ask(
            "POST", "/api/v1/blobs/missing", _Missing, content={"digests": list(asked)}
        )
        lacking = set(answer.missing)
        missing += [digest for text, digest in asked.items() if text in lacking]
    return missing
