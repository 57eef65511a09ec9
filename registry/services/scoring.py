"""Rate versions: gather evidence, compute metrics, keep every result; say the latest of each.

A rating reads first and writes then: what it is computed from is as it was found, and its scores
are written together in one transaction, which makes sure that the version is still there. Nothing
is rated by itself; a score says when it was computed.

**Beside other work.** Cards are taken apart in the threads that downloads are read in, so `Raters`
lets few ratings gather evidence at once; the others wait, and hold nothing while they do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.reviews import delete_some_reviews
from registry.catalog.scores import (
    Score,
    delete_some_scores,
    insert_scores,
    latest_scores,
    scores_before,
)
from registry.catalog.visible import seen_of
from registry.domain.ids import RATING, new_id
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.scoring.metrics import (
    METRICS,
    Metric,
    Overall,
    Part,
    compute,
    masked,
    models_named,
    overall,
)
from registry.services.change import change
from registry.services.evidence import Gathered, Timer, gather_evidence
from registry.services.resolve import require_model
from registry.services.run_places import require_version
from store.index.transactions import Tx
from store.opening import Store

REMOVED_AT_ONCE: Final = 1_000
"""How many rows of a kind go in one transaction."""

RATED_AT_ONCE: Final = 2
"""By one process; fewer than there are threads that read."""

_encode: Final = msgspec.json.Encoder().encode


class Raters:
    """Places for ratings of this process; whoever waits goes in order."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(RATED_AT_ONCE)

    async def __aenter__(self) -> None:
        await self._places.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


class Rated(msgspec.Struct, frozen=True):
    """The latest score of each metric of a version, in the order of the metrics."""

    version: Version
    scores: list[Score]
    overall: Overall


class ScorePage(msgspec.Struct, frozen=True):
    items: list[Score]
    next: int | None


async def rate_version(
    store: Store,
    principal: Principal,
    raters: Raters,
    model: ModelReference,
    version: VersionReference,
    names: Collection[str],
    *,
    timer: Timer = time.perf_counter,
) -> Rated:
    """Compute metrics of a version, all without names, and keep them; raises `NotFound`.

    What a metric took is what gathering its parts of the evidence and computing it took.
    """
    rating = new_id(RATING, store.clock())
    metrics = [metric for metric in METRICS.values() if not names or metric.name in names]
    found, of = await store.index.look(lambda tx: _require(tx, principal, model, version))
    parts: set[Part] = set()
    for metric in metrics:
        if found.kind in metric.kinds:
            parts.update(metric.parts)
    async with raters:
        gathered = await gather_evidence(store, principal, found, of, parts, timer=timer)
    scores = [_score(metric, gathered, rating, of, principal, timer) for metric in metrics]

    async def unit(tx: Tx) -> Rated:
        again, still = await _require(tx, principal, model, version)
        made = [
            msgspec.structs.replace(score, version_id=still.id, created_at=tx.now)
            for score in scores
        ]
        await insert_scores(tx, made)
        rated = await _rated(tx, principal, still)
        await record(tx, principal, _entry(again, still, made, rated.overall))
        return rated

    return await change(store, principal, unit)


def _score(
    metric: Metric,
    gathered: Gathered,
    rating: str,
    version: Version,
    principal: Principal,
    timer: Timer,
) -> Score:
    start = timer()
    outcome = compute(metric, gathered.evidence)
    seconds = timer() - start + sum(gathered.seconds.get(part, 0.0) for part in metric.parts)
    return Score(
        rating=rating,
        version_id=version.id,
        metric=metric.name,
        value=outcome.value,
        reason=outcome.reason,
        evidence=_encode(outcome.evidence).decode(),
        seconds=round(max(0.0, seconds), 6),
        created_at=0,
        created_by=principal.id,
    )


async def _require(
    tx: Tx, principal: Principal, model: ModelReference, version: VersionReference
) -> tuple[Model, Version]:
    return await require_version(tx, principal, await require_model(tx, principal, model), version)


async def _rated(tx: Tx, principal: Principal, version: Version) -> Rated:
    found = {score.metric: score for score in await latest_scores(tx, version.id, METRICS)}
    values = {name: score.value for name, score in found.items()}
    ordered = [found[name] for name in METRICS if name in found]
    return Rated(version, await _readable(tx, principal, ordered), overall(values))


async def _readable(tx: Tx, principal: Principal, scores: list[Score]) -> list[Score]:
    """The scores as their reader may see them: others' models stay unnamed."""
    if principal.visibility.everything:
        return scores
    evidence = [msgspec.json.decode(score.evidence) for score in scores]
    named = set[str]()
    for one in evidence:
        named |= models_named(one)
    seen = await seen_of(tx, principal.visibility.seen, named)
    return [
        msgspec.structs.replace(score, evidence=_encode(masked(said, seen.__contains__)).decode())
        for score, said in zip(scores, evidence, strict=True)
    ]


def _entry(model: Model, version: Version, scores: Sequence[Score], found: Overall) -> Entry:
    said: dict[str, Any] = {score.metric: score.value for score in scores}
    return Entry(
        action="rate",
        kind="version",
        id=version.id,
        name=version.name,
        model=model.id,
        after={"rating": scores[0].rating, "scores": said, "overall": found.value},
    )


async def get_scores(
    store: Store, principal: Principal, model: ModelReference, version: VersionReference
) -> Rated:
    """The latest score of each metric that was ever computed."""

    async def unit(tx: Tx) -> Rated:
        _, of = await _require(tx, principal, model, version)
        return await _rated(tx, principal, of)

    return await store.index.read(unit)


async def list_scores(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    *,
    metric: str | None,
    after: int | None,
    limit: int,
) -> ScorePage:
    """A page of the history of one metric or of all, the latest first."""

    async def unit(tx: Tx) -> ScorePage:
        _, of = await _require(tx, principal, model, version)
        found = await scores_before(tx, of.id, after, limit + 1, metric=metric)
        items = await _readable(tx, principal, found[:limit])
        return ScorePage(items, items[-1].id if len(found) > limit else None)

    return await store.index.read(unit)


async def forget_judgement(store: Store, version_id: str) -> None:
    """Let go of the scores and reviews of a version that is purged."""
    for remove in (delete_some_scores, delete_some_reviews):
        step = partial(remove, version_id=version_id, limit=REMOVED_AT_ONCE)
        while await store.index.run(step):
            pass
