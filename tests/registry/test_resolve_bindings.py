"""A gateway's question: what fits, in which order, why, why not the rest, and as of now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from registry.catalog import standings as rows
from registry.catalog.migrations import CHAINS
from registry.domain.ranking import WEIGHTS
from registry.domain.routing import REASONS, Routing, sentence
from registry.keys import ROUTER
from registry.services import standings as service
from registry.services.standings import Router
from store.opening import StoreSettings, open_store
from tests.support.bindings import (
    BINDINGS,
    RESOLVE,
    best,
    bound,
    excluded,
    model,
    patched,
    report,
    resolve,
)
from tests.support.builders import Registry, running_registry
from tests.support.plans import plan_of
from tests.support.serving import opened, serving


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two workers on one directory: what one changes, the other answers with."""
    root = tmp_path / "data"
    async with opened(root) as store, serving(store) as site:
        settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
        second = await open_store(settings)
        try:
            async with serving(second) as other:
                yield Registry(site), Registry(other)
        finally:
            await second.close()


# What fits


async def test_only_what_is_in_service_is_offered(registry: Registry) -> None:
    ids = {}
    made: dict[str, dict[str, Any]] = {
        "production": {},
        "validated": {"status": "validated"},
        "registered": {"status": "registered"},
        "archived": {"status": "archived"},
        "deprecated": {"status": "deprecated"},
        "idle": {"active": False},
    }
    for name, said in made.items():
        await model(registry, name, **said)
        ids[(await bound(registry, model=name))["id"]] = name
    await bound(registry, model="production", region="off", status="inactive")
    await bound(registry, model="production", region="ill", status="degraded")

    answer = await resolve(registry, "limit=100")
    named = [
        (ids.get(one["binding"], one["region"]), one["version"]["status"])
        for one in answer["items"]
    ]

    assert named == [
        ("production", "production"),
        ("validated", "validated"),
        ("ill", "production"),
    ]
    assert (answer["considered"], answer["matched"]) == (8, 3)
    assert {one["reason"]: one["count"] for one in answer["excluded"]} == {
        "version_status": 3,
        "model_inactive": 1,
        "binding_inactive": 1,
    }
    asked = await resolve(registry, "status=registered")
    assert [ids[one["binding"]] for one in asked["items"]] == ["registered"]
    for status in ("archived", "deprecated"):
        assert (await registry.get(f"{RESOLVE}?status={status}")).status == 400


async def test_every_limit_is_kept_and_counts_what_it_left_out(registry: Registry) -> None:
    """Of two alike, one fails each limit; a third is unknown to it."""
    said = {"task_type": "chat", "subject_domain": "law", "eval_score": 0.9, "slo_met": True}
    await model(registry, "nlp/good", **said)
    await model(registry, "bad", kind="dataset", task_type="ocr", eval_score=0.1, slo_met=False)
    await model(registry, "unknown")
    good, bad, unknown = [
        (await bound(registry, model=name, provider=provider, region=region, cost_per_1k=cost))[
            "id"
        ]
        for name, provider, region, cost in (
            ("nlp/good", "openai", "eu", 0.001),
            ("bad", "azure", "us", 1.0),
            ("unknown", "bedrock", "", None),
        )
    ]
    await report(registry, good, {"latency_ms": 100, "count": 99}, {"success": False})
    await report(registry, bad, {"latency_ms": 9_000}, {"success": False})

    for query, reasons in {
        "model=nlp/good": {"model": 2},
        "kind=model": {"kind": 1},
        "task=chat": {"task": 2},
        "subject=law": {"subject": 2},
        "provider=openai": {"provider": 2},
        "region=eu": {"region": 2},
        "slo_met=true": {"objective_unknown": 1, "objective_missed": 1},
        "min_eval_score=0.8": {"eval_score_unknown": 1, "eval_score_below": 1},
        "max_cost_per_1k=0.01": {"cost_unknown": 1, "cost_above": 1},
        "max_latency_ms=1000": {"latency_unknown": 1, "latency_above": 1},
        "min_success_rate=0.9": {"success_rate_unknown": 1, "success_rate_below": 1},
    }.items():
        answer = await resolve(registry, query)
        found = [one["binding"] for one in answer["items"]]
        assert found == ([good, unknown] if query == "kind=model" else [good]), query
        assert {one["reason"]: one["count"] for one in answer["excluded"]} == reasons, query
        assert answer["considered"] == 3
    both = await best(registry, "provider=openai&provider=azure&region=eu&region=us")
    assert both == [good, bad]
    assert await best(registry, "max_latency_ms=100") == []
    assert unknown in await best(registry)


