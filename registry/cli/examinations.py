"""The tests of ``digestry doctor``, one function each; none raises for what it tests."""

from __future__ import annotations

import errno
import http.client
import os
import platform
import resource
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from registry.cli import directory, serve
from registry.cli.doctor import Finding, failure, ok, warning
from registry.cli.exits import CommandError
from registry.cli.listening import listen
from registry.cli.output import size
from registry.cli.presence import Presence
from registry.cli.reaching import connect
from registry.cli.schema import SCHEMA_NUMBER
from registry.cli.transfers import SERVER_VARIABLE
from registry.client.connection import checked_url, masked
from registry.client.errors import NotARegistry
from registry.config import Config
from store import durable, layout
from store.batches import Reserve
from store.errors import StoreError
from store.gc import COLLECTION_OFF
from store.index import driver
from store.index.driver import sqlite
from store.opening import read_facts

ENOUGH_FILES: Final = 4096
SLOW_SYNC_SECONDS: Final = 0.1
EARLIEST: Final = 1_735_689_600  # 2025: before this program was written
ASKING_SECONDS: Final = 10.0

_TRIAL: Final = b"digestry doctor\n" * 4096


def versions() -> Finding:
    """What this runs on."""
    found = f"Python {platform.python_version()}, SQLite {sqlite.sqlite_version}"
    if sqlite.sqlite_version_info < driver.SAFE_VERSION:
        needed = ".".join(map(str, driver.SAFE_VERSION))
        return failure("versions", found, f"install pysqlite3 with SQLite {needed} or newer")
    return ok("versions", found)


def file_limit() -> Finding:
    """How many files a server could open here."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= ENOUGH_FILES:
        return ok("open files", "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}")
    advice = "raise it (ulimit -Hn, LimitNOFILE= in systemd) to 65536"
    if hard < serve.LEAST_FILES:
        return failure("open files", f"only {hard}: no server starts", advice)
    return warning("open files", f"only {hard}: few clients at once", advice)


def clock() -> Finding:
    """Whether the time can be right; expiry, grace and the audit log go by it."""
    now = time.time()
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < EARLIEST:
        return failure(
            "clock", f"{shown} is in the past", "set it; leases and uploads expire by it"
        )
    return ok("clock", shown)


def permissions(root: Path) -> Finding:
    """Who may read and write the directory."""
    facts = root.stat()
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return failure(
            "permissions",
            f"{root} cannot be written by user {os.geteuid()}",
            f"run as its owner, user {facts.st_uid}, or give it to this user",
        )
    if facts.st_mode & stat.S_IRWXO:
        return warning(
            "permissions",
            f"everybody on this machine may enter {root}",
            f"chmod o-rwx {root}",
        )
    return ok("permissions", f"{stat.S_IMODE(facts.st_mode):04o}, owned by user {facts.st_uid}")


def file_system(root: Path) -> Finding:
    """What kind of file system the index lies on; network ones were refused before."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ok("file system", "unknown, as this is not Linux")
    point, kind = directory.mount_of(root, mounts)
    if kind in ("tmpfs", "ramfs"):
        return warning(
            "file system", f"{kind} at {point}", "it is memory: everything is lost at a restart"
        )
    return ok("file system", f"{kind} at {point}")


def disk(root: Path) -> Finding:
    """Write, sync, link, rename and remove, as storing a blob does."""
    first, second = (str(root / f".doctor-{os.getpid()}.{name}") for name in ("a", "b"))
    trial = durable.Disk()
    try:
        try:
            begun = time.perf_counter()
            trial.write_file(first, _TRIAL)
            seconds = time.perf_counter() - begun
            trial.link(first, second)
            trial.unlink(first)
            trial.move(second, first)
            right = Path(first).read_bytes() == _TRIAL
        finally:
            for path in (first, second):
                with suppress(OSError):
                    trial.unlink_if_there(path)
    except OSError as error:
        return failure("disk", f"cannot write, sync, link or rename: {error}", _advice(error))
    if not right:
        return failure("disk", "what was written is not what is read", "replace this disk")
    found = f"write and sync {seconds * 1000:.1f} ms, link, rename"
    if seconds > SLOW_SYNC_SECONDS:
        return warning("disk", found, "syncing is slow, and so is every upload; use a faster disk")
    return ok("disk", found)


def _advice(error: OSError) -> str:
    return {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "raise the quota of this user",
        errno.EROFS: "the file system is read-only: look for errors of the disk, then remount it",
        errno.EACCES: "give the directory to this user",
        errno.EPERM: "this file system has no hard links; choose another",
    }.get(error.errno or 0, "look at the log of the system")


def space(root: Path, settings: Config) -> Finding:
    """Room for blobs above what is kept for the index, and for names."""
    facts = os.statvfs(root)
    free, total = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
    reserve = Reserve(settings.store.reserve_bytes, settings.store.reserve_share).of(total)
    found = f"{size(free)} of {size(total)} free, {size(reserve)} kept in reserve"
    if free < reserve:
        return failure("space", found, "uploads are refused: free some space, or digestry gc")
    if free < 2 * reserve:
        return warning("space", found, "uploads are refused soon: free some space, or digestry gc")
    if facts.f_files and facts.f_favail < facts.f_files // 100:
        return warning("space", f"only {facts.f_favail} inodes free", "each blob needs one or two")
    return ok("space", found)


