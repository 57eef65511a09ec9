"""Traces by OpenTelemetry: requests, what they do with index and bytes, work on a schedule.

Imported only where ``telemetry.endpoint`` is set, because the libraries come with the extra
``digestry[otel]`` and take half a second to import. Without it nothing here runs: no middleware is
added, and the store's `store.spans.Around` is not assigned.

- A request's span is named after its route and takes over the caller's ``traceparent``, sampling
  decision included. Its names are those of the semantic conventions for HTTP.
- Units of the index, bytes received and sent are spans within one that is recorded, never roots.
- Housekeeping makes a trace of each turn of a task that is due less often than each minute; others
  would be most of what is kept and say nothing.
- Log lines written within a request carry ``trace_id`` and ``span_id``.

Queries, bodies and headers are in no span: they may hold secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from registry import __version__
from registry.config import ConfigError, TelemetryConfig
from registry.keys import REQUEST_ID
from registry.middlewares.access_log import canonical
from store.opening import Store

PATH: Final = "/v1/traces"
CLOSE_SECONDS: Final = 3.0
RARE_SECONDS: Final = 60.0

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NOTHING: Final[AbstractContextManager[object]] = nullcontext()


def trace_ids() -> Mapping[str, str]:
    """The present span as log lines name it; nothing where there is none."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


class Tracing:
    """Makes spans and hands them to a provider; one per application."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self.ids = trace_ids
        self._tracer: Tracer = provider.get_tracer("digestry", __version__)

    def middleware(self) -> Middleware:
        """A span around each request; within it log lines name the trace."""

        @web.middleware
        async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = canonical(request)
            with self._tracer.start_as_current_span(
                f"{request.method} {route}",
                context=_PROPAGATOR.extract(request.headers),
                kind=SpanKind.SERVER,
                attributes={
                    "http.request.method": request.method,
                    "http.route": route,
                    "url.scheme": request.scheme,
                    "digestry.request_id": request[REQUEST_ID],
                },
            ) as span:
                with structlog.contextvars.bound_contextvars(**trace_ids()):
                    response = await handler(request)
                span.set_attribute("http.response.status_code", response.status)
                if response.status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                return response

        return traced

    def around(self, name: str, what: object) -> AbstractContextManager[object]:
        """A span within the present one, if that is recorded."""
        if not trace.get_current_span().is_recording():
            return _NOTHING
        return self._within(name, what)

    def task(self, name: str, every_seconds: float) -> AbstractContextManager[object]:
        """A trace of one turn of a task of housekeeping, unless it is due all the time."""
        if every_seconds < RARE_SECONDS:
            return _NOTHING
        return self._tracer.start_as_current_span(f"housekeeping {name}")

    def watch(self, store: Store) -> None:
        """Have the store tell where time goes."""
        store.index.around = store.ingest.around = store.around = self.around

    async def close(self) -> None:
        """Send what is left, as far as somebody takes it within a few seconds."""
        closing = asyncio.get_running_loop().run_in_executor(None, self._provider.shutdown)
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)

    @contextmanager
    def _within(self, name: str, what: object) -> Iterator[None]:
        with self._tracer.start_as_current_span(name) as span:
            if isinstance(what, int):
                span.set_attribute("digestry.bytes", what)
            elif (found := name_of(what)) is not None:
                span.set_attribute("code.function.name", found)
            yield


def exporting(config: TelemetryConfig) -> Tracing:
    """Traces that go to the collector at ``telemetry.endpoint``; raises `ConfigError`."""
    exporter = OTLPSpanExporter(
        endpoint=config.endpoint.rstrip("/") + PATH, headers=headers_in(config.headers_file)
    )
    provider = TracerProvider(
        resource=Resource.create(
            {"service.name": config.service_name, "service.version": __version__}
        ),
        sampler=ParentBased(TraceIdRatioBased(config.sample_ratio)),
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def headers_in(file: str) -> dict[str, str]:
    """Headers for the collector from a file of ``Name: value`` lines; none without a file."""
    if not file:
        return {}
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"telemetry.headers_file cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        name, separator, value = line.partition(":")
        if line.strip() and not (separator and name.strip()):
            raise ConfigError(f"telemetry.headers_file: line {number} is not Name: value")
        if line.strip():
            found[name.strip().lower()] = value.strip()
    return found


def name_of(what: object) -> str | None:
    """What a unit of work is called: the function that does it, or that it is part of."""
    whole = getattr(what, "unit", what)  # of what makes room
    inner = getattr(whole, "func", whole)  # of a partial
    name = getattr(inner, "__qualname__", None)
    if not isinstance(name, str):
        return None
    module = getattr(inner, "__module__", "")
    return f"{module}.{name.partition('.<locals>')[0]}"
