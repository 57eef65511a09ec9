"""A provider of identities, asked by OpenID Connect: where to send people, and who they are.

What it says of itself (its endpoints, its keys) is fetched from ``issuer`` and kept for an hour;
keys are fetched again when a token names one that is not there, at most once a minute. Every call
goes through the one client that the server calls others by, so the provider's addresses *must* be
public or allowed by ``outbound.allow_private``. Its endpoints must be reached as safely as the
issuer itself: what begins with ``https`` is not left for ``http``.

The client secret is read from its file at each use, so it can be replaced while the server runs.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote_plus, urlencode

import msgspec
import structlog

from registry.auth.id_tokens import IdTokenRefused, KeyUnknown, verify
from registry.domain.addresses import parse_url
from registry.domain.calls import Call, CallFailed, Reply, Send
from registry.errors import Invalid, LoginFailed
from store.clock import SECOND, Clock
from store.errors import Unavailable

T = TypeVar("T")

KEPT_SECONDS: Final = 3600
KEYS_AGAIN_SECONDS: Final = 60
CALL_SECONDS: Final = 10.0
MOST_BYTES: Final = 1 << 20

_WELL_KNOWN: Final = "/.well-known/openid-configuration"

logger = structlog.get_logger()


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who the provider is, and who we are to it."""

    issuer: str
    client_id: str
    client_secret_file: str
    scopes: tuple[str, ...]


class _Metadata(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct):
    id_token: str


class Provider:
    """One provider; what it said is remembered by each process."""

    def __init__(self, settings: ProviderSettings, send: Send, clock: Clock) -> None:
        self.settings = settings
        self._send = send
        self._clock = clock
        self._metadata: tuple[_Metadata, int] | None = None
        self._keys: tuple[list[dict[str, Any]], int] | None = None
        self._asking = asyncio.Lock()

    async def address(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where to send somebody who wants to sign in; raises `Unavailable`."""
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.settings.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(self.settings.scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        endpoint = (await self._described()).authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def claims(
        self, code: str, *, redirect_uri: str, verifier: str, nonce: str
    ) -> Mapping[str, Any]:
        """What the provider says of whoever came back with this code.

        Raises `LoginFailed` where it says nothing credible, `Unavailable` where it is silent.
        """
        token = await self._redeem(code, redirect_uri, verifier)
        try:
            try:
                return self._verified(token, await self._known_keys(), nonce)
            except KeyUnknown:
                return self._verified(token, await self._known_keys(again=True), nonce)
        except IdTokenRefused as refused:
            logger.warning("id token refused", issuer=self.settings.issuer, reason=str(refused))
            raise refusal("it did not say who you are") from refused

    def _verified(self, token: str, keys: list[dict[str, Any]], nonce: str) -> Mapping[str, Any]:
        return verify(
            token,
            keys,
            issuer=self.settings.issuer,
            client_id=self.settings.client_id,
            nonce=nonce,
            now_seconds=self._clock() / SECOND,
        )

    async def _redeem(self, code: str, redirect_uri: str, verifier: str) -> str:
        """The ID token for a code."""
        metadata = await self._described()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        secret = await self._secret()
        if secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            headers["Authorization"] = _basic(self.settings.client_id, secret)
        elif secret:
            form["client_secret"] = secret
        body = urlencode(form).encode()
        reply = await self._call("POST", metadata.token_endpoint, headers, body)
        if reply.status >= 500:
            raise self._silent(f"it answered {reply.status}")
        if reply.status != 200:
            logger.warning(
                "code refused by the provider", issuer=self.settings.issuer, status=reply.status
            )
            raise refusal("it does not know that code, or us")
        return self._decoded(reply, _Tokens).id_token

    async def _secret(self) -> str:
        file = self.settings.client_secret_file
        if not file:
            return ""
        try:
            return (await asyncio.to_thread(Path(file).read_text)).strip()
        except (OSError, UnicodeDecodeError) as error:
            logger.error("oidc.client_secret_file cannot be read", error=type(error).__name__)
            raise Unavailable("signing in through the provider") from error

    async def _described(self) -> _Metadata:
        async with self._asking:
            now = self._clock()
            if self._metadata is None or now - self._metadata[1] > KEPT_SECONDS * SECOND:
                reply = await self._get(self.settings.issuer.rstrip("/") + _WELL_KNOWN)
                metadata = self._decoded(reply, _Metadata)
                self._check(metadata)
                self._metadata = (metadata, now)
            return self._metadata[0]

    def _check(self, metadata: _Metadata) -> None:
        safe = self.settings.issuer.startswith("https://")
        endpoints = (
            metadata.authorization_endpoint,
            metadata.token_endpoint,
            metadata.jwks_uri,
        )
        if metadata.issuer != self.settings.issuer:
            raise self._silent("it says that it is another issuer")
        if safe and not all(endpoint.startswith("https://") for endpoint in endpoints):
            raise self._silent("its endpoints are less safe than itself")

    async def _known_keys(self, *, again: bool = False) -> list[dict[str, Any]]:
        metadata = await self._described()
        async with self._asking:
            now = self._clock()
            kept = KEYS_AGAIN_SECONDS if again else KEPT_SECONDS
            if self._keys is None or now - self._keys[1] > kept * SECOND:
                self._keys = (self._decoded(await self._get(metadata.jwks_uri), _Keys).keys, now)
            return self._keys[0]

    async def _get(self, url: str) -> Reply:
        reply = await self._call("GET", url, {"Accept": "application/json"}, b"")
        if reply.status != 200:
            raise self._silent(f"it answered {reply.status}")
        return reply

    async def _call(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            return await self._send(
                Call(
                    method=method,
                    target=parse_url(url),
                    headers=headers,
                    body=body,
                    total_seconds=CALL_SECONDS,
                    most_bytes=MOST_BYTES,
                )
            )
        except (CallFailed, Invalid) as error:
            raise self._silent(str(error)) from error

    def _decoded(self, reply: Reply, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.MsgspecError as error:
            raise self._silent("it does not answer as providers do") from error

    def _silent(self, reason: str) -> Unavailable:
        logger.warning(
            "the provider of identities cannot be used",
            issuer=self.settings.issuer,
            reason=reason,
        )
        return Unavailable("signing in through the provider")


def refusal(reason: str) -> LoginFailed:
    """Nobody is let in by what the provider says; the sentence is for people."""
    return LoginFailed(
        f"signing in through the provider did not work: {reason}", code="oidc_refused"
    )


def _basic(name: str, secret: str) -> str:
    """HTTP Basic as OAuth 2 has it (RFC 6749, section 2.3.1): both parts are form-encoded first."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
