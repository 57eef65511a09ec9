"""One worker: the application on the inherited socket, and the supervisor's commands.

The words of the channel are in `registry.cli.supervisor`. Order of the end:

1. ``stop``: answer what already waits in the kernel's queue, then close our copy of the socket.
   Leadership is given up, so that another server could take over housekeeping.
2. ``close``: let requests in hand finish, up to the drain time; idle connections are closed.
3. The application, its work in the background, the store: nothing outlives what it uses.

``abort``, or the end of the channel, goes to 3 at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from registry.app import create_app, runner_of
from registry.auth.local_secret import LocalSecret
from registry.cli import logs
from registry.cli.allocator import bound_arenas, give_back
from registry.cli.exits import CLEAN, FAILED, REFUSED
from registry.cli.listening import BACKLOG
from registry.cli.serve import Assignment
from registry.cli.settings import store_settings
from registry.config import Config, ConfigError, ServerConfig
from registry.domain.principals import HOUSEKEEPING
from registry.http.draining import Drain
from registry.keys import (
    CONDITION,
    DELIVERER,
    DRAIN,
    GROWTH,
    LOCAL_SECRET,
    METRICS,
    OPERATIONS,
    SEALS,
    SURVEY,
    WEBHOOKS,
)
from registry.measures import measure_work
from registry.middlewares.access_log import AccessLog
from registry.services.archive import keep_archive, thaw_wanted
from registry.services.audit_retention import remove_old_entries
from registry.services.cards import follow_cards
from registry.services.change import expire_answers
from registry.services.deliveries import expire as expire_deliveries
from registry.services.ended import forget_ended
from registry.services.first_admin import USERNAME, ensure_administrator
from registry.services.growth import EVERY_SECONDS
from registry.services.health_samples import HealthSampler
from registry.services.housekeeping import Housekeeping, Job, Leadership, first_jobs, jobs
from registry.services.idle_drafts import expire_drafts
from registry.services.origins import forget_origins
from registry.services.outbox import follow_audit_log
from registry.services.purges import finish_purges
from registry.services.retention_runs import Schedule, expire_plans
from registry.services.search_merges import SearchMerges
from registry.services.tag_lives import follow_lives
from store import layout
from store.errors import StoreError
from store.opening import Store, open_store
from store.turns import TurningLoop

if TYPE_CHECKING:
    from registry.tracing import Tracing

if TYPE_CHECKING:
    from registry.cli.tls import Certificate

ACCEPTS_PER_TURN: Final = 16
"""Connections a worker takes at once; more would leave its siblings idle in a burst."""

UNWIND_SECONDS: Final = 1.0
"""What handlers get, after they were cancelled, to put in order what they were at."""

_TURN_SECONDS: Final = 0.01
_ABORT_SECONDS: Final = 0.5

logger = structlog.get_logger()


class Channel:
    """The worker's end of the line to its supervisor."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unread = b""
        self.stop = asyncio.Event()
        self.close = asyncio.Event()
        self.abort = asyncio.Event()

    def listen(self) -> None:
        """Turn what arrives into events from now on."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end, self._receive)
        loop.add_signal_handler(signal.SIGTERM, self._leave_alone)

    def say(self, word: str) -> None:
        with suppress(OSError):  # the supervisor is gone; `_receive` sees it
            self._end.send(word.encode() + b"\n")

    def _receive(self) -> None:
        try:
            received = self._end.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._end)
            self._set(self.stop, self.close, self.abort)
        *words, self._unread = (self._unread + received).split(b"\n")
        for word in words:
            if word == b"ping":
                self.say("alive")
            elif word == b"stop":
                self._set(self.stop)
            elif word == b"close":
                self._set(self.stop, self.close)
            elif word == b"abort":
                self._set(self.stop, self.close, self.abort)

    def _leave_alone(self) -> None:
        """SIGTERM to this worker only: drain, and let the supervisor put another in its place."""
        self._set(self.stop, self.close)

    @staticmethod
    def _set(*events: asyncio.Event) -> None:
        for event in events:
            event.set()


def work(assignment: Assignment, end: socket.socket) -> int:
    """Run until told to end; return the exit code."""
    logs.configure(assignment.config.log.level)
    bound_arenas(os.environ)
    try:
        with asyncio.Runner(loop_factory=TurningLoop) as runner:
            runner.run(_work(assignment, end))
    except (StoreError, ConfigError) as error:
        _refuse(end, str(error))
        return REFUSED
    except OSError as error:
        _refuse(end, f"cannot start: {error}")
        return FAILED
    except Exception:
        logger.exception("worker failed")
        return FAILED
    return CLEAN


def _refuse(end: socket.socket, reason: str) -> None:
    logger.error("cannot start", reason=reason)
    line = " ".join(reason.splitlines())
    with suppress(OSError):
        end.send(f"refused {line}\n".encode())


async def _work(assignment: Assignment, end: socket.socket) -> None:
    channel = Channel(end)
    channel.listen()
    config = assignment.config
    async with AsyncExitStack() as stack:
        store = await open_store(store_settings(config))
        stack.push_async_callback(store.close)
        tracing = _tracing(config)
        app = create_app(config, store, access_log=AccessLog(), tracing=tracing)
        await app[SEALS].root_key()  # refuses to start without the key that seals were made with
        app[LOCAL_SECRET] = LocalSecret(assignment.secret)
        if config.auth.mode != "open":
            await _ensure_administrator(store)
        runner = runner_of(app, shutdown_timeout=_ABORT_SECONDS)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        certificate = _certificate(config.server)
        site = web.SockSite(
            runner,
            assignment.listener,
            backlog=ACCEPTS_PER_TURN,
            ssl_context=None if certificate is None else certificate.context,
        )
        await site.start()
        # The site has shortened the kernel's queue to what it takes in one turn.
        assignment.listener.listen(BACKLOG)
        _settle_memory()
        channel.say("ready")
        house = housekeeping(config, store, app)
        measure_work(app[METRICS], house, assignment.restarts)
        house.around = None if tracing is None else tracing.task
        keeper = asyncio.create_task(house.run(), name="housekeeping")
        giving_back = asyncio.create_task(give_back(store.threads.files), name="giving memory back")
        try:
            await channel.stop.wait()
            app[DRAIN].begin()
            await _answer_queued()
        finally:
            await site.stop()
            await _end(keeper)
            await _end(giving_back)
        channel.say("stopped")
        await channel.close.wait()
        if runner.server is not None:
            await _finish(runner.server, app[DRAIN], channel, config.server.drain_seconds)


def _certificate(server: ServerConfig) -> Certificate | None:
    if not server.tls_certificate:
        return None
    from registry.cli.tls import Certificate

    return Certificate(Path(server.tls_certificate), Path(server.tls_key))


async def _ensure_administrator(store: Store) -> None:
    """The first worker starts alone, so one administrator is made and not several."""
    token_file = await ensure_administrator(store)
    if token_file is not None:
        logger.warning(
            "made the first administrator; keep its token elsewhere and delete the file",
            username=USERNAME,
            token_file=str(token_file),
        )


def _tracing(config: Config) -> Tracing | None:
    """What makes traces, where they are wanted; raises `ConfigError` where that cannot be."""
    if not config.telemetry.endpoint:
        return None
    try:
        from registry.tracing import exporting  # half a second that others need not wait
    except ImportError as error:
        raise ConfigError(
            f"telemetry.endpoint needs the extra: pip install 'digestry[otel]' ({error})"
        ) from error
    return exporting(config.telemetry)


def housekeeping(config: Config, store: Store, app: web.Application) -> Housekeeping:
    """The leader's work, done by one worker of all that share the directory."""
    root = store.settings.root
    leadership = Leadership(None if root is None else root / layout.LEADER_LOCK)
    idle_seconds = config.drafts.expire_days * 86400
    drafts = Job("expire drafts", 3600, partial(expire_drafts, store, idle_seconds=idle_seconds))
    answers = Job("expire kept answers", 600, partial(expire_answers, store))
    sealing = Job("seal audit log", 1, app[SEALS].seal)
    cards = Job("follow cards", 1, partial(follow_cards, store))
    purges = Job("finish purges", 60, partial(finish_purges, store))
    sampler = HealthSampler(
        store, app[CONDITION], keep_days=config.health.keep_days, survey=app[SURVEY]
    )
    health = Job("sample health", config.health.sample_seconds, sampler.sample)
    thinning = Job("thin health samples", 3600, sampler.thin)
    growth = Job("sample growth", EVERY_SECONDS, app[GROWTH].sample)
    catalog = [sealing, drafts, answers, cards, purges, health, thinning, growth]
    catching_up = [
        Job("merge search index", 1, SearchMerges(store).run),
        Job("count tags of models", 1, partial(follow_lives, store)),
    ]
    retention = Schedule(
        store, config.retention.every_hours, partial(app[OPERATIONS].run_retention, HOUSEKEEPING)
    )
    keeping = [
        Job("thaw versions", 2, partial(thaw_wanted, store)),
        Job("sweep archive", 600, store.archive.spares.sweep),
        Job("retention", 60, retention.tick),
        Job("expire retention plans", 3600, partial(expire_plans, store)),
        Job("forget ended logins", 3600, partial(forget_ended, store)),
    ]
    if config.audit.keep_days:
        removing = partial(remove_old_entries, store, app[SEALS], days=config.audit.keep_days)
        keeping.append(Job("remove old audit entries", 3600, removing))
    if config.audit.address_days:
        forgetting = partial(forget_origins, store, days=config.audit.address_days)
        keeping.append(Job("forget addresses", 3600, forgetting))
    if config.archive.every_minutes:
        archiving = partial(keep_archive, store, bytes_per_second=config.archive.bytes_per_second)
        keeping.append(Job("archive", config.archive.every_minutes * 60, archiving))
    telling = [
        Job("follow audit log", 1, partial(follow_audit_log, store)),
        Job("deliver to webhooks", 1, app[DELIVERER].run),
        Job("expire deliveries", 600, partial(expire_deliveries, store)),
        Job("remove deleted webhooks", 10, app[WEBHOOKS].remove_deleted),
    ]
    keeper = Housekeeping(
        leadership, first_jobs(store), [*jobs(store), *catalog, *catching_up, *keeping, *telling]
    )
    sampler.tasks = keeper.stats
    return keeper


