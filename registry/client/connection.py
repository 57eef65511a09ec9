"""One server, asked patiently.

**What is retried.** A connection that cannot be made or breaks, a body that ends early, silence,
and the answers 408, 429, 502, 503 and 504, after what ``Retry-After`` says or a growing, jittered
pause. Whatever moved bytes in between starts with fresh patience, so a slow link is not a broken
one. A server that has never answered gets little: most likely it is not there.
**What is not.** Every other answer; certificates that do not hold.

Requests that are repeated must bear it: reads, writes of a digest, and what carries an
``Idempotency-Key``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from registry import __version__
from registry.client.errors import NotARegistry, Refused, Unreachable

T = TypeVar("T")

Query: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]

AGAIN: Final = frozenset((408, 429, 502, 503, 504))
"""Answers that mean: later."""

LONGEST_PAUSE_SECONDS: Final = 15.0
SILENCE_SECONDS: Final = 60.0
SETTLING_SECONDS: Final = 600.0
_PROBLEM_BYTES: Final = 1 << 20
_JSON_BYTES: Final = 64 << 20


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How often failing is borne: in a row, and by a server that was never heard."""

    failures: int = 8
    unheard: int = 2
    first_pause_seconds: float = 0.25


class Again(Exception):
    """This try failed and another one may not; `after_seconds` is what the server asked for."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(reason)


def _why(error: Exception) -> str:
    """What to say of a connection that was not made or that broke."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"nobody knows the address of {error.host}"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "nothing listens there"
        return error.os_error.strerror or str(error.os_error)
    return str(error) or "the connection was silent for too long"


class Silence:
    """Ends a request whose body has not moved for too long.

    The server gets more time once it has every byte, to check and sync them.
    """

    def broken_by(self, body: AsyncIterator[bytes], clock: asyncio.Timeout) -> AsyncIterator[bytes]:
        """The same body; each piece that goes out starts the clock anew."""
        now = asyncio.get_running_loop().time

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in body:
                clock.reschedule(now() + SILENCE_SECONDS)
                yield piece
            clock.reschedule(now() + SETTLING_SECONDS)

        return pieces()


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


