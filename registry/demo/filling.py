"""Fills a registry with the company, through its API. Every step may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from registry.client.connection import Connection, part
from registry.client.errors import ClientError, Refused
from registry.client.transfer import each
from registry.demo.company import NAMESPACES, RATED, REVIEWS, TEAMS
from registry.demo.content import draft_of, files_of
from registry.demo.curves import curves
from registry.demo.files import chance
from registry.demo.kinds import Binding, Deployment, Experiment, Release, Trial, Work
from registry.demo.serving import BINDINGS, DEPLOYMENTS, ENVIRONMENTS
from registry.demo.trials import EXPERIMENTS
from registry.demo.wishes import (
    REASONS,
    REPORTS,
    STATUSES,
    reports_of,
    said,
    segment,
    trial_of,
    version_path,
    version_wish,
)
from registry.demo.works import WORKS, releases

MARK: Final = "demo"
"""The tag on everything that the demo made; its value is `DONE` on the last model at the end."""

MADE: Final = "made-up"
DONE: Final = "complete"
AT_ONCE: Final = 8
USD_PER_GPU_HOUR: Final = 2.4

Watch = Callable[[str, int, int], None]
"""Told which stage is at which of how many steps."""


_Plan: TypeAlias = tuple[str | None, Trial, Work, Release | None]
"""A run to be: its experiment, how it goes, of what, and the release it makes if it makes one."""


class HoldsOthers(ClientError):
    """The registry holds models that are not of the demo."""

    def __init__(self, models: int) -> None:
        self.models = models
        super().__init__(f"the registry holds {models} models already")


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now of the company, and whether it was there before."""

    was_there: bool
    made: dict[str, int]


async def fill(connection: Connection, watch: Watch, *, anyway: bool = False) -> Filled:
    """Make the company; raises `HoldsOthers` unless `anyway`, and what the client raises."""
    if await _is_complete(connection):
        return Filled(was_there=True, made={})
    if not anyway:
        await _require_room(connection)
    return await _Filling(connection, watch).run()


async def _is_complete(connection: Connection) -> bool:
    path = f"/api/v1/models?tag={MARK}%3D{DONE}&limit=1"
    return bool((await connection.get(path, dict[str, Any]))["items"])


async def _require_room(connection: Connection) -> None:
    counted = "/api/v1/models?limit=1&total=true"
    there = (await connection.get(counted, dict[str, Any]))["total"]
    own = (await connection.get(f"{counted}&tag={MARK}", dict[str, Any]))["total"]
    if there > own:
        raise HoldsOthers(there)


