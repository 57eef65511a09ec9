"""The typed names under which the application and a request carry things; no strings elsewhere.

Types above this module are imported for the checker alone, so that anybody may import the keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.local_secret import LocalSecret
    from registry.auth.passwords import Passwords
    from registry.catalog.once import Scope
    from registry.config import Config
    from registry.domain.principals import Principal
    from registry.http.addresses import Addresses
    from registry.http.draining import Drain
    from registry.http.rates import Rates, Standing
    from registry.http.repeating import Repeats
    from registry.http.taking import Takes
    from registry.measures import Measures
    from registry.metrics import Metrics
    from registry.services.accesses import Accesses
    from registry.services.blob_batches import BlobBatches
    from registry.services.blobs import Blobs
    from registry.services.browser_sessions import BrowserSessions
    from registry.services.condition import Condition
    from registry.services.delivering import Deliverer
    from registry.services.downloads import DownloadLog
    from registry.services.draft_batches import DraftBatches
    from registry.services.events import Feed
    from registry.services.growth import Growth
    from registry.services.identities import Identities
    from registry.services.logins import Logins
    from registry.services.oidc import OidcLogins
    from registry.services.operations import Operations
    from registry.services.scoring import Raters
    from registry.services.seals import Seals
    from registry.services.series import Turnstile
    from registry.services.standings import Router
    from registry.services.survey import Survey
    from registry.services.uploads import UploadSessions
    from registry.services.webhooks import Webhooks
    from store.opening import Store

CONFIG: Final[web.AppKey[Config]] = web.AppKey("config")
STORE: Final[web.AppKey[Store]] = web.AppKey("store")
METRICS: Final[web.AppKey[Metrics]] = web.AppKey("metrics")
SURVEY: Final[web.AppKey[Survey]] = web.AppKey("survey")
MEASURES: Final[web.AppKey[Measures]] = web.AppKey("measures")
DRAIN: Final[web.AppKey[Drain]] = web.AppKey("drain")
BLOBS: Final[web.AppKey[Blobs]] = web.AppKey("blobs")
BLOB_BATCHES: Final[web.AppKey[BlobBatches]] = web.AppKey("blob_batches")
DRAFT_BATCHES: Final[web.AppKey[DraftBatches]] = web.AppKey("draft_batches")
UPLOAD_SESSIONS: Final[web.AppKey[UploadSessions]] = web.AppKey("upload_sessions")
CONDITION: Final[web.AppKey[Condition]] = web.AppKey("condition")
ADDRESSES: Final[web.AppKey[Addresses]] = web.AppKey("addresses")
ACCESSES: Final[web.AppKey[Accesses]] = web.AppKey("accesses")
IDENTITIES: Final[web.AppKey[Identities]] = web.AppKey("identities")
RATES: Final[web.AppKey[Rates]] = web.AppKey("rates")
REPEATS: Final[web.AppKey[Repeats]] = web.AppKey("repeats")
TAKES: Final[web.AppKey[Takes]] = web.AppKey("takes")
LOCAL_SECRET: Final[web.AppKey[LocalSecret]] = web.AppKey("local_secret")
DOWNLOADS: Final[web.AppKey[DownloadLog]] = web.AppKey("downloads")
PASSWORDS: Final[web.AppKey[Passwords]] = web.AppKey("passwords")
BROWSERS: Final[web.AppKey[BrowserSessions]] = web.AppKey("browsers")
LOGINS: Final[web.AppKey[Logins]] = web.AppKey("logins")
OIDC: Final[web.AppKey[OidcLogins]] = web.AppKey("oidc")
OPERATIONS: Final[web.AppKey[Operations]] = web.AppKey("operations")
SEALS: Final[web.AppKey[Seals]] = web.AppKey("seals")
WEBHOOKS: Final[web.AppKey[Webhooks]] = web.AppKey("webhooks")
DELIVERER: Final[web.AppKey[Deliverer]] = web.AppKey("deliverer")
FEED: Final[web.AppKey[Feed]] = web.AppKey("feed")
GROWTH: Final[web.AppKey[Growth]] = web.AppKey("growth")
RATERS: Final[web.AppKey[Raters]] = web.AppKey("raters")
TURNSTILE: Final[web.AppKey[Turnstile]] = web.AppKey("turnstile")
ROUTER: Final[web.AppKey[Router]] = web.AppKey("router")
RUNNING_KEYS: Final[web.AppKey[set[Scope]]] = web.AppKey("running_keys")
"""Keys of ``Idempotency-Key`` whose first request this process has in hand."""

REQUEST_ID: Final[web.RequestKey[str]] = web.RequestKey("request_id")
PRINCIPAL: Final[web.RequestKey[Principal]] = web.RequestKey("principal")
IS_SIGNED: Final[web.RequestKey[bool]] = web.RequestKey("is_signed")
"""There, and true, where the request was let in by the signature in its query."""
STANDING: Final[web.RequestKey[Standing]] = web.RequestKey("standing")
"""Where the principal stands with its limit of requests, where there is one."""
BODY: Final[web.RequestKey[bytes]] = web.RequestKey("body")
"""A body that was read in one piece, so that it can be looked at twice."""
AGAIN: Final[web.RequestKey[Callable[[], None]]] = web.RequestKey("again")
"""What is to be done whenever this very answer is given again (`registry.http.repeating`)."""
BYTES_OUT: Final[web.RequestKey[int]] = web.RequestKey("bytes_out")
"""Content bytes sent, where a handler hands them to the kernel without telling aiohttp."""
ORIGIN: Final[web.RequestKey[str]] = web.RequestKey("origin")
SPENT: Final[web.RequestKey[bool]] = web.RequestKey("spent")
"""Set where the connection cannot serve another request, because its parser was passed by."""
"""The foreign origin that configuration allows to read the answer; absent otherwise."""
