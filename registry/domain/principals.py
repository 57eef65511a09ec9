"""Who acts, and what of the store that lets them see.

Every service takes a `Principal`; every read takes a `Visibility`. Both exist from the first day,
so that identity can be added without touching a service.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Visibility(msgspec.Struct, frozen=True):
    """Which owners' references make a blob readable; a blob that nobody owns is never readable."""

    everything: bool
    owners: frozenset[str] = frozenset()

    def covers(self, owner: str) -> bool:
        """Whether something of `owner` may be seen."""
        return self.everything or owner in self.owners

    @property
    def owners_json(self) -> str | None:
        """The owners as a JSON list, to bind in statements; None where there is no restriction."""
        return None if self.everything else msgspec.json.encode(sorted(self.owners)).decode()


class Principal(msgspec.Struct, frozen=True):
    """Whoever acts. The id is what the index keeps; the name is what people read.

    `request_id` is the request they act by, empty where there is none; two principals are the same
    if their ids are.
    """

    id: str
    name: str
    request_id: str = ""

    @property
    def visibility(self) -> Visibility:
        """What this principal may read: in open mode everything that has an owner."""
        if self.id == LOCAL.id:
            return Visibility(everything=True)
        return Visibility(everything=False, owners=frozenset((self.id,)))


LOCAL: Final = Principal("usr_local", "local")
"""The one principal of the open mode."""

RECOVERED: Final = Principal("usr_recovered", "recovered")
"""Owns the blobs that ``fsck`` found without a row; nobody acts as it."""

HOUSEKEEPING: Final = Principal("usr_housekeeping", "housekeeping")
"""The server itself, where it changes things because their time has come."""