def _settle_memory() -> None:
    """What start-up made is here to stay: the collector, off so far, need not look at it.

    It is not run once before: of 120,000 objects 1,500 were garbage, and that took 75 ms.
    """
    gc.freeze()
    gc.enable()


async def _answer_queued() -> None:
    """Take the connections that wait in the kernel: closing the socket would reset them."""
    await asyncio.sleep(_TURN_SECONDS)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _finish(server: web.Server, drain: Drain, channel: Channel, seconds: float) -> None:
    """Wait for requests in hand until the time is over or we are hurried, then close the rest.

    The server is told to close only when no handler runs any more: from then on it drops what
    arrives, so an upload it had been told to finish would wait for its body for ever.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while drain.in_flight and not channel.abort.is_set():
        if asyncio.get_running_loop().time() >= deadline:
            logger.warning("requests cut short by the end of the drain", count=drain.in_flight)
            break
        await asyncio.sleep(_TURN_SECONDS)
    server.pre_shutdown()
    # What is left is the tail of answers, and whoever did not end in time.
    left = max(deadline - asyncio.get_running_loop().time(), 0.0)
    closing = asyncio.create_task(server.shutdown(0.0 if channel.abort.is_set() else left))
    hurry = asyncio.create_task(channel.abort.wait())
    await asyncio.wait(
        [closing, hurry], timeout=left + UNWIND_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    await _end(closing)
    await _end(hurry)
