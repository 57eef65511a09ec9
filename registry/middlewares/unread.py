"""Ends the connection of a request whose body nobody wanted, after the client saw the answer.

It stands outside every middleware that may answer by itself, so that it sees their answers too.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.http.receiving import is_unread, settle_unread


def unread_middleware() -> Middleware:
    """Send the answer, throw away a bounded part of the unread body, and close."""

    @web.middleware
    async def unread(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if is_unread(request):
            await settle_unread(request, response)
        return response

    return unread
