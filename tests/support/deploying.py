"""Short words for what tests of environments and deployments do to a registry."""

from __future__ import annotations

from typing import Any

from tests.support.builders import Answer, Registry

ENVIRONMENTS = "/api/v1/environments"
DEPLOYMENTS = "/api/v1/deployments"


async def make_environment(registry: Registry, name: str = "prod", **said: Any) -> Any:
    """An environment, of production unless said otherwise."""
    body = {"name": name, "type": "production", **said}
    answer = await registry.send("POST", ENVIRONMENTS, json=body)
    assert answer.status == 201, answer.body
    return answer.json


async def publish(registry: Registry, count: int, model: str = "bert") -> list[Any]:
    """Versions 1.0.0, 2.0.0 … of a model."""
    return [
        await registry.publish(model, f"{number}.0.0", {"f": f"{model} {number}".encode()})
        for number in range(1, count + 1)
    ]


async def deploy(registry: Registry, version: str = "1.0.0", **said: Any) -> Answer:
    """Ask for a deployment of bert, chat in prod unless said otherwise."""
    body = {"name": "chat", "environment": "prod", "model": "bert", "version": version, **said}
    body = {name: value for name, value in body.items() if value is not None}
    return await registry.send("POST", DEPLOYMENTS, json=body)


async def deployed(registry: Registry, version: str = "1.0.0", **said: Any) -> Any:
    answer = await deploy(registry, version, **said)
    assert answer.status == 201, answer.body
    return answer.json


async def verb(registry: Registry, one: Any, name: str, **said: Any) -> Answer:
    """One of the verbs of a deployment: scale, deploy, rollback, terminate."""
    return await registry.send("POST", f"{DEPLOYMENTS}/{one['id']}/{name}", json=said)


async def report(registry: Registry, one: Any, status: str, **said: Any) -> Answer:
    body = {"status": status, **said}
    return await registry.send("PUT", f"{DEPLOYMENTS}/{one['id']}/status", json=body)


async def events(registry: Registry, one: Any) -> list[Any]:
    """Everything that happened to a deployment, the first first."""
    answer = await registry.get(f"{DEPLOYMENTS}/{one['id']}/events?limit=1000")
    assert answer.status == 200, answer.body
    found: list[Any] = answer.json["items"]
    return found[::-1]


async def trail(registry: Registry, entity: str) -> list[str]:
    """What the audit log says was done to something, in order."""
    rows = await registry.rows(f"SELECT action FROM audit WHERE entity = '{entity}' ORDER BY id")
    return [action for (action,) in rows]
