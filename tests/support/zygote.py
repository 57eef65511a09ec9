"""A process that has imported the product and forks one that runs a command, whenever it is asked.

Three quarters of what a short command or a server's start costs is importing. `python -m
tests.support.zygote FD` imports once and then waits on a socket: for each request it forks a
process that has the streams, the environment, the directory and the arguments of the request, and
that goes through ``registry.__main__`` to its end like any other.

**A fork is a start.** Nothing must be open, running or remembered that a fresh interpreter would
not have: one thread, no descriptor but the streams and the socket, nobody who keeps a stream. That
is checked before the first request. What is fixed when an interpreter starts (its encodings, its
allocator, its path, its seeds) is the same in all, so who wants it otherwise starts a real process:
`tests.support.servers.start_digestry` sees to that.

**Whose child.** The forked process is the child of who asked, so that waiting, statuses and signals
are the usual ones: it is a grandchild of this one, its parent ends at once, and it falls to the
next ancestor that takes orphans in, which who asks is for that moment.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO, TypeAlias

LONGEST_REQUEST: Final = 1 << 18
STREAMS: Final = ("stdin", "stdout", "stderr")
ALSO: Final = ("alembic.command", "argon2", "rich.console", "rich.progress", "rich.table")
"""What the product imports inside functions and most who start it come to."""

Holder: TypeAlias = tuple[dict[str, Any], str, str]
"""The names of a module, one of them, and which stream it is."""


def main(descriptor: int) -> None:
    """Import everything, then serve requests until who asks is gone."""
    with socket.socket(fileno=descriptor) as asked:
        _import_the_product()
        _check_that_nothing_has_begun(descriptor)
        holders = _holders_of_streams()
        gc.collect()
        gc.freeze()  # no child's collection walks through, and copies, what is here to stay
        asked.send(b"ready")
        while True:
            request, descriptors, _, _ = socket.recv_fds(asked, LONGEST_REQUEST, len(STREAMS))
            if not request:
                return
            pid = _fork_twice()
            if pid == 0:
                break
            for each in descriptors:
                os.close(each)
            asked.send(str(pid).encode())
    _become(json.loads(request), descriptors, holders)


def _import_the_product() -> None:
    from registry.cli.imports import terminal_libraries_hidden

    with terminal_libraries_hidden():  # as a worker does
        importlib.import_module("registry.cli.worker")
    cli = importlib.import_module("registry.cli")
    for module in pkgutil.iter_modules(cli.__path__, "registry.cli."):
        importlib.import_module(module.name)
    for name in ALSO:
        importlib.import_module(name)
    os.register_at_fork(after_in_child=_choose_how_numbers_are_kept)


def _check_that_nothing_has_begun(descriptor: int) -> None:
    assert len(os.listdir("/proc/self/task")) == 1, "threads do not live through a fork"
    listed = os.listdir("/proc/self/fd")  # and the descriptor that lists, which is closed by now
    opened = {int(name) for name in listed if os.path.lexists(f"/proc/self/fd/{name}")}
    assert opened == {0, 1, 2, descriptor}, f"open before anybody asked: {opened}"


def _holders_of_streams() -> list[Holder]:
    """Where modules keep a stream; nothing else may, since a child's streams are others."""
    found = []
    for name in STREAMS:
        stream = getattr(sys, name)
        for holder in gc.get_referrers(stream):
            if type(holder) is dict and "__name__" in holder:
                for key, value in holder.items():
                    if value is stream:
                        found.append((holder, key, name))
            else:
                kind = type(holder).__name__  # threads look at theirs where there is no other
                assert kind in ("frame", "_MainThread"), f"a {kind} keeps {name}"
    return found


def _choose_how_numbers_are_kept() -> None:
    """Prometheus' library does so when it is imported, which in a worker is after the fork."""
    from prometheus_client import values

    values.ValueClass = values.get_value_class()


def _fork_twice() -> int:
    """The process id of the grandchild, once its parent has ended; 0 in the grandchild."""
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(told)
        second = os.fork()
        if second:
            os.write(tell, str(second).encode())
            os._exit(0)
        os.close(tell)
        return 0
    os.close(tell)
    try:
        os.waitpid(first, 0)
        return int(os.read(told, 32))
    finally:
        os.close(told)


def _become(
    request: Mapping[str, Any], descriptors: Sequence[int], holders: Sequence[Holder]
) -> None:
    """Be the command of the request from here on."""
    for stream, descriptor in enumerate(descriptors):
        os.dup2(descriptor, stream)  # inherited by what it starts, as streams are
        os.close(descriptor)
    os.chdir(request["cwd"])
    coerced = {name: value for name, value in os.environ.items() if name == "LC_CTYPE"}
    os.environ.clear()
    os.environ.update({**coerced, **request["env"]})
    time.tzset()
    if request["is_session"]:
        os.setsid()
    _open_streams(holders)
    sys.path[0] = os.getcwd()
    sys.argv = ["-m", *request["args"]]
    sys.orig_argv = [sys.executable, "-m", "registry", *request["args"]]
    try:
        runpy.run_module("registry", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if type(ended.code) is int:
            _end(ended.code)
        raise


def _end(code: int) -> None:
    """What the end of an interpreter does for others; what it does in memory, the kernel does.

    Taking down hundreds of modules would first copy each page of them.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the end does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _open_streams(holders: Sequence[Holder]) -> None:
    """Streams as an interpreter makes them when it starts, for what is at their descriptors now."""
    for descriptor, name in enumerate(STREAMS):
        before: TextIO = getattr(sys, name)
        is_by_lines = os.isatty(descriptor) or name == "stderr"
        stream = open(  # noqa: SIM115  # open for as long as the process
            descriptor,
            "r" if name == "stdin" else "w",
            buffering=1 if is_by_lines else -1,
            encoding=before.encoding,
            errors=before.errors,
            newline="\n",
            closefd=False,
        )
        for holder, key, kept in holders:
            if kept == name:
                holder[key] = stream


if __name__ == "__main__":
    main(int(sys.argv[1]))
