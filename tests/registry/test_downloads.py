"""Who downloaded what: counted off the request path, lost to a kill for a second at most."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from structlog.testing import capture_logs

from registry.api import counting
from registry.catalog import downloads
from registry.catalog.downloads import Span, _summing
from registry.catalog.migrations import CHAINS
from registry.domain.downloads import MINUTE, Group, product
from registry.domain.models import Version
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import ByNumber, parse_model
from registry.keys import DOWNLOADS, DRAIN
from registry.services import downloads as service
from registry.services.downloads import DownloadLog, announce_download
from registry.services.resolve import Tree, resolve_version
from store.digest import Digest
from store.errors import Unavailable
from store.index.transactions import Statement, Tx
from store.opening import Store, StoreSettings, open_store
from tests.support.builders import Answer, Registry, running_registry
from tests.support.clock import ManualClock
from tests.support.people import AUTHENTICATED, grant, make_person
from tests.support.plans import plan_of
from tests.support.servers import running_server, wait_until
from tests.support.serving import opened, serving

MODEL = "/api/v1/models/bert/downloads"
VERSION = "/api/v1/models/bert/versions/v1/downloads"
LARGE = os.urandom(3 << 20)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def history(registry: Registry, query: str = "", path: str = VERSION) -> Any:
    """What the history says once everything that ended is in it."""
    await flush(registry)
    answer = await registry.get(path + query)
    assert answer.status == 200, answer.body
    return answer.json


async def flush(registry: Registry) -> None:
    """Write what ended; what a client broke off ends when the server sees it."""
    drain = registry.site.app[DRAIN]
    await registry.site.until(lambda: not drain.in_flight)
    await registry.site.app[DOWNLOADS].flush()


async def totals(registry: Registry) -> tuple[int, int]:
    found = await history(registry)
    return found["requests"], found["bytes"]


async def execute(registry: Registry, sql: str) -> None:
    statement = Statement(text(sql))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    await registry.store.index.run(unit)


# What counts


async def test_a_file_counts_with_its_bytes_user_and_client(registry: Registry) -> None:
    made = await registry.publish("bert", "v1", {"a/f": b"12345"})

    got = await registry.get("/models/bert/v1/a/f", User_Agent="curl/8.5.0 (linux) more/1")
    found = await history(registry, "?by=version&by=user&by=path&by=client")

    assert got.body == b"12345"
    [item] = found["items"]
    assert (item["requests"], item["bytes"]) == (1, 5)
    assert (item["user"], item["path"], item["client"]) == ("usr_local", "a/f", "curl/8.5.0")
    assert item["version"] == {"id": made["id"], "number": 1, "label": "v1"}
    assert "day" not in item


@pytest.mark.parametrize("name", ["v1", "1", "@latest", "main"])
async def test_every_way_to_name_a_version_counts_for_it(registry: Registry, name: str) -> None:
    made = await registry.publish("bert", "v1", {"f": b"12345"})

    for reference in (name, made["id"], made["revision"], made["tree"]):
        await registry.get(f"/models/bert/{reference}/f")

    assert await totals(registry) == (4, 20)


async def test_a_large_file_counts_what_left(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": LARGE})

    got = await registry.get("/models/bert/v1/f")

    assert got.body == LARGE
    assert await totals(registry) == (1, len(LARGE))


@pytest.mark.parametrize("content", [b"0123456789" * 10, LARGE], ids=["small", "large"])
async def test_a_range_is_one_request_with_the_bytes_of_the_range(
    registry: Registry, content: bytes
) -> None:
    await registry.publish("bert", "v1", {"f": content})

    for value in ("bytes=0-9", "bytes=-5", "bytes=50-"):
        answer = await registry.get("/models/bert/v1/f", Range=value)
        assert answer.status == 206

    assert await totals(registry) == (3, 10 + 5 + len(content) - 50)


async def test_an_archive_counts_with_the_empty_path(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"a": b"1", "b": LARGE})

    whole = await registry.get("/models/bert/v1.tar")
    part = await registry.get("/models/bert/v1.tar", Range="bytes=0-511")
    found = await history(registry, "?by=path")

    assert (whole.status, part.status) == (200, 206)
    assert [(item["path"], item["requests"], item["bytes"]) for item in found["items"]] == [
        ("", 2, len(whole.body) + 512)
    ]


async def test_the_only_file_of_a_version_counts_by_its_path(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"only.bin": b"12345"})

    await registry.get("/models/bert/v1")
    found = await history(registry, "?by=path")

    assert [(item["path"], item["bytes"]) for item in found["items"]] == [("only.bin", 5)]


async def test_what_sends_no_bytes_of_a_file_is_no_download(registry: Registry) -> None:
    made = await registry.publish("bert", "v1", {"f": b"12345", "g": b"1"})
    await registry.put("/models/bert/draft/f", b"12345")
    etag = (await registry.send("HEAD", "/models/bert/v1/f")).headers["ETag"]
    tar = (await registry.send("HEAD", "/models/bert/v1.tar")).headers["ETag"]

    statuses = [
        (await registry.get("/models/bert/v1/f", If_None_Match=etag)).status,
        (await registry.get("/models/bert/v1.tar", If_None_Match=tar)).status,
        (await registry.get("/models/bert/v1/f", If_Match='"other"')).status,
        (await registry.get("/models/bert/v1/f", Range="bytes=9-")).status,
        (await registry.get("/models/bert/v1/missing")).status,
        (await registry.get("/models/bert/v1/")).status,
        (await registry.get("/models/bert/v1/SHA256SUMS")).status,
        (await registry.get("/models/bert/v1")).status,
        (await registry.get("/models/bert/draft/f")).status,
        (await registry.get("/models/bert/draft.tar")).status,
        (await registry.get(f"/models/bert/versions/{made['number']}")).status,
    ]

    assert statuses == [304, 304, 412, 416, 404, 200, 200, 302, 200, 200, 404]
    assert await totals(registry) == (0, 0)


async def test_a_download_that_broke_off_counts_what_left(registry: Registry) -> None:
    content = os.urandom(24 << 20)
    await registry.publish("bert", "v1", {"f": content})
    reader, writer = await registry.site.connect()
    writer.write(b"GET /models/bert/v1/f HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await reader.readexactly(1 << 20)
    writer.transport.abort()

    requests, sent = await totals(registry)

    assert requests == 1
    assert (1 << 20) - 4096 <= sent < len(content)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("", ""),
        ("curl/8.5.0", "curl/8.5.0"),
        ("  python-requests/2.32 extra", "python-requests/2.32"),
        ("Mozilla/5.0 (X11; Linux)", "Mozilla/5.0"),
        ("a\tb\x1b[31mc", "ab[31mc"),
        ("x" * 500, "x" * 96),
        ("\udcff\udcfe!", "!"),
    ],
)
def test_a_client_is_its_first_product_in_printable_characters(sent: str, kept: str) -> None:
    assert product(sent) == kept


# Off the request path


async def test_a_download_costs_one_look_and_no_write(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the second is over, which here it never is."""
    monkeypatch.setattr(service, "FLUSH_SECONDS", 3600)
    await registry.publish("bert", "v1", {"f": b"12345"})
    await registry.get("/models/bert/v1/f")
    await flush(registry)
    stats = registry.store.index.stats
    before = (stats.looks, stats.reads, stats.units)

    for _ in range(20):
        await registry.get("/models/bert/v1/f", Cache_Control="no-cache")
    after = (stats.looks, stats.reads, stats.units)
    for _ in range(20):
        await registry.get("/models/bert/v1/f")
    assert stats.looks <= after[0] + 1, "an answer that is given again costs none"
    await flush(registry)

    assert after == (before[0] + 20, before[1], before[2])
    assert stats.units == before[2] + 1


