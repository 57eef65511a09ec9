"""The secret that a running server leaves in ``server.json`` for commands on the same machine.

Whoever can read that file could as well change the data directory by hand, so its secret makes an
administrator; but only over the loopback interface, so that a leaked one opens nothing from afar.
A server that sits behind a proxy on the same machine sees every caller on loopback: there the 256
random bits alone decide.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Final

SCHEME: Final = "Digestry-Local"


class LocalSecret:
    """What the supervisor drew at start; `None` as value admits nobody."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value.encode() if value else None

    def __repr__(self) -> str:
        return "LocalSecret(…)"

    def admits(self, authorization: str | None, peer: str | None) -> bool:
        """Whether this ``Authorization`` header, from this address, is a local command's."""
        if self._value is None or authorization is None or not _is_loopback(peer):
            return False
        scheme, _, offered = authorization.partition(" ")
        if scheme.lower() != SCHEME.lower():
            return False
        return hmac.compare_digest(offered.strip().encode("utf-8", "replace"), self._value)


def is_local_secret(authorization: str | None) -> bool:
    """Whether the header offers a local command's secret, right or wrong."""
    return authorization is not None and authorization.lower().startswith(f"{SCHEME.lower()} ")


def authorization(secret: str) -> str:
    """The header value that `LocalSecret.admits` accepts."""
    return f"{SCHEME} {secret}"


def _is_loopback(peer: str | None) -> bool:
    if peer is None:
        return False
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
