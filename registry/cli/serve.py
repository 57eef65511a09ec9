"""``digestry serve``: everything from the command line to the first worker.

The order is the order of refusals, cheapest and clearest first: settings, file limit, data
directory, port, index. Nothing is written into a directory that is not ours, and no worker is
started before the port is proved free.

This module and what it imports are the start-up budget of the supervisor: the standard library and
msgspec only. Whatever needs more runs in a forked child.
"""

from __future__ import annotations

import gc
import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec

from registry.cli import directory, journal, presence
from registry.cli.counters import shared_counters
from registry.cli.exits import CLEAN, FAILED, REFUSED, CommandError, complain
from registry.cli.flags import ServeFlags
from registry.cli.journal import log
from registry.cli.listening import listen, url_of
from registry.cli.schema import is_current, prepare
from registry.cli.supervisor import Exit, Supervisor
from registry.config import ADMIN_TOKEN_FILE, Config, ConfigError, load

LEAST_FILES: Final = 128
"""Descriptors below which a server could not even import what it needs."""


class Assignment(msgspec.Struct, frozen=True):
    """What a worker is told by the supervisor it was forked from."""

    config: Config
    listener: socket.socket
    url: str
    secret: str
    restarts: int = 0
    """Workers that were replaced and that this one counts."""


def serve(flags: ServeFlags) -> int:
    """Run a server until it is asked to end; return the exit code."""
    try:
        return _serve(_configure(flags))
    except CommandError as error:
        complain(error)
        return error.code


def _configure(flags: ServeFlags) -> Config:
    try:
        return load(
            flags.config,
            os.environ,
            {
                "server.host": flags.host,
                "server.port": flags.port,
                "server.workers": flags.workers,
                "store.data": flags.data,
            },
        )
    except ConfigError as error:
        raise CommandError(str(error)) from error


def _serve(config: Config) -> int:
    journal.configure(config.log.level)
    raise_file_limit()
    if config.store.backend == "memory":
        return _conclude(_run(config, None))
    claimed = directory.claim(Path(config.store.data).resolve(), create=True)
    try:
        return _conclude(_run_prepared(config, claimed.root))
    finally:
        claimed.release()


def _run_prepared(config: Config, data: Path) -> Exit:
    """Run on a directory that is prepared only if it has to be.

    A directory that looks current may still be refused by the workers: an index from a backup is of
    another epoch. Preparing puts that right, or says what is wrong.
    """
    listen(config.server.host, config.server.port).close()
    was_current = is_current(data)
    if not was_current:
        _prepare(data)
    outcome = _run(config, data)
    if was_current and outcome.code == REFUSED:
        _prepare(data)
        outcome = _run(config, data)
    return outcome


def _prepare(data: Path) -> None:
    log("info", "preparing the data directory", data=str(data))
    code = run_apart(lambda: _prepare_here(data))
    if code != CLEAN:
        raise CommandError(f"{data} could not be prepared", code if code > 0 else FAILED)


def _prepare_here(data: Path) -> None:
    done = prepare(data)
    if done.copy is not None:
        log("info", "upgraded the index", before=done.before, after=done.after, copy=str(done.copy))


def _run(config: Config, data: Path | None) -> Exit:
    server = config.server
    listener = listen(server.host, server.port)
    url = url_of(listener, server.host, is_secure=bool(server.tls_certificate))
    secret = presence.new_secret()
    assignment = Assignment(config, listener, url, secret)
    is_shared = server.workers > 1

    def work(channel: socket.socket) -> int:
        # With several each worker counts its own share; one alone forgets what went before.
        restarts = supervisor.untold if is_shared else supervisor.replaced
        return _work(msgspec.structs.replace(assignment, restarts=restarts), channel)

    supervisor = Supervisor(
        work,
        server.workers,
        listener=listener,
        drain_seconds=server.drain_seconds,
        hang_seconds=server.hang_seconds,
        on_ready=lambda: _greet(config, url),
    )
    try:
        if data is not None:
            certificate = server.tls_certificate and str(Path(server.tls_certificate).resolve())
            presence.announce(data, presence.Presence(os.getpid(), url, secret, certificate))
        with shared_counters() if is_shared else nullcontext():
            return supervisor.run()
    except OSError as error:
        raise CommandError(f"cannot start: {error}", FAILED) from error
    finally:
        if data is not None:
            presence.withdraw(data)


def _conclude(outcome: Exit) -> int:
    if outcome.sentence:
        complain(outcome.sentence)
    else:
        log("info", "ended")
    return outcome.code


def _work(assignment: Assignment, channel: socket.socket) -> int:
    gc.disable()  # a sixth of what imports take is looking for garbage; `work` turns it on again
    from registry.cli.imports import certificates_unread, hide_terminal_libraries

    hide_terminal_libraries()
    with certificates_unread():
        from registry.cli.worker import work

    return work(assignment, channel)


def _greet(config: Config, url: str) -> None:
    """The one line for the person who typed the command; the log goes to the error stream."""
    where = "memory" if config.store.backend == "memory" else config.store.data
    print(
        f"digestry serves {where} at {url} - try: {first_try(config, url)}",
        file=sys.stdout,
        flush=True,
    )


def first_try(config: Config, url: str) -> str:
    """What works at once; of the first administrator's token only the path is told."""
    if config.auth.mode == "open":
        return f"curl -T model.safetensors {url}/blobs/"
    login, token = f"digestry login {url}", Path(config.store.data) / ADMIN_TOKEN_FILE
    return f"{login} --token-stdin < {shlex.quote(str(token))}" if token.exists() else login


def raise_file_limit() -> None:
    """Take as many descriptors as the hard limit gives: connections and open blobs need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS refuses what it calls infinity
            hard = soft
    if hard != resource.RLIM_INFINITY and hard < LEAST_FILES:
        raise CommandError(
            f"this process may open only {hard} files; raise the limit (ulimit -n) to at least "
            f"{LEAST_FILES}, better 65536"
        )


def run_apart(function: Callable[[], None]) -> int:
    """Run `function` in a forked child; return its exit code, its complaint is printed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = FAILED
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        function()
        code = CLEAN
    except CommandError as error:
        complain(error)
        code = error.code
    except Exception as error:
        complain(error)
        code = _code_of(error)
    finally:
        os._exit(code)


def _code_of(error: Exception) -> int:
    from store.errors import StoreRefused

    return REFUSED if isinstance(error, StoreRefused | OSError) else FAILED
