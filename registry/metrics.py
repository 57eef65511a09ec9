"""What the server counts about itself, in Prometheus' words.

The store and the services know nothing of Prometheus: they keep plain numbers, and whoever
assembles the application registers functions that read them. Which metrics there are is written
down in `registry.api.measures`.

**Several workers.** What a process counts for itself (`Metrics.counter`, `Metrics.gauge`) is
written to ``PROMETHEUS_MULTIPROC_DIR`` on a timer, because a function cannot be called from another
process; any worker answers for all. Counts of workers that ended stay, so no counter falls; one
that was killed takes what it counted since the last turn of the timer along. What is true of the
whole store (`Metrics.facts`) is *not* shared: whoever is asked has just looked, and a worker that
nobody asks would only tell an old or empty look in between.

**Labels.** A route is its pattern, never an address; a method nobody knows is ``other``. Durations
are kept by area, the section of the documentation, and by class of status: a histogram for each
route and status would be tens of thousands of series.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

SAMPLE_SECONDS: Final = 5.0

OTHER: Final = "other"

Read: TypeAlias = Callable[[], float]
Across: TypeAlias = Literal["livesum", "livemax"]
Labels: TypeAlias = Mapping[str, str]

_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0)

# Several workers cannot tell when a series began, so one worker does not either.
disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs


class Fact(msgspec.Struct, frozen=True):
    """A number that is the same whichever process is asked."""

    name: str
    help: str
    value: float
    labels: Labels = {}
    is_counter: bool = False


class Metrics:
    """The numbers of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.areas: Mapping[str, str] = {}
        """The area of each pattern of a route; assigned by who registers the routes."""
        self.late_seconds = 0.0
        """By how much the timer of `sampling` came late the last time."""
        self._facts = CollectorRegistry()
        self._seconds = Histogram(
            "digestry_http_request_duration_seconds",
            "Time from the headers of a request to the end of its handler.",
            ("area", "method", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._counted: dict[tuple[str, str, int], Counted] = {}
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._read: list[tuple[Gauge, Read]] = []
        self._followed: list[_Followed] = []
        # Plain numbers on the hot path: with several workers each increment writes a mapped file.
        self.received = self.sent = 0
        self.counter(
            "digestry_http_received_bytes", "Bytes of content received.", lambda: self.received
        )
        self.counter("digestry_http_sent_bytes", "Bytes of content sent.", lambda: self.sent)

    def request(
        self, route: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count one finished request."""
        counted = self._counted.get((route, method, status))
        if counted is None:
            counted = self.counted(route, method, status)
        counted.add(seconds)
        self.received += received
        self.sent += sent

    def counted(self, route: str, method: str, status: int) -> Counted:
        """Where such requests are counted; whoever keeps it spares the question."""
        if method not in _METHODS:
            method = OTHER
        return self._counted.get((route, method, status)) or self._series(route, method, status)

    def gauge(
        self,
        name: str,
        help: str,
        read: Read,
        *,
        across: Across = "livesum",
        labels: Labels | None = None,
    ) -> None:
        """Show what `read` says; `across` combines the readings of workers that live."""
        named = labels or {}
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(
                name, help, tuple(named), registry=self.registry, multiprocess_mode=across
            )
        self._read.append((gauge.labels(*named.values()) if named else gauge, read))

    def counter(self, name: str, help: str, read: Read, *, labels: Labels | None = None) -> None:
        """Show a number that somebody else counts and that only grows in this process."""
        named = labels or {}
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(
                name, help, tuple(named), registry=self.registry
            )
        series = counter.labels(*named.values()) if named else counter
        self._followed.append(_Followed(series, read))

    def facts(self, read: Callable[[], Iterable[Fact]]) -> None:
        """Show what `read` says when somebody asks, of this process alone."""
        self._facts.register(_Facts(read))

    def sample(self) -> None:
        """Read every gauge and counter that somebody else keeps."""
        for counted in self._counted.values():
            counted.tell()
        for gauge, read in self._read:
            gauge.set(read())
        for counter in self._followed:
            counter.follow()

    def render(self) -> bytes:
        """The exposition text, of all workers where there are several."""
        self.sample()
        counted = self.registry
        if shared():
            forget_dead_gauges(Path(os.environ[DIRECTORY_VARIABLE]))
            counted = CollectorRegistry()
            counted.register(_Workers(Path(os.environ[DIRECTORY_VARIABLE])))
        return generate_latest(counted) + generate_latest(self._facts)

    def _series(self, route: str, method: str, status: int) -> Counted:
        area = self.areas.get(route) or OTHER
        seconds = self._seconds.labels(area, method, f"{status // 100}xx")
        counted = self._counted[route, method, status] = Counted(seconds)
        labels = {"route": route, "method": method, "status": str(status)}
        self.counter(
            "digestry_http_requests", "Requests answered.", lambda: counted.requests, labels=labels
        )
        return counted


class Counted:
    """Requests of one route, method and status, and how long they took since that was told.

    Plain numbers, told when somebody looks: a histogram takes two locks for each request, and with
    several workers it writes a mapped file.
    """

    __slots__ = ("_buckets", "_seconds", "_series", "requests")

    def __init__(self, series: Histogram) -> None:
        self.requests = 0
        self._series = series
        self._seconds = 0.0
        self._buckets = [0] * (len(_SECONDS) + 1)

    def add(self, seconds: float) -> None:
        """Count a request that took so long."""
        self.requests += 1
        self._seconds += seconds
        self._buckets[bisect_left(_SECONDS, seconds)] += 1

    def tell(self) -> None:
        """Add what was counted to the histogram, in whose own terms: it takes one at a time."""
        for number, count in enumerate(self._buckets):
            if count:
                self._series._buckets[number].inc(count)
                self._buckets[number] = 0
        self._series._sum.inc(self._seconds)
        self._seconds = 0.0


class _Followed:
    """A counter that catches up with a number kept elsewhere."""

    def __init__(self, counter: Counter, read: Read) -> None:
        self._counter = counter
        self._read = read
        self._seen = 0.0

    def follow(self) -> None:
        now = self._read()
        self._counter.inc(max(0.0, now - self._seen))
        self._seen = now


class _Facts(Collector):
    """Facts as families, each named once."""

    def __init__(self, read: Callable[[], Iterable[Fact]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for fact in self._read():
            family = families.get(fact.name)
            if family is None:
                kind = CounterMetricFamily if fact.is_counter else GaugeMetricFamily
                family = families[fact.name] = kind(fact.name, fact.help, labels=tuple(fact.labels))
            family.add_metric(tuple(fact.labels.values()), fact.value)
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()


class _Workers(Collector):
    """The numbers of all workers, by the files that they write.

    A file that a worker has just made is empty for a moment; `MultiProcessCollector.collect` takes
    that for a damaged one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._directory.glob("*.db") if _size_of(path)]
        told: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # theirs
        return told

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()


def _size_of(path: Path) -> int:
    """In bytes; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def shared() -> bool:
    """Whether several workers add their numbers up."""
    return DIRECTORY_VARIABLE in os.environ


def forget_dead_gauges(directory: Path) -> None:
    """Drop the readings of workers that died: what they held in hand died with them."""
    for path in directory.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _is_worker(int(pid)):
            path.unlink(missing_ok=True)


def _is_worker(pid: int) -> bool:
    """Whether a process that may be a worker of ours still has the number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of somebody else, so it is not the worker that had the number
        return False
    return True


def sampling(metrics: Metrics) -> Callable[[object], AsyncIterator[None]]:
    """A cleanup context that samples on a timer, where another worker is asked for our numbers."""

    async def sample_for_others(_: object) -> AsyncIterator[None]:
        task = asyncio.create_task(_sample_forever(metrics), name="sample metrics")
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if shared():
            metrics.sample()  # others tell from now on what was counted since

    return sample_for_others


async def _sample_forever(metrics: Metrics) -> None:
    time = asyncio.get_running_loop().time
    while True:
        if shared():
            metrics.sample()
        due = time() + SAMPLE_SECONDS
        await asyncio.sleep(SAMPLE_SECONDS)
        metrics.late_seconds = max(0.0, time() - due)