async def test_an_empty_answer_explains_itself(registry: Registry) -> None:
    await model(registry, "bert", task_type="chat", eval_score=0.5)
    for region in ("eu", "us"):
        await bound(registry, region=region)

    answer = await resolve(registry, "task=chat&region=eu&min_eval_score=0.6")
    nothing = await resolve(registry, "task=chess")

    assert (answer["items"], answer["considered"], answer["matched"]) == ([], 2, 0)
    assert answer["excluded"] == [
        {"reason": "region", "count": 1, "sentence": "1 is not in eu"},
        {
            "reason": "eval_score_below",
            "count": 1,
            "sentence": "1 is of versions with an evaluation score below 0.6",
        },
    ]
    assert nothing["excluded"] == [
        {"reason": "task", "count": 2, "sentence": "2 are of models for other tasks than chess"}
    ]


async def test_every_reason_has_a_sentence(registry: Registry) -> None:
    routing = Routing(
        kind="model",
        task="chat",
        subject="law",
        providers=frozenset({"openai"}),
        regions=frozenset({"eu"}),
        min_eval_score=0.5,
        max_cost_per_1k=0.5,
        max_latency_ms=5,
        min_success_rate=0.5,
    )

    found = [sentence(reason, 1_234, routing) for reason in REASONS]

    assert len(set(found)) == len(REASONS)
    assert all(one.startswith("1,234 are ") for one in found)


async def test_nothing_at_all_is_an_answer_too(registry: Registry) -> None:
    assert await resolve(registry) == {
        "items": [],
        "considered": 0,
        "matched": 0,
        "excluded": [],
    }


async def test_a_model_that_is_not_there_is_named(registry: Registry) -> None:
    answer = await registry.get(f"{RESOLVE}?model=gpt")

    assert (answer.status, answer.code) == (404, "model_not_found")


@pytest.mark.parametrize(
    "query",
    [
        "status=archived",
        "limit=0",
        "limit=101",
        "min_eval_score=1.1",
        "min_eval_score=NaN",
        "max_cost_per_1k=-1",
        "max_latency_ms=-1",
        "min_success_rate=2",
        "slo_met=yes",
        "provider=X",
        "kind=cat",
        "colour=red",
    ],
)
async def test_bad_questions_are_refused(registry: Registry, query: str) -> None:
    assert (await registry.get(f"{RESOLVE}?{query}")).status == 400


# The order, and why


async def test_an_answer_holds_what_a_gateway_needs_and_why_it_ranks_there(
    registry: Registry,
) -> None:
    await model(
        registry,
        "nlp/bert",
        task_type="chat",
        subject_domain="law",
        eval_score=0.8,
        slo_met=True,
        slo_target="p95 < 1 s",
    )
    one = await bound(
        registry,
        model="nlp/bert",
        provider_model_id="bert-1",
        region="eu",
        endpoint="https://a.example",
        config={"timeout": 3},
        cost_per_1k=0.01,
    )
    await report(registry, one["id"], {"latency_ms": 1000, "count": 97}, {"success": False})

    [item] = (await resolve(registry))["items"]
    parts = {part["name"]: part for part in item["parts"]}

    assert item["binding"] == one["id"]
    assert item["model"] == {
        "id": one["model"],
        "name": "nlp/bert",
        "kind": "model",
        "task": "chat",
        "subject": "law",
    }
    assert item["version"]["id"] == one["version"]["id"]
    for name in ("provider", "provider_model_id", "region", "endpoint", "config", "status"):
        assert item[name] == one[name]
    assert (item["rank"], item["cost_per_1k"], item["cost_source"]) == (1, 0.01, "agreed")
    assert {name: part["weight"] for name, part in parts.items()} == WEIGHTS
    assert parts["quality"]["value"] == 0.8
    assert parts["reliability"]["value"] == pytest.approx(0.98, abs=1e-4)
    assert parts["latency"]["value"] == pytest.approx(0.5, abs=0.01)
    assert (parts["cost"]["value"], parts["health"]["value"]) == (0.5, 1)
    assert (parts["objective"]["value"], parts["stage"]["value"]) == (1, 1)
    weighed = sum(part["value"] * part["weight"] for part in item["parts"])
    assert item["score"] == pytest.approx(weighed, abs=1e-5)
    assert parts["reliability"]["reason"].startswith("98.98 % of recent requests succeeded")
    assert parts["objective"]["reason"] == "the version met its objective (p95 < 1 s)"
    assert parts["cost"]["reason"] == "1,000 tokens are agreed to cost 0.01 USD"


