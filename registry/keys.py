"""The typed names under which the application and a request carry things; no strings elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from registry.config import Config
from registry.domain.principals import Principal

if TYPE_CHECKING:
    from store.opening import Store

    from registry.auth.local_secret import LocalSecret
    from registry.http.draining import Drain
    from registry.metrics import Metrics
    from registry.services.operations import Operations

    CONFIG: Final[web.AppKey[Config]]
    STORE: Final[web.AppKey[Store]]
    METRICS: Final[web.AppKey[Metrics]]
    DRAIN: Final[web.AppKey[Drain]]
    LOCAL_SECRET: Final[web.AppKey[LocalSecret]]
    OPERATIONS: Final[web.AppKey[Operations]]

# The types are named as text where importing them would pull a layer above into this module.
CONFIG = web.AppKey("config", Config)
STORE = web.AppKey("store", object)  # type: ignore[assignment]  # the declared type is above
METRICS = web.AppKey("metrics", object)  # type: ignore[assignment]  # the declared type is above
DRAIN = web.AppKey("drain", object)  # type: ignore[assignment]  # the declared type is above
LOCAL_SECRET = web.AppKey("local_secret", object)  # type: ignore[assignment]  # as above
OPERATIONS = web.AppKey("operations", object)  # type: ignore[assignment]  # as above

REQUEST_ID: Final = web.RequestKey("request_id", str)
PRINCIPAL: Final = web.RequestKey("principal", Principal)
ORIGIN: Final = web.RequestKey("origin", str)
"""The foreign origin that configuration allows to read the answer; absent otherwise."""
