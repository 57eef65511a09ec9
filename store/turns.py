"""An event loop that counts its turns, so that what cannot change within one is asked for once.

A request that is looked at in a turn had begun to arrive before that turn: the selector said so.
What is read anew in each turn, such as the counter of commits, is therefore never older than the
request that asks, however many requests a turn serves.
"""

from __future__ import annotations

import asyncio
import selectors


class TurningLoop(asyncio.SelectorEventLoop):
    """The usual loop, with a number that is another one in each turn."""

    def __init__(self) -> None:
        self.turns = 0
        super().__init__(_Selector(self))


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: TurningLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        self._loop.turns += 1
        return found


def turn_of(loop: asyncio.AbstractEventLoop) -> int | None:
    """The number of the present turn; None for a loop that does not count."""
    turns: int | None = getattr(loop, "turns", None)
    return turns
