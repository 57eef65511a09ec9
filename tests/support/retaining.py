"""Short words for what tests of retention do to a registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.builders import Answer, Registry
from tests.support.clock import ManualClock
from tests.support.serving import opened, serving

RETENTION = "/api/v1/retention"
POLICIES = RETENTION + "/policies"
PLANS = RETENTION + "/plans"

DAY = 86400


class Retained(Registry):
    """A registry whose time the test holds."""

    clock: ManualClock


@asynccontextmanager
async def retained(root: Path, clock: ManualClock, **settings: Any) -> AsyncIterator[Retained]:
    async with opened(root, clock=clock, **settings) as store, serving(store) as site:
        registry = Retained(site)
        registry.clock = clock
        yield registry


async def policy(registry: Registry, **said: Any) -> Any:
    """A policy; of bert, that retires at once and purges after a day, unless said otherwise."""
    wish = {"model": "bert", "keep_last": 1, "retire_after_days": 0, "purge_after_days": 1, **said}
    wish = {name: value for name, value in wish.items() if value is not None}
    answer = await registry.send("POST", POLICIES, json=wish)
    assert answer.status == 201, answer.body
    return answer.json


async def ended(registry: Registry, started: Answer) -> Any:
    """The operation that was started, once it has ended."""
    assert started.status == 202, started.body
    url = started.json["url"]
    async with asyncio.timeout(20):
        while (found := (await registry.get(url)).json)["state"] == "running":
            await asyncio.sleep(0.002)
    return found


async def planned(registry: Registry, **target: str) -> Any:
    """A plan, of bert unless said otherwise; `every=True` is of everything."""
    body = target or {"model": "bert"}
    if body.get("every"):
        body = {}
    operation = await ended(registry, await registry.send("POST", PLANS, json=body))
    assert operation["state"] == "succeeded", operation
    answer = await registry.get(f"{PLANS}/{operation['report']['plan']}")
    assert answer.status == 200, answer.body
    return answer.json


async def lines(registry: Registry, plan: Any, query: str = "") -> list[Any]:
    answer = await registry.get(f"{PLANS}/{plan['id']}/lines?limit=1000{query}")
    assert answer.status == 200, answer.body
    found: list[Any] = answer.json["items"]
    return found


async def verdicts(registry: Registry, plan: Any) -> dict[int, str]:
    """What a plan says of each version, by number: the action and the names of the rules."""
    return {
        one["number"]: " ".join([one["action"], *(rule["rule"] for rule in one["rules"])])
        for one in await lines(registry, plan)
    }


async def applied(registry: Registry, plan: Any) -> Any:
    """What applying a plan reports."""
    started = await registry.send("POST", f"{PLANS}/{plan['id']}/apply")
    operation = await ended(registry, started)
    assert operation["state"] == "succeeded", operation
    return operation["report"]


async def done(registry: Registry, **target: str) -> Any:
    """Plan and apply."""
    return await applied(registry, await planned(registry, **target))


async def version(registry: Registry, number: int, model: str = "bert") -> Any:
    answer = await registry.get(f"/api/v1/models/{model}/versions/{number}")
    return answer.json if answer.status == 200 else None
