"""Who acts: ``request[PRINCIPAL]``, which the guard of the route completes for its handler.

In open mode everybody who reaches the server is the principal ``local``, whatever they show: a
client that sends some other service's token need not be configured to stop. Otherwise a principal
is found by what the request shows, in this order:

- the secret of local commands, which a running server left in its data directory: ``local`` again;
- ``Authorization: Bearer``: an API token, or the ticket of a login, whose session must hold;
- ``Authorization: Basic``: an API token as the password, for git, curl and container tools. The
  username means nothing; passwords of people are looked at by the login alone;
- a cookie of a login (`registry.services.browser_sessions`), for the pages of a browser;
- a signature at the end of the query (`registry.auth.signed_urls`): whoever signed it, for this
  request alone;
- nothing: nobody, who may do what is public, and read what is where that is configured.

What is shown and does not hold is 401, never "nobody": whoever sends a stale token must hear so.
The secret of local commands is checked in open mode too, for the same reason.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from registry.auth.local_secret import is_local_secret
from registry.auth.signed_urls import (
    PARAMETER,
    PURPOSES,
    WORDS,
    Claim,
    SignatureRefused,
    check,
    split,
    uncovered,
)
from registry.auth.tickets import is_ticket
from registry.domain.ids import TOKEN
from registry.domain.principals import LOCAL, Principal
from registry.errors import Denied, Unauthenticated
from registry.http.conditional import InvalidDigestField, parse_digest_field
from registry.http.cookies import CSRF, CSRF_HEADER, TICKET
from registry.http.routing import check_rate_of_unknown
from registry.keys import (
    ACCESSES,
    ADDRESSES,
    BROWSERS,
    IDENTITIES,
    IS_SIGNED,
    LOCAL_SECRET,
    LOGINS,
    PRINCIPAL,
    REQUEST_ID,
    SEALS,
    STORE,
)

SAFE: Final = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS))

_SIGNATURE: Final = f"{PARAMETER}="


def authenticate_middleware(*, is_open: bool) -> Middleware:
    """Name the principal of each request."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        offered = request.headers.get(hdrs.AUTHORIZATION)
        if is_local_secret(offered):
            secret = request.app.get(LOCAL_SECRET)
            if secret is None or not secret.admits(offered, request.remote):
                raise Unauthenticated
            principal = LOCAL
        elif offered is None and _SIGNATURE in request.raw_path:
            principal = await signer(request, is_open=is_open)
        elif is_open:
            principal = LOCAL
        else:
            try:
                principal = await shown(request, offered)
            except Unauthenticated:
                check_rate_of_unknown(request)
                raise
            if principal.session.startswith(TOKEN):
                address = request.app[ADDRESSES].client(request)
                request.app[ACCESSES].used(principal, address, request[REQUEST_ID])
        request[PRINCIPAL] = principal
        return await handler(request)

    return authenticate


async def shown(request: web.Request, offered: str | None) -> Principal:
    """Whose ``Authorization`` this is; raises `Unauthenticated` for what does not hold."""
    identities = request.app[IDENTITIES]
    if offered is None:
        return await kept_by_browser(request) or identities.nobody
    scheme, _, credentials = offered.strip().partition(" ")
    match scheme.lower():
        case "bearer" if is_ticket(credentials.strip()):
            session = await request.app[LOGINS].session_of(credentials.strip())
            return await identities.of_session(session)
        case "bearer":
            return await identities.of_token(credentials.strip())
        case "basic":
            return await identities.of_token(password_of(credentials.strip()))
    raise Unauthenticated


async def kept_by_browser(request: web.Request) -> Principal | None:
    """Whose cookie this is; None without one that holds.

    A browser sends a cookie that has ended until somebody signs in again, so that is nobody's.
    Raises `Denied` for a change that no page of this server asked for.
    """
    if hdrs.COOKIE not in request.headers:
        return None
    ticket = request.cookies.get(TICKET)
    if ticket is None:
        return None
    browsers = request.app[BROWSERS]
    try:
        session = await browsers.session_of(ticket)
        principal = await request.app[IDENTITIES].of_session(session)
    except Unauthenticated:
        return None
    if request.method not in SAFE and not await browsers.is_from_our_page(
        session, request.headers.get(CSRF_HEADER)
    ):
        raise Denied(
            "change",
            request.path,
            sentence=f"a change by a browser's login needs the cookie {CSRF} as {CSRF_HEADER}",
            code="csrf_token_missing",
        )
    return principal


async def signer(request: web.Request, *, is_open: bool) -> Principal:
    """Whoever signed this request's URL; raises `Denied` for a signature that does not hold."""
    target, signature = split(request.raw_path)
    behind = uncovered(target) if signature is None and "?" in target else []
    if signature is None and not behind:
        return LOCAL if is_open else request.app[IDENTITIES].nobody
    try:
        if signature is None:
            raise SignatureRefused(f"does not cover {behind[0]!r}, which follows it")
        purpose = PURPOSES.get(request.method)
        if purpose is None:
            raise SignatureRefused(f"is not for {request.method}")
        now, root = request.app[STORE].clock(), await request.app[SEALS].root_key()
        claim = check(root, purpose, target, signature, now)
        check_bound(request, claim)
        request[IS_SIGNED] = True
        if is_open:
            return LOCAL
        return await request.app[IDENTITIES].of_signer(claim.principal, WORDS[purpose])
    except Unauthenticated:
        reason = "was made by somebody who may do nothing any more"
    except SignatureRefused as error:
        reason = error.reason
    raise Denied("use", "signature", sentence=f"the signature {reason}", code="signature_refused")


def check_bound(request: web.Request, claim: Claim) -> None:
    """Raise `SignatureRefused` for a body that is not what was signed."""
    if claim.size_bytes is not None and request.content_length != claim.size_bytes:
        raise SignatureRefused(f"is for a body of {claim.size_bytes} bytes")
    if claim.digest is not None:
        try:
            declared = parse_digest_field(request.headers.get("Repr-Digest", ""))
        except InvalidDigestField:
            declared = None
        if str(declared) != claim.digest:
            raise SignatureRefused(f"is for bytes with the Repr-Digest of {claim.digest}")


def password_of(credentials: str) -> str:
    """The password of HTTP Basic (RFC 7617, section 2); raises `Unauthenticated`."""
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated from error
    _, separator, password = decoded.partition(":")
    if not separator:
        raise Unauthenticated
    return password
