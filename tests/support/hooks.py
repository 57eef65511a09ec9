"""A registry whose webhooks reach loopback, with a clock of the test's and the leader's turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from registry.config import Config, OutboundConfig
from registry.keys import DELIVERER, SEALS
from registry.services.outbox import follow_audit_log
from tests.support.builders import Registry
from tests.support.clock import ManualClock
from tests.support.receiving import Receiver, receiving
from tests.support.serving import opened, serving

HOOKS = "/api/v1/webhooks"


class Hooked(Registry):
    """A registry, a receiver beside it, and what the leader does, one step at a time."""

    clock: ManualClock
    receiver: Receiver

    async def hook(self, path: str = "/hook", **said: Any) -> Any:
        """A webhook at the receiver that hears everything; as it was answered."""
        wish = {"url": self.receiver.url + path, "events": ["*"], **said}
        answer = await self.send("POST", HOOKS, json=wish)
        assert answer.status == 201, answer.body
        return answer.json

    async def follow(self) -> int:
        """Seal the audit log and make deliveries of it."""
        await self.site.app[SEALS].seal()
        return await follow_audit_log(self.store)

    async def deliver(self) -> int:
        """Make every attempt that is due."""
        return await self.site.app[DELIVERER].run()

    async def tell(self) -> int:
        """Both."""
        await self.follow()
        return await self.deliver()

    async def deliveries(self, hook: Any, query: str = "") -> list[Any]:
        """The deliveries of a webhook, the oldest first."""
        answer = await self.get(f"{HOOKS}/{hook['id']}/deliveries{query}")
        assert answer.status == 200, answer.body
        return list(reversed(answer.json["items"]))

    async def make_model(self, name: str = "bert") -> Any:
        answer = await self.send("POST", "/api/v1/models", json={"name": name})
        assert answer.status == 201, answer.body
        return answer.json

    async def describe(self, name: str, description: str) -> None:
        answer = await self.send(
            "PATCH", f"/api/v1/models/{name}", json={"description": description}
        )
        assert answer.status == 200, answer.body


@asynccontextmanager
async def hooked_registry(
    root: Path | None, *, allow: tuple[str, ...] = ("127.0.0.0/8",), clock: ManualClock
) -> AsyncIterator[Hooked]:
    config = Config(outbound=OutboundConfig(allow_private=allow))
    async with (
        receiving() as receiver,
        opened(root, clock=clock) as store,
        serving(store, config) as site,
    ):
        hooked = Hooked(site)
        hooked.clock, hooked.receiver = clock, receiver
        yield hooked
