"""A tag's row says how many living models and versions have it, whatever happens to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from registry.catalog import tag_lists as lists
from registry.catalog import tag_lives
from registry.catalog import tags as rows
from registry.domain.principals import LOCAL, Visibility
from registry.services.tag_lives import follow_lives
from registry.services.tags import list_tags
from store.index.transactions import Tx
from tests.support.builders import Registry, running_registry
from tests.support.plans import plan_of

MODELS = ("a", "b", "n/a")
LABELS = ("1.0.0", "2.0.0", "wip")
KEYS = ("lang", "gpu", "owner")
VALUES = ("", "1", "2")

RECOUNT = """
SELECT t.folded, t.models, t.versions,
    (SELECT count(*) FROM model_tags AS o JOIN models AS m ON m.id = o.model
     WHERE o.tag = t.id AND m.deleted_at IS NULL),
    (SELECT count(*) FROM version_tags AS o JOIN versions AS v ON v.id = o.version
     JOIN models AS m ON m.id = v.model
     WHERE o.tag = t.id AND v.deleted_at IS NULL AND m.deleted_at IS NULL)
FROM tags AS t
"""

UNUSED = """
SELECT t.folded FROM tags AS t WHERE t.description = ''
AND t.id NOT IN (SELECT tag FROM model_tags) AND t.id NOT IN (SELECT tag FROM version_tags)
"""


class Life:
    """What may happen to models, versions and their tags, drawn from a seed."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self.registry = registry
        self.rng = random.Random(seed)
        self.deleted: list[str] = []
        self.done = dict[str, int]()
        self.happenings: list[Callable[[], Any]] = [
            self.register,
            self.register,
            self.publish_draft,
            self.tag_model,
            self.tag_version,
            self.tag_version,
            self.untag,
            self.batch,
            self.delete_version,
            self.restore_version,
            self.purge_version,
            self.rename_model,
            self.delete_model,
            self.restore_model,
            self.purge_model,
        ]

    async def step(self) -> str:
        happening = self.rng.choice(self.happenings)
        await happening()
        return happening.__name__

    async def send(self, method: str, path: str, json: Any = None) -> int:
        answer = await self.registry.send(method, path, json=json)
        assert answer.status < 500, (method, path, answer.body)
        if answer.status < 300:
            self.done[path.rpartition("/")[2]] = self.done.get(path.rpartition("/")[2], 0) + 1
        return answer.status

    def model(self) -> str:
        return f"/api/v1/models/{self.rng.choice(MODELS).replace('/', '~')}"

    def version(self) -> str:
        return f"{self.model()}/versions/{self.rng.choice((*LABELS, '1', '2'))}"

    def tags(self) -> dict[str, str]:
        return {key: self.rng.choice(VALUES) for key in KEYS if self.rng.random() < 0.5}

    async def register(self) -> None:
        """The same source each time, so that what was purged can come back under its label."""
        label = self.rng.choice(LABELS)
        said = {"label": label, "source": {"uri": f"s3://x/{label}"}, "tags": self.tags()}
        await self.send("POST", f"{self.model()}/versions", said)

    async def publish_draft(self) -> None:
        model, label = self.model(), f"draft-{self.rng.randrange(3)}"
        path = model.replace("/api/v1", "")
        await self.registry.put(f"{path}/{label}/f", b"bytes")
        await self.send("POST", f"{model}/versions/{label}/publish", {"tags": self.tags()})

    async def tag_model(self) -> None:
        path = f"{self.model()}/tags/{self.rng.choice(KEYS)}"
        await self.send("PUT", path, {"value": self.rng.choice(VALUES)})

    async def tag_version(self) -> None:
        path = f"{self.version()}/tags/{self.rng.choice(KEYS)}"
        await self.send("PUT", path, {"value": self.rng.choice(VALUES)})

    async def untag(self) -> None:
        holder = self.rng.choice((self.model, self.version))()
        await self.send("DELETE", f"{holder}/tags/{self.rng.choice(KEYS)}")

    async def batch(self) -> None:
        model = self.rng.choice(MODELS)
        steps = [{"model": model, "key": key} for key in KEYS]
        said = {"assign": steps[:1], "remove": [*steps[1:], {**steps[1], "version": "1"}]}
        await self.send("POST", "/api/v1/tags/batch", said)

    async def delete_version(self) -> None:
        await self.send("DELETE", self.version())

    async def restore_version(self) -> None:
        await self.send("POST", f"{self.version()}/restore")

    async def purge_version(self) -> None:
        await self.send("POST", f"{self.version()}/purge")

    async def rename_model(self) -> None:
        await self.send("POST", f"{self.model()}/rename", {"name": self.rng.choice(MODELS)})

    async def delete_model(self) -> None:
        model = self.model()
        found = await self.registry.get(model)
        if found.status == 200 and await self.send("DELETE", model) == 204:
            self.deleted.append(found.json["id"])

    async def restore_model(self) -> None:
        if self.deleted:
            id = self.deleted.pop(self.rng.randrange(len(self.deleted)))
            said = {"name": self.rng.choice(MODELS)}
            if await self.send("POST", f"/api/v1/models/{id}/restore", said) != 200:
                self.deleted.append(id)

    async def purge_model(self) -> None:
        if self.deleted:
            id = self.deleted.pop(self.rng.randrange(len(self.deleted)))
            assert await self.send("POST", f"/api/v1/models/{id}/purge") == 204


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_counts_are_a_recount_whatever_happens(seed: int) -> None:
    async with running_registry(None) as registry:
        life = Life(registry, seed)
        happened: list[str] = []
        for _ in range(150):
            happened.append(await life.step())

            counted = await registry.rows(RECOUNT)
            wrong = [row for row in counted if (row[1], row[2]) != (row[3], row[4])]
            assert wrong == [], happened
            assert await registry.rows(UNUSED) == [], happened
        for name in ("versions", "publish", "batch", "gpu", "restore", "purge", "rename"):
            assert life.done.get(name), (name, life.done)
        await registry.check()