async def test_what_nobody_knows_counts_one_half_and_says_so(registry: Registry) -> None:
    await model(registry, "bert")
    await bound(registry)

    [item] = (await resolve(registry))["items"]
    unknown = [part for part in item["parts"] if "one half" in part["reason"]]

    assert [part["name"] for part in unknown] == [
        "quality",
        "reliability",
        "latency",
        "cost",
        "objective",
    ]
    assert {part["value"] for part in unknown} == {0.5}


async def test_each_part_alone_decides_between_two_that_are_alike(registry: Registry) -> None:
    """The better one has the name that would lose the tie."""
    parts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "quality": ({"eval_score": 0.4}, {"eval_score": 0.6}),
        "cost": ({"cost_per_1k": 0.02}, {"cost_per_1k": 0.01}),
        "objective": ({"slo_met": False}, {}),
        "stage": ({"status": "validated"}, {}),
    }
    for part, (worse, better) in parts.items():
        await model(registry, f"{part}-a", task_type=part, **worse)
        await model(registry, f"{part}-b", task_type=part, **better)
        ids = [(await bound(registry, model=f"{part}-{end}"))["id"] for end in "ab"]
        assert await best(registry, f"task={part}") == ids[::-1], part
    await model(registry, "bert", task_type="observed")
    a, b = [(await bound(registry, region=region))["id"] for region in ("a", "b")]
    assert await best(registry, "task=observed") == [a, b]
    await report(registry, b, {"count": 10})
    assert await best(registry, "task=observed") == [b, a]
    await report(registry, a, {"count": 10, "latency_ms": 10, "tokens": 10, "cost_usd": 1e-9})
    assert await best(registry, "task=observed") == [a, b]
    await patched(registry, f"{BINDINGS}/{a}", status="degraded")
    await report(registry, b, {"count": 10, "latency_ms": 10, "tokens": 10, "cost_usd": 1e-9})
    assert await best(registry, "task=observed") == [b, a]


async def test_ties_go_by_name_version_provider_and_place(registry: Registry) -> None:
    await model(registry, "b")
    await model(registry, "a")
    await registry.publish("a", "v2", {"f": b"2"})
    await patched(registry, "/api/v1/models/a/versions/2", status="production")
    wanted = [
        ("a", "2", "openai", "", "", ""),
        ("a", "1", "azure", "x", "", ""),
        ("a", "1", "openai", "x", "eu", ""),
        ("a", "1", "openai", "x", "us", ""),
        ("a", "1", "openai", "y", "eu", ""),
        ("b", "1", "azure", "", "", ""),
    ]
    made = {}
    for place in reversed(wanted):
        name, version, provider, there, region, _ = place
        one = await bound(
            registry,
            model=name,
            version=version,
            provider=provider,
            provider_model_id=there,
            region=region,
        )
        made[one["id"]] = place

    for limit in (1, 3, 100):
        found = [made[id] for id in await best(registry, f"limit={limit}")]
        assert found == wanted[:limit]


