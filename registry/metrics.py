"""What the server counts about itself, in Prometheus' words.

The store and the services know nothing of Prometheus: they keep plain numbers, and whoever
assembles the application registers a function that reads them (`Metrics.gauge`). With several
workers each writes its numbers to ``PROMETHEUS_MULTIPROC_DIR``, and any of them answers for all;
gauges are sampled on a timer then, because a function cannot be called from another process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

SAMPLE_SECONDS: Final = 5.0

_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0)


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "digestry_http_request_seconds",
            "Time from the headers of a request to the end of its handler.",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._counters: list[_Followed] = []
        # Plain numbers on the hot path: with several workers each increment writes a mapped file.
        self._received = self._sent = 0
        self.counter(
            "digestry_http_received_bytes", "Bytes of content received.", lambda: self._received
        )
        self.counter("digestry_http_sent_bytes", "Bytes of content sent.", lambda: self._sent)

    def request(
        self, route: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count one finished request."""
        key = (route, method, status)
        observe = self._observers.get(key)
        if observe is None:
            known = method if method in _METHODS else "other"
            observe = self._seconds.labels(route, known, str(status)).observe
            if method in _METHODS:
                self._observers[key] = observe
        observe(seconds)
        self._received += received
        self._sent += sent

    def gauge(
        self,
        name: str,
        help: str,
        read: Callable[[], float],
        *,
        across: Literal["livesum", "livemax", "livemostrecent"] = "livesum",
    ) -> None:
        """Show what `read` says; `across` combines the workers' readings."""
        gauge = Gauge(name, help, registry=self.registry, multiprocess_mode=across)
        self._gauges.append((gauge, read))

    def counter(self, name: str, help: str, read: Callable[[], float]) -> None:
        """Show a number that somebody else counts and that only grows in this process."""
        self._counters.append(_Followed(self._counter(name, help), read))

    def sample(self) -> None:
        """Read every gauge and counter that somebody else keeps."""
        for gauge, read in self._gauges:
            gauge.set(read())
        for counter in self._counters:
            counter.follow()

    def render(self) -> bytes:
        """The exposition text, of all workers where there are several."""
        self.sample()
        if not shared():
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(name, help, registry=self.registry)


class _Followed:
    """A counter that catches up with a number kept elsewhere."""

    def __init__(self, counter: Counter, read: Callable[[], float]) -> None:
        self._counter = counter
        self._read = read
        self._seen = 0.0

    def follow(self) -> None:
        now = self._read()
        self._counter.inc(max(0.0, now - self._seen))
        self._seen = now


def shared() -> bool:
    """Whether several workers add their numbers up."""
    return DIRECTORY_VARIABLE in os.environ


def sampling(metrics: Metrics) -> Callable[[object], AsyncIterator[None]]:
    """A cleanup context that samples on a timer, where another worker is asked for our numbers."""

    async def sample_for_others(_: object) -> AsyncIterator[None]:
        if not shared():
            yield
            return
        task = asyncio.create_task(_sample_forever(metrics), name="sample metrics")
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return sample_for_others


async def _sample_forever(metrics: Metrics) -> None:
    while True:
        metrics.sample()
        await asyncio.sleep(SAMPLE_SECONDS)