@pytest.mark.parametrize("seed", [5, 7])
async def test_counts_that_follow_in_steps_are_right_in_the_end(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tag_lives, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(tag_lives, "VERSIONS_AT_ONCE", 1)
    too_many = too_few = False
    async with running_registry(None) as registry:
        index, life = registry.store.index, Life(registry, seed)

        async def follow() -> None:
            for first, go_on in (
                (tag_lives.first_uncounted, tag_lives.uncount_some),
                (tag_lives.first_behind, tag_lives.count_some),
            ):
                model = await index.read(first)
                if model is not None:
                    await index.run(partial(go_on, model_id=model))

        life.happenings += [follow, life.tag_version, life.delete_model, life.restore_model]
        for _ in range(150):
            await life.step()

            counted = await registry.rows(RECOUNT)
            assert all(row[1] == row[3] and row[2] >= 0 for row in counted), counted
            too_many |= any(row[2] > row[4] for row in counted)
            too_few |= any(row[2] < row[4] for row in counted)
        assert too_many
        assert too_few
        await follow_lives(registry.store, sleep=no_pause)

        counted = await registry.rows(RECOUNT)
        assert [row for row in counted if row[2] != row[4]] == []
        assert await registry.rows(UNUSED) == []
        assert await follow_lives(registry.store, sleep=no_pause) == 0


async def no_pause(_: float) -> None:
    """Wait for nobody."""


async def test_a_deleted_model_of_many_tags_stops_counting_in_small_steps(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_lives, "MOST_AT_ONCE", 4)
    monkeypatch.setattr(tag_lives, "VERSIONS_AT_ONCE", 2)

    async def told() -> int:
        [tag] = (await registry.get("/api/v1/tags?prefix=gpu")).json["items"]
        return int(tag["versions"])

    for name, versions in (("small", 4), ("large", 5)):
        for number in range(versions):
            said = {"source": {"uri": f"s3://{number}"}, "tags": {"gpu": ""}}
            await registry.send("POST", f"/api/v1/models/{name}/versions", json=said)
    await registry.send("DELETE", "/api/v1/models/small")
    assert await told() == 5
    id = (await registry.get("/api/v1/models/large")).json["id"]

    await registry.send("DELETE", "/api/v1/models/large")
    steps = [await told()]
    while await registry.store.index.run(partial(tag_lives.uncount_some, model_id=id)):
        steps.append(await told())
    assert steps == [5, 3, 1, 0, 0]

    for done in range(3):
        await registry.send("POST", f"/api/v1/models/{id}/restore")
        steps = [await told()]
        while await registry.store.index.run(partial(tag_lives.count_some, model_id=id)):
            steps.append(await told())
        assert steps == {0: [0, 2, 4, 5], 1: [5], 2: [3, 5]}[done]
        await registry.send("DELETE", "/api/v1/models/large")
        for _ in range(done):
            await registry.store.index.run(partial(tag_lives.uncount_some, model_id=id))
    await registry.send("POST", f"/api/v1/models/{id}/purge")
    assert await told() == 0
    assert await registry.store.index.read(tag_lives.first_uncounted) is None


async def test_what_changes_while_a_restored_model_is_counted_is_counted_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_lives, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(tag_lives, "VERSIONS_AT_ONCE", 2)
    at, said = "/api/v1/models/a", {"tags": {"gpu": "", "lang": "en"}}
    for number in range(7):
        await registry.send(
            "POST", f"{at}/versions", json={"source": {"uri": f"s3://{number}"}, **said}
        )
    id = (await registry.get(at)).json["id"]
    await registry.send("DELETE", f"{at}/versions/6")
    await registry.send("DELETE", at)
    await follow_lives(registry.store, sleep=no_pause)
    await registry.send("POST", f"/api/v1/models/{id}/restore")
    await registry.store.index.run(partial(tag_lives.count_some, model_id=id))

    for number in (1, 4):  # one is counted already, the other is not
        await registry.send("DELETE", f"{at}/versions/{number}/tags/lang")
        await registry.send("PUT", f"{at}/versions/{number}/tags/cpu", json={})
    for number in (2, 5):
        await registry.send("DELETE", f"{at}/versions/{number}")
    await registry.send("POST", f"{at}/versions/6/restore")
    await registry.send("POST", f"{at}/versions", json={"source": {"uri": "s3://8"}, **said})
    halfway = [tuple(row) for row in await registry.rows(RECOUNT)]
    await follow_lives(registry.store, sleep=no_pause)

    assert {row[0]: (row[2], row[4]) for row in halfway} == {
        "cpu=": (1, 2),
        "gpu=": (2, 6),
        "lang=en": (1, 4),
    }
    counted = await registry.rows(RECOUNT)
    assert [row for row in counted if row[2] != row[4]] == []
    await registry.send("DELETE", at)
    await registry.send("POST", f"/api/v1/models/{id}/restore")
    await registry.send("DELETE", at)
    await follow_lives(registry.store, sleep=no_pause)
    assert {row[2] for row in await registry.rows(RECOUNT)} == {0}


async def test_the_tags_of_a_purged_version_go_with_their_last_use(registry: Registry) -> None:
    said = {"source": {"uri": "s3://x"}, "tags": {"gpu": "", "lang": "en"}}
    await registry.send("POST", "/api/v1/models/a/versions", json=said)
    await registry.send("PUT", "/api/v1/models/a/tags/gpu", json={})
    await registry.send("DELETE", "/api/v1/models/a/versions/1")
    deleted = (await registry.get("/api/v1/tags")).json["items"]

    await registry.send("POST", "/api/v1/models/a/versions/1/purge")

    purged = (await registry.get("/api/v1/tags")).json["items"]
    told = [
        [(tag["key"], tag["models"], tag["versions"]) for tag in one] for one in (deleted, purged)
    ]
    assert told == [[("gpu", 1, 0), ("lang", 0, 0)], [("gpu", 1, 0)]]


async def test_who_may_not_see_all_is_told_of_what_they_may_see(registry: Registry) -> None:
    ids = []
    for name in ("a", "b"):
        said = {"source": {"uri": "s3://x"}, "tags": {"gpu": ""}}
        await registry.send("POST", f"/api/v1/models/{name}/versions", json=said)
        await registry.send("PUT", f"/api/v1/models/{name}/tags/gpu", json={})
        ids.append((await registry.get(f"/api/v1/models/{name}")).json["id"])

    [all_of_it] = await list_tags(registry.store, LOCAL)
    seeing = Visibility(everything=False, owners=frozenset(ids[:1]))

    async def unit(tx: Tx) -> list[lists.CountedTag]:
        return await lists.tags_after(tx, "", "", 10, seen=seeing.seen)

    [some_of_it] = await registry.store.index.read(unit)

    assert (all_of_it.models, all_of_it.versions, all_of_it.is_exact) == (2, 2, True)
    assert (some_of_it.models, some_of_it.versions, some_of_it.is_exact) == (1, 1, True)


async def test_a_page_of_tags_reads_nothing_but_its_rows(registry: Registry) -> None:
    plan = await plan_of(registry.store.index, lists._PAGE[""])

    assert len(plan) == 1, plan
    assert plan[0].startswith("SEARCH tags USING INDEX"), plan


async def test_what_ends_with_a_model_or_version_is_found_by_it(registry: Registry) -> None:
    for statement in (
        tag_lives._COUNT_MODEL,
        rows._COUNT_ALL_OF_VERSION,
        tag_lives._COUNT_VERSIONS,
    ):
        plan = await plan_of(registry.store.index, statement)

        scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN uses"]
        assert scans == [], plan
        assert any(step.startswith("SEARCH tags USING PRIMARY KEY") for step in plan), plan