async def test_cost_is_what_was_observed_else_agreed_else_planned(registry: Registry) -> None:
    await model(registry, "bert", cost_per_1k=0.3)
    one = await bound(registry)

    async def cost() -> tuple[float, str]:
        [item] = (await resolve(registry))["items"]
        return item["cost_per_1k"], item["cost_source"]

    planned = await cost()
    await patched(registry, f"{BINDINGS}/{one['id']}", cost_per_1k=0.2)
    agreed = await cost()
    await report(registry, one["id"], {"tokens": 1000, "cost_usd": 0.1})

    assert [planned, agreed, await cost()] == [
        (0.3, "version"),
        (0.2, "agreed"),
        (0.1, "observed"),
    ]


# As of now


async def api(registry: Registry, method: str, path: str, **said: Any) -> Any:
    answer = await registry.send(method, f"/api/v1/{path}", json=said or None)
    assert answer.status < 300, answer.body
    return answer.json if answer.body else None


Step = Callable[[Registry, str, str], Awaitable[Any]]

CHANGES: dict[str, tuple[Step, bool]] = {
    # What is done with the model's id and the binding's, and whether it is offered afterwards.
    "the model's task": (lambda r, m, b: api(r, "PATCH", f"models/{m}", task_type="ocr"), False),
    "its task again": (lambda r, m, b: api(r, "PATCH", f"models/{m}", task_type="chat"), True),
    "the model is idle": (lambda r, m, b: api(r, "PATCH", f"models/{m}", active=False), False),
    "it is active": (lambda r, m, b: api(r, "PATCH", f"models/{m}", active=True), True),
    "a worse score": (
        lambda r, m, b: api(r, "PATCH", f"models/{m}/versions/1", eval_score=0.1),
        False,
    ),
    "a better score": (
        lambda r, m, b: api(r, "PATCH", f"models/{m}/versions/1", eval_score=0.7),
        True,
    ),
    "archived": (
        lambda r, m, b: api(r, "PUT", f"models/{m}/versions/1/status", status="archived"),
        False,
    ),
    "registered": (
        lambda r, m, b: api(r, "PUT", f"models/{m}/versions/1/status", status="registered"),
        False,
    ),
    "production": (
        lambda r, m, b: api(r, "PUT", f"models/{m}/versions/1/status", status="production"),
        True,
    ),
    "the binding is off": (
        lambda r, m, b: api(r, "PATCH", f"bindings/{b}", status="inactive"),
        False,
    ),
    "it is on": (lambda r, m, b: api(r, "PATCH", f"bindings/{b}", status="active"), True),
    "elsewhere": (lambda r, m, b: api(r, "PATCH", f"bindings/{b}", region="us"), False),
    "back": (lambda r, m, b: api(r, "PATCH", f"bindings/{b}", region="eu"), True),
    "it fails": (
        lambda r, m, b: api(
            r, "POST", f"bindings/{b}/observations", observations=[{"success": False, "count": 9}]
        ),
        False,
    ),
    "it succeeds": (
        lambda r, m, b: api(
            r, "POST", f"bindings/{b}/observations", observations=[{"count": 10_000}]
        ),
        True,
    ),
    "the version goes": (lambda r, m, b: api(r, "DELETE", f"models/{m}/versions/1"), False),
    "and returns": (lambda r, m, b: api(r, "POST", f"models/{m}/versions/1/restore"), True),
    "the model goes": (lambda r, m, b: api(r, "DELETE", f"models/{m}"), False),
    "and comes back": (lambda r, m, b: api(r, "POST", f"models/{m}/restore"), True),
    "the binding goes": (lambda r, m, b: api(r, "DELETE", f"bindings/{b}"), False),
}

QUERY = "task=chat&region=eu&min_eval_score=0.5&min_success_rate=0.99"


async def test_no_worker_answers_with_what_was_before(
    pair: tuple[Registry, Registry],
) -> None:
    """Each change is made at one of two workers and shows at both at once."""
    first, second = pair
    await model(first, "bert", task_type="chat", eval_score=0.9)
    await model(first, "kept", task_type="chat", eval_score=0.5)
    binding = await bound(first, region="eu")
    kept = (await bound(first, model="kept", region="eu"))["id"]
    for id in (binding["id"], kept):
        await report(first, id, {"count": 100})
    id = binding["id"]
    offered = sorted([id, kept])
    for worker in pair:
        assert sorted(await best(worker, QUERY)) == offered

    for number, (name, (step, is_offered)) in enumerate(CHANGES.items()):
        await step(pair[number % 2], binding["model"], id)
        if name == "back":  # what was observed began anew elsewhere
            await report(pair[number % 2], id, {"count": 100})
        for worker in (second, first):
            assert sorted(await best(worker, QUERY)) == (offered if is_offered else [kept]), name
    await first.check()


