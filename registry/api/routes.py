"""The whole native URL map on one screen; the order matters where two patterns match.

======================================  ===========================================================
module                                  addresses
======================================  ===========================================================
`registry.api.index`                    ``/``
`registry.api.health`                   ``/healthz`` ``/readyz`` ``/metrics`` ``/api/v1/stats``
`registry.api.blobs`                    ``/blobs`` ``/api/v1/blobs/missing``
`registry.api.pins`                     ``/api/v1/pins``
======================================  ===========================================================

Foreign protocols bring their own lists; `registry.app` puts `UNMATCHED` behind all of them.
"""

from __future__ import annotations

from typing import Final

from registry.api import blobs, health, index, pins, unmatched
from registry.http.routing import Route

ROUTES: Final[list[Route]] = [
    *index.ROUTES,
    *health.ROUTES,
    *blobs.ROUTES,
    *pins.ROUTES,
]

UNMATCHED: Final[list[Route]] = unmatched.ROUTES
"""Takes every address that is left; must come last."""
