"""Traces: what is a span, whose child it is, what the log says of it, and that it arrives."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp import ClientSession, web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from registry.app import create_app, runner_settings
from registry.config import Config, ConfigError, TelemetryConfig
from registry.correlation import CURRENT_REQUEST, add_request_id
from registry.keys import DRAIN
from registry.middlewares.access_log import AccessLog
from registry.services.housekeeping import Housekeeping, Job, Leadership
from registry.tracing import Tracing, headers_in
from tests.support.servers import running_server, wait_until
from tests.support.serving import Site, opened

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{}"
CONTENT = b"0123456789abcdef" * (8 << 10)


class Traced:
    """A registry whose spans and log lines are kept."""

    def __init__(self, site: Site, exporter: InMemorySpanExporter, log: io.BytesIO) -> None:
        self.site = site
        self.exporter = exporter
        self._log = log

    async def spans(self, method: str, path: str, **options: Any) -> list[ReadableSpan]:
        """The spans of one request, the last to end last."""
        self.exporter.clear()
        await self.site.ask(method, path, **options)
        drain = self.site.app[DRAIN]  # a client may have all that was sent before a span ends
        await self.site.until(lambda: not drain.in_flight)
        return list(self.exporter.get_finished_spans())

    async def lines(self, count: int) -> list[dict[str, Any]]:
        await self.site.until(lambda: self._log.getvalue().count(b"\n") >= count)
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


@pytest.fixture
async def traced(
    tmp_path: Path, tracing: Tracing, exporter: InMemorySpanExporter
) -> AsyncIterator[Traced]:
    log = io.BytesIO()
    async with opened(tmp_path / "data") as store:
        app = create_app(Config(), store, access_log=AccessLog(log), tracing=tracing)
        runner = web.AppRunner(app, **runner_settings(Config()))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession(auto_decompress=False) as session:
            yield Traced(Site(store, app, runner.addresses[0][1], session), exporter, log)
        await runner.cleanup()


def named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    [found] = [span for span in spans if span.name == name]
    return found


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_a_request_is_a_span_named_after_its_route(traced: Traced) -> None:
    [*_, server] = await traced.spans("GET", "/api/v1/models/bert?secret=1")
    attributes = dict(server.attributes or {})

    assert server.name == "GET /api/v1/models/{model}"
    assert attributes.pop("digestry.request_id")
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/models/{model}",
        "http.response.status_code": 400,
        "url.scheme": "http",
    }
    assert server.status.status_code is StatusCode.UNSET
    assert "secret" not in server.to_json()


async def test_a_failure_is_told(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(unit: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(traced.site.store.index, "read", read)
    [*_, server] = await traced.spans("GET", "/api/v1/audit")

    assert server.status.status_code is StatusCode.ERROR
    assert dict(server.attributes or {})["http.response.status_code"] == 500


async def test_what_a_request_does_is_within_it(traced: Traced) -> None:
    spans = await traced.spans("PUT", "/blobs/x.bin", data=CONTENT)
    server = spans[-1]
    received, written = named(spans, "blob receive"), named(spans, "index write")

    assert dict(received.attributes or {}) == {"digestry.bytes": len(CONTENT)}
    assert "code.function.name" in dict(written.attributes or {})
    assert {parent_of(span) for span in spans[:-1]} == {server.context.span_id}
    assert named(spans, "blob sync")

    digest = (await traced.site.ask("PUT", "/blobs/x.bin", data=CONTENT)).json["digest"]
    spans = await traced.spans("GET", f"/blobs/{digest}", headers={"Range": "bytes=0-99999"})
    assert dict(named(spans, "blob send").attributes or {}) == {"digestry.bytes": 100_000}
    spans = await traced.spans("GET", "/api/v1/audit")
    assert parent_of(named(spans, "index read")) == spans[-1].context.span_id


async def test_the_callers_trace_goes_on(traced: Traced) -> None:
    [*_, server] = await traced.spans(
        "GET", "/healthz", headers={"traceparent": PARENT.format("01")}
    )

    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{parent_of(server):016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("header", ["nonsense", PARENT.format("00"), ""])
async def test_nobody_elses_decision_is_overruled(traced: Traced, header: str) -> None:
    """Not sampled stays so, with all that is within; what is no trace is none."""
    spans = await traced.spans("GET", "/api/v1/audit", headers={"traceparent": header})

    if header.endswith("-00"):
        assert spans == []
    else:
        assert parent_of(spans[-1]) is None


async def test_the_index_alone_makes_no_trace(traced: Traced) -> None:
    traced.exporter.clear()

    async def nothing(tx: Any) -> None:
        """A unit of work that nobody asked for by a request."""

    await traced.site.store.index.run(nothing)
    await traced.site.store.index.read(nothing)

    assert traced.exporter.get_finished_spans() == ()


async def test_the_access_log_names_the_trace(traced: Traced) -> None:
    [*_, server] = await traced.spans("GET", "/healthz")
    [line] = await traced.lines(1)

    assert line["trace_id"] == f"{server.context.trace_id:032x}"
    assert line["span_id"] == f"{server.context.span_id:016x}"
    assert line["request_id"] == dict(server.attributes or {})["digestry.request_id"]


async def test_log_lines_within_a_request_name_it_and_its_trace(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    async def read(unit: Any) -> None:
        line = structlog.contextvars.merge_contextvars(None, "", {"event": "deep inside"})
        seen.append(dict(add_request_id(None, "", line)))
        raise RuntimeError("a fault")

    monkeypatch.setattr(traced.site.store.index, "read", read)
    [*_, server] = await traced.spans("GET", "/api/v1/audit")

    assert seen == [
        {
            "event": "deep inside",
            "request_id": dict(server.attributes or {})["digestry.request_id"],
            "trace_id": f"{server.context.trace_id:032x}",
            "span_id": f"{server.context.span_id:016x}",
        }
    ]
    assert structlog.contextvars.get_contextvars() == {}


def test_a_line_that_names_its_request_keeps_it() -> None:
    token = CURRENT_REQUEST.set("theirs")
    try:
        assert add_request_id(None, "", {"request_id": "own"}) == {"request_id": "own"}
        assert add_request_id(None, "", {}) == {"request_id": "theirs"}
    finally:
        CURRENT_REQUEST.reset(token)
    assert add_request_id(None, "", {}) == {}


def test_without_traces_the_access_log_has_no_fields_for_them() -> None:
    from registry.middlewares.access_log import Line

    line = Line("request", "info", "t", 1, "id", "GET", "/", "/", 200, 0, 0, 0.1, None)
    assert not {"trace_id", "span_id"} & json.loads(msgspec.json.encode(line)).keys()


async def test_rare_tasks_of_housekeeping_are_traces(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async def never(_: float) -> None:
        await asyncio.Event().wait()

    jobs = [Job("settle", 10, work), Job("expire drafts", 3600, work)]
    keeper = Housekeeping(Leadership(None), [], jobs, sleep=never)
    keeper.around = tracing.task
    running = asyncio.create_task(keeper.run())
    while keeper.stats["expire drafts"].runs == 0:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert [span.name for span in exporter.get_finished_spans()] == ["housekeeping expire drafts"]


def test_headers_for_the_collector_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer abc:def\n\nX-Tenant: one\n")

    assert headers_in("") == {}
    assert headers_in(str(file)) == {"authorization": "Bearer abc:def", "x-tenant": "one"}
    file.write_text("no header\n")
    with pytest.raises(ConfigError, match="line 1"):
        headers_in(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        headers_in(str(tmp_path / "missing"))


class Collector(ThreadingHTTPServer):
    """Takes traces as a real one does, by OTLP over HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.spans: list[tuple[dict[str, str], Any]] = []
        self.headers_seen: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name: str) -> list[Any]:
        return [span for _, span in self.spans if span.name == name]


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        told = ExportTraceServiceRequest.FromString(body)
        self.server.headers_seen.append(
            {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
        )
        for of_resource in told.resource_spans:
            about = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for scope in of_resource.scope_spans:
                self.server.spans += [(about, span) for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The test says what matters."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def test_traces_arrive_at_a_collector(tmp_path: Path, collector: Collector) -> None:
    secret = tmp_path / "headers"
    secret.write_text("X-Token: abc\n")
    config = f"""
[telemetry]
endpoint = "{collector.endpoint}/"
service_name = "models"
headers_file = "{secret}"
"""
    with running_server(tmp_path / "data", config=config) as server:
        headers = {"traceparent": PARENT.format("01")}
        assert server.request("PUT", "/blobs/x.bin", CONTENT, headers)[0] == 201
        assert server.stop() == 0  # sends what is left
        log = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]

    wait_until(lambda: collector.named("PUT /blobs/{digest}"), "the trace")
    [span] = collector.named("PUT /blobs/{digest}")
    [line] = [line for line in log if line.get("route") == "/blobs/{digest}"]
    assert span.trace_id.hex() == line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert span.span_id.hex() == line["span_id"]
    assert collector.spans[0][0]["service.name"] == "models"
    assert {one["path"] for one in collector.headers_seen} == {"/v1/traces"}
    assert {one["x-token"] for one in collector.headers_seen} == {"abc"}
    assert [child.parent_span_id for child in collector.named("blob receive")] == [span.span_id]


def test_an_endpoint_is_an_address() -> None:
    from registry.config import load

    with pytest.raises(ConfigError, match="collector"):
        load(None, {"DIGESTRY_TELEMETRY_ENDPOINT": "collector:4318"})
    assert TelemetryConfig().endpoint == ""
