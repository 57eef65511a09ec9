"""Where a command gets its work done: at the running server, or in this process.

Whoever holds the lock of the data directory decides. If a server does, ``server.json`` tells where
it listens and the secret that it takes from commands on its own machine. If nobody does, this
process takes the lock for as long as the work lasts, so that no server can start meanwhile.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from registry.auth.local_secret import authorization
from registry.cli import directory
from registry.cli.exits import FAILED, REFUSED, CommandError, complain
from registry.cli.imports import terminal_libraries_hidden
from registry.cli.presence import Presence
from registry.cli.reaching import connect
from registry.cli.schema import is_current, prepare
from registry.config import Config, ConfigError, load
from registry.domain.operations import Failure, Operation, Progress
from registry.domain.principals import LOCAL
from store import layout
from store.errors import StoreError

if TYPE_CHECKING:
    from registry.services.operations import Operations
    from store.gc import CollectionStatus
    from store.opening import Store

T = TypeVar("T")

POLL_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 60.0
PIECE_BYTES: Final = 1 << 16
PATIENCE_SECONDS: Final = 15.0
"""How long a server may be unreachable while we wait for an operation; workers get replaced."""


class Ended(msgspec.Struct, frozen=True):
    """An operation as a command sees it."""

    id: str
    group: str
    verb: str
    state: str
    findings: int = 0
    report: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
    progress: Progress | None = None


class Task(msgspec.Struct, frozen=True):
    """Work to be started, said twice: as a request to a server and as a call in this process."""

    path: str
    body: Mapping[str, Any] | None
    start: Callable[[Operations], Awaitable[Operation]]


Watch = Callable[[Progress | None], None]
"""Told from time to time how far the work is."""


class Office(Protocol):
    """A place where work on one data directory is done."""

    def work(self, task: Task, watch: Watch) -> Ended:
        """Do it to its end. Ctrl-C stops it."""
        ...

    def collection_status(self) -> tuple[CollectionStatus, Ended | None]:
        """What quarantine holds, and the last collection."""
        ...

    def confirm_collection(self) -> None:
        """Allow collection again."""
        ...


@contextmanager
def open_office(*, config: str | None, data: str | None) -> Iterator[LocalOffice | RemoteOffice]:
    """The server's office if one runs on the directory, else our own."""
    settings = configure(config, data)
    root = Path(settings.store.data).resolve()
    try:
        claimed = directory.claim(root, create=False)
    except directory.DirectoryInUse as error:
        if error.owner is None:
            raise
        yield RemoteOffice(error.owner)
        return
    try:
        _require_store(root)
        yield LocalOffice(settings, root)
    finally:
        claimed.release()


@contextmanager
def rebuild_index(*, config: str | None, data: str | None) -> Iterator[Office]:
    """Our own office on a directory whose index was set aside and made anew, empty."""
    settings = configure(config, data)
    root = Path(settings.store.data).resolve()
    try:
        claimed = directory.claim(root, create=False)
    except directory.DirectoryInUse as error:
        raise CommandError(f"{error}; stop it before the index is rebuilt") from error
    try:
        _require_store(root)
        from store.restoring import set_aside

        set_aside(root, time.strftime("rebuild-%Y%m%dT%H%M%SZ", time.gmtime()))
        # Nobody else is at work here, so no file is too young to be adopted.
        now = msgspec.structs.replace(settings.collection, grace_seconds=0)
        yield LocalOffice(msgspec.structs.replace(settings, collection=now), root)
    finally:
        claimed.release()


def configure(config: str | None, data: str | None) -> Config:
    """The settings that name the directory."""
    try:
        settings = load(config, os.environ, {"store.data": data})
    except ConfigError as error:
        raise CommandError(str(error)) from error
    if settings.store.backend == "memory":
        raise CommandError("store.backend is 'memory': there is no directory to work on")
    return settings


def _require_store(root: Path) -> None:
    if not (root / layout.STORE_FILE).exists():
        raise CommandError(f"{root} is not a data directory of digestry")


