"""The page at ``/`` until there are pages: what runs here, and how to put a file in with curl.

No script, no style sheet, nothing fetched from anywhere: the policy forbids all but its own few
lines of style, by their hash.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from aiohttp import hdrs, web

from registry import __version__
from registry.api.errors import ADAPTER
from registry.http.routing import Media, Route
from registry.keys import ADDRESSES

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.8rem;overflow-x:auto}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Digestry</title>
<style>{style}</style>
<h1>Digestry {version}</h1>
<p>This server stores files under their SHA-256 digest and publishes them as versions of models.</p>
<h2>Publish a model</h2>
<pre>curl -T model.safetensors '{url}/models/my-model/1.0.0/model.safetensors?publish=true'</pre>
<h2>Fetch it</h2>
<pre>curl -LO {url}/models/my-model/latest/model.safetensors</pre>
<h2>Store a file without a name</h2>
<pre>curl -T model.safetensors {url}/blobs/</pre>
<p>The answer names the digest; <code>{url}/blobs/sha256:&hellip;</code> gives the file back.
Large files over shaky links: resumable uploads (tus 1.0) at <code>{url}/uploads</code>.</p>
<h2>More</h2>
<ul>
<li><a href="/api/v1/stats">what is stored</a>
<li><a href="/readyz">is it ready</a>
<li><a href="/metrics">metrics</a>
</ul>
</html>
"""


async def get_index(request: web.Request) -> web.Response:
    """What this is and how to use it, with the address under which the reader reached it."""
    url = request.app[ADDRESSES].base_url(request)
    page = _PAGE.format(style=_STYLE, version=escape(__version__), url=escape(url))
    return web.Response(
        text=page,
        content_type="text/html",
        headers={
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "no-cache",
            hdrs.VARY: "Host",
        },
    )


ROUTES: Final = [
    Route(
        method=method,
        path="/",
        handler=get_index,
        permission="public",
        adapter=ADAPTER,
        summary="A page that says what runs here",
        tag="server",
        answers={200: Media("text/html", "The page.")},
        is_hidden=True,
    )
    for method in ("GET", "HEAD")
]
