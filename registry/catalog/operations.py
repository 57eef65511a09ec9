"""Rows of long work, one of each group, which are the locks that keep its work single.

The last operation of a group stays until another takes its row. Whoever runs it renews the row, and
the row is free again when its holder is gone, or silent for `SILENCE_SECONDS` where that cannot be
known. Times are microseconds since the epoch.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

import msgspec

from registry.domain.operations import Group, Operation
from store.clock import SECOND, boot_id
from store.index.state import get_state, put_state
from store.index.transactions import Tx
from store.processes import is_alive

SILENCE_SECONDS: Final = 15


class OperationRow(msgspec.Struct, frozen=True):
    """An operation, who is at work on it, and whether somebody wants it to stop."""

    operation: Operation
    holder: str
    renewed_at: int
    is_cancelled: bool = False

    def is_abandoned(self, now: int) -> bool:
        boot, pid, _ = self.holder.split(":")
        if boot == boot_id() and not is_alive(int(pid)):
            return True
        return now - self.renewed_at > SILENCE_SECONDS * SECOND


def new_holder() -> str:
    """A name for whoever runs operations in this process: no two have the same."""
    return f"{boot_id()}:{os.getpid()}:{secrets.token_hex(8)}"


async def find_operation(tx: Tx, group: Group) -> OperationRow | None:
    text = await get_state(tx, f"operation.{group}")
    return None if text is None else msgspec.json.decode(text, type=OperationRow)


async def keep_operation(tx: Tx, row: OperationRow) -> None:
    key = f"operation.{row.operation.group}"
    await put_state(tx, key, msgspec.json.encode(row).decode())
