"""Standings against a model that sorts and tests everything each time and shares no code."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from registry.domain import standings as module
from registry.domain.principals import Visibility
from registry.domain.ranking import Candidate, parts_of, rank_of, score_of
from registry.domain.routing import REASONS, Routing
from registry.domain.standings import Standings


def candidate(number: int, generator: random.Random) -> Candidate:
    def perhaps(value: float) -> float | None:
        return value if generator.random() < 0.7 else None

    success, p95 = perhaps(generator.random()), perhaps(generator.random() * 2000)
    return Candidate(
        id=f"bnd_{number}",
        model_id=f"mdl_{number % 7}",
        namespace_id=f"nsp_{number % 7 % 3}",
        level="public" if number % 7 == 6 else "private",
        model=f"m{number % 7}",
        folded=f"m{number % 7}",
        kind=generator.choice(["model", "dataset"]),
        task=generator.choice(["chat", "ocr"]),
        subject=generator.choice(["law", "art"]),
        is_model_active=generator.random() < 0.9,
        version_id=f"ver_{number % 7}",
        number=1,
        label=None,
        version_status=generator.choice(["registered", "validated", "production", "archived"]),
        eval_score=perhaps(generator.random()),
        slo_target="",
        slo_met=generator.choice([None, True, False]),
        version_cost=perhaps(generator.random()),
        provider=generator.choice(["openai", "azure"]),
        provider_model_id="",
        region=generator.choice(["eu", "us", ""]),
        endpoint="",
        config="{}",
        status=generator.choice(["active", "inactive", "degraded"]),
        agreed_cost=perhaps(generator.random()),
        weight=0 if success is None else 10,
        successes=0 if success is None else 10 * success,
        success_rate=success,
        latency_p50_ms=p95,
        latency_p95_ms=p95,
        latency_p99_ms=p95,
        observed_cost=perhaps(generator.random()),
        observed_at=None,
    )


def question(generator: random.Random) -> Routing:
    def perhaps(value: Any) -> Any:
        return value if generator.random() < 0.3 else None

    return Routing(
        model_id=perhaps(f"mdl_{generator.randrange(9)}"),
        kind=perhaps("model"),
        task=perhaps("chat"),
        subject=perhaps("law"),
        statuses=generator.choice(
            [frozenset({"production"}), frozenset({"production", "validated"})]
        ),
        providers=frozenset({"azure"} if generator.random() < 0.3 else ()),
        regions=frozenset({"eu", "us"} if generator.random() < 0.3 else ()),
        must_meet_slo=generator.random() < 0.2,
        min_eval_score=perhaps(round(generator.random(), 1)),
        max_cost_per_1k=perhaps(round(generator.random(), 1)),
        max_latency_ms=perhaps(generator.choice([100, 1000, 1900])),
        min_success_rate=perhaps(round(generator.random(), 1)),
    )


def first_reason(one: Candidate, asked: Routing) -> str | None:
    """Why a candidate does not fit, by the words of the documentation."""
    cost = next(
        (x for x in (one.observed_cost, one.agreed_cost, one.version_cost) if x is not None), None
    )
    failing = {
        "model": asked.model_id not in (None, one.model_id),
        "kind": asked.kind not in (None, one.kind),
        "task": asked.task not in (None, one.task),
        "subject": asked.subject not in (None, one.subject),
        "version_status": one.version_status not in asked.statuses,
        "provider": bool(asked.providers) and one.provider not in asked.providers,
        "region": bool(asked.regions) and one.region not in asked.regions,
        "model_inactive": not one.is_model_active,
        "binding_inactive": one.status == "inactive",
        "objective_unknown": asked.must_meet_slo and one.slo_met is None,
        "objective_missed": asked.must_meet_slo and not one.slo_met,
        "eval_score": _fails(one.eval_score, asked.min_eval_score, is_least=True),
        "cost": _fails(cost, asked.max_cost_per_1k, is_least=False),
        "latency": _fails(one.latency_p95_ms, asked.max_latency_ms, is_least=False),
        "success_rate": _fails(one.success_rate, asked.min_success_rate, is_least=True),
    }
    for name, failed in failing.items():
        if failed is True:
            return name
        if isinstance(failed, str):
            return f"{name}_{failed}"
    return None


def _fails(value: float | None, limit: float | None, *, is_least: bool) -> str | bool:
    if limit is None:
        return False
    if value is None:
        return "unknown"
    if is_least:
        return "below" if value < limit else False
    return "above" if value > limit else False


def check(standings: Standings, present: dict[str, Candidate], generator: random.Random) -> None:
    asked, limit = question(generator), generator.choice([1, 3, 50])
    visibility = None
    if generator.random() < 0.4:
        owned = generator.sample(("mdl_1", "mdl_2", "nsp_1"), generator.randrange(3))
        levels = frozenset(("public",)) if generator.random() < 0.5 else frozenset[str]()
        visibility = Visibility(False, frozenset(owned), levels)
    seen = [one for one in present.values() if visibility is None or visibility.opens(one.place)]
    reasons = [first_reason(one, asked) for one in seen]
    fits = sorted(
        (one for one, reason in zip(seen, reasons, strict=True) if reason is None), key=rank_of
    )

    found = standings.find(asked.tests(), limit=limit, seen=visibility)

    assert found.best == fits[:limit]
    assert (found.considered, found.matched) == (len(seen), len(fits))
    assert {test.reason: count for test, count in found.excluded} == {
        reason: reasons.count(reason) for reason in REASONS if reason in reasons
    }
    assert len(standings) == len(present)


@pytest.mark.parametrize("seed", range(8))
def test_standings_answer_as_one_who_looks_at_everything(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However candidates come, change and go; with few masks kept, and changes read in parts."""
    generator = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(module, "MASKS_KEPT", 3)
    present = {one.id: one for one in (candidate(n, generator) for n in range(60))}
    standings = Standings(present.values())
    for _ in range(150):
        match generator.randrange(5):
            case 0:
                gone = f"bnd_{generator.randrange(90)}"
                standings.drop(gone)
                present.pop(gone, None)
            case 1 | 2:
                some = [
                    candidate(generator.randrange(90), generator)
                    for _ in range(generator.choice([1, 2, 40]))
                ]
                some = list({one.id: one for one in some}.values())
                standings.put(some)
                present |= {one.id: one for one in some}
            case 3:
                models = {f"mdl_{generator.randrange(7)}"}
                some = [
                    one
                    for one in (candidate(n, generator) for n in range(90))
                    if one.model_id in models and generator.random() < 0.5
                ]
                standings.replace_models(models, some)
                present = {id: one for id, one in present.items() if one.model_id not in models}
                present |= {one.id: one for one in some}
        check(standings, present, generator)


def test_masks_are_dropped_when_catching_up_would_cost_more() -> None:
    generator = random.Random(1)
    present = {one.id: one for one in (candidate(n, generator) for n in range(20))}
    standings = Standings(present.values())
    for turn in range(3_000):
        one = candidate(turn % 20, generator)
        standings.put([one])
        present[one.id] = one
        if turn % 500 == 0:
            check(standings, present, generator)

    check(standings, present, generator)
    assert len(standings._changed) < 1_100


def test_a_score_is_between_nothing_and_one_and_only_better_parts_raise_it() -> None:
    generator = random.Random(2)
    for number in range(200):
        one = candidate(number, generator)
        better = msgspec.structs.replace(one, eval_score=1.0)

        assert 0 <= score_of(one) <= 1
        assert all(0 <= value <= 1 for value in parts_of(one).values())
        assert score_of(better) >= score_of(one)


def test_nobody_stands_where_nobody_is() -> None:
    found = Standings().find(Routing(task="chat").tests(), limit=5, seen=None)

    assert (found.best, found.considered, found.excluded) == ([], 0, [])
