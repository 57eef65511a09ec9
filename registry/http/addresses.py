"""Who called, and under which name: the connection's word, or that of a proxy we were told of.

Forwarding headers count only when the connection comes from an address in
``server.trusted_proxies``; from anybody else they are a claim.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp import hdrs, web
from multidict import istr

FORWARDING: Final = (
    hdrs.X_FORWARDED_FOR,
    hdrs.X_FORWARDED_HOST,
    hdrs.X_FORWARDED_PROTO,
    hdrs.FORWARDED,
    istr("X-Real-IP"),
)
"""Headers by which a reverse proxy gives itself away."""

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@]+))(?::[0-9]{1,5})?\Z")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class Addresses:
    """Reads addresses of requests, given the proxies that configuration names."""

    __slots__ = ("_networks", "_spelled", "_trusts")

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._networks = tuple(ip_network(proxy) for proxy in trusted_proxies)
        self._trusts = functools.lru_cache(maxsize=1024)(self._is_in_networks)
        self._spelled = functools.lru_cache(maxsize=1024)(_spelled)

    def is_trusted(self, request: web.Request) -> bool:
        """Whether the connection comes from a proxy that configuration names."""
        return bool(self._networks) and self._trusts(request.remote or "")

    def authority(self, request: web.Request) -> str:
        """Host and port as the client wrote them; empty if it wrote none."""
        if self.is_trusted(request):
            forwarded = request.headers.get(hdrs.X_FORWARDED_HOST, "")
            if forwarded:
                return forwarded.rpartition(",")[2].strip()
        return request.headers.get(hdrs.HOST, "")

    def scheme(self, request: web.Request) -> str:
        """``http`` or ``https`` as the client used it."""
        if self.is_trusted(request):
            forwarded = request.headers.get(hdrs.X_FORWARDED_PROTO, "")
            if forwarded.rpartition(",")[2].strip().lower() == "https":
                return "https"
        return "https" if request.secure else "http"

    def base_url(self, request: web.Request) -> str:
        """The absolute URL of this server as the client reaches it, without a final slash."""
        return f"{self.scheme(request)}://{self.authority(request) or 'localhost'}"

    def client(self, request: web.Request) -> str:
        """The address of whoever asks, as one spelling; empty where there is none.

        Behind named proxies it is the last address that none of them has: those before it are what
        the client itself may have written.
        """
        remote = request.remote or ""
        if self.is_trusted(request):
            for said in reversed(request.headers.get(hdrs.X_FORWARDED_FOR, "").split(",")):
                address = parse_address(host_of(said.strip()))
                if address is None:
                    break
                remote = str(address)
                if not self._trusts(remote):
                    break
        return self._spelled(remote)

    def of_peer(self, remote: str) -> str:
        """What `client` says where no proxy speaks for others."""
        return self._spelled(remote)

    def _is_in_networks(self, remote: str) -> bool:
        address = parse_address(remote)
        return address is not None and any(address in network for network in self._networks)


def _spelled(remote: str) -> str:
    address = parse_address(remote)
    return remote if address is None else str(address)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP literal as a value, an IPv4 one in IPv6 clothes undressed; None if it is not one."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def host_of(authority: str) -> str:
    """The host of ``host:port`` in lower case, without port, brackets and final dot.

    What is not well formed comes back as it is, and is nobody's name.
    """
    match = _AUTHORITY.match(authority)
    if match is None:
        return authority
    return (match[1] or match[2]).lower().rstrip(".")


def same_authority(origin: str, authority: str) -> bool:
    """Whether the origin ``scheme://host[:port]`` of a page is the server it was loaded from."""
    scheme, separator, rest = origin.lower().partition("://")
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or default is None:
        return False
    return rest.removesuffix(default) == authority.lower().removesuffix(default)