def index(root: Path) -> Iterator[Finding]:
    """Whether the index is whole, of a schema we know, and of this directory."""
    path = root / layout.INDEX_FILE
    if not path.exists():
        yield failure(
            "index",
            f"{path} is missing",
            "bring it back: digestry db restore, or from a backup; or digestry fsck --rebuild",
        )
        return
    try:
        with closing(sqlite.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
            yield _integrity(opened)
            yield _schema(opened)
            yield _identity(opened, root)
    except (sqlite.Error, StoreError) as error:
        yield failure(
            "index",
            f"cannot be read: {error}",
            "bring a copy back: digestry db restore; or, last of all, digestry fsck --rebuild",
        )


def _integrity(opened: sqlite.Connection) -> Finding:
    begun = time.perf_counter()
    (verdict,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    (pages,) = opened.execute("PRAGMA page_count").fetchone()
    (page,) = opened.execute("PRAGMA page_size").fetchone()
    if verdict != "ok":
        return failure(
            "index",
            f"damaged: {verdict}",
            "bring a copy back: digestry db restore; or, last of all, digestry fsck --rebuild",
        )
    seconds = time.perf_counter() - begun
    return ok("index", f"whole, {size(pages * page)}, checked in {seconds:.1f} s")


def _schema(opened: sqlite.Connection) -> Finding:
    (number,) = opened.execute("PRAGMA user_version").fetchone()
    theirs, ours = divmod(number, 1000), divmod(SCHEMA_NUMBER, 1000)
    if any(their > our for their, our in zip(theirs, ours, strict=True)):
        return failure(
            "schema",
            f"{number} is newer than {SCHEMA_NUMBER}, which this program knows",
            "start the newer program, or go back: digestry db restore",
        )
    if number != SCHEMA_NUMBER:
        return warning(
            "schema",
            f"{number}, this program needs {SCHEMA_NUMBER}",
            "the next start upgrades it, keeping a copy; or: digestry db upgrade",
        )
    return ok("schema", str(number))


def _identity(opened: sqlite.Connection, root: Path) -> Finding:
    state = dict(opened.execute("SELECT key, value FROM store_state").fetchall())
    facts = read_facts(root)
    assert facts is not None  # who calls has seen it
    if state.get("store_id") not in (None, facts.store_id):
        return failure(
            "identity",
            f"the index is of {state['store_id']}, the directory of {facts.store_id}",
            "put index and store.json of one store together",
        )
    if state.get("epoch") != str(facts.epoch):
        return warning(
            "identity",
            "the index is of another epoch than the directory",
            "the next start turns collection off; then digestry fsck, and digestry gc --confirm",
        )
    if state.get(COLLECTION_OFF):
        return warning(
            "collection", f"off: {state[COLLECTION_OFF]}", "when done: digestry gc --confirm"
        )
    return ok("identity", f"store {facts.store_id}, epoch {facts.epoch}; collection is allowed")


def port(settings: Config) -> Finding:
    """Whether a server could listen where the settings say."""
    host, number = settings.server.host, settings.server.port
    try:
        listen(host, number).close()
    except CommandError as error:
        return failure("port", str(error), "choose another: server.port, server.host")
    return ok("port", f"{host} port {number or 'any'} is free")


def running_server(server: Presence) -> Finding:
    """Whether the server that holds the directory answers, and what it says of itself."""
    advice = f"process id {server.pid}: look at its log"
    return _ready("running server", server.url, advice, partial(connect, server, ASKING_SECONDS))


def other_server() -> str | None:
    """The server that commands are told to talk to, if any."""
    return os.environ.get(SERVER_VARIABLE) or None


def reachable(url: str) -> Finding:
    """Whether the server that commands talk to answers."""
    advice = f"is the address right? --server and {SERVER_VARIABLE} set it"
    try:
        address = urlsplit(checked_url(url))
    except NotARegistry as error:
        return failure("server", str(error), advice)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    return _ready(
        "server",
        url,
        advice,
        partial(kind, address.hostname or "", address.port, timeout=ASKING_SECONDS),
    )


def _ready(
    test: str, url: str, advice: str, connect: Callable[[], http.client.HTTPConnection]
) -> Finding:
    address = urlsplit(url)
    begun = time.perf_counter()
    try:
        with closing(connect()) as connection:
            connection.request("GET", f"{address.path}/readyz")
            answer = connection.getresponse()
            content = answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return failure(test, f"{masked(url)} does not answer: {error}", advice)
    milliseconds = (time.perf_counter() - begun) * 1000
    try:
        health = msgspec.json.decode(content, type=_Health)
    except msgspec.DecodeError:
        return failure(test, f"{masked(url)} answers {answer.status}, not like digestry", advice)
    if health.status != "ok":
        faults = "; ".join(f"{name}: {fault}" for name, fault in health.faults.items())
        return failure(test, f"{masked(url)} is not ready: {faults or health.detail}", advice)
    return ok(test, f"{masked(url)} is ready, answered in {milliseconds:.0f} ms")


class _Health(msgspec.Struct):
    status: str | int
    faults: dict[str, str] = {}
    detail: str = ""