class _Filling:
    """One run of the demo."""

    def __init__(self, connection: Connection, watch: Watch) -> None:
        self._connection = connection
        self._watch = watch
        self._now = datetime.now(UTC)
        self._made: dict[str, int] = {}
        self._versions: dict[str, dict[str, Any]] = {}

    async def run(self) -> Filled:
        for stage, work in (
            ("teams", self._teams),
            ("models", self._models),
            ("files", self._files),
            ("versions", self._releases),
            ("drafts", self._drafts),
            ("statuses", self._statuses),
            ("champions", self._champions),
            ("measurements", self._measurements),
            ("runs", self._runs),
            ("environments", self._environments),
            ("deployments", self._deployments),
            ("bindings", self._bindings),
            ("reviews", self._reviews),
            ("scores", self._scores),
            ("downloads", self._downloads),
        ):
            self._watch(stage, 0, 0)
            await work()
        target = f"models/{segment(WORKS[-1].name)}/tags/{MARK}"
        await self._api("PUT", target, {"value": DONE})
        return Filled(was_there=False, made=dict(sorted(self._made.items())))

    # Words

    async def _api(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        return await self._connection.ask(
            method, f"/api/v1/{path}", dict[str, Any], content=content
        )

    async def _make(self, path: str, content: Any, kind: str) -> dict[str, Any] | None:
        """Make something; None where it is there already."""
        try:
            made = await self._api("POST", path, content)
        except Refused as refused:
            if refused.status == 409 and refused.code.endswith(("_exists", "_taken")):
                return None
            raise
        self._count(kind)
        return made

    def _count(self, kind: str, count: int = 1) -> None:
        if count:
            self._made[kind] = self._made.get(kind, 0) + count

    async def _listed(self, path: str) -> list[dict[str, Any]]:
        limited = f"{path}{'&' if '?' in path else '?'}limit=1000"
        items: list[dict[str, Any]] = (await self._api("GET", limited))["items"]
        return items

    async def _all(
        self, stage: str, items: Sequence[Any], work: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Work on all, several at once, and tell how far it is."""
        done = 0

        async def one(item: Any) -> None:
            nonlocal done
            await work(item)
            done += 1
            self._watch(stage, done, len(items))

        await each(items, one, at_once=AT_ONCE)

    # What there is

    async def _teams(self) -> None:
        there = {one["name"] for one in await self._listed("teams")}
        for team in TEAMS:
            if team.name not in there:
                await self._make("teams", msgspec.structs.asdict(team), "teams")
        slugs = {one["slug"] for one in await self._listed("namespaces")}
        for slug, description in NAMESPACES.items():
            if slug not in slugs:
                wish = {"slug": slug, "visibility": "internal", "description": description}
                await self._make("namespaces", wish, "namespaces")

    async def _models(self) -> None:
        there = {one["name"].casefold() for one in await self._listed("models")}
        for work in WORKS:
            if work.name.casefold() in there:
                continue
            wish = {
                "name": work.name,
                "kind": work.kind,
                "description": work.about,
                "use_case": work.use_case,
                "task_type": work.task,
                "subject_domain": work.subject,
                "team": work.team,
                "risk_level": work.risk,
                "compliance_required": work.compliance,
                "active": work.active,
                "tags": {**work.tags, MARK: MADE},
            }
            await self._make("models", wish, "models")

    async def _files(self) -> None:
        blobs = {
            f"sha256:{sha256(content).hexdigest()}": content
            for work, release in releases()
            for content in files_of(work, release).values()
        }
        asked = await self._api("POST", "blobs/missing", {"digests": list(blobs)})

        async def send(digest: str) -> None:
            await self._put(f"/blobs/{digest}", blobs[digest])
            self._count("blobs")

        await self._all("files", asked["missing"], send)

    async def _put(self, path: str, content: bytes) -> None:
        async def attempt() -> None:
            async with self._connection.answered("PUT", path, data=content):
                pass

        await self._connection.repeated(attempt)

    async def _releases(self) -> None:
        every = list(releases())
        for done, (work, release) in enumerate(every):
            self._watch("versions", done, len(every))
            status, made = await self._connection.exchange(
                "POST",
                f"/api/v1/models/{segment(work.name)}/versions",
                dict[str, Any],
                content=version_wish(work, release),
            )
            self._versions[f"{work.name}:{release.label}"] = made["version"]
            if status == 201:
                self._count("versions")

    async def _drafts(self) -> None:
        for work in WORKS:
            for path, content in draft_of(work).items() if work.draft else ():
                await self._put(f"/models/{segment(work.name)}/{work.draft}/{path}", content)

    async def _statuses(self) -> None:
        async def move(item: tuple[Work, Release]) -> None:
            work, release = item
            path = f"{version_path(work.name, release.label)}/status"
            status = self._versions[f"{work.name}:{release.label}"]["status"]
            for wanted in STATUSES[release.status] if status == "registered" else ():
                reason = release.change if wanted == release.status else "passed its checks"
                await self._api("PUT", path, {"status": wanted, "reason": reason})

        await self._all("statuses", list(releases()), move)

    async def _champions(self) -> None:
        for work in WORKS:
            base = f"models/{segment(work.name)}/aliases"
            there = {one["name"] for one in await self._listed(base)} if work.champions else ()
            for label, reason in work.champions if "champion" not in there else ():
                await self._api("PUT", f"{base}/champion", {"version": label, "reason": reason})
                self._count("alias moves")

    async def _measurements(self) -> None:
        async def record(item: tuple[Work, Release]) -> None:
            work, release = item
            path = f"{version_path(work.name, release.label)}/metrics"
            if release.score is None or await self._listed(path):
                return
            numbers = chance(work.name, release.label, "metrics")
            at = self._versions[f"{work.name}:{release.label}"]["created_at"]
            metrics = [
                {"name": work.metric, "split": split, "value": round(value, 4), "time": at}
                for split, value in (
                    ("train", min(release.score + 0.04, 0.999)),
                    ("validation", release.score + 0.01 * numbers.random()),
                    ("test", release.score),
                )
            ]
            if release.status == "production":
                value = round(release.score - 0.02 * numbers.random(), 4)
                metrics.append(
                    {"name": work.metric, "split": "production", "value": value, "time": at}
                )
            await self._api("POST", path, {"metrics": metrics})
            self._count("metrics", len(metrics))

        await self._all("measurements", list(releases()), record)

    # Runs

    async def _runs(self) -> None:
        runs: list[_Plan] = [
            (None, trial_of(work, release), work, release)
            for work, release in releases()
            if work.kind == "model"
        ]
        named = {work.name: work for work in WORKS}
        for experiment in EXPERIMENTS:
            id = await self._experiment(experiment)
            runs += [(id, trial, named[trial.model], None) for trial in experiment.trials]
        known = {(one["model_name"], one["name"]): one for one in await self._listed("runs")}

        async def tell(plan: _Plan) -> None:
            await self._run(*plan, known.get((plan[2].name, plan[1].name)))

        await self._all("runs", runs, tell)

    async def _experiment(self, experiment: Experiment) -> str:
        for one in await self._listed(f"experiments?namespace={experiment.namespace}"):
            if one["name"] == experiment.name:
                return str(one["id"])
        wish = {
            "namespace": experiment.namespace,
            "name": experiment.name,
            "description": experiment.about,
            "tags": {MARK: MADE},
        }
        self._count("experiments")
        return str((await self._api("POST", "experiments", wish))["id"])

    async def _run(
        self,
        experiment: str | None,
        trial: Trial,
        work: Work,
        release: Release | None,
        there: dict[str, Any] | None,
    ) -> None:
        """A run, from its start to its end; one that is there is only brought to its end."""
        if there is not None and there["status"] != "running":
            return
        if there is None:
            data, _, data_version = work.data.partition(":")
            wish = {
                "name": trial.name,
                "experiment": experiment,
                "model": work.name,
                "version": None if release is None else release.label,
                "started_at": said(self._now - timedelta(days=trial.days_ago)),
                "dataset": data,
                "dataset_version": data_version,
                "hyperparameters": {"learning_rate": trial.rate, "batch_size": 64, "seed": 17},
                "environment": {
                    "python": "3.12",
                    "gpu": f"{trial.gpus} x H100" if trial.gpus else "none",
                    work.framework: work.framework_version,
                },
            }
            there = await self._api("POST", "runs", wish)
            self._count("runs")
        path, started = f"runs/{there['id']}", datetime.fromisoformat(there["started_at"])
        points = list(
            curves(f"{work.name} {trial.name}", trial.shape, best=trial.best, rate=trial.rate)
        )
        last = points[-1]["step"]
        for point in points:
            passed = timedelta(hours=trial.hours * point["step"] / max(last, 1))
            point["time"] = said(started + passed)
        logged = await self._api("POST", f"{path}/metrics", {"points": points})
        self._count("points", logged["new"])
        if trial.status == "running":
            return
        hours = round(trial.hours * trial.gpus, 2)
        end = {
            "status": trial.status,
            "ended_at": said(started + timedelta(hours=trial.hours)),
            "gpu_hours": hours,
            "cost_usd": round(hours * USD_PER_GPU_HOUR + trial.hours * 0.2, 2),
            "reason": REASONS[trial.status],
        }
        await self._api("POST", f"{path}/finish", end)

    # Serving

    async def _environments(self) -> None:
        there = {one["name"] for one in await self._listed("environments")}
        for environment in ENVIRONMENTS:
            if environment.name not in there:
                wish = msgspec.structs.asdict(environment)
                await self._make("environments", wish, "environments")

    async def _deployments(self) -> None:
        there = {
            (one["environment_name"], one["name"]) for one in await self._listed("deployments")
        }

        async def deploy(one: Deployment) -> None:
            if (one.environment, one.name) not in there:
                await self._deploy(one)

        await self._all("deployments", DEPLOYMENTS, deploy)

    async def _deploy(self, one: Deployment) -> None:
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
        made = await self._make("deployments", wish, "deployments")
        if made is None:
            return
        path = f"deployments/{made['id']}"
        for verb, of, reason in one.events:
            match verb:
                case "deploy":
                    await self._api("POST", f"{path}/deploy", {"version": of, "reason": reason})
                case "scale":
                    content = {"replicas": int(of), "reason": reason}
                    await self._api("POST", f"{path}/scale", content)
                case "rollback" | "terminate":
                    await self._api("POST", f"{path}/{verb}", {"reason": reason})
                case _:
                    await self._api("PUT", f"{path}/status", {"status": verb, "reason": reason})

    async def _bindings(self) -> None:
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
            made = await self._make("bindings", wish, "bindings")
            if made is not None:
                sent = {"observations": reports_of(one)}
                await self._api("POST", f"bindings/{made['id']}/observations", sent)
                self._count("observations", REPORTS)

        await self._all("bindings", BINDINGS, bind)

    # Judgement

    async def _reviews(self) -> None:
        for model, label, verdict, comment in REVIEWS:
            path = f"{version_path(model, label)}/reviews"
            if not await self._listed(path):
                await self._api("POST", path, {"verdict": verdict, "comment": comment})
                self._count("reviews")

    async def _scores(self) -> None:
        async def rate(item: tuple[str, str]) -> None:
            path = version_path(*item)
            if not (await self._api("GET", f"{path}/scores"))["scores"]:
                await self._api("POST", f"{path}/rate", {})
                self._count("ratings")

        await self._all("scores", RATED, rate)

    async def _downloads(self) -> None:
        async def fetch(deployment: Deployment) -> None:
            path = f"/models/{segment(deployment.model)}/{part(deployment.label)}/config.json"

            async def attempt() -> None:
                async with self._connection.answered("GET", path) as answer:
                    await answer.read()

            await self._connection.repeated(attempt)
            self._count("downloads")

        await self._all("downloads", DEPLOYMENTS, fetch)


async def fill_at(url: str, watch: Watch, *, anyway: bool = False) -> Filled:
    """The same at a server's address."""
    async with Connection(url) as connection:
        return await fill(connection, watch, anyway=anyway)
