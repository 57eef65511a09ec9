"""What the server counts about itself, in Prometheus' words.

The store and the services know nothing of Prometheus: they keep plain numbers, and whoever
assembles the application registers a function that reads them (`Metrics.gauge`). With several
workers each writes its numbers to ``PROMETHEUS_MULTIPROC_DIR``, and any of them answers for all;
gauges are sampled on a timer then, because a function cannot be called from another process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

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
        self._in = self._counter("digestry_http_received_bytes", "Bytes of content received.")
        self._out = self._counter("digestry_http_sent_bytes", "Bytes of content sent.")
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []

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
        if received:
            self._in.inc(received)
        if sent:
            self._out.inc(sent)

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

    def sample(self) -> None:
        """Read every gauge."""
        for gauge, read in self._gauges:
            gauge.set(read())

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


def shared() -> bool:
    """Whether several workers add their numbers up."""
    return DIRECTORY_VARIABLE in os.environ
