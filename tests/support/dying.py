"""A server that dies at the first answer kept under an idempotency key.

Run as a module by `tests.registry.test_once_killed`, with a data directory and a moment: ``before``
the commit that would keep the answer, or right ``after`` it, when nobody has been answered yet. It
prints its port and serves until then.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from aiohttp import web

from registry.app import create_app, runner_of
from registry.catalog import once
from registry.catalog.migrations import CHAINS
from registry.config import Config
from store.index.transactions import Tx
from store.opening import StoreSettings, initialize, open_store


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


async def die_instead(tx: Tx, scope: once.Scope, fingerprint: bytes, answer: once.Kept) -> None:
    """In the place of `once.keep_answer`, inside the transaction."""
    die()


def die_once_kept(event: str, connection: Any) -> None:
    """Called after each durable commit, still in the database thread."""
    if connection.execute("SELECT count(*) FROM idempotency_keys").fetchone()[0]:
        die()


async def serve(root: Path) -> None:
    settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    is_after = sys.argv[2] == "after"
    if not is_after:
        once.keep_answer = die_instead
    store = await open_store(settings, observer=die_once_kept if is_after else None)
    config = Config()
    runner = runner_of(create_app(config, store))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    root = Path(sys.argv[1])
    root.mkdir(exist_ok=True)
    initialize(root, CHAINS)
    asyncio.run(serve(root))


if __name__ == "__main__":
    main()
