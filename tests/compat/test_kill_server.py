"""A server with two workers is killed at random moments; a client finds all it was promised.

Clients put, upload in pieces, publish, delete, restore, purge, read and release over HTTP while
collections, scrubs and a backup run; each remembers what was answered with success. After the kill
the server starts again on the same directory. The kill takes everybody, the command that backs up
included, or one worker, which the supervisor replaces. `DIGESTRY_TESTS_LONG=1`: ten minutes.
`tests.store.test_kill` kills far more often, and not the server.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from store.backups.checking import verify_backup
from store.backups.directory import MARKER, read_marker
from tests.support.clients import Client, keep_house
from tests.support.servers import run_digestry, running_server, start_digestry, wait_until
from tests.support.soundness import AFTER_CRASH, assert_store_is_sound

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
SECONDS = 600 if LONG else 12
ROUNDS_AT_LEAST = 3
CLIENTS = 5
CONFIG = """
[store]
reserve_bytes = 0
reserve_share = 0.0
[collection]
grace_seconds = 0
max_share = 1.0
"""


def backing_up(data: Path, target: Path) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    command = ("backup", str(target), "--data", str(data))
    return start_digestry(*command, stdout=quiet, stderr=quiet)


def check_backups(target: Path) -> None:
    """Whatever is listed as finished is whole."""
    marker = read_marker(target) if (target / MARKER).exists() else None
    for one in [] if marker is None else marker.generations:
        verdict = verify_backup(target, number=one.number)
        assert verdict.found == 0, verdict.problems


@pytest.mark.timeout(900 if LONG else 120)
def test_a_client_finds_what_it_was_promised_after_every_kill(tmp_path: Path) -> None:
    chance = random.Random()
    target = tmp_path / "backup"
    begun: list[str] = []
    with running_server(tmp_path / "data", workers=2, config=CONFIG) as server:
        clients = [Client(server, number) for number in range(CLIENTS)]
        started = time.monotonic()
        rounds = kills = 0

        def has_seen_enough() -> bool:
            """However slow the machine is, so much has happened that losing some would show."""
            return (
                {"gc/apply", "scrub"} <= set(begun)
                and sum(len(one.kept) + len(one.uncertain) for one in clients) > 20
                and sum(len(one.versions) for one in clients) > 3
            )

        while (
            rounds < ROUNDS_AT_LEAST
            or time.monotonic() - started < SECONDS
            or not has_seen_enough()
        ):
            wait_until(lambda: len(server.worker_pids()) == 2, "two workers")
            stop = threading.Event()
            threads = [threading.Thread(target=one.work, args=[stop]) for one in clients]
            threads.append(threading.Thread(target=keep_house, args=[server, stop, begun]))
            for thread in threads:
                thread.start()
            backup = backing_up(server.data, target)
            time.sleep(chance.uniform(0.2, 1.0))
            if chance.random() < 0.4:
                server.kill_worker(chance.randrange(2))
                kills += 1
                time.sleep(chance.uniform(0.1, 0.5))
            server.kill_everything()
            backup.kill()
            backup.wait()
            stop.set()
            for thread in threads:
                thread.join()
            assert_store_is_sound(server.data, AFTER_CRASH)
            check_backups(target)
            server.start()
            for client in clients:
                client.check_everything()
            rounds += 1
        done = run_digestry("backup", str(target), "--data", str(server.data))
        assert done.returncode == 0, done.stderr
    check_backups(target)
    kills += 2 * rounds
    print(f"{rounds} rounds, {kills} workers and {rounds} supervisors killed")
