"""The composition root: everything is made, named and wired here, and nowhere else.

**Order of middlewares**: see `registry.middlewares`. **Order of shutdown**: whoever runs the
application calls ``app[DRAIN].begin()``, stops accepting, waits for work in hand, then cleans up
the runner; the access log is written out in the application's own cleanup. The store was opened by
the caller and is closed by the caller, after the application.

A client that disconnects does *not* cancel its handler: reading the body or writing the answer
raises there at once, which is what discards a staging file or keeps the bytes of a resumable
upload. Cancelling on top would only interrupt commits that are about to be acknowledged to nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from registry import __version__
from registry.api.documentation import DOCUMENT, Document
from registry.api.errors import ADAPTER
from registry.api.routes import ROUTES, UNMATCHED
from registry.auth.encryption import Vault
from registry.auth.passwords import PasswordCost, Passwords
from registry.auth.tickets import Tickets
from registry.config import Config
from registry.domain.addresses import Reach
from registry.domain.principals import Principal
from registry.http.addresses import Addresses
from registry.http.draining import Drain
from registry.http.malformed import server_logger
from registry.http.rates import Rates
from registry.http.receiving import CROWD_BUFFER_BYTES
from registry.http.repeating import NoteUse, Repeats
from registry.http.routing import areas, register
from registry.http.taking import Takes, TakingRunner
from registry.keys import (
    ACCESSES,
    ADDRESSES,
    BLOB_BATCHES,
    BLOBS,
    BROWSERS,
    CONDITION,
    CONFIG,
    DELIVERER,
    DOWNLOADS,
    DRAFT_BATCHES,
    DRAIN,
    FEED,
    GROWTH,
    IDENTITIES,
    LOGINS,
    MEASURES,
    METRICS,
    OIDC,
    OPERATIONS,
    PASSWORDS,
    RATERS,
    RATES,
    REPEATS,
    ROUTER,
    RUNNING_KEYS,
    SEALS,
    STORE,
    SURVEY,
    TAKES,
    TURNSTILE,
    UPLOAD_SESSIONS,
    WEBHOOKS,
)
from registry.measures import Measures, measure_process, measure_store
from registry.metrics import Metrics, sampling
from registry.middlewares.access_log import (
    AccessLog,
    access_log_middleware,
    telling_again,
    telling_taken,
)
from registry.middlewares.authenticate import authenticate_middleware
from registry.middlewares.errors import errors_middleware
from registry.middlewares.request_id import RequestIds, request_id_middleware
from registry.middlewares.response_headers import response_headers
from registry.middlewares.sources import sources_middleware
from registry.middlewares.unread import unread_middleware
from registry.outbound import Outbound
from registry.protocols.tus import handlers as tus
from registry.services.accesses import Accesses
from registry.services.blob_batches import BlobBatches
from registry.services.blobs import BlobLimits, Blobs
from registry.services.browser_sessions import BrowserSessions
from registry.services.condition import Condition
from registry.services.delivering import Deliverer
from registry.services.downloads import DownloadLog
from registry.services.draft_batches import DraftBatches
from registry.services.events import Feed
from registry.services.growth import Growth
from registry.services.identities import Identities
from registry.services.logins import Logins, LoginSettings
from registry.services.oidc import OidcLogins, OidcSettings
from registry.services.operations import Operations
from registry.services.provider import Provider, ProviderSettings
from registry.services.scoring import Raters
from registry.services.seals import Seals
from registry.services.series import Turnstile
from registry.services.standings import Router
from registry.services.survey import Survey
from registry.services.uploads import UploadLimits, UploadSessions
from registry.services.webhooks import VAULT_LABEL, Webhooks
from store.opening import Store

if TYPE_CHECKING:
    from registry.tracing import Tracing

LINGER_SECONDS: Final = 2.0
"""How long aiohttp drains a body nobody wants, where `settle_unread` did not already."""

KEEPALIVE_SECONDS: Final = 75.0
"""Longer than the idle time of the usual proxies, so that they close first."""


def create_app(
    config: Config,
    store: Store,
    *,
    access_log: AccessLog | None = None,
    tracing: Tracing | None = None,
) -> web.Application:
    """Assemble the application; the store is open already and outlives it."""
    if config.log.level not in ("debug", "info"):
        access_log = None
    drain, metrics, ids = Drain(), Metrics(), RequestIds()
    app = web.Application(
        middlewares=[
            unread_middleware(),
            request_id_middleware(ids),
            *_traced(tracing),
            access_log_middleware(
                access_log, metrics, drain, None if tracing is None else tracing.ids
            ),
            errors_middleware(ADAPTER),
            sources_middleware(config.server),
            authenticate_middleware(is_open=config.auth.mode == "open"),
        ]
    )
    if tracing is not None:
        tracing.watch(store)
        app.on_cleanup.append(lambda _: tracing.close())
    app[CONFIG] = config
    app[STORE] = store
    app[DRAIN] = drain
    app[METRICS] = metrics
    app[ADDRESSES] = Addresses(config.server.trusted_proxies)
    app[BLOBS] = blobs = Blobs(
        store.blobs,
        store.index,
        store.ingest,
        BlobLimits(
            blob_bytes=config.limits.blob_bytes, missing_digests=config.limits.missing_digests
        ),
    )
    app[BLOB_BATCHES] = blob_batches = BlobBatches(blobs, store.ingest)
    app.on_cleanup.append(lambda _: blob_batches.close())
    app[DRAFT_BATCHES] = draft_batches = DraftBatches(store)
    app.on_cleanup.append(lambda _: draft_batches.close())
    app[UPLOAD_SESSIONS] = UploadSessions(
        store.uploads,
        store.index,
        UploadLimits(
            blob_bytes=config.limits.blob_bytes,
            sessions=config.limits.uploads_per_principal,
            staged_bytes=config.limits.staged_bytes_per_principal,
        ),
    )
    app[CONDITION] = Condition(
        store,
        reserve_bytes=config.store.reserve_bytes,
        reserve_share=config.store.reserve_share,
    )
    app[IDENTITIES] = identities = Identities(store, anonymous_read=config.auth.anonymous_read)
    app.on_cleanup.append(lambda _: identities.close())
    app[ACCESSES] = accesses = Accesses(store)
    app.on_cleanup.append(lambda _: accesses.close())
    rates = config.rates
    app[RATES] = Rates(
        {
            "read": rates.reads_per_minute,
            "write": rates.writes_per_minute,
            "login": rates.logins_per_minute,
        }
    )
    repeats = None
    if tracing is None and not rates.reads_per_minute:
        repeats = app[REPEATS] = Repeats(
            store.index.change_counter,
            store.clock,
            drain,
            ids.take_or_make,
            telling_again(access_log, metrics),
            _noting_use(app),
            is_open=config.auth.mode == "open",
        )
        metrics.counter(
            "digestry_http_repeated_answers",
            "Answers given again, without asking the index.",
            lambda: repeats.repeated,
        )
    takes = None
    if repeats is not None and not rates.writes_per_minute:
        takes = app[TAKES] = Takes(
            identities.state_now,
            store.clock,
            drain,
            telling_taken(access_log, metrics),
            is_open=config.auth.mode == "open",
        )
        metrics.counter(
            "digestry_http_taken_uploads",
            "Small uploads and registrations carried out without waking a handler.",
            lambda: takes.taken,
        )
    app.on_response_prepare.append(response_headers(drain, repeats, takes))
    app[RUNNING_KEYS] = set()
    app[SEALS] = Seals(store)
    _add_accounts(app, config)
    app[GROWTH] = Growth(store)
    app[TURNSTILE] = Turnstile()
    app[RATERS] = Raters()
    app[ROUTER] = Router(store)
    app[DOCUMENT] = Document()
    app[DOWNLOADS] = downloads = DownloadLog(store)
    app.on_cleanup.append(lambda _: downloads.close())
    app[OPERATIONS] = operations = Operations(store)
    app.on_cleanup.append(lambda _: operations.close())
    _add_webhooks(app, config, store, metrics)
    app[FEED] = feed = Feed(store)
    metrics.gauge("digestry_event_streams", "Streams of events open.", lambda: feed.streams)
    app[SURVEY] = Survey(store)
    app[MEASURES] = measures = Measures(app[SURVEY], app[CONDITION])
    metrics.gauge("digestry_http_requests_in_flight", "Requests in hand.", lambda: drain.in_flight)
    measure_store(metrics, store)
    measure_process(metrics)
    metrics.facts(measures.facts)
    app.cleanup_ctx.append(sampling(metrics))
    register(app, [*ROUTES, *tus.ROUTES, *UNMATCHED])
    metrics.areas = areas(app)
    if access_log is not None:
        app.on_cleanup.append(lambda _: access_log.close())
    return app


def _noting_use(app: web.Application) -> NoteUse:
    identities, accesses, addresses = app[IDENTITIES], app[ACCESSES], app[ADDRESSES]

    def note(principal: Principal, peer: str, request_id: str) -> None:
        identities.note_use(principal.session)
        accesses.used(principal, addresses.of_peer(peer), request_id)

    return note


def _add_accounts(app: web.Application, config: Config) -> None:
    """What people sign in with."""
    auth = config.auth
    app[PASSWORDS] = passwords = Passwords(
        PasswordCost(
            memory_kib=auth.password_memory_kib,
            passes=auth.password_passes,
            lanes=auth.password_lanes,
        )
    )
    app.on_cleanup.append(lambda _: passwords.close())
    root = app[SEALS].root_key
    tickets = Tickets(root, app[STORE].clock)
    app[BROWSERS] = BrowserSessions(app[STORE].index, tickets, root)
    app[LOGINS] = Logins(
        app[STORE],
        passwords,
        tickets,
        root,
        LoginSettings(
            access_seconds=auth.access_seconds,
            session_seconds=auth.session_hours * 3600,
            lets_register=auth.self_registration,
        ),
    )
    if config.oidc.issuer:
        _add_oidc(app, config, tickets)


def _add_oidc(app: web.Application, config: Config, tickets: Tickets) -> None:
    """A provider of identities to sign in through."""
    oidc, store = config.oidc, app[STORE]
    outbound = Outbound(Reach.of(config.outbound.allow_private))
    app.on_cleanup.append(lambda _: outbound.close())
    provider = Provider(
        ProviderSettings(
            issuer=oidc.issuer,
            client_id=oidc.client_id,
            client_secret_file=oidc.client_secret_file,
            scopes=oidc.scopes,
        ),
        outbound.send,
        store.clock,
    )
    settings = OidcSettings(
        makes_users=oidc.create_users,
        username_claim=oidc.username_claim,
        admin_claim=oidc.admin_claim,
        admin_value=oidc.admin_value,
        team_claim=oidc.team_claim,
        team_role=oidc.team_role,
    )
    root = app[SEALS].root_key
    app[OIDC] = OidcLogins(store, provider, tickets, root, app[LOGINS], settings)


def _traced(tracing: Tracing | None) -> list[Middleware]:
    return [] if tracing is None else [tracing.middleware()]


def _add_webhooks(app: web.Application, config: Config, store: Store, metrics: Metrics) -> None:
    """Webhooks, and what delivers to them where this process leads."""
    reach = Reach.of(config.outbound.allow_private)
    vault = Vault(app[SEALS].root_key, VAULT_LABEL)
    outbound = Outbound(reach)
    app.on_cleanup.append(lambda _: outbound.close())
    app[WEBHOOKS] = Webhooks(store, vault, reach)
    app[DELIVERER] = deliverer = Deliverer(
        store, vault, outbound.send, user_agent=f"digestry/{__version__}"
    )
    for name, help_, read in (
        ("delivered", "Deliveries that arrived.", lambda: deliverer.delivered),
        ("failed_attempts", "Attempts to deliver that failed.", lambda: deliverer.failed),
        ("given_up", "Deliveries given up.", lambda: deliverer.given_up),
    ):
        metrics.counter(f"digestry_webhooks_{name}", help_, read)
    metrics.gauge(
        "digestry_webhooks_waiting",
        "Deliveries waiting, up to 10,000.",
        lambda: deliverer.waiting,
        across="livemax",
    )


def runner_of(app: web.Application, **settings: Any) -> web.AppRunner:
    """The runner of an application of `create_app`, wherever it is run."""
    return TakingRunner(app, **{**runner_settings(app[CONFIG]), **settings})


def runner_settings(config: Config) -> dict[str, Any]:
    """How aiohttp's runner must be set up for this application."""
    return {
        "access_log": None,  # ours is a middleware
        "logger": server_logger(),
        "handler_cancellation": False,  # see the module docstring
        "auto_decompress": False,  # what is stored is what was sent; no decompression bombs
        "read_bufsize": min(CROWD_BUFFER_BYTES, config.server.read_buffer_bytes),
        "keepalive_timeout": KEEPALIVE_SECONDS,
        "lingering_time": LINGER_SECONDS,
    }
