"""Work that is put off: once for many wishes, never twice at once, nothing behind its end."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from registry.services.later import Later

NEVER_SECONDS = 3600.0


class Work:
    """Waits at a gate and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.begun += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        if self.error is not None:
            raise self.error


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def begun(work: Work, count: int) -> None:
    async with asyncio.timeout(60):
        while work.begun < count:
            await asyncio.sleep(0)


async def test_many_wishes_are_one_run_after_the_time_of_the_first() -> None:
    work, loop, delays = Work(), asyncio.get_running_loop(), list[float]()
    later = Later(work)
    with pytest.MonkeyPatch.context() as patch:
        call_later = loop.call_later

        def noting(delay: float, *arguments: object) -> asyncio.TimerHandle:
            delays.append(delay)
            return call_later(0, *arguments)  # type: ignore[arg-type]  # passed on as it came

        patch.setattr(loop, "call_later", noting)
        for seconds in (2.0, 1.0, 3.0):
            later.want(seconds)
        await begun(work, 1)
    await later.settle()

    assert delays == [2.0]
    assert work.begun == 1


async def test_who_hurries_waits_for_no_time() -> None:
    work = Work()
    later = Later(work)
    later.want(NEVER_SECONDS)
    later.hurry()
    await turns()

    assert work.begun == 1
    later.want(0)
    await begun(work, 2)


@pytest.mark.parametrize("how", ["hurry", "want"])
async def test_what_is_wanted_while_it_runs_follows_and_never_runs_beside_it(how: str) -> None:
    work = Work()
    later = Later(work)
    work.gate.clear()
    later.hurry()
    await begun(work, 1)
    for _ in range(3):
        if how == "hurry":
            later.hurry()
        else:
            later.want(0)
        await turns()
    assert work.begun == 1
    work.gate.set()
    await begun(work, 2)
    await later.settle()
    await turns()

    assert (work.begun, work.most_at_once) == (2, 1)


async def test_what_was_put_off_is_not_hurried() -> None:
    work = Work()
    later = Later(work)
    work.gate.clear()
    later.hurry()
    await begun(work, 1)
    later.hurry()
    later.put_off(NEVER_SECONDS)
    work.gate.set()
    later.hurry()
    later.want(0)
    await turns()
    assert work.begun == 1

    later.put_off(0)
    await begun(work, 2)
    later.hurry()
    await begun(work, 3)


async def test_what_fails_is_logged_and_may_be_wanted_again() -> None:
    work = Work()
    later = Later(work)
    work.error = ZeroDivisionError("a fault of ours")
    with capture_logs() as logged:
        later.hurry()
        await begun(work, 1)
        await later.settle()
        later.want(0)
        await begun(work, 2)
        await later.settle()

    assert [line["exc_info"] for line in logged] == [True, True]


async def test_settling_waits_for_what_follows_too() -> None:
    work = Work()
    later = Later(work)
    later.hurry()
    later.hurry()
    await later.settle()

    assert (work.begun, work.at_once) == (2, 0)


async def test_nothing_begins_behind_the_end() -> None:
    work = Work()
    later = Later(work)
    work.gate.clear()
    later.hurry()
    await begun(work, 1)
    later.hurry()
    later.want(0)
    ending = asyncio.create_task(later.end())
    await turns()
    assert not ending.done(), "what runs comes to its end"
    work.gate.set()
    await ending
    later.want(0)
    later.put_off(0)
    later.hurry()
    await turns()

    assert (work.begun, work.at_once) == (1, 0)