async def test_counts_are_written_by_themselves(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publish("bert", "v1", {"f": b"12345"})
    loop, log, delays = asyncio.get_running_loop(), registry.site.app[DOWNLOADS], []
    call_later = loop.call_later

    def noting(delay: float, callback: Any, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__self__", None) is log._later:
            delays.append((delay, log.waiting))
        return call_later(delay, callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_later", noting)
    await registry.get("/models/bert/v1/f")
    await registry.site.until(lambda: bool(delays) and not log.waiting)
    async with asyncio.timeout(20):
        while not await registry.count("downloads"):
            await asyncio.sleep(0)

    assert delays == [(service.FLUSH_SECONDS, 1)], "within a second, by the clock of the loop"
    assert service.FLUSH_SECONDS == 1


async def test_what_waits_at_shutdown_is_written(tmp_path: Path) -> None:
    async with running_registry(tmp_path / "data") as registry:
        await registry.publish("bert", "v1", {"f": b"12345"})
        for _ in range(3):
            await registry.get("/models/bert/v1/f")

    found = read_rows(tmp_path / "data")  # two rows if a minute ended meanwhile
    assert {path for path, _, _ in found} == {"f"}
    assert (sum(row[1] for row in found), sum(row[2] for row in found)) == (3, 15)


def read_rows(root: Path) -> list[tuple[str, int, int]]:
    """The history as another process sees it."""
    connection = sqlite3.connect(f"file:{root / 'index.sqlite3'}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT path, requests, bytes FROM downloads").fetchall()
    finally:
        connection.close()


def test_a_kill_loses_only_what_is_younger_than_a_second(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_server(data, workers=2) as server:
        assert server.request("PUT", "/models/bert/v1/f?publish=true", b"12345")[0] == 201
        for _ in range(8):
            assert server.get("/models/bert/v1/f") == (200, b"12345")
        ended, starved = time.monotonic(), server.starved_seconds()
        wait_until(lambda: sum(row[1] for row in read_rows(data)) == 8, "the counts")
        waited = time.monotonic() - ended - (server.starved_seconds() - starved)
        server.kill_everything()
        kept = read_rows(data)
        server.start()
        again = server.get("/models/bert/v1/f")

        assert again == (200, b"12345")
        assert sum(requests for _, requests, _ in kept) == 8
        assert waited < 5, "a second, and what a busy machine adds"


# The log in memory


@pytest.fixture
async def quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[DownloadLog, Store, ManualClock, Version]]:
    """A log beside a store in memory, in which time passes by hand and no second ends."""
    monkeypatch.setattr(service, "FLUSH_SECONDS", 3600)
    clock = ManualClock(1_800_000_000_000_000 // MINUTE * MINUTE)
    parts = StoreSettings(reserve_bytes=0, reserve_share=0, chains=CHAINS)
    store = await open_store(parts, clock=clock)
    version = await bare_version(store)
    log = DownloadLog(store)
    yield log, store, clock, version
    await log.close()
    await store.close()


async def bare_version(store: Store) -> Version:
    """A version without files, as rows alone."""
    statements = [
        "INSERT INTO models (id, name, folded, namespace, kind, visibility, last_number, "
        "created_at, created_by, updated_at) SELECT 'mdl_x', 'bert', 'bert', id, 'model', "
        "'private', 1, 0, 'x', 0 FROM namespaces LIMIT 1",
        "INSERT INTO trees (digest, files, size, created_at) VALUES (zeroblob(32), 0, 0, 0)",
        f"INSERT INTO revisions (id, model, tree, parents, author, message, created_at) VALUES "
        f"('{'a' * 40}', 'mdl_x', zeroblob(32), '', 'x', '', 0)",
        "INSERT INTO versions (id, model, number, standing, revision, tree, files, size, "
        f"created_at, created_by) VALUES ('ver_x', 'mdl_x', 1, 'plain', '{'a' * 40}', "
        "zeroblob(32), 0, 0, 0, 'x')",
    ]

    async def unit(tx: Tx) -> None:
        for statement in statements:
            await tx.run(Statement(text(statement)))

    await store.index.run(unit)
    return Version(
        id="ver_x",
        model_id="mdl_x",
        number=1,
        label=None,
        revision="a" * 40,
        tree=Digest("0" * 64),
        files=0,
        size_bytes=0,
        created_at=0,
        created_by="x",
        updated_at=0,
    )


async def sums(store: Store, *groups: Group, **bounds: int) -> list[tuple[Any, ...]]:
    span = Span("mdl_x", None, bounds.get("since", 0), bounds.get("until", 2**62))

    async def unit(tx: Tx) -> list[tuple[Any, ...]]:
        found = await downloads.sum_downloads(tx, span, groups, None, 1000)
        return [(*one.keys, one.requests, one.bytes) for one in found]

    return await store.index.read(unit)


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["usr_1", "usr_2"]),
        st.sampled_from(["curl/8", "wget/1"]),
        st.integers(0, 1000),
        st.integers(0, 3 * MINUTE),  # time that passes before it
        st.booleans(),  # whether a flush comes between
    ),
    max_size=40,
)


@settings(max_examples=30, deadline=None)
@given(events=_EVENTS)
async def test_every_sum_is_that_of_the_events(
    events: list[tuple[str, str, str, int, int, bool]],
) -> None:
    clock = ManualClock(1_800_000_000_000_000)
    parts = StoreSettings(reserve_bytes=0, reserve_share=0, chains=CHAINS)
    store = await open_store(parts, clock=clock)
    try:
        version, log = await bare_version(store), DownloadLog(store)
        wanted: dict[tuple[Any, ...], list[int]] = {}
        for path, user, client, size, passes, is_flushed in events:
            clock.now += passes
            log.add(version, path, Principal(user, user, ""), client, size)
            minute = clock.now - clock.now % MINUTE
            for key in ((), (minute,), (user,), (path, client)):
                count = wanted.setdefault((len(key), type(key and key[0]), *key), [0, 0])
                count[0] += 1
                count[1] += size
            if is_flushed:
                await log.flush()
        await log.close()

        asked: list[tuple[tuple[Group, ...], type]] = [
            ((), tuple),
            (("minute",), int),
            (("user",), str),
            (("path", "client"), str),
        ]
        for groups, kind in asked:
            expected = sorted(
                (*key[2:], *count)
                for key, count in wanted.items()
                if key[:2] == (len(groups), kind)
            )
            assert await sums(store, *groups) == expected
    finally:
        await store.close()


async def test_what_counts_again_counts_where_the_log_would_now(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the minute it is, whether the clock was set ahead or back, and never where all is told."""
    log, store, clock, version = quiet
    monkeypatch.setattr(service, "MOST_WAITING", 3)

    async def fails(unit: Any) -> None:
        again()
        raise Unavailable("a test")

    first = clock.now
    again = log.add(version, "f", LOCAL, "curl", 5)
    again()
    await log.flush()
    again()
    with monkeypatch.context() as patched:
        patched.setattr(store.index, "run_unnoticed", fails)
        with pytest.raises(Unavailable):
            await log.flush()
    again()
    clock.now += MINUTE
    again()
    clock.now -= MINUTE
    again()
    clock.now += 2 * MINUTE
    again()
    refused = log.add(version, "g", LOCAL, "curl", 1)  # a fourth that would wait
    refused()
    with capture_logs() as logged:
        await log.flush()
    assert [line["requests"] for line in logged] == [2]
    refused()
    await log.flush()

    assert await sums(store, "minute", "path") == [
        (first, "f", 6, 30),
        (first + MINUTE, "f", 1, 5),
        (first + 2 * MINUTE, "f", 1, 5),
        (first + 2 * MINUTE, "g", 1, 1),
    ]


async def test_a_flush_that_fails_loses_nothing(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, _, version = quiet

    async def fails(unit: Any) -> None:
        log.add(version, "f", LOCAL, "curl", 7)  # while it is being written
        raise Unavailable("a test")

    log.add(version, "f", LOCAL, "curl", 5)
    with monkeypatch.context() as patched:
        patched.setattr(store.index, "run_unnoticed", fails)
        with pytest.raises(Unavailable):
            await log.flush()
    assert log.waiting == 1
    await log.flush()

    assert await sums(store) == [(2, 12)]


async def test_a_flush_waits_for_what_is_being_written(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, _, version = quiet
    monkeypatch.setattr(service, "FLUSH_SECONDS", 0)
    begun, gate = asyncio.Event(), asyncio.Event()
    really = store.index.run_unnoticed

    async def held(unit: Any) -> Any:
        begun.set()
        await gate.wait()
        return await really(unit)

    monkeypatch.setattr(store.index, "run_unnoticed", held)
    log.add(version, "f", LOCAL, "curl", 5)
    await begun.wait()
    flushing = asyncio.create_task(log.flush())
    for _ in range(5):
        await asyncio.sleep(0)
    was_early = flushing.done()
    gate.set()
    await flushing

    assert not was_early
    assert await sums(store) == [(1, 5)]


async def test_an_index_that_fails_for_a_while_is_asked_again_by_itself(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, _, version = quiet
    monkeypatch.setattr(service, "FLUSH_SECONDS", 0.001)
    tries = 0
    really = store.index.run

    async def fails(unit: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Unavailable("a test")
        return await really(unit)

    monkeypatch.setattr(store.index, "run_unnoticed", fails)
    with capture_logs() as logged:
        log.add(version, "f", LOCAL, "curl", 5)
        async with asyncio.timeout(10):
            while log.waiting or tries < 4:
                await asyncio.sleep(0)
        await log.close()

    assert await sums(store) == [(1, 5)]
    assert [line["event"] for line in logged] == ["downloads wait"] * 3


@pytest.mark.parametrize("error", [Unavailable("a test"), RuntimeError("a fault of ours")])
async def test_an_index_that_fails_is_not_asked_by_every_request(
    quiet: tuple[DownloadLog, Store, ManualClock, Version],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    log, store, _, version = quiet
    monkeypatch.setattr(service, "EARLY", 2)
    tries = 0

    async def fails(unit: Any) -> None:
        nonlocal tries
        tries += 1
        log.add(version, "meanwhile", LOCAL, "curl", 1)
        raise error

    with monkeypatch.context() as patched, capture_logs():
        patched.setattr(store.index, "run_unnoticed", fails)
        for index in range(10):
            log.add(version, f"f{index}", LOCAL, "curl", 1)
            for _ in range(5):
                await asyncio.sleep(0)
    await log.flush()

    assert tries == 1
    assert await sums(store) == [(11, 11)]


async def test_many_different_counts_do_not_wait_for_the_second_to_end(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, _, version = quiet
    monkeypatch.setattr(service, "EARLY", 10)

    for index in range(25):
        log.add(version, f"f{index}", LOCAL, "curl", 1)
    async with asyncio.timeout(10):
        while log.waiting >= 10:
            await asyncio.sleep(0)
    await log.close()

    assert await sums(store) == [(25, 25)]


async def test_memory_is_bounded_and_the_log_says_what_was_given_up(
    quiet: tuple[DownloadLog, Store, ManualClock, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, _, version = quiet
    monkeypatch.setattr(service, "MOST_WAITING", 5)

    for index in range(8):
        log.add(version, f"f{index}", LOCAL, "curl", 1)
    log.add(version, "f0", LOCAL, "curl", 1)
    with capture_logs() as logged:
        await log.flush()

    assert await sums(store) == [(6, 6)]
    assert [(line["event"], line["requests"]) for line in logged] == [("downloads not counted", 3)]


async def test_what_was_purged_meanwhile_does_not_hold_the_rest_up(
    quiet: tuple[DownloadLog, Store, ManualClock, Version],
) -> None:
    log, store, _, version = quiet
    gone = msgspec.structs.replace(version, id="ver_gone")

    log.add(gone, "f", LOCAL, "curl", 1)
    log.add(version, "f", LOCAL, "curl", 1)
    await log.flush()

    assert await sums(store) == [(1, 1)]


# Sensitive models


async def sensitive(registry: Registry, column: str, value: str) -> None:
    await registry.publish("bert", "v1", {"f": b"12345", "g": LARGE})
    await execute(registry, f"UPDATE models SET {column} = {value}")


async def entries(registry: Registry) -> list[tuple[Any, ...]]:
    rows = await registry.rows(
        "SELECT actor, after ->> 'path', after ->> 'range' FROM audit WHERE action = 'download' "
        "ORDER BY id"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("column", "value"),
    [("risk_level", "'high'"), ("risk_level", "'critical'"), ("compliance_required", "1")],
)
async def test_downloads_of_a_sensitive_model_are_in_the_audit_log(
    registry: Registry, column: str, value: str
) -> None:
    await sensitive(registry, column, value)
    etag = (await registry.send("HEAD", "/models/bert/v1/f")).headers["ETag"]

    await registry.get("/models/bert/v1/f", Range="bytes=0-1")
    await registry.get("/models/bert/v1/g")
    await registry.get("/models/bert/v1.tar")
    await registry.get("/models/bert/v1/f", If_None_Match=etag)

    assert await entries(registry) == [
        ("usr_local", "f", "bytes=0-1"),
        ("usr_local", "g", None),
        ("usr_local", "", None),
    ]
    assert (await totals(registry))[0] == 3


async def test_a_draft_of_a_sensitive_model_is_in_the_audit_log(registry: Registry) -> None:
    await sensitive(registry, "risk_level", "'high'")
    await registry.put("/models/bert/v2/f", b"67890")

    assert (await registry.get("/models/bert/v2/f")).status == 200

    [row] = await registry.rows("SELECT kind, name FROM audit WHERE action = 'download'")
    assert tuple(row) == ("draft", "v2")


async def test_files_that_no_version_has_are_told_by_their_tree(registry: Registry) -> None:
    """A revision may lead to such; none does that is made by this API."""
    await sensitive(registry, "risk_level", "'high'")
    place = await resolve_version(registry.store, LOCAL, parse_model("bert"), ByNumber(1))
    assert isinstance(place, Tree)

    loose = msgspec.structs.replace(place, version=None)
    await announce_download(registry.store, LOCAL, loose, {"path": "f"})

    [row] = await registry.rows(
        "SELECT kind, name, after ->> 'tree' FROM audit WHERE action = 'download'"
    )
    assert tuple(row) == ("model", "bert", str(place.digest))


async def test_whoever_asks_by_digest_is_in_the_audit_log_too(registry: Registry) -> None:
    await sensitive(registry, "risk_level", "'high'")
    small, large = (f"/blobs/{Digest.of(content)}" for content in (b"12345", LARGE))
    etag = (await registry.send("HEAD", small)).headers["ETag"]

    await registry.get(small)
    await registry.get(small)
    await registry.get(large, Range="bytes=0-1")
    await registry.get(small, If_None_Match=etag)

    assert await entries(registry) == [
        ("usr_local", "", None),
        ("usr_local", "", None),
        ("usr_local", "", "bytes=0-1"),
    ]
    [first, *_] = await registry.rows("SELECT kind, name FROM audit WHERE action = 'download'")
    assert tuple(first) == ("model", "bert")


async def test_a_digest_tells_of_the_models_one_may_have_it_from(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store, serving(store, AUTHENTICATED) as site:
        root = await make_person(store, "root", is_admin=True)
        ada = await make_person(store, "ada")
        for name in ("hers/m", "hidden/m"):
            wish = {"name": name, "risk_level": "critical"}
            made = await site.ask("POST", "/api/v1/models", json=wish, headers=root.headers)
            assert made.status == 201, made.body
            path = f"/models/{name.replace('/', '~')}/v1/f?publish=true"
            put = await site.ask("PUT", path, data=b"shared", headers=root.headers)
            assert put.status == 201, put.body
        await grant(store, ada, "reader", kind="namespace", on="hers")

        got = await site.ask("GET", f"/blobs/{Digest.of(b'shared')}", headers=ada.headers)

        assert got.status == 200, got.body
        found = Statement(text("SELECT actor, name FROM audit WHERE action = 'download'"))

        async def read(tx: Tx) -> list[Any]:
            return [tuple(row) for row in await tx.all(found)]

        assert await store.index.read(read) == [(ada.id, "hers/m")]


@pytest.mark.parametrize("level", ["low", "medium"])
async def test_downloads_of_other_models_are_not(registry: Registry, level: str) -> None:
    await sensitive(registry, "risk_level", f"'{level}'")

    await registry.get("/models/bert/v1/f")
    await registry.get(f"/blobs/{Digest.of(b'12345')}")

    assert await entries(registry) == []


async def test_no_byte_of_a_sensitive_model_leaves_unrecorded(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sensitive(registry, "risk_level", "'high'")

    async def fails(*_: Any) -> None:
        raise Unavailable("the audit log")

    monkeypatch.setattr(counting, "announce_download", fails)
    small, large, archive = [
        await registry.get(f"/models/bert/{path}") for path in ("v1/f", "v1/g", "v1.tar")
    ]

    assert [answer.status for answer in (small, large, archive)] == [503, 503, 503]
    assert await totals(registry) == (0, 0)


async def test_the_entry_is_committed_before_the_first_byte(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sensitive(registry, "risk_level", "'high'")
    seen: list[int] = []
    really = registry.store.reading.small

    def small(row: Any) -> Any:
        seen.append(len(committed(registry)))
        return really(row)

    monkeypatch.setattr(registry.store.reading, "small", small)
    await registry.get("/models/bert/v1/f")

    assert seen
    assert set(seen) == {1}


def committed(registry: Registry) -> list[Any]:
    root = registry.store.settings.root
    connection = sqlite3.connect(f"file:{root}/index.sqlite3?mode=ro", uri=True)
    try:
        return connection.execute("SELECT 1 FROM audit WHERE action = 'download'").fetchall()
    finally:
        connection.close()


# Told over HTTP


async def fill(registry: Registry) -> list[Any]:
    """Two versions, two days, two users, and one minute after another."""
    found = [await registry.publish("bert", label, {"f": label.encode()}) for label in ("v1", "v2")]
    day = 1_800_000_000_000_000 // (1440 * MINUTE) * (1440 * MINUTE)
    rows = [
        f"('{version['id']}', {day + offset * 1440 * MINUTE + minute * MINUTE}, '{path}', "
        f"'{user}', 'curl/8', 1, 10)"
        for version in found
        for offset in (0, 1)
        for minute in (0, 1, 2)
        for path in ("", "f")
        for user in ("usr_a", "usr_b")
    ]
    await execute(registry, f"INSERT INTO downloads VALUES {', '.join(rows)}")
    return found


async def test_a_model_tells_of_all_its_versions_by_whatever_is_asked(registry: Registry) -> None:
    one, two = await fill(registry)

    by_day = await history(registry, path=MODEL)
    by_version = await history(registry, "?by=version", MODEL)
    by_both = await history(registry, "?by=user&by=day", MODEL)
    of_one = await history(registry, "?by=user")

    assert (by_day["requests"], by_day["bytes"]) == (48, 480)
    assert [(i["day"], i["requests"]) for i in by_day["items"]] == [
        ("2027-01-15", 24),
        ("2027-01-16", 24),
    ]
    assert by_day["items"][0]["first"] == "2027-01-15T00:00:00.000000Z"
    assert by_day["items"][0]["last"] == "2027-01-15T00:02:00.000000Z"
    assert {i["version"]["id"]: i["requests"] for i in by_version["items"]} == {
        one["id"]: 24,
        two["id"]: 24,
    }
    assert [(i["user"], i["day"], i["requests"]) for i in by_both["items"]] == [
        ("usr_a", "2027-01-15", 12),
        ("usr_a", "2027-01-16", 12),
        ("usr_b", "2027-01-15", 12),
        ("usr_b", "2027-01-16", 12),
    ]
    assert [(i["user"], i["requests"]) for i in of_one["items"]] == [("usr_a", 12), ("usr_b", 12)]


@pytest.mark.parametrize("by", ["minute", "user", "path", "version", "client", "day"])
async def test_pages_give_every_sum_once(registry: Registry, by: str) -> None:
    await fill(registry)
    query = f"?by={by}&by=minute&by=path" if by not in ("minute", "path") else "?by=minute&by=path"
    whole = (await history(registry, query, MODEL))["items"]

    found, after = [], ""
    while True:
        page = await history(registry, f"{query}&limit=5{after}", MODEL)
        assert page["requests"] == 48
        found += page["items"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert found == whole
    assert len(whole) > 5


async def test_time_is_bounded_in_whole_minutes(registry: Registry) -> None:
    await fill(registry)

    since = await history(registry, "?since=2027-01-16T00:01:00Z", MODEL)
    until = await history(registry, "?until=2027-01-15T00:01:00Z", MODEL)
    offset = await history(registry, "?until=2027-01-15T01:01:00%2B01:00", MODEL)
    none = await history(registry, "?since=2030-01-01T00:00:00Z", MODEL)

    assert (since["requests"], until["requests"], offset["requests"]) == (16, 8, 8)
    assert (none["requests"], none["items"]) == (0, [])


@pytest.mark.parametrize(
    "query",
    ["?by=week", "?by=day&by=day", "?since=yesterday", "?limit=0", "?after=x", "?per=day"],
)
async def test_a_question_that_cannot_be_meant_is_refused(registry: Registry, query: str) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})

    answers: list[Answer] = [await registry.get(path + query) for path in (MODEL, VERSION)]

    assert [answer.status for answer in answers] == [400, 400]


async def test_unknown_models_and_versions_are_named(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    await registry.put("/models/bert/draft/f", b"1")

    model = await registry.get("/api/v1/models/nobody/downloads")
    version = await registry.get("/api/v1/models/bert/versions/v9/downloads")
    draft = await registry.get("/api/v1/models/bert/versions/draft/downloads")

    assert (model.status, model.code) == (404, "model_not_found")
    assert (version.status, version.code) == (404, "version_not_found")
    assert (draft.status, draft.code) == (404, "version_not_found")


async def test_a_deleted_version_counts_for_its_model(registry: Registry) -> None:
    await fill(registry)
    await registry.send("DELETE", "/models/bert/v1")

    found = await history(registry, "?by=version", MODEL)

    assert [item["version"]["label"] for item in found["items"]] == ["v1", "v2"]


@pytest.mark.parametrize("is_of_version", [True, False])
@pytest.mark.parametrize("is_further", [True, False])
async def test_no_sum_reads_the_downloads_of_other_versions(
    registry: Registry, is_of_version: bool, is_further: bool
) -> None:
    for groups in ((), ("day",), ("user", "path")):
        if is_further and not groups:
            continue
        plan = await plan_of(registry.store.index, _summing(groups, is_of_version, is_further))

        assert [step for step in plan if step.startswith("SCAN")] == []
        assert any("downloads USING PRIMARY KEY (version=? AND minute" in step for step in plan)
