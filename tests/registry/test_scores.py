"""Scores of versions over HTTP: rated from what is held, kept, and read back."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from registry.catalog import scores as rows
from registry.catalog.scores import Score, insert_scores, latest_scores, latest_values
from registry.domain.principals import LOCAL, Principal, Visibility
from registry.domain.references import ByNumber, parse_model
from registry.domain.scoring import cards
from registry.domain.scoring.metrics import METRICS
from registry.errors import NotFound
from registry.keys import DRAIN
from registry.services import evidence as gathering
from registry.services.scoring import (
    RATED_AT_ONCE,
    Rated,
    Raters,
    get_scores,
    list_scores,
    rate_version,
)
from store.digest import Digest
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

VERSION = "/api/v1/models/bert/versions/1.0.0"
MIT = b"MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"
README = b"""---
license: mit
datasets: [squad]
---
# About
Routes tickets.

## Usage
```python
pipeline()
```

## Results
| split | accuracy |
|-------|----------|
| test  | 0.93     |
"""
FILES = {
    "README.md": README,
    "LICENSE": MIT,
    "model.safetensors": b"weights",
    "src/train.py": b"pass",
    "tests/test_train.py": b"pass",
    "requirements.txt": b"torch==2.9.1\n",
}


class Person(Principal, frozen=True):
    """A principal who sees everything, as somebody with a role on the registry would."""

    @property
    def visibility(self) -> Visibility:
        return Visibility(everything=True)


class Limited(Principal, frozen=True):
    """A principal who sees the models whose ids are in their name."""

    @property
    def visibility(self) -> Visibility:
        return Visibility(everything=False, owners=frozenset(self.name.split()))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def rate(registry: Registry, *metrics: str, path: str = VERSION) -> dict[str, Any]:
    """Scores by metric, after rating."""
    body = {"metrics": list(metrics)} if metrics else None
    answer = await registry.send("POST", f"{path}/rate", json=body)
    assert answer.status == 201, answer.body
    return {score["metric"]: score for score in answer.json["scores"]}


async def scores(registry: Registry, path: str = VERSION) -> Any:
    answer = await registry.get(f"{path}/scores")
    assert answer.status == 200, answer.body
    return answer.json


async def edge(registry: Registry, relation: str, parent: Any, path: str = VERSION) -> None:
    answer = await registry.send(
        "POST", f"{path}/lineage", json={"relation": relation, "parent": parent}
    )
    assert answer.status == 201, answer.body


# Rating


async def test_a_version_is_rated_by_all_metrics(registry: Registry) -> None:
    version = await registry.publish("bert", "1.0.0", FILES)
    answer = await registry.send("POST", f"{VERSION}/rate")
    found = {score["metric"]: score for score in answer.json["scores"]}

    assert answer.status == 201
    assert answer.json["version"] == version["id"]
    assert list(found) == list(METRICS)
    assert {name: score["value"] for name, score in found.items()} == {
        "ramp_up_time": pytest.approx(0.41, abs=0.01),
        "bus_factor": None,
        "performance_claims": 0.3,
        "licence": 1.0,
        "size": 1.0,
        "dataset_and_code": 0.7,
        "dataset_quality": pytest.approx(0.151, abs=0.01),
        "code_quality": 0.75,
        "reproducibility": 0.2,
        "reviewedness": None,
        "tree_score": None,
    }
    assert len({score["rating"] for score in found.values()}) == 1
    assert {score["rated_by"] for score in found.values()} == {"usr_local"}
    assert all(score["seconds"] >= 0 for score in found.values())
    assert all((score["value"] is None) == bool(score["reason"]) for score in found.values())


async def test_overall_leaves_out_what_has_no_evidence_and_says_so(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    found = await rate(registry)
    overall = (await scores(registry))["overall"]
    known = {name: one["value"] for name, one in found.items() if one["value"] is not None}
    weights = {name: METRICS[name].weight for name in known}

    assert overall["value"] == pytest.approx(
        sum(weights[name] * known[name] for name in known) / sum(weights.values()), abs=1e-6
    )
    assert overall["coverage"] == pytest.approx(sum(weights.values()))
    assert overall["without_evidence"] == ["bus_factor", "reviewedness", "tree_score"]
    assert overall["not_rated"] == []


async def test_a_version_that_was_never_rated_says_so(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)

    assert (await scores(registry))["scores"] == []
    assert (await scores(registry))["overall"] == {
        "value": None,
        "coverage": 0.0,
        "without_evidence": [],
        "not_rated": list(METRICS),
    }


async def test_named_metrics_alone_are_computed(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    found = await rate(registry, "size", "licence")

    assert list(found) == ["licence", "size"]
    assert len((await scores(registry))["overall"]["not_rated"]) == 9
    assert await registry.count("scores") == 2


async def test_evidence_that_no_metric_asks_for_is_not_gathered(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    read: list[str] = []
    real = gathering.decode_card
    monkeypatch.setattr(
        gathering,
        "decode_card",
        lambda content, **said: (read.append(said["origin"]), real(content, **said))[1],
    )
    await rate(registry, "size", "reviewedness")
    none = list(read)
    await rate(registry, "licence")

    assert (none, read) == ([], ["README.md"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metrics": ["beauty"]}, "metrics[0]"),
        ({"metrics": "size"}, "metrics"),
        ({"metrics": ["size"] * 12}, "metrics"),
        ({"metric": "size"}, "metric"),
    ],
)
async def test_what_cannot_be_rated_is_refused(registry: Registry, body: Any, field: str) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    answer = await registry.send("POST", f"{VERSION}/rate", json=body)

    assert (answer.status, [one["field"] for one in answer.json["errors"]]) == (400, [field])
    assert await registry.count("scores") == 0


@pytest.mark.parametrize("path", ["rate", "scores", "scores/history"])
@pytest.mark.parametrize(
    ("version", "status", "code"),
    [
        ("bert/versions/9", 404, "version_not_found"),
        ("gpt/versions/1", 404, "model_not_found"),
        ("bert/versions/draft", 409, "version_is_draft"),
    ],
)
async def test_what_is_no_version_has_no_scores(
    registry: Registry, path: str, version: str, status: int, code: str
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    await registry.put("/models/bert/draft/f", b"1")
    method = "POST" if path == "rate" else "GET"
    answer = await registry.send(method, f"/api/v1/models/{version}/{path}")

    assert (answer.status, answer.code) == (status, code)


async def test_a_rating_is_one_entry_of_the_audit_log(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    await rate(registry)
    found = await registry.rows("SELECT kind, name, after FROM audit WHERE action = 'rate'")

    assert [row[:2] for row in found] == [("version", "1.0.0")]
    assert '"licence":1.0' in found[0][2].replace(" ", "")


async def test_a_repeated_key_rates_once(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    sent = [
        await registry.send("POST", f"{VERSION}/rate", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert await registry.count("scores") == len(METRICS)


async def test_seconds_are_what_gathering_and_computing_took(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    ticks = count()
    rated = await rate_version(
        registry.store,
        LOCAL,
        Raters(),
        parse_model("bert"),
        ByNumber(1),
        ["reviewedness", "licence"],
        timer=lambda: float(next(ticks)),
    )

    # One tick for each part of the evidence, and one for the metric itself.
    assert {score.metric: score.seconds for score in rated.scores} == {
        "licence": 3.0,
        "reviewedness": 2.0,
    }


# What scores are made of


async def test_the_card_of_a_model_stands_in_where_a_version_has_none(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    before = await rate(registry, "ramp_up_time", "licence")
    await registry.put("/api/v1/models/bert/card", README)
    after = await rate(registry, "ramp_up_time", "licence")

    assert before["ramp_up_time"]["value"] is None
    assert after["ramp_up_time"]["value"] > 0.3
    assert after["ramp_up_time"]["evidence"]["card"] == "card"
    assert after["licence"]["value"] == 0.9


async def test_a_card_of_another_version_is_not_taken(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    await registry.publish("bert", "2.0.0", FILES)
    await registry.get("/api/v1/models/bert/card")

    assert (await rate(registry, "ramp_up_time"))["ramp_up_time"]["value"] is None


async def test_runs_make_a_version_reproducible(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    without = await rate(registry, "reproducibility", "performance_claims", "dataset_and_code")
    run = await registry.send(
        "POST",
        "/api/v1/runs",
        json={
            "model": "bert",
            "version": "1.0.0",
            "status": "succeeded",
            "dataset": "squad",
            "dataset_version": "2",
            "hyperparameters": {"lr": 1, "seed": 7},
            "environment": {"python": "3.12"},
        },
    )
    run_id = run.json["id"]
    await registry.send(
        "POST", f"/api/v1/runs/{run_id}/metrics", json={"points": [{"key": "loss", "value": 1}]}
    )
    within = await rate(registry, "reproducibility", "performance_claims", "dataset_and_code")
    await registry.send("DELETE", f"/api/v1/runs/{run_id}")
    deleted = await rate(registry, "reproducibility")

    assert without["reproducibility"]["value"] == 0.2
    assert within["reproducibility"]["value"] == 1.0
    assert within["reproducibility"]["evidence"]["best_run"] == run_id
    assert within["performance_claims"]["value"] == 0.5
    assert within["dataset_and_code"]["value"] == 0.8
    assert deleted["reproducibility"]["value"] == 0.2


async def test_runs_that_succeeded_are_looked_into_first(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_RUNS", 1)
    await registry.publish("bert", "1.0.0", FILES)
    for status, started in (("succeeded", "2026-01-01"), ("failed", "2026-01-02")):
        told = {"status": status, "started_at": f"{started}T00:00:00Z", "environment": {"a": 1}}
        run = await registry.send(
            "POST",
            "/api/v1/runs",
            json={"model": "bert", "version": "1.0.0", "name": status} | told,
        )
        assert run.status == 201, run.body
    found = (await rate(registry, "reproducibility"))["reproducibility"]["evidence"]
    [(name,)] = await registry.rows(f"SELECT name FROM runs WHERE id = '{found['best_run']}'")

    assert (found["runs"], name) == (1, "succeeded")


async def test_recorded_metrics_back_claims(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    before = await rate(registry, "performance_claims")
    metrics = [{"name": "acc", "split": "test", "value": 0.9}]
    await registry.send("POST", f"{VERSION}/metrics", json={"metrics": metrics})
    await registry.send("PATCH", VERSION, json={"eval_score": 0.9, "parameters": {"lr": 1}})
    after = await rate(registry, "performance_claims", "reproducibility")

    assert before["performance_claims"]["value"] is None
    assert after["performance_claims"]["value"] == 0.5
    assert after["performance_claims"]["evidence"]["recorded_metrics"] == {"test": 1}
    assert after["reproducibility"]["value"] == 0.2


DATASHEET = b"""---
license: cc-by-4.0
---
# Motivation
why
# Composition
what
"""


async def dataset(registry: Registry, card: bytes = DATASHEET) -> Any:
    await registry.send("POST", "/api/v1/models", json={"name": "squad", "kind": "dataset"})
    return await registry.publish("squad", "v1", {"README.md": card, "d.csv": b"1,2"})


async def test_the_quality_of_data_is_that_of_its_own_card(registry: Registry) -> None:
    version = await dataset(registry)
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    await edge(registry, "trained-on", {"model": "squad", "version": "1"})
    of_model = await rate(registry, "dataset_quality", "dataset_and_code")
    of_data = await rate(registry, path="/api/v1/models/squad/versions/1")

    assert of_model["dataset_quality"]["value"] == of_data["dataset_quality"]["value"]
    assert of_model["dataset_quality"]["value"] == pytest.approx(0.4, abs=0.01)
    [named] = of_model["dataset_quality"]["evidence"]["datasets"]
    assert (named["name"], named["version"]) == ("squad/v1", version["id"])
    assert of_model["dataset_and_code"]["value"] == 0.5
    assert of_data["size"]["reason"] == "makes no sense for a dataset"


async def test_data_elsewhere_is_named_and_not_judged(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    await edge(registry, "trained-on", {"uri": "hf:datasets/allenai/c4", "kind": "dataset"})
    found = await rate(registry, "dataset_quality", "dataset_and_code", "tree_score")

    assert found["dataset_quality"]["value"] is None
    assert found["dataset_and_code"]["value"] == 0.3
    assert found["tree_score"]["evidence"]["parents_elsewhere"] == 1


async def test_the_tree_score_is_the_mean_of_the_parents(registry: Registry) -> None:
    for model in ("good", "bad", "unrated", "gone"):
        files = FILES if model == "good" else {"README.md": b"bad", "LICENSE": b"no"}
        await registry.publish(model, "v1", files)
    await registry.publish("bert", "1.0.0", {"model.bin": b"1"})
    for model in ("good", "bad", "unrated", "gone"):
        await edge(registry, "merged", {"model": model, "version": "1"})
    unrated = await rate(registry, "tree_score")
    overall = {}
    for model in ("good", "bad", "gone"):
        path = f"/api/v1/models/{model}/versions/1"
        await rate(registry, path=path)
        overall[model] = (await scores(registry, path))["overall"]["value"]
    await registry.send("DELETE", "/api/v1/models/gone/versions/1")
    found = (await rate(registry, "tree_score"))["tree_score"]

    assert unrated["tree_score"]["reason"] == "no parent that counts has been rated"
    assert overall["good"] > overall["bad"]
    assert found["value"] == pytest.approx((overall["good"] + overall["bad"]) / 2, abs=1e-6)
    assert found["evidence"]["rated_parents"] == 2
    assert found["evidence"]["unrated_parents"] == 1
    assert found["evidence"]["deleted_parents"] == 1


async def test_what_a_parent_came_from_comes_with_its_own_tree_score(registry: Registry) -> None:
    chain = ["a", "b", "bert"]
    for model in chain:
        await registry.publish(model, "1.0.0", {"LICENSE": MIT} if model == "a" else {"f": b"1"})
    for parent, child in (("a", "b"), ("b", "bert")):
        path = f"/api/v1/models/{child}/versions/1"
        await edge(registry, "fine-tuned", {"model": parent, "version": "1.0.0"}, path)
    for model in chain:
        found = await rate(
            registry, "licence", "tree_score", path=f"/api/v1/models/{model}/versions/1"
        )

    assert found["tree_score"]["value"] == 1.0


async def test_an_external_version_is_rated_by_what_there_is(registry: Registry) -> None:
    source = {"uri": "s3://models/bert/7", "size": 3 << 29}
    made = await registry.send(
        "POST",
        "/api/v1/models/bert/versions",
        json={"label": "1.0.0", "source": source, "eval_score": 0.9},
    )
    assert made.status == 201, made.body
    found = await rate(registry)

    assert found["size"]["value"] == 0.875
    assert found["size"]["evidence"]["basis"] == "declared of the source"
    assert found["performance_claims"]["value"] == 0.1
    assert found["code_quality"]["value"] is None
    assert found["ramp_up_time"]["value"] is None


async def test_contributors_are_counted_over_the_model(registry: Registry) -> None:
    for number in range(1, 5):
        await registry.publish("bert", f"{number}.0.0", {"f": str(number).encode()})
    open_mode = await rate(registry, "bus_factor")
    await run_sql(
        registry,
        "UPDATE versions SET created_by = CASE number WHEN 1 THEN 'usr_a' WHEN 2 THEN 'usr_b' "
        "ELSE 'usr_c' END",
    )
    told = await rate(registry, "bus_factor")

    assert open_mode["bus_factor"]["value"] is None
    assert "open mode" in open_mode["bus_factor"]["reason"]
    assert told["bus_factor"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert told["bus_factor"]["evidence"]["bus_factor"] == 2
    assert told["bus_factor"]["evidence"]["most"] == {"usr_c": 2, "usr_a": 1, "usr_b": 1}


async def test_runs_edges_and_a_card_are_contributions_too(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await registry.send("POST", "/api/v1/runs", json={"model": "bert"})
    await edge(registry, "merged", {"uri": "hf:x"})
    await registry.put("/api/v1/models/bert/card", b"# BERT")
    for table, maker in (("versions", "a"), ("runs", "b"), ("lineage", "c")):
        await run_sql(registry, f"UPDATE {table} SET created_by = 'usr_{maker}'")
    await run_sql(registry, "UPDATE model_cards SET updated_by = 'usr_d'")
    found = (await rate(registry, "bus_factor"))["bus_factor"]

    assert found["evidence"]["most"] == dict.fromkeys(("usr_a", "usr_b", "usr_c", "usr_d"), 1)
    assert found["evidence"]["bus_factor"] == 3


async def run_sql(registry: Registry, sql: str) -> None:
    async def unit(tx: Tx) -> None:
        await tx.run(Statement(text(sql)))

    await registry.store.index.run(unit)


async def test_a_damaged_card_is_said_and_nothing_is_kept(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    digest = Digest.of(README)
    [(generation,)] = await registry.rows(
        f"SELECT generation FROM blobs WHERE lower(hex(digest)) = '{digest.hex}'"
    )
    await registry.store.quarantine.convict(digest, generation)
    answer = await registry.send("POST", f"{VERSION}/rate")
    others = await rate(registry, "size", "code_quality", "reviewedness")
    await registry.put("/blobs/healed", README)

    assert (answer.status, answer.code) == (500, "blob_damaged")
    assert len(others) == 3
    assert len(await rate(registry)) == len(METRICS)


# Bounds


async def test_a_long_card_is_read_to_its_bound_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    real = cards.read_card

    def remembered(content: str, **said: Any) -> Any:
        lengths.append(len(content))
        return real(content, **said)

    monkeypatch.setattr(cards, "read_card", remembered)
    long = README + b"word " * (1 << 20) + b"\n# Limitations\nnone\n"
    await registry.publish("bert", "1.0.0", {"README.md": long})
    found = (await rate(registry, "ramp_up_time"))["ramp_up_time"]["evidence"]

    assert len(long) > 5 << 20
    assert lengths == [gathering.TEXT_BYTES]
    assert (found["read_bytes"], found["is_cut"]) == (gathering.TEXT_BYTES, True)
    assert "limitations" in found["missing_topics"]


async def test_cards_are_read_off_the_event_loop(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    real = cards.read_card

    def remembered(content: str, **said: Any) -> Any:
        threads.append(threading.get_ident())
        return real(content, **said)

    monkeypatch.setattr(cards, "read_card", remembered)
    await registry.publish("bert", "1.0.0", FILES)
    await rate(registry, "ramp_up_time")

    assert threads
    assert threading.get_ident() not in threads


async def test_ten_thousand_files_are_counted_page_by_page(registry: Registry) -> None:
    await registry.put("/blobs/empty", b"")
    digest = str(Digest.of(b""))
    files = [{"path": f"src/{n // 100}/{n}.py", "digest": digest} for n in range(10_000)]
    said = msgspec.json.encode({"label": "1.0.0", "files": files})
    answer = await registry.send(
        "POST",
        "/api/v1/models/bert/versions",
        data=said,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == 201, answer.body
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = (await rate(registry, "code_quality"))["code_quality"]["evidence"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert (found["scripts"], found["is_cut"]) == (10_000, False)
    assert len(found["examples"]) == 10
    assert grown < 16 << 10, "KiB"


async def test_files_beyond_the_bound_are_said_to_be_left_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_FILES", 2)
    monkeypatch.setattr(gathering, "PAGE_FILES", 2)
    await registry.publish("bert", "1.0.0", FILES)
    found = (await rate(registry, "code_quality"))["code_quality"]["evidence"]

    assert found["is_cut"] is True


async def test_pages_of_files_follow_each_other(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "PAGE_FILES", 2)
    await registry.publish("bert", "1.0.0", FILES)
    found = await rate(registry, "code_quality", "licence")

    assert found["code_quality"]["value"] == 0.75
    assert found["licence"]["evidence"]["files"] == [{"path": "LICENSE", "licence": "mit"}]


async def test_other_requests_are_served_while_a_version_is_rated(registry: Registry) -> None:
    long = b"---\n" + b"# Usage\nword | word\n" * 13_000
    await registry.publish("bert", "1.0.0", {"README.md": long})
    rating = asyncio.ensure_future(rate(registry, "ramp_up_time"))
    served = 0
    while not rating.done():
        assert (await registry.get("/healthz")).status == 200
        served += 1
    await rating

    assert served > 3


async def test_few_ratings_gather_at_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    inside = most = 0
    all_came = asyncio.Event()
    drain = registry.site.app[DRAIN]
    real = gathering.gather_evidence

    async def watched(*args: Any, **named: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await all_came.wait()
            return await real(*args, **named)
        finally:
            inside -= 1

    monkeypatch.setattr("registry.services.scoring.gather_evidence", watched)
    rating = asyncio.gather(*(rate(registry, "licence") for _ in range(6)))
    await registry.site.until(lambda: drain.in_flight == 6 and inside >= RATED_AT_ONCE)
    all_came.set()
    await rating

    assert most == RATED_AT_ONCE
    assert await registry.count("scores") == 6


# The latest, and histories


async def test_the_latest_of_each_metric_is_shown(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    first = await rate(registry)
    second = await rate(registry, "size")
    shown = {one["metric"]: one["rating"] for one in (await scores(registry))["scores"]}

    assert shown["size"] == second["size"]["rating"] != first["size"]["rating"]
    assert shown["licence"] == first["licence"]["rating"]


async def test_histories_are_kept_and_read_page_by_page(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    ratings = [(await rate(registry, "size", "licence"))["size"]["rating"] for _ in range(3)]
    answer = await registry.get(f"{VERSION}/scores/history?limit=4")
    rest = await registry.get(f"{VERSION}/scores/history?limit=4&after={answer.json['next']}")
    sizes = await registry.get(f"{VERSION}/scores/history?metric=size")

    assert [one["metric"] for one in answer.json["items"]] == ["size", "licence"] * 2
    assert 'rel="next"' in answer.headers["Link"]
    assert [one["rating"] for one in rest.json["items"]] == [ratings[0]] * 2
    assert rest.json["next"] is None
    assert [one["rating"] for one in sizes.json["items"]] == ratings[::-1]
    assert {one["metric"] for one in sizes.json["items"]} == {"size"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("metric=beauty", "invalid"),
        ("limit=0", "invalid"),
        ("after=x", "invalid_cursor"),
        ("order=old", "invalid"),
    ],
)
async def test_what_is_no_question_of_a_history_is_refused(
    registry: Registry, query: str, code: str
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    answer = await registry.get(f"{VERSION}/scores/history?{query}")

    assert (answer.status, answer.code) == (400, code)


async def test_a_cursor_belongs_to_its_version_and_metric(registry: Registry) -> None:
    for label in ("1.0.0", "2.0.0"):
        await registry.publish("bert", label, FILES)
        await rate(registry, path=f"/api/v1/models/bert/versions/{label}")
    next = (await registry.get(f"{VERSION}/scores/history?limit=1")).json["next"]
    other = f"/api/v1/models/bert/versions/2.0.0/scores/history?after={next}"

    for path in (other, f"{VERSION}/scores/history?metric=size&after={next}"):
        assert (await registry.get(path)).code == "invalid_cursor"


async def of_version(registry: Registry) -> str:
    [(found,)] = await registry.rows("SELECT id FROM versions")
    return str(found)


async def test_the_latest_of_all_metrics_are_one_statement(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    for _ in range(3):
        await rate(registry)
    version = await of_version(registry)
    index = registry.store.index

    async def statements(unit: Any) -> tuple[int, Any]:
        before = index.statement_count()  # type: ignore[attr-defined]  # of the one there is
        found = await index.read(unit)
        return index.statement_count() - before, found  # type: ignore[attr-defined]  # as above

    spent, found = await statements(lambda tx: latest_scores(tx, version, METRICS))
    many, values = await statements(lambda tx: latest_values(tx, [version, "ver_x"], METRICS))

    assert (spent, {score.metric for score in found}) == (1, set(METRICS))
    assert (many, set(values), len(values[version])) == (1, {version}, len(METRICS))


async def test_what_the_latest_cost_does_not_grow_with_history(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    index = registry.store.index
    for statement in (rows._LATEST, rows._VALUES):
        plan = " / ".join(await plan_of(index, statement))
        assert "scores_by_metric (version=? AND metric=?)" in plan
        assert "SCAN scores" not in plan
    for has_metric, name in ((False, "scores_by_version"), (True, "scores_by_metric")):
        page = rows._page(has_metric=has_metric, has_place=True)
        plan = " / ".join(await plan_of(index, page))
        assert name in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 1.5},
        {"value": -0.1},
        {"value": None},
        {"reason": "because"},
        {"seconds": -1.0},
        {"metric": ""},
        {"evidence": ""},
        {"version_id": "ver_none"},
    ],
)
async def test_the_table_refuses_what_no_score_is(
    registry: Registry, wrong: dict[str, Any]
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    score: dict[str, Any] = {
        "rating": "scr_x",
        "version_id": await of_version(registry),
        "metric": "size",
        "value": 0.5,
        "reason": "",
        "evidence": "{}",
        "seconds": 0.0,
        "created_at": 1,
        "created_by": "usr_local",
    }
    await registry.store.index.run(lambda tx: insert_scores(tx, [Score(**score)]))
    with pytest.raises(IndexConflict):
        await registry.store.index.run(lambda tx: insert_scores(tx, [Score(**{**score, **wrong})]))


async def test_metrics_are_described(registry: Registry) -> None:
    answer = await registry.get("/api/v1/scores/metrics")

    assert [one["name"] for one in answer.json["items"]] == list(METRICS)
    for one in answer.json["items"]:
        assert one["question"].endswith("?")
        assert one["definition"].endswith(".")
        assert one["evidence"]
        assert one["source"]
    assert sum(one["weight"] for one in answer.json["items"]) == pytest.approx(1)


# What may be seen


async def family(registry: Registry) -> dict[str, str]:
    """Models by their ids: bert came from a secret parent and was trained on secret data."""
    await dataset(registry)
    await registry.publish("secret", "v1", FILES)
    await registry.publish("bert", "1.0.0", {"f": b"1"})
    await edge(registry, "fine-tuned", {"model": "secret", "version": "1"})
    await edge(registry, "trained-on", {"model": "squad", "version": "1"})
    await rate(registry, path="/api/v1/models/secret/versions/1")
    return dict(await registry.rows("SELECT name, id FROM models"))


async def rated_by(registry: Registry, principal: Principal) -> dict[str, Score]:
    rated: Rated = await rate_version(
        registry.store, principal, Raters(), parse_model("bert"), ByNumber(1), []
    )
    return {score.metric: score for score in rated.scores}


async def test_parents_that_may_not_be_seen_are_left_out(registry: Registry) -> None:
    models = await family(registry)
    seeing = await rated_by(registry, Person("usr_a", "a"))
    limited = await rated_by(registry, Limited("usr_b", models["bert"]))

    assert seeing["tree_score"].value is not None
    assert limited["tree_score"].value is None
    assert '"restricted_parents":2' in limited["tree_score"].evidence
    assert limited["dataset_quality"].value is None
    for score in limited.values():
        assert "secret" not in score.evidence
        assert "squad" not in score.evidence


async def test_evidence_names_no_model_that_its_reader_may_not_see(registry: Registry) -> None:
    models = await family(registry)
    await rate(registry)
    reader = Limited("usr_b", models["bert"])
    bert, number = parse_model("bert"), ByNumber(1)
    rated = await get_scores(registry.store, reader, bert, number)
    page = await list_scores(
        registry.store, reader, bert, number, metric=None, after=None, limit=99
    )
    seen = await get_scores(registry.store, LOCAL, bert, number)

    assert any("secret/v1" in score.evidence for score in seen.scores)
    for score in (*rated.scores, *page.items):
        assert "secret" not in score.evidence
        assert "squad" not in score.evidence
    assert sum('"restricted":true' in score.evidence for score in rated.scores) >= 2


async def test_scores_of_what_may_not_be_seen_are_not_found(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    stranger = Principal("usr_stranger", "stranger")
    bert, number = parse_model("bert"), ByNumber(1)

    with pytest.raises(NotFound):
        await rate_version(registry.store, stranger, Raters(), bert, number, [])
    with pytest.raises(NotFound):
        await get_scores(registry.store, stranger, bert, number)
    assert await registry.count("scores") == 0


# Deleting and purging


async def judged(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    await registry.publish("bert", "2.0.0", {"f": b"1"})
    for label in ("1.0.0", "2.0.0"):
        path = f"/api/v1/models/bert/versions/{label}"
        await rate(registry, path=path)
        await registry.send("POST", f"{path}/reviews", json={"verdict": "approve"})


async def test_a_deleted_version_has_its_scores_when_it_is_back(registry: Registry) -> None:
    await judged(registry)
    await registry.send("DELETE", VERSION)
    gone = await registry.get(f"{VERSION}/scores")
    await registry.send("POST", "/api/v1/models/bert/versions/1/restore")

    assert gone.status == 404
    assert len((await scores(registry))["scores"]) == len(METRICS)


async def test_purging_a_version_takes_its_scores_and_reviews_along(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.scoring.REMOVED_AT_ONCE", 3)
    await judged(registry)
    await registry.send("DELETE", VERSION)
    purged = await registry.send("POST", "/api/v1/models/bert/versions/1/purge")

    assert purged.status == 200, purged.body
    assert await registry.count("scores") == len(METRICS)
    assert await registry.count("reviews") == 1
    [(number,)] = await registry.rows(
        "SELECT DISTINCT v.number FROM scores s JOIN versions v ON v.id = s.version"
    )
    assert number == 2


async def test_purging_a_model_takes_all_scores_and_reviews_along(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.catalog.purges.AT_ONCE", 3)
    await judged(registry)
    model = (await registry.get("/api/v1/models/bert")).json["id"]
    await registry.send("DELETE", "/api/v1/models/bert")
    purged: Answer = await registry.send("POST", f"/api/v1/models/{model}/purge")

    assert purged.status == 204, purged.body
    assert await registry.count("scores") == await registry.count("reviews") == 0
    assert await registry.count("models") == 0


async def test_a_version_that_is_deleted_while_it_is_rated_gets_no_scores(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publish("bert", "1.0.0", FILES)
    real = gathering.gather_evidence

    async def deleted_meanwhile(*args: Any, **named: Any) -> Any:
        found = await real(*args, **named)
        await registry.send("DELETE", VERSION)
        return found

    monkeypatch.setattr("registry.services.scoring.gather_evidence", deleted_meanwhile)
    answer = await registry.send("POST", f"{VERSION}/rate")

    assert (answer.status, answer.code) == (404, "version_not_found")
    assert await registry.count("scores") == 0