async def test_purged_and_registered_again_a_version_comes_without_its_bindings(
    pair: tuple[Registry, Registry],
) -> None:
    first, second = pair
    await model(first, "bert")
    one = await bound(first)
    for worker in pair:
        assert await best(worker) == [one["id"]]
    await api(first, "DELETE", "models/bert/versions/1")
    await api(second, "POST", "models/bert/versions/1/purge")
    for worker in pair:
        assert (await resolve(worker))["considered"] == 0

    await first.publish("bert", "v1", {"f": b"bert"})

    for worker in pair:
        assert (await resolve(worker))["considered"] == 0
    again = (await bound(second))["id"]
    for worker in pair:
        assert await best(worker) == [again]


async def test_purging_a_model_leaves_the_others(pair: tuple[Registry, Registry]) -> None:
    first, second = pair
    await model(first, "bert")
    await model(first, "gpt")
    gone, kept = await bound(first), await bound(first, model="gpt")
    for worker in pair:
        assert (await resolve(worker))["considered"] == 2
    await api(first, "DELETE", "models/bert")
    await api(second, "POST", f"models/{gone['model']}/purge")

    for worker in pair:
        assert await best(worker) == [kept["id"]]


async def test_a_mark_never_comes_twice_so_no_report_is_missed(
    pair: tuple[Registry, Registry],
) -> None:
    """The binding with the highest mark goes; the next report must not take that mark again."""
    first, second = pair
    await model(first, "bert")
    a, b = [(await bound(first, region=region))["id"] for region in ("a", "b")]
    await report(first, b)
    assert await best(second) == [b, a]
    await api(first, "DELETE", f"bindings/{b}")
    await report(first, a)

    assert await best(second, "min_success_rate=0.5") == [a]


