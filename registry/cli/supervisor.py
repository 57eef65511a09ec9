"""Keeps workers running, and ends them together without cutting a request short.

The supervisor does no work of the server's and therefore has next to nothing that can fail: it
imports the standard library only, runs one thread, holds no database handle and waits for signals,
for deaths and for what workers say over their channel.

**Channel.** One socket pair per worker, one line per message.
The worker says ``ready``, ``stopped`` (it accepts no more) and, if it cannot start for a reason
that trying again will not change, ``refused <reason>``.
The supervisor says ``stop`` (accept no more), ``close`` (finish what is in hand and end), ``abort``
(end at once) and ``ping``, to which the worker says ``alive``. If the supervisor dies, the channel
ends and the worker ends at once, because a successor is waiting for the directory and the port.

**Drain.** ``stop`` goes to all workers first, and only when each has answered or died is the
listening socket closed and ``close`` sent: otherwise a new connection could still reach a worker
that stays a moment longer, or be lost between two. A second signal sends ``abort``. Whoever has not
ended some seconds after its time is killed.

**Start.** The first worker starts alone and the others when it is ready: together they would all
be ready later, and a fault would be told as many times as there are workers.

**Deaths.** A worker that dies is replaced at once, then with growing pauses. Workers that keep
dying before they were ready, or right after, end the server with a loud message: restarting for
ever would hide the fault. A worker killed from outside after it was ready counts for nothing.

**Hanging.** A worker whose event loop does not turn answers nobody, and if it stands still inside a
transaction nobody else can write. One that leaves a ``ping`` unanswered for `hang_seconds` is
killed, and replaced like any that died. Those seconds are counted in a few looks: where the whole
machine stood still, the clock went on without the worker, and that is one look at most.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from registry.cli.exits import CLEAN, FAILED, REFUSED
from registry.cli.journal import log

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
SHORT_LIFE_SECONDS: Final = 1.0
SHORT_LIVES: Final = 6
"""So many in a row, and we give up."""
FIRST_LIVES: Final = 3
"""The same while no worker has ever been ready: that is no accident but a fault."""
HANG_LOOKS: Final = 4
"""In so many parts `hang_seconds` must pass, each seen by itself, before a worker is killed."""
STOP_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 5.0

Work = Callable[[socket.socket], int]
"""Runs a worker, on its end of a channel, to its end; returns its exit code."""


class Exit(NamedTuple):
    """How the server ended: exit code, and what to tell the person who started it."""

    code: int
    sentence: str = ""


class _Worker:
    def __init__(self, slot: int, pid: int, channel: socket.socket) -> None:
        self.slot = slot
        self.pid = pid
        self.channel = channel
        self.started = time.monotonic()
        self.ready_at: float | None = None
        self.has_stopped = False
        self.refusal = ""
        self.ask_at = 0.0
        self.asked_at: float | None = None
        """When it was asked, or looked at since, while it has not answered."""
        self.looks = 0
        self.tells = 0
        self._unread = b""

    def say(self, word: str) -> None:
        try:
            self.channel.send(word.encode() + b"\n")
        except OSError:
            return  # It is dead or dying; its death is noticed elsewhere.

    def lines(self) -> list[str]:
        """Complete lines that have arrived; none when the channel has ended."""
        try:
            received = self.channel.recv(4096)
        except OSError:
            received = b""
        *whole, self._unread = (self._unread + received).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]


class Supervisor:
    """Runs `count` workers until a signal; `run` is the whole life of the process."""

    def __init__(
        self,
        work: Work,
        count: int,
        *,
        listener: socket.socket,
        drain_seconds: float,
        hang_seconds: float,
        on_ready: Callable[[], None],
    ) -> None:
        self._work = work
        self._count = count
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._hang_seconds = hang_seconds
        self._on_ready = on_ready
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}
        self._short_lives: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._phase = "running"
        self._deadline: float | None = None
        self._was_ready = False
        self._exit = Exit(CLEAN)
        self.replaced = 0
        """Workers that were replaced; a worker reads what it was at its own start."""
        self.untold = 0
        """Those of them that no worker has been started to count."""

    def run(self) -> Exit:
        """Start the workers, keep them, and return when the last one has ended."""
        self._watch_signals()
        self._start(0)
        while self._workers or self._phase == "running":
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self._woken:
                    self._take_signals()
                else:
                    self._hear(key.data)
            self._bury()
            self._question()
            self._start_due()
            self._advance()
        self._listener.close()
        self._let_go()
        return self._exit

    # Signals.

    def _watch_signals(self) -> None:
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, _do_nothing)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def _let_go(self) -> None:
        """Give signals their usual meaning back and close what woke us."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _take_signals(self) -> None:
        try:
            numbers = self._woken.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._end(Exit(CLEAN))

    # Workers.

    def _start(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            ours.close()
            self._forget()
            _become_worker(self._work, theirs)
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(slot, pid, ours)
        worker.tells, self.untold = self.untold, 0
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _forget(self) -> None:
        """In a new worker: let go of what is the supervisor's, the channels of others above all.

        A worker that held them would keep its siblings from noticing the supervisor's death.
        """
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._woken.close()
        for worker in self._workers.values():
            worker.channel.close()

    def _hear(self, worker: _Worker) -> None:
        lines = worker.lines()
        if not lines and worker.channel.fileno() in self._selector.get_map():
            # Ended: the process is dying; `_bury` collects it when the kernel says so.
            self._selector.unregister(worker.channel)
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "ready":
                self._on_worker_ready(worker)
            elif word == "alive":
                worker.asked_at = None
                worker.ask_at = time.monotonic() + self._hang_seconds / 2
            elif word == "stopped":
                worker.has_stopped = True
            elif word == "refused":
                worker.refusal = rest

    def _on_worker_ready(self, worker: _Worker) -> None:
        worker.ready_at = time.monotonic()
        if not self._was_ready:
            self._was_ready = True
            self._on_ready()
            self._due.update(dict.fromkeys(range(1, self._count), 0.0))

    def _question(self) -> None:
        """Ask each worker whether its event loop still turns; kill the one that does not say so."""
        if not self._hang_seconds or self._phase != "running":
            return
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.asked_at is None:
                if worker.ready_at is not None and now >= worker.ask_at:
                    worker.asked_at, worker.looks = now, 0
                    worker.say("ping")
            elif now - worker.asked_at >= self._hang_seconds / HANG_LOOKS:
                worker.asked_at = now
                worker.looks += 1
                if worker.looks == HANG_LOOKS:
                    log("error", "worker hangs", worker=worker.pid, seconds=self._hang_seconds)
                    os.kill(worker.pid, signal.SIGKILL)  # its death is on its way

    def _bury(self) -> None:
        while self._workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid, status = 0, 0
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._on_death(worker, os.waitstatus_to_exitcode(status))

    def _on_death(self, worker: _Worker, code: int) -> None:
        if worker.channel.fileno() in self._selector.get_map():
            self._hear(worker)  # its last words
        if worker.channel.fileno() in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
        if self._phase != "running":
            return
        if worker.refusal and not self._was_ready:
            self._end(Exit(REFUSED, worker.refusal), at_once=True)
            return
        self._replace(worker, code)

    def _replace(self, worker: _Worker, code: int) -> None:
        now = time.monotonic()
        ready = worker.ready_at
        self.replaced += 1
        self.untold += 1 if ready is not None else 1 + worker.tells
        lived = ready is not None and (code == -signal.SIGKILL or now - ready > SHORT_LIFE_SECONDS)
        short = 0 if lived else self._short_lives.get(worker.slot, 0) + 1
        self._short_lives[worker.slot] = short
        log("error", "worker died", worker=worker.pid, code=code, reason=worker.refusal or None)
        if short >= (SHORT_LIVES if self._was_ready else FIRST_LIVES):
            self._end(Exit(FAILED, f"workers die again and again ({short} times); giving up"))
            return
        pause = 0.0 if short < 2 else FIRST_PAUSE_SECONDS * 2 ** (short - 2)
        self._due[worker.slot] = now + min(pause, LONGEST_PAUSE_SECONDS)

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            del self._due[slot]
            try:
                self._start(slot)
            except OSError as error:  # no process or descriptor left for now; others serve on
                log("error", "cannot start a worker", reason=str(error))
                self._due[slot] = now + LONGEST_PAUSE_SECONDS

    # The end.

    def _end(self, outcome: Exit, *, at_once: bool = False) -> None:
        """Begin to drain, or hurry if that has begun."""
        if self._phase == "running":
            self._exit = outcome
            self._due.clear()
            self._phase = "stopping"
            self._deadline = time.monotonic() + STOP_SECONDS
            self._say_to_all("stop")
            if not at_once:
                log("info", "draining", workers=len(self._workers), seconds=self._drain_seconds)
                return
        if self._phase != "aborting":
            self._phase = "aborting"
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._listener.close()
            self._say_to_all("abort")

    def _advance(self) -> None:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if self._phase == "stopping":
            if late or all(worker.has_stopped for worker in self._workers.values()):
                self._phase = "closing"
                self._deadline = time.monotonic() + self._drain_seconds + GRACE_SECONDS
                self._listener.close()
                self._say_to_all("close")
        elif late:
            for worker in self._workers.values():
                log("error", "worker did not end in time", worker=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
            self._deadline = None

    def _say_to_all(self, word: str) -> None:
        for worker in self._workers.values():
            worker.say(word)

    def _patience(self) -> float | None:
        """How long nothing needs doing unless something happens."""
        moments = [*self._due.values()]
        if self._hang_seconds and self._phase == "running":
            for worker in self._workers.values():
                if worker.asked_at is not None:
                    moments.append(worker.asked_at + self._hang_seconds / HANG_LOOKS)
                elif worker.ready_at is not None:
                    moments.append(worker.ask_at)
        if self._deadline is not None:
            moments.append(self._deadline)
        return max(0.0, min(moments) - time.monotonic()) if moments else None


def _become_worker(work: Work, channel: socket.socket) -> None:
    """Run the worker in this forked process and never return."""
    code = FAILED
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Ctrl-C reaches the whole terminal; only the supervisor acts on it. SIGTERM is for one
        # worker until its event loop takes it over.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = work(channel)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _do_nothing(*_: object) -> None:
    """Being here makes the signal write to the wake-up socket instead of ending the process."""
