"""Let the proxy in front send a blob by itself: nginx with ``X-Accel-Redirect``.

Digestry decides who may read what and answers with headers alone; the proxy sends the file. That
happens only where nothing of the answer would change:

- ``server.accel_redirect`` names the proxy's internal place for the folder of blobs, the connection
  comes from a trusted proxy, and that proxy says with ``X-Sendfile-Type: X-Accel-Redirect`` that it
  knows what to do. A proxy that does not would show the client an empty body and a path.
- What is asked for is verified already, as ``store.verify_reads`` demands; what is not leaves
  through us and is verified on its way. With ``strict`` every byte does, always.
- The blob is a file of its own that is not small. Conditions that the proxy would judge by what it
  knows of the file, and ranges that it reads otherwise than we do, stay here.

The bytes count as sent when they are handed over: nobody tells how many the proxy sent.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web
from multidict import istr

from registry.keys import ADDRESSES, CONFIG
from store import layout
from store.blobs import ByteRange
from store.reading import OpenBlob

REDIRECT: Final = istr("X-Accel-Redirect")
ANNOUNCEMENT: Final = istr("X-Sendfile-Type")

_FOLDER: Final = "blobs/"
_OURS_TO_JUDGE: Final = (hdrs.IF_MATCH, hdrs.IF_UNMODIFIED_SINCE)


def place_of(request: web.Request, blob: OpenBlob, within: ByteRange | None) -> str | None:
    """Where the proxy finds the file; None where we send it ourselves.

    `within` is the range that is sent, None for the whole, whatever was asked.
    """
    prefix = request.app[CONFIG].server.accel_redirect
    if not prefix or blob.fileno is None:
        return None
    asked = request.headers
    if asked.get(ANNOUNCEMENT) != REDIRECT or not request.app[ADDRESSES].is_trusted(request):
        return None
    if any(name in asked for name in _OURS_TO_JUDGE) or (hdrs.RANGE in asked and within is None):
        return None
    part = within or ByteRange(0, blob.size_bytes)
    if not blob.is_verified(part.start, part.stop):
        return None
    return prefix + layout.blob_key(blob.row.digest).removeprefix(_FOLDER)
