"""Whether this process still wants new work, and how much of it is in hand.

While draining, every answer asks its client to leave the connection, readiness fails so that a
balancer looks elsewhere, and work in hand runs to its end.
"""

from __future__ import annotations


class Drain:
    """One per application; whoever stops the process calls `begin` before it closes anything."""

    __slots__ = ("in_flight", "is_draining")

    def __init__(self) -> None:
        self.is_draining = False
        self.in_flight = 0

    def begin(self) -> None:
        self.is_draining = True