class Connection:
    """A session with one server; use it as an asynchronous context manager.

    `token` is shown to that server alone: a redirect to another one does not take it along.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.url = checked_url(url)
        self._headers = {"User-Agent": f"digestry/{__version__}", "Accept-Encoding": "identity"}
        if token is not None and "@" not in urlsplit(url).netloc:
            # A name and password in the address are meant for this server; they go before.
            self._headers["Authorization"] = f"Bearer {token}"
        self._patience = patience or Patience()
        self._sleep = sleep
        self._was_heard = False
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Connection:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=SILENCE_SECONDS / 4, sock_read=SILENCE_SECONDS
            ),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, kind: type[T], query: Query = ()) -> T:
        """Read JSON."""
        address = path if not query else f"{path}?{_query(query)}"
        return await self.ask("GET", address, kind)

    async def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send JSON, read JSON, patiently."""
        return (await self.exchange(method, path, kind, content=content, headers=headers))[1]

    async def exchange(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, T]:
        """The same, with the status of the answer."""
        status, received = await self._exchange(method, path, content, headers)
        try:
            return status, msgspec.json.decode(received, type=kind)
        except msgspec.DecodeError as error:
            raise NotARegistry(masked(self.url), str(error)) from error

    async def raw(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send JSON and return what is answered as it comes: nothing, perhaps."""
        return (await self._exchange(method, path, content, headers))[1]

    async def _exchange(
        self, method: str, path: str, content: Any, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        body = None if content is None else msgspec.json.encode(content)
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"

        async def attempt() -> tuple[int, bytes]:
            async with self.answered(method, path, headers=sent, data=body) as answer:
                return answer.status, await _whole(answer, _JSON_BYTES)

        return await self.repeated(attempt)

    @asynccontextmanager
    async def answered(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        silence: Silence | None = None,
        asks_first: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One try; raises `Again` or `Refused`, also for what happens inside the block.

        Whoever sends a body gives a `silence` and breaks it: the session's own clock would run
        while bytes are on their way to the server. With `asks_first` they wait for its word that
        they are wanted.
        """
        assert self._session is not None, "used outside of its context"
        sending = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_SECONDS / 4)
        extra: dict[str, Any] = {} if silence is None else {"timeout": sending}
        try:
            async with (
                asyncio.timeout(None if silence is None else SILENCE_SECONDS) as clock,
                self._session.request(
                    method,
                    URL(self.url + path, encoded=True),
                    headers=headers,
                    data=data if silence is None else silence.broken_by(data, clock),
                    allow_redirects=method == "GET",
                    expect100=asks_first,
                    **extra,
                ) as answer,
            ):
                self._was_heard = True
                if answer.status >= 300:
                    await self._raise(answer)
                yield answer
        except aiohttp.ClientSSLError as error:
            raise Unreachable(masked(self.url), str(error)) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise Again(_why(error)) from error
        except aiohttp.ClientError as error:
            raise NotARegistry(masked(self.url), str(error)) from error

    async def repeated(
        self, attempt: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Run `attempt` until it no longer raises `Again`; raises `Unreachable`.

        As long as `progress` grows from one failure to the next, patience starts anew.
        """
        failures, reached = 0, progress()
        while True:
            try:
                return await attempt()
            except Again as again:
                if progress() > reached:
                    failures, reached = 0, progress()
                failures += 1
                bearable = self._patience.failures if self._was_heard else self._patience.unheard
                if failures > bearable:
                    raise Unreachable(masked(self.url), str(again)) from again
                await self._sleep(self._pause(failures, again.after_seconds))

    def _pause(self, failures: int, asked_seconds: float | None) -> float:
        longest = min(
            LONGEST_PAUSE_SECONDS, self._patience.first_pause_seconds * 2 ** (failures - 1)
        )
        # Jitter, so that a fleet that lost its server does not come back in one instant.
        own: float = longest * (0.5 + random.random() / 2)  # noqa: S311  # not a secret
        return own if asked_seconds is None else max(own, min(asked_seconds, 60.0))

    async def _raise(self, answer: aiohttp.ClientResponse) -> None:
        content = await _whole(answer, _PROBLEM_BYTES)
        try:
            problem = msgspec.json.decode(content, type=_Problem)
            details = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError:
            problem, details = _Problem(), {}
        if answer.status in AGAIN:
            reason = problem.detail or f"the server answered {answer.status}"
            raise Again(reason, _seconds(answer.headers.get("Retry-After")))
        raise Refused(answer.status, problem.code, problem.detail, details)


def checked_url(url: str) -> str:
    """The URL without a slash at its end; raises `NotARegistry` for what is no address of one."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for what is no number
    except ValueError as error:
        raise NotARegistry(repr(url), str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or port == 0:
        raise NotARegistry(
            repr(masked(url)), "an address begins with http:// or https:// and names a host"
        )
    return url.rstrip("/")


def without_user(url: str) -> str:
    """The URL without a name or a password in it: which server it is, whoever asks."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def masked(url: str) -> str:
    """The URL with a password, and a token in the place of a name, left out."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"***@{host}"))


def part(text: str, *, keep: str = "") -> str:
    """Text as a part of a path."""
    return quote(text, safe=f"{keep}~@+:")


def _query(query: Query) -> str:
    pairs = query.items() if isinstance(query, Mapping) else query
    return urlencode(list(pairs), quote_via=quote, safe="")


async def _whole(answer: aiohttp.ClientResponse, most: int) -> bytes:
    collected = bytearray()
    async for piece in answer.content.iter_any():
        collected += piece
        if len(collected) > most:
            raise NotARegistry(str(answer.url.with_user(None)), f"an answer above {most} bytes")
    return bytes(collected)


def _seconds(field: str | None) -> float | None:
    """``Retry-After`` in seconds; a date is rare and is not worth a parser."""
    if field is None or not field.strip().isdecimal() or len(field.strip()) > 6:
        return None
    return float(field.strip())
