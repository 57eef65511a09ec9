"""Short words for tests that bind versions to providers, report on them and ask which to use."""

from __future__ import annotations

from typing import Any

from tests.support.builders import Answer, Registry

BINDINGS = "/api/v1/bindings"
RESOLVE = "/api/v1/resolve"


async def bind(registry: Registry, **said: Any) -> Answer:
    """Ask for a binding; of ``bert`` at ``openai`` without saying otherwise."""
    wish = {"model": "bert", "version": "1", "provider": "openai", **said}
    return await registry.send("POST", BINDINGS, json=wish)


async def bound(registry: Registry, **said: Any) -> Any:
    """A binding that was made."""
    answer = await bind(registry, **said)
    assert answer.status == 201, answer.body
    return answer.json


async def model(registry: Registry, name: str = "bert", **said: Any) -> Any:
    """A model with a version in production; `said` of the model, or of the version.

    Returns what publishing answered of the version.
    """
    of_version = {
        key: said.pop(key)
        for key in ("eval_score", "cost_per_1k", "slo_met", "slo_target")
        if key in said
    }
    status = said.pop("status", "production")
    if said:
        made = await registry.send("POST", "/api/v1/models", json={"name": name, **said})
        assert made.status == 201, made.body
    version = await registry.publish(name.replace("/", "~"), "v1", {"f": name.encode()})
    path = f"/api/v1/models/{name.replace('/', '~')}"
    if of_version:
        await patched(registry, f"{path}/versions/1", **of_version)
    if status != "registered":
        await patched(registry, f"{path}/versions/1", status=status)
    return version


async def patched(registry: Registry, path: str, **said: Any) -> Any:
    """What a merge-patch that was taken answers."""
    answer = await registry.send("PATCH", path, json=said)
    assert answer.status == 200, answer.body
    return answer.json


async def report(registry: Registry, id: str, *observations: Any, **headers: str) -> Answer:
    """Report on one binding; without observations that one request succeeded."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send(
        "POST",
        f"{BINDINGS}/{id}/observations",
        json={"observations": list(observations) or [{"latency_ms": 100}]},
        headers=named,
    )


async def observed(registry: Registry, id: str) -> Any:
    """What a binding says was observed of it."""
    answer = await registry.get(f"{BINDINGS}/{id}")
    assert answer.status == 200, answer.body
    return answer.json["observed"]


async def resolve(registry: Registry, query: str = "") -> Any:
    """The answer to a gateway's question."""
    answer = await registry.get(f"{RESOLVE}?{query}" if query else RESOLVE)
    assert answer.status == 200, answer.body
    return answer.json


async def best(registry: Registry, query: str = "") -> list[str]:
    """The ids of the bindings that fit, best first."""
    return [one["binding"] for one in (await resolve(registry, query))["items"]]


async def excluded(registry: Registry, query: str = "") -> dict[str, int]:
    """How many were left out, by reason."""
    return {one["reason"]: one["count"] for one in (await resolve(registry, query))["excluded"]}
