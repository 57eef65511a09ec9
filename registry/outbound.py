"""The one client by which the server calls others: webhooks, mirrors and imports go through it.

What it promises, each with a test in ``tests/registry/test_outbound.py``:

- It resolves the name itself, once, and connects to an address that it has checked. aiohttp is
  given that address in place of the name, so there is no second resolution that could answer
  otherwise; the name stays in ``Host`` and is what the certificate is checked against.
- Addresses that are not public are refused, unless configuration allows them; see
  `registry.domain.addresses`. Of several addresses of a name only those that may be called are.
- Proxies and credentials of the environment are ignored, no redirect is followed, no cookie is
  kept or sent, and no connection is used twice.
- One bound of time holds for all of a call, resolving included, and one of size for what is kept of
  its answer: what comes behind that is not read. Answers are not decompressed.

Names are resolved in threads of its own: a name server that does not answer must not take the
threads of the loop's executor, which others wait for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import aiohttp
from yarl import URL

from registry.domain.addresses import Address, Reach, Target, resolved_address
from registry.domain.calls import Call, CallFailed, Reply

RESOLVERS: Final = 32
"""Threads at most; one that a name server keeps waiting stays busy after its call has ended."""

MOST_ADDRESSES: Final = 4
"""How many addresses of a name are tried."""

_READ_BYTES: Final = 16_384

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for a port, in the order to be tried; raises `OSError`."""


class Outbound:
    """Makes calls; `reach` says where to, `resolve` and `trust` are replaced by tests."""

    def __init__(
        self,
        reach: Reach,
        *,
        resolve: Resolve | None = None,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._reach = reach
        self._resolve = resolve or self._ask_system
        self._trust = trust
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def send(self, call: Call) -> Reply:
        """Make a call; raises `CallFailed`."""
        try:
            async with asyncio.timeout(call.total_seconds):
                return await self._send(call)
        except TimeoutError as error:
            raise CallFailed("late", f"took longer than {call.total_seconds:g} s") from error

    async def close(self) -> None:
        """End the calls under way."""
        if self._session is not None:
            await self._session.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _send(self, call: Call) -> Reply:
        addresses = await self._addresses(call.target)
        tls = await self._context() if call.target.scheme == "https" else True
        last: CallFailed | None = None
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await self._send_to(call, address, tls)
            except CallFailed as failure:
                last = failure
                if failure.failure != "unreachable":
                    raise
        assert last is not None, "there is an address"
        raise last

    async def _addresses(self, target: Target) -> list[Address]:
        """Where a name leads and may be followed to; raises `CallFailed`."""
        if target.address is not None:
            found: list[Address | None] = [target.address]
        else:
            try:
                texts = await self._resolve(target.host, target.port)
            except (OSError, UnicodeError) as error:
                raise CallFailed("unresolved", f"{target.host} cannot be resolved") from error
            found = [resolved_address(text) for text in texts]
        allowed = [one for one in found if one is not None and self._reach.covers(one)]
        if allowed:
            return allowed
        if not found:
            raise CallFailed("unresolved", f"{target.host} has no address")
        raise CallFailed(
            "refused",
            f"{target.host} is at an address that is not public; outbound.allow_private names "
            "networks that may be called all the same",
        )

    async def _send_to(self, call: Call, address: Address, tls: ssl.SSLContext | bool) -> Reply:
        target = call.target
        url = URL.build(
            scheme=target.scheme,
            host=f"[{address}]" if address.version == 6 else str(address),
            port=target.port,
            path=target.path,
            query_string=target.query,
            encoded=True,
        )
        try:
            async with self._opened().request(
                call.method,
                url,
                data=call.body or None,
                headers={"Accept-Encoding": "identity", **call.headers, "Host": target.authority},
                allow_redirects=False,
                ssl=tls,
                server_hostname=target.host if target.scheme == "https" else None,
            ) as response:
                body, is_truncated = await _beginning(response, call.most_bytes)
                return Reply(
                    status=response.status,
                    headers=response.headers.copy(),
                    body=body,
                    is_truncated=is_truncated,
                )
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise CallFailed("untrusted", f"TLS with {target.host} failed") from error
        except aiohttp.ClientConnectorError as error:
            raise CallFailed("unreachable", f"no connection to {target.authority}") from error
        except (aiohttp.ClientError, OSError) as error:
            kind = type(error).__name__
            raise CallFailed("broken", f"the exchange with {target.host} broke: {kind}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Who calls bounds how many calls there are at once.
                connector=aiohttp.TCPConnector(
                    limit=0, force_close=True, use_dns_cache=False, resolver=_NoResolver()
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(self._trust)
        return self._tls

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, _getaddrinfo, host, port
        )
        return list(dict.fromkeys(found))


class _NoResolver(aiohttp.abc.AbstractResolver):
    """aiohttp is only given addresses; should it ever ask for a name, that is a fault of ours."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        raise OSError(f"{host} was to be resolved a second time")

    async def close(self) -> None:
        """There is nothing to close."""


def _getaddrinfo(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def _beginning(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """Up to `most` bytes of an answer, and whether there was more."""
    kept = bytearray()
    while len(kept) <= most:
        piece = await response.content.read(_READ_BYTES)
        if not piece:
            return bytes(kept), False
        kept += piece
    response.close()
    return bytes(kept[:most]), True
