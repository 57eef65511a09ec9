"""Where a request may come from: no web page reaches an open server behind its user's back.

The rules, each with a test of its name:

- The Host *must* be an IP literal, ``localhost`` or configured, else 421: a page that rebinds its
  own name to this machine sends its own name. HTTP/1.1 without a Host is 400.
- An unsafe method *must not* come from another origin: ``Sec-Fetch-Site`` other than
  ``same-origin`` or ``none``, or an ``Origin`` that is not this server, is 403 unless the origin is
  CORS-listed.
- Forwarding headers *must not* come from a proxy that is not named, else 403: an open server behind
  a public proxy would be open to everybody.

JSON routes demand a JSON media type; `registry.http.routing` sees to that, because the route knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import istr

from registry.config import ServerConfig
from registry.errors import ForeignOrigin, Invalid, UnnamedProxy, WrongHost
from registry.http.addresses import FORWARDING, Addresses, host_of, parse_address, same_authority
from registry.keys import ORIGIN

SITE: Final = istr("Sec-Fetch-Site")
SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})

_HARMLESS_SITES: Final = frozenset({"same-origin", "none"})
_REMEMBERED_HOSTS: Final = 1024


class HostRule:
    """Which Host headers are ours; judged once per spelling, since clients repeat themselves."""

    __slots__ = ("_allowed", "_judged")

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {"localhost"} | {name.lower().rstrip(".") for name in allowed}
        self._judged: dict[str, bool] = {}

    def allows(self, authority: str) -> bool:
        known = self._judged.get(authority)
        if known is None:
            if len(self._judged) >= _REMEMBERED_HOSTS:
                self._judged.clear()
            known = self._judged[authority] = self._judge(authority)
        return known

    def _judge(self, authority: str) -> bool:
        host = host_of(authority)
        return (
            host in self._allowed
            or authority.lower() in self._allowed
            or parse_address(host) is not None
        )


def sources_middleware(server: ServerConfig) -> Middleware:
    """Refuse what comes from where it must not, before anything else looks at it."""
    hosts = HostRule(server.allowed_hosts)
    addresses = Addresses(server.trusted_proxies)
    listed = frozenset(origin.lower().rstrip("/") for origin in server.cors_origins)

    @web.middleware
    async def sources(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        check_host(request, hosts)
        for name in FORWARDING:
            if name in headers:
                check_proxy(request, name, addresses, hosts)
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and origin.lower() in listed:
            request[ORIGIN] = origin
            if (
                request.method == hdrs.METH_OPTIONS
                and hdrs.ACCESS_CONTROL_REQUEST_METHOD in headers
            ):
                return preflight(request)
        elif request.method not in SAFE:
            check_origin(request, origin, addresses)
        return await handler(request)

    return sources


def check_host(request: web.Request, hosts: HostRule) -> None:
    authority = request.headers.get(hdrs.HOST)
    if authority:
        if not hosts.allows(authority):
            raise WrongHost(authority)
    elif request.version >= (1, 1):
        raise Invalid("Host", "is missing", code="host_missing")


def check_proxy(request: web.Request, header: str, addresses: Addresses, hosts: HostRule) -> None:
    if not addresses.is_trusted(request):
        raise UnnamedProxy(header)
    if not hosts.allows(addresses.authority(request)):
        raise WrongHost(addresses.authority(request))


def check_origin(request: web.Request, origin: str | None, addresses: Addresses) -> None:
    site = request.headers.get(SITE)
    if site is not None and site not in _HARMLESS_SITES:
        raise ForeignOrigin(f"a page of another origin ({site[:32]}) may not use {request.method}")
    if origin is not None and not same_authority(origin, addresses.authority(request)):
        raise ForeignOrigin(f"pages of {origin[:200]!r} may not use {request.method} here")


def preflight(request: web.Request) -> web.Response:
    """Tell a listed origin's browser that it may go ahead; the request itself is checked again."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
    if asked is not None:
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
    return web.Response(status=204, headers=headers)
