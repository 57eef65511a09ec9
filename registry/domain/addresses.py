"""Which addresses the server may call of its own accord, and which URLs name one at all.

Whoever may set a URL that the server calls could use it to reach what only the server reaches: the
loopback interface, the private network, a cloud's metadata service. So an address *must* be public
to be called, or lie in a network that configuration names.

**Public** is what IANA's special-purpose registries leave: for IPv6 only ``2000::/3``, which keeps
out loopback, private, link-local, multicast and unspecified addresses, and IPv4 in other clothes:
mapped and compatible forms and NAT64; 6to4 and Teredo lie within and are taken out by name. The
lists are here, because the standard library's idea of global changes with its version.

**A URL** is read by one grammar, and the request is made of what that read: two parsers that
differ in what the host is would let one check a harmless host and the other call a different one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

import msgspec

from registry.errors import Invalid

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MOST_URL: Final = 2048
"""Characters of a URL."""

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers, and by clouds for their own services
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_PUBLIC_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)

_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))?\Z",
    re.IGNORECASE,
)
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_NUMERIC: Final = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)\Z")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Target(msgspec.Struct, frozen=True):
    """Where a URL leads: `host` in lower case without brackets, `address` if it is a literal one.

    `path` and `query` are as they were written; they may hold what only the receiver should know.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str
    address: Address | None

    @property
    def authority(self) -> str:
        """Host and port as they stand in ``Host``."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What may be shown of the URL to everybody."""
        return f"{self.scheme}://{self.authority}"

    def __repr__(self) -> str:
        return f"Target({self.origin}/…)"


def is_public(address: Address) -> bool:
    """Whether the whole internet may be meant by an address."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_6)


class Reach(msgspec.Struct, frozen=True):
    """Where the server may call: everything public, and `allowed` besides."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, networks: Iterable[str]) -> Reach:
        """The reach that configuration names; raises `ValueError`."""
        return cls(tuple(ip_network(network) for network in networks))

    def covers(self, address: Address) -> bool:
        """Whether `address` may be called. What is IPv4 in IPv6 clothes is judged as it stands."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        return is_public(address) or any(address in network for network in self.allowed)


def parse_url(text: str, *, field: str = "url") -> Target:
    """Where a URL leads; raises `Invalid`, code ``url_invalid``, without repeating the URL.

    Credentials, fragments, and IPv4 addresses that are not four plain decimal numbers are refused.
    """
    match = _URL.match(text)
    if len(text) > MOST_URL:
        raise _refused(field, f"is longer than {MOST_URL} characters")
    if match is None or _PERCENT.search(text):
        raise _refused(field, _why(text))
    scheme = match["scheme"].lower()
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise _refused(field, "has no port from 1 to 65535")
    host, address = _host(match["literal"], match["name"], field)
    return Target(scheme, host, port, match["path"] or "/", match["query"] or "", address)


def _host(literal: str | None, name: str | None, field: str) -> tuple[str, Address | None]:
    if literal is not None:
        try:
            return literal.lower(), IPv6Address(literal)
        except ValueError:
            raise _refused(field, "has no IPv6 address in its brackets") from None
    host = (name or "").lower().removesuffix(".")
    *_, last = labels = host.split(".")
    if _NUMERIC.match(last):
        # Resolvers read 2130706433, 0x7f.1 and 017700000001 as 127.0.0.1.
        try:
            return host, IPv4Address(host)
        except ValueError:
            raise _refused(field, "has an address that is not four decimal numbers") from None
    if len(host) > 253 or not all(map(_LABEL.match, labels)):
        raise _refused(field, "has no valid host name")
    return host, None


def _why(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not separator or scheme.lower() not in _DEFAULT_PORTS:
        return "does not begin with http:// or https://"
    if "@" in authority:
        return "holds credentials"
    if "#" in text:
        return "has a fragment, which is never sent"
    if not text.isascii():
        return "holds characters beyond ASCII; write hosts as xn--… and the rest percent-encoded"
    return "is not a URL"


def _refused(field: str, reason: str) -> Invalid:
    return Invalid(field, reason, code="url_invalid")


def resolved_address(text: str) -> Address | None:
    """An address as resolvers give it; None for anything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None
