"""Teams, models and their releases: files first, then versions, then what is said of them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from registry.demo.company import NAMESPACES, TEAMS
from registry.demo.content import draft_of, files_of
from registry.demo.files import chance
from registry.demo.kinds import Release, Work
from registry.demo.making import MADE, MARK, Maker
from registry.demo.wishes import STATUSES, segment, version_path, version_wish
from registry.demo.works import WORKS, releases


async def teams(maker: Maker) -> None:
    there = {one["name"] for one in await maker.listed("teams")}
    for team in TEAMS:
        if team.name not in there:
            await maker.make("teams", msgspec.structs.asdict(team), "teams")
    slugs = {one["slug"] for one in await maker.listed("namespaces")}
    for slug, description in NAMESPACES.items():
        if slug not in slugs:
            wish = {"slug": slug, "visibility": "internal", "description": description}
            await maker.make("namespaces", wish, "namespaces")


async def models(maker: Maker) -> None:
    for work in WORKS:
        if work.name in maker.there:
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
        await maker.make("models", wish, "models")


async def files(maker: Maker) -> None:
    blobs = {
        f"sha256:{sha256(content).hexdigest()}": content
        for work, release in releases()
        for content in files_of(work, release).values()
    }
    asked = await maker.connection.ask(
        "POST", "/api/v1/blobs/missing", dict[str, Any], content={"digests": list(blobs)}
    )

    async def send(digest: str) -> None:
        await maker.put(f"/blobs/{digest}", blobs[digest])
        maker.count("blobs")

    await maker.all("files", asked["missing"], send)


async def versions(maker: Maker) -> None:
    every = list(releases())
    for done, (work, release) in enumerate(every):
        maker.watch("versions", done, len(every))
        status, made = await maker.post(
            f"models/{segment(work.name)}/versions", version_wish(work, release)
        )
        maker.versions[f"{work.name}:{release.label}"] = made["version"]
        if status == 201:
            maker.count("versions")


async def drafts(maker: Maker) -> None:
    for work in WORKS:
        for path, content in draft_of(work).items() if work.draft else ():
            await maker.put(f"/models/{segment(work.name)}/{work.draft}/{path}", content)


async def statuses(maker: Maker) -> None:
    async def move(item: tuple[Work, Release]) -> None:
        work, release = item
        path = f"{version_path(work.name, release.label)}/status"
        status = maker.versions[f"{work.name}:{release.label}"]["status"]
        for wanted in STATUSES[release.status] if status == "registered" else ():
            reason = release.change if wanted == release.status else "passed its checks"
            await maker.api("PUT", path, {"status": wanted, "reason": reason})

    await maker.all("statuses", list(releases()), move)


async def champions(maker: Maker) -> None:
    for work in WORKS:
        base = f"models/{segment(work.name)}/aliases"
        there = {one["name"] for one in await maker.listed(base)} if work.champions else ()
        for label, reason in work.champions if "champion" not in there else ():
            await maker.api("PUT", f"{base}/champion", {"version": label, "reason": reason})
            maker.count("alias moves")


async def measurements(maker: Maker) -> None:
    async def record(item: tuple[Work, Release]) -> None:
        work, release = item
        path = f"{version_path(work.name, release.label)}/metrics"
        if release.score is None or await maker.listed(path):
            return
        numbers = chance(work.name, release.label, "metrics")
        at = maker.versions[f"{work.name}:{release.label}"]["created_at"]
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
            metrics.append({"name": work.metric, "split": "production", "value": value, "time": at})
        await maker.api("POST", path, {"metrics": metrics})
        maker.count("metrics", len(metrics))

    await maker.all("measurements", list(releases()), record)
