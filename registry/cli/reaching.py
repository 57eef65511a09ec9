"""A connection from a local command to the server that runs on its data directory."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

from registry.cli.presence import Presence


def connect(server: Presence, seconds: float) -> http.client.HTTPConnection:
    """A connection, not yet made; raises `OSError` for a certificate that cannot be read."""
    address = urlsplit(server.url)
    host = address.hostname or ""
    if not server.certificate:
        return http.client.HTTPConnection(host, address.port, timeout=seconds)
    from registry.cli.tls import local_context

    context = local_context(Path(server.certificate))
    return http.client.HTTPSConnection(host, address.port, timeout=seconds, context=context)
