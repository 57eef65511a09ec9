"""Rounds of: fork some processes, kill them, have a fresh one judge what they left.

A *life* is some rounds on one directory; then everything is put in order and the next begins with
an empty one. What was counted is kept in the folder, so that another run goes on from there.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import secrets
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from registry.catalog.migrations import CHAINS
from store.opening import initialize
from tests.support.torture import copies, publishers
from tests.support.torture.dying import Fuse
from tests.support.torture.facts import Log, facts_in
from tests.support.torture.judge import Judge, judge_backups, judge_restores
from tests.support.torture.workers import Housekeeper, Task, opened, work

LIFE_ROUNDS: Final = 12
TASKS: Final = 3
MOST_SECONDS: Final = 0.35
MOST_MOMENTS: Final = 900
AIMED_SECONDS: Final = 1.0
"""How long a process may take to come to the operation at which it dies."""

FIRST_SECONDS: Final = 1.0
STUCK_SECONDS: Final = 100

Play = Callable[[Fuse], None]


class Tally(msgspec.Struct):
    """How much was done; kept in the folder."""

    points: int = 0
    aimed: int = 0
    """Of these, at a chosen operation rather than a random moment."""
    victims: dict[str, int] = {}
    restarts: int = 0
    lives: int = 0
    facts: int = 0
    seconds: float = 0.0
    seed: int = 0
    failure: str = ""

    def table(self) -> str:
        killed = "".join(
            f"\n  {what:<20}{count:>8}" for what, count in sorted(self.victims.items())
        )
        return (
            f"kill points {self.points:>18}{killed}\n"
            f"at a chosen operation {self.aimed:>8}\n"
            f"restarts judged {self.restarts:>14}\n"
            f"directories {self.lives:>18}\n"
            f"facts acknowledged {self.facts:>11}\n"
            f"seconds {self.seconds:>22.0f}\n"
            f"seed {self.seed:>25}\n" + (self.failure or "nothing was lost")
        )


class Failed(Exception):
    """A child that did not die of its kill, or a judge that found something."""


def torture(folder: Path, *, points: int, seconds: float, seed: int | None = None) -> Tally:
    """Kill so many processes in all, or as many as there is time for. Blocking; forks."""
    kept = folder / "tally.json"
    tally = msgspec.json.decode(kept.read_bytes(), type=Tally) if kept.exists() else Tally()
    tally.seed = secrets.randbelow(1 << 32) if seed is None else seed
    chance = random.Random(tally.seed)
    deadline = time.monotonic() + seconds
    while tally.points < points and time.monotonic() < deadline and not tally.failure:
        began = time.monotonic()
        life = Life(folder / f"life-{tally.lives}", tally, chance)
        try:
            life.live(points, deadline)
        except Failed as failure:
            tally.failure = f"life {tally.lives}: {failure}"
        else:
            shutil.rmtree(life.folder)
        tally.lives += 1
        tally.seconds += time.monotonic() - began
        kept.write_bytes(msgspec.json.encode(tally))
    return tally


class Life:
    """One directory, and the rounds on it."""

    def __init__(self, folder: Path, tally: Tally, chance: random.Random) -> None:
        self.folder = folder
        self._root = folder / "data"
        self._target = folder / "backup"
        self._tally = tally
        self._chance = chance
        self._round = 0

    def live(self, points: int, deadline: float) -> None:
        self._root.mkdir(parents=True)
        self._ask(self._prepare)
        while self._round < LIFE_ROUNDS:
            self._round += 1
            is_last = (
                self._round == LIFE_ROUNDS
                or self._tally.points >= points
                or time.monotonic() > deadline
            )
            self._kill(self._round_of_something())
            self._ask(partial(self._judge, puts_in_order=is_last or self._chance.random() < 0.3))
            self._tally.restarts += 1
            if is_last:
                break
        self._tally.facts += sum(1 for _ in facts_in(self.folder))

    # The processes of a round.

    def _round_of_something(self) -> dict[str, Play]:
        kind = self._chance.random()
        if kind < 0.65:
            return {"worker that leads": self._leader, "worker": self._worker}
        if kind < 0.85 or not self._has_backup():
            return {"worker that leads": self._leader, "backup": self._back_up}
        return {"restore": self._restore}

    def _has_backup(self) -> bool:
        return any(fact.kind == "backed up" for fact in facts_in(self.folder))

    def _leader(self, fuse: Fuse) -> None:
        asyncio.run(self._work(fuse, leads=True))

    def _worker(self, fuse: Fuse) -> None:
        asyncio.run(self._work(fuse, leads=False))

    async def _work(self, fuse: Fuse, *, leads: bool) -> None:
        name = f"{self._round:03}-{int(leads)}"
        store = await opened(self._root, self._round, fuse)
        log = self._log(name)
        chance = random.Random(f"{self._tally.seed} {self._tally.lives} {name}")
        works: list[Awaitable[None]] = [
            Task(store, log, f"{name}-{number}", chance).run() for number in range(TASKS)
        ]
        works += [
            publishers.Publisher(store, log, f"{name}-{space}", chance, namespace=space).run()
            for space in (publishers.KEPT, publishers.RETAINED)
        ]
        if leads:
            works.append(Housekeeper(store, chance).run())
        await work(store, works)

    def _back_up(self, fuse: Fuse) -> None:
        async def run() -> None:
            store = await opened(self._root, self._round, Fuse(None))
            log = self._log(f"{self._round:03}-backup")
            await work(store, [copies.back_up(store, log, self._target, fuse)])

        asyncio.run(run())

    def _restore(self, fuse: Fuse) -> None:
        log = self._log(f"{self._round:03}-restore")
        copies.restore(self.folder, log, self._target, fuse, random.Random())

    def _log(self, name: str) -> Log:
        return Log(self.folder / f"facts-{name}")

    # What is run to its end.

    def _prepare(self) -> None:
        initialize(self._root, CHAINS)

        async def run() -> None:
            store = await opened(self._root, 0, Fuse(None))
            await publishers.prepare(store)
            await store.close()

        asyncio.run(run())

    def _judge(self, *, puts_in_order: bool) -> None:
        judge = Judge(self.folder, self._round, self._log(f"{self._round:03}-judge"))
        asyncio.run(judge.judge(puts_in_order=puts_in_order))
        if self._target.exists():
            judge_backups(self.folder, self._target)
            asyncio.run(judge_restores(self.folder, self._target, self._round))

    # Forking and killing.

    def _kill(self, plays: dict[str, Play]) -> None:
        aimed = {what for what in plays if self._chance.random() < 0.5}
        children = {}
        for what, play in plays.items():
            moments = int(MOST_MOMENTS ** self._chance.random()) if what in aimed else None
            children[what] = self._fork(what, partial(play, Fuse(moments)))
        if self._chance.random() < 0.9:  # the others die while they open the store
            self._wait_for_facts()
        for what, pid in self._chance.sample(list(children.items()), len(children)):
            status = self._death(pid, AIMED_SECONDS if what in aimed else 0.0)
            if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
                self._end(children, f"the {what} gave up")
            self._tally.points += 1
            self._tally.aimed += what in aimed
            self._tally.victims[what] = self._tally.victims.get(what, 0) + 1

    def _wait_for_facts(self) -> None:
        """Until somebody has acknowledged something, or has died before."""
        deadline = time.monotonic() + FIRST_SECONDS
        while time.monotonic() < deadline:
            logs = self.folder.glob(f"facts-{self._round:03}-*")
            if any(log.stat().st_size for log in logs):
                return
            time.sleep(0.005)

    def _death(self, pid: int, grace_seconds: float) -> int:
        """Let a process work for a moment, or until it dies by itself; how it ended."""
        deadline = time.monotonic() + max(grace_seconds, self._chance.uniform(0, MOST_SECONDS))
        while time.monotonic() < deadline:
            dead, status = os.waitpid(pid, os.WNOHANG)
            if dead:
                return status
            time.sleep(0.003)
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    def _ask(self, work: Callable[[], None]) -> None:
        """Run something in a process of its own and wait for it."""
        _, status = os.waitpid(self._fork("judge", work), 0)
        if status != 0:
            self._end({}, "the judge objects")

    def _fork(self, what: str, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            errors = (self.folder / f"said-{self._round:03}-{what}").open("wb", buffering=0)
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True, file=errors)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end(self, children: dict[str, int], reason: str) -> None:
        """Leave nobody behind, and raise with what was said in this round."""
        for pid in children.values():
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        said = [
            f"{path.name}:\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.folder.glob(f"said-{self._round:03}-*"))
        ]
        raise Failed("\n".join([f"round {self._round}: {reason}", *said]))
