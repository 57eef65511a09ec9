"""Clock, configuration, store, application, client: what most tests of the registry start from.

A module that wants other settings or the other backend overrides `config` or `backend`; the rest
follows.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import structlog
from aiohttp import web, web_app

from registry.app import create_app, runner_of
from registry.catalog.migrations import CHAINS
from registry.config import Config, StoreConfig
from store.opening import Store, StoreSettings, open_store
from tests.support.clock import ManualClock
from tests.support.folders import FAILED
from tests.support.fresh import initialize_like_new, start_from_copies
from tests.support.generating import choose_constants_fast, judge_no_duration
from tests.support.secrecy import leaks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: processes of the tests would inherit deafness to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling our modules is most of what a short process does, and the tests start hundreds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

start_from_copies()
choose_constants_fast()
judge_no_duration()

# Colouring the source around a logged error, and all its variables, takes half a second of CPU; no
# server shows an error so. Set on the renderer itself, which a reset of the log gives back.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

TESTS: Final = Path(__file__).parent
MEMORY: Final = Path("/dev/shm")
ROOM_BYTES: Final = 4 << 30

LONG_FIRST: Final = (
    "store/test_kill.py",
    "compat/test_kill_server.py",
    "store/test_crash.py",
    "store/test_stateful.py",
    "store/test_failed_syncs.py",
    "bench/test_bench.py",
    "compat/test_tus_workers.py",
    "compat/test_browser.py",
    "registry/test_schemathesis.py",
)
"""Modules with tests that take seconds, in which a run that is nearly over would wait for one."""


def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores: a third of its time a worker waits, for disks and children.

    Who says another number by xdist's own variable gets that.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes stays to the end: no collection of garbage need walk through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Long tests begin a run; the first worker has them, and the others take the rest from it."""
    yield
    first = {TESTS / name: place for place, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Directories of tests are in memory where there is room; those about disks have others.

    Workers waited for a third of a run, in part for syncs that most tests are not about.
    """
    is_chosen = config.option.basetemp or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if is_chosen or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that left a secret in its output has failed, whatever it tested."""
    report = yield
    if report.passed and report.sections:
        found = [leak for _, text in report.sections for leak in leaks(text)]
        if found:
            report.outcome = "failed"
            report.longrepr = "the output of the test holds " + "; ".join(found)
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def forget_applications() -> Iterator[None]:
    """Let go of the test's application: a cache of aiohttp's would keep the last few hundred.

    They are four megabytes each, and every collection of garbage walked through them all.
    """
    yield
    web_app._cached_build_middleware.cache_clear()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config() -> Config:
    return Config(store=StoreConfig(backend="memory", reserve_bytes=0, reserve_share=0))


@pytest.fixture
def backend() -> str:
    return "memory"


@pytest.fixture
async def store(backend: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    root = None
    if backend == "local":
        root = tmp_path / "data"
        root.mkdir()
        await asyncio.to_thread(initialize_like_new, root, CHAINS)
    settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0, chains=CHAINS)
    opened = await open_store(settings, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def app(config: Config, store: Store) -> web.Application:
    return create_app(config, store)


@pytest.fixture
async def port(app: web.Application, config: Config) -> AsyncIterator[int]:
    """The port of a real socket on which the application answers."""
    runner = runner_of(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def client(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
