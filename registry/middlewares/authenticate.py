"""Who acts: in open mode everybody who reaches the server is the principal ``local``.

Tokens, sessions and the secret of local commands will be looked at here; handlers only ever see
``request[PRINCIPAL]``.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.domain.principals import LOCAL
from registry.keys import PRINCIPAL


def authenticate_middleware() -> Middleware:
    """Name the principal of each request."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[PRINCIPAL] = LOCAL
        return await handler(request)

    return authenticate
