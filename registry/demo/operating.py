"""Where releases run and are asked, what is thought of them, and who fetched them.

A deployment that was interrupted stays where it was: what happened to it is not told again.
"""

from __future__ import annotations

import msgspec

from registry.client.connection import part
from registry.demo.company import RATED, REVIEWS
from registry.demo.kinds import Binding, Deployment
from registry.demo.making import Maker
from registry.demo.serving import BINDINGS, DEPLOYMENTS, ENVIRONMENTS
from registry.demo.wishes import REPORTS, reports_of, segment, version_path


async def environments(maker: Maker) -> None:
    there = {one["name"] for one in await maker.listed("environments")}
    for environment in ENVIRONMENTS:
        if environment.name not in there:
            wish = msgspec.structs.asdict(environment)
            await maker.make("environments", wish, "environments")


async def deployments(maker: Maker) -> None:
    there = {
        (environment.name, one["name"])
        for environment in ENVIRONMENTS
        for one in await maker.listed(f"deployments?environment={environment.name}")
    }

    async def deploy(one: Deployment) -> None:
        if (one.environment, one.name) not in there:
            await _deploy(maker, one)

    await maker.all("deployments", DEPLOYMENTS, deploy)


async def _deploy(maker: Maker, one: Deployment) -> None:
    wish = {
        "name": one.name,
        "environment": one.environment,
        "model": one.model,
        "version": one.label,
        "replicas": one.replicas,
        "cpu": one.cpu,
        "memory": one.memory,
        "gpus": one.gpus,
        "endpoint": f"https://{one.environment}.example.com/{one.name}",
        "reason": "first deployment",
    }
    made = await maker.make("deployments", wish, "deployments")
    if made is None:
        return
    path = f"deployments/{made['id']}"
    for verb, of, reason in one.events:
        match verb:
            case "deploy":
                await maker.api("POST", f"{path}/deploy", {"version": of, "reason": reason})
            case "scale":
                content = {"replicas": int(of), "reason": reason}
                await maker.api("POST", f"{path}/scale", content)
            case "rollback" | "terminate":
                await maker.api("POST", f"{path}/{verb}", {"reason": reason})
            case _:
                await maker.api("PUT", f"{path}/status", {"status": verb, "reason": reason})


async def bindings(maker: Maker) -> None:
    async def bind(one: Binding) -> None:
        wish = {
            "model": one.model,
            "version": one.label,
            "provider": one.provider,
            "provider_model_id": one.provider_model_id,
            "region": one.region,
            "endpoint": one.endpoint,
            "config": {"timeout_seconds": 30},
            "status": one.status,
            "cost_per_1k": one.cost_per_1k,
        }
        made = await maker.make("bindings", wish, "bindings")
        if made is not None:
            sent = {"observations": reports_of(one)}
            await maker.api("POST", f"bindings/{made['id']}/observations", sent)
            maker.count("observations", REPORTS)

    await maker.all("bindings", BINDINGS, bind)


async def reviews(maker: Maker) -> None:
    for model, label, verdict, comment in REVIEWS:
        path = f"{version_path(model, label)}/reviews"
        if not await maker.listed(path):
            await maker.api("POST", path, {"verdict": verdict, "comment": comment})
            maker.count("reviews")


async def scores(maker: Maker) -> None:
    async def rate(item: tuple[str, str]) -> None:
        path = version_path(*item)
        if not (await maker.api("GET", f"{path}/scores"))["scores"]:
            await maker.api("POST", f"{path}/rate", {})
            maker.count("ratings")

    await maker.all("scores", RATED, rate)


async def downloads(maker: Maker) -> None:
    async def fetch(deployment: Deployment) -> None:
        path = f"/models/{segment(deployment.model)}/{part(deployment.label)}/config.json"

        async def attempt() -> None:
            async with maker.connection.answered("GET", path) as answer:
                await answer.read()

        await maker.connection.repeated(attempt)
        maker.count("downloads")

    await maker.all("downloads", DEPLOYMENTS, fetch)
