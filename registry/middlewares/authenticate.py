"""Who acts: in open mode everybody who reaches the server is the principal ``local``.

The secret of local commands is checked where one is offered: a command that holds a stale one must
hear so, and not be taken for anybody. Tokens and sessions will be looked at here too; handlers only
ever see ``request[PRINCIPAL]``. It carries the id that `request_id`, further out, gave the request.
"""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from registry.auth.local_secret import is_local_secret
from registry.domain.principals import LOCAL
from registry.errors import Unauthenticated
from registry.keys import LOCAL_SECRET, PRINCIPAL, REQUEST_ID


def authenticate_middleware() -> Middleware:
    """Name the principal of each request."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        offered = request.headers.get(hdrs.AUTHORIZATION)
        if is_local_secret(offered):
            secret = request.app.get(LOCAL_SECRET)
            if secret is None or not secret.admits(offered, request.remote):
                raise Unauthenticated
        request[PRINCIPAL] = msgspec.structs.replace(LOCAL, request_id=request[REQUEST_ID])
        return await handler(request)

    return authenticate