async def test_what_is_committed_while_changes_are_read_is_in_the_next_answer(
    pair: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    await model(first, "bert")
    one, other = [(await bound(first, region=region))["id"] for region in ("a", "b")]
    await best(second)
    read = Router._changes

    async def read_and_wait(router: Router) -> Any:
        found = await read(router)
        await report(first, other)
        return found

    await report(first, one)
    monkeypatch.setattr(Router, "_changes", read_and_wait)
    during = await best(second, "min_success_rate=0.5")
    monkeypatch.setattr(Router, "_changes", read)

    assert during == [one]
    assert await best(second, "min_success_rate=0.5") == [one, other]


async def test_many_changes_at_once_are_read_by_a_thread_and_more_anew(
    pair: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    await model(first, "bert")
    ids = [(await bound(first, region=str(number)))["id"] for number in range(6)]
    router: Router = second.site.app[ROUTER]
    monkeypatch.setattr(service, "ON_THE_LOOP", 2)
    monkeypatch.setattr(service, "AT_ALL", 4)
    before = await router.current()
    reads = second.store.index.stats.reads

    for id in ids[:2]:
        await report(first, id)
    assert sorted(await best(second, "min_success_rate=0.5")) == sorted(ids[:2])
    on_the_loop = second.store.index.stats.reads - reads
    for id in ids[:4]:
        await report(first, id, {"success": False, "count": 9})
    assert await best(second, "min_success_rate=0.5") == []
    in_a_thread = second.store.index.stats.reads - reads
    still = await router.current() is before
    for id in ids:
        await patched(first, f"{BINDINGS}/{id}", cost_per_1k=1)
        await report(first, id, {"count": 99})
    assert sorted(await best(second, "min_success_rate=0.5&limit=100")) == sorted(ids)

    assert (on_the_loop, in_a_thread, still) == (0, 1, True)
    assert await router.current() is not before


async def test_a_model_with_many_bindings_is_read_by_a_thread_too(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await model(registry, "bert")
    ids = [(await bound(registry, region=str(number)))["id"] for number in range(3)]
    stats = registry.store.index.stats
    counts = []
    await resolve(registry)
    for most in (3, 2):
        monkeypatch.setattr(service, "ON_THE_LOOP", most)
        await patched(registry, "/api/v1/models/bert", task_type=f"task-{most}")
        before = stats.reads
        assert sorted(await best(registry, f"task=task-{most}")) == sorted(ids)
        counts.append(stats.reads - before)

    assert counts == [0, 1]


async def test_questions_at_once_load_everything_once(registry: Registry) -> None:
    await model(registry, "bert")
    one = await bound(registry)
    reads = registry.store.index.stats.reads

    answers = await asyncio.gather(*(best(registry) for _ in range(20)))

    assert answers == [[one["id"]]] * 20
    assert registry.store.index.stats.reads - reads == 1


async def test_an_answer_is_never_older_than_its_request(
    pair: tuple[Registry, Registry],
) -> None:
    """One worker switches a binding on and off and reports; the other is asked after each."""
    first, second = pair
    await model(first, "bert")
    ids = [(await bound(first, region=str(number)))["id"] for number in range(5)]

    async def switched(id: str) -> None:
        for turn in range(8):
            status = "inactive" if turn % 2 == 0 else "active"
            await patched(first, f"{BINDINGS}/{id}", status=status)
            assert (id in await best(second, "limit=100")) == (status == "active")
            await report(first, id, {"count": turn + 1})
            [found] = [
                one["observed_at"]
                for one in (await resolve(second, "limit=100"))["items"]
                if one["binding"] == id
            ] or [None]
            assert (found is None) == (status == "inactive")

    await asyncio.gather(*(switched(id) for id in ids))


async def test_a_question_costs_no_statement_while_nothing_changes(registry: Registry) -> None:
    index = registry.store.index
    await model(registry, "bert")
    one = await bound(registry)
    await resolve(registry)
    counts = []

    async def asked() -> None:
        before = index.statement_count()
        await resolve(registry, "region=eu&max_latency_ms=5")
        counts.append(index.statement_count() - before)

    await asked()
    await registry.put("/blobs/other.bin", b"nothing that a candidate shows")
    await asked()
    await report(registry, one["id"])
    await asked()
    await patched(registry, f"{BINDINGS}/{one['id']}", status="degraded")
    await asked()

    assert counts == [0, 1, 2, 3]


async def test_entries_of_other_kinds_load_nothing(registry: Registry) -> None:
    await model(registry, "bert")
    one = await bound(registry)
    await resolve(registry)
    index = registry.store.index
    await registry.send("POST", "/api/v1/runs", json={"model": "bert", "version": "1"})
    await api(registry, "PUT", "models/bert/aliases/champion", version="1")
    before = index.statement_count()

    assert await best(registry) == [one["id"]]
    assert index.statement_count() - before == 2


async def test_what_changed_is_found_along_the_ids_of_the_log(registry: Registry) -> None:
    index = registry.store.index

    changed = await plan_of(index, rows._CHANGED)
    of_models = await plan_of(index, rows._OF_MODELS)
    reported = await plan_of(index, rows._REPORTED)

    assert changed[0] == "SEARCH audit USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    assert not any(step.startswith("SCAN") and "changed" not in step for step in of_models)
    assert any("USING INDEX bindings_by_model" in step for step in of_models)
    assert reported == ["SEARCH binding_statistics USING INDEX binding_statistics_by_mark (mark>?)"]


async def test_excluded_adds_up(registry: Registry) -> None:
    for number in range(6):
        await model(registry, f"m{number}", task_type="chat" if number % 2 else "ocr")
        await bound(registry, model=f"m{number}", region="eu" if number % 3 else "us")

    answer = await resolve(registry, "task=chat&region=eu&max_latency_ms=5")

    assert answer["considered"] == 6
    assert await excluded(registry, "task=chat&region=eu&max_latency_ms=5") == {
        "task": 3,
        "region": 1,
        "latency_unknown": 2,
    }