class LocalOffice:
    """Works in this process; the caller holds the directory's lock."""

    def __init__(self, settings: Config, root: Path) -> None:
        self._settings = settings
        try:
            if not is_current(root) and (done := prepare(root)).copy is not None:
                complain(
                    f"the index was upgraded from schema {done.before} to {done.after}; as it was "
                    f"it is kept as {done.copy.name}"
                )
        except StoreError as error:
            raise CommandError(str(error)) from error

    def work(self, task: Task, watch: Watch) -> Ended:
        async def run(operations: Operations) -> Ended:
            operation = await task.start(operations)
            seconds = POLL_SECONDS / 32  # what has little to do is not waited for
            while operation.state == "running":
                watch(operation.progress)
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, POLL_SECONDS)
                operation = await operations.find(LOCAL, operation.id)
            watch(operation.progress)
            return _ended(operation)

        return self._with_store(run)

    def collection_status(self) -> tuple[CollectionStatus, Ended | None]:
        async def run(operations: Operations) -> tuple[CollectionStatus, Ended | None]:
            status = await operations.collection_status(LOCAL)
            last = await operations.latest(LOCAL, "gc")
            return status, None if last is None else _ended(last)

        return self._with_store(run)

    def confirm_collection(self) -> None:
        self._with_store(lambda operations: operations.confirm_collection(LOCAL))

    def _with_store(self, run: Callable[[Operations], Awaitable[T]]) -> T:
        with terminal_libraries_hidden():
            from registry.services.operations import Operations

        async def with_operations(store: Store) -> T:
            operations = Operations(store)
            try:
                return await run(operations)
            finally:
                await operations.close()

        return self.on_store(with_operations)

    def on_store(self, run: Callable[[Store], Awaitable[T]]) -> T:
        """Open the store, settled, for as long as `run` takes."""
        with terminal_libraries_hidden():
            from registry.cli import logs
        from registry.cli.settings import store_settings
        from store.opening import open_store

        logs.configure("warning")
        logging.getLogger("store").setLevel(logging.CRITICAL)  # the command tells what was found

        async def whole() -> T:
            store = await open_store(store_settings(self._settings))
            try:
                await store.quarantine.settle()
                return await run(store)
            finally:
                await store.close()

        try:
            return asyncio.run(whole())
        except StoreError as error:
            raise CommandError(str(error), FAILED) from error


@contextmanager
def _interrupt_held_back() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C came meanwhile; a second one ends the block at once.

    Who asks a server to begin something must learn what it is called before he can stop it.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # no signal arrives here
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


class RemoteOffice:
    """Works through the server that holds the directory."""

    def __init__(self, server: Presence) -> None:
        self._server = server

    def work(self, task: Task, watch: Watch) -> Ended:
        path = ""
        try:
            with _interrupt_held_back() as was_interrupted:
                started = self._decoded(self._ask("POST", task.path, task.body), Ended)
                path = f"/api/v1/operations/{started.id}"
            if was_interrupted():
                raise KeyboardInterrupt
            return self._wait(started, path, watch)
        except KeyboardInterrupt:
            if path:  # else it was interrupted twice before anything was known of it
                self._ask("DELETE", path)
            raise

    def collection_status(self) -> tuple[CollectionStatus, Ended | None]:
        from store.gc import CollectionStatus

        class Answer(msgspec.Struct):
            quarantine: msgspec.Raw
            operation: Ended | None

        answer = self._decoded(self._ask("GET", "/api/v1/gc"), Answer)
        return self._decoded(bytes(answer.quarantine), CollectionStatus), answer.operation

    def confirm_collection(self) -> None:
        self._ask("POST", "/api/v1/gc/confirm")

    def read(self, path: str, kind: type[T], *, seconds: float = ANSWER_SECONDS) -> T:
        """What the server answers to a GET, within so many seconds."""
        return self._decoded(self._ask("GET", path, seconds=seconds), kind)

    def fetch(self, path: str, write: Callable[[bytes], object]) -> None:
        """Hand on what the server answers to a GET, piece by piece as it comes."""
        with self._asked("GET", path, None, ANSWER_SECONDS) as answer:
            while piece := answer.read(PIECE_BYTES):
                write(piece)

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """What the server answers to a short request that is not a GET."""
        return self._ask(method, path, body)

    def _wait(self, started: Ended, path: str, watch: Watch) -> Ended:
        operation, heard = started, time.monotonic()
        while operation.state == "running":
            watch(operation.progress)
            time.sleep(POLL_SECONDS)
            try:
                operation = self._decoded(self._ask("GET", path), Ended)
                heard = time.monotonic()
            except ServerSilent:
                if time.monotonic() - heard > PATIENCE_SECONDS:
                    raise
        watch(operation.progress)
        return operation

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> bytes:
        with self._asked(method, path, body, seconds) as answer:
            return answer.read()

    @contextmanager
    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The server's answer, whose content is still to be read."""
        headers = {"Authorization": authorization(self._server.secret)}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        try:
            with closing(connect(self._server, seconds)) as connection:
                connection.request(method, path, body=content, headers=headers)
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise CommandError(*_problem(answer.status, answer.read()))
                yield answer
        except (OSError, http.client.HTTPException) as error:
            raise ServerSilent(
                f"the server at {self._server.url} does not answer: {error}"
            ) from error

    def _decoded(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise CommandError(
                f"{self._server.url} does not answer like digestry: {error}", FAILED
            ) from error


class ServerSilent(CommandError):
    """The server holds the directory but cannot be reached, for the moment or for good."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, FAILED)


class _Problem(msgspec.Struct):
    detail: str = ""


def _problem(status: int, content: bytes) -> tuple[str, int]:
    """What the server said against it, and the exit code that means."""
    try:
        detail = msgspec.json.decode(content, type=_Problem).detail
    except msgspec.DecodeError:
        detail = ""
    return detail or f"the server answered {status}", FAILED if status >= 500 else REFUSED


def _ended(operation: Operation) -> Ended:
    return Ended(
        id=operation.id,
        group=operation.group,
        verb=operation.verb,
        state=operation.state,
        findings=operation.findings,
        report=operation.report,
        failure=operation.failure,
        progress=operation.progress,
    )
