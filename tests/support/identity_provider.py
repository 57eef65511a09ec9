"""A real provider of identities on this machine: OpenID Connect over HTTP, in a thread.

It is `oidc-provider-mock`, which is Authlib's server with a page on which anybody is who they say.
It knows the clients that registered, checks their secrets, and signs with a key of its own. Authlib
can verify PKCE, which the package leaves out; `Grant` puts it back, by S256 alone and demanded.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import msgspec
import requests
from aiohttp import ClientSession, CookieJar
from yarl import URL

from tests.support.builders import Answer

with warnings.catch_warnings():
    import authlib.deprecate  # noqa: F401  # sets a filter of its own

    warnings.simplefilter("ignore")  # Authlib's, about itself
    from authlib.oauth2.rfc7636 import CodeChallenge
    from oidc_provider_mock import User, _app, run_server_in_thread

HOST = "registry.test"
"""How browsers call the registry: a name that is known before there is a port."""

WAY_BACK = f"http://{HOST}/api/v1/login/oidc/callback"


class _S256(CodeChallenge):  # type: ignore[misc]  # Authlib has no types
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def __init__(self, kept: dict[str, str]) -> None:
        super().__init__(required=True)
        self._kept = kept

    def get_authorization_code_challenge(self, code: Any) -> str:
        return self._kept[code.code]

    def get_authorization_code_challenge_method(self, code: Any) -> str:
        return "S256"


class Grant(_app.AuthorizationCodeGrant):  # type: ignore[misc]  # the same
    """The package's grant, which also remembers and demands PKCE."""

    challenges: ClassVar[dict[str, str]] = {}

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _S256(self.challenges)(self)

    def save_authorization_code(self, code: str, request: Any) -> None:
        super().save_authorization_code(code, request)
        self.challenges[code] = request.payload.data["code_challenge"]


class IdentityProvider(msgspec.Struct, frozen=True):
    """A running provider, and the client that is registered with it."""

    issuer: str
    client_id: str
    client_secret: str

    def has(self, subject: str, **claims: Any) -> None:
        """Make somebody known to it, or known otherwise than before."""
        body = {"sub": subject, **claims}
        answer = requests.put(f"{self.issuer}/users/{subject}", json=body, timeout=20)
        assert answer.ok, answer.text


@contextmanager
def running_provider() -> Iterator[IdentityProvider]:
    """A provider with one client, which may be returned to at `WAY_BACK`."""
    with (
        mock.patch.object(_app, "AuthorizationCodeGrant", Grant),
        run_server_in_thread(
            require_client_registration=True, require_nonce=True, user_claims=(User(sub="first"),)
        ) as server,
    ):
        issuer = f"http://localhost:{server.server_port}"
        wish = {"redirect_uris": [WAY_BACK], "scope": "openid profile email"}
        answer = requests.post(f"{issuer}/oauth2/clients", json=wish, timeout=20)
        assert answer.ok, answer.text
        client = answer.json()
        yield IdentityProvider(issuer, client["client_id"], client["client_secret"])


class Browser:
    """Somebody with cookies, who goes where they are sent, one step at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True))

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(self, url: str, **headers: str) -> Answer:
        """Ask the registry, whatever name the address has."""
        target = URL(self.url + url.removeprefix(f"http://{HOST}"), encoded=True)
        headers = {"Host": HOST, **headers}
        async with self.session.get(target, headers=headers, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def leave(self, query: str = "") -> str:
        """Where the server sends them to sign in."""
        answer = await self.get(f"/api/v1/login/oidc{query}")
        assert answer.status == 303, answer.body
        return answer.headers["Location"]

    async def be(self, subject: str, address: str, *, action: str = "authorize") -> str:
        """Say at the provider who they are; where it sends them back to."""

        def post() -> str:
            form = {"sub": subject, "action": action}
            answer = requests.post(address, data=form, allow_redirects=False, timeout=20)
            assert answer.status_code == 302, answer.text
            return answer.headers["Location"]

        return await asyncio.to_thread(post)

    async def sign_in(self, subject: str) -> Answer:
        """All of it."""
        return await self.get(await self.be(subject, await self.leave()))


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
