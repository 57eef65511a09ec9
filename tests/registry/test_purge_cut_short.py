"""A purge that dies between any two of its transactions leaves nothing half, and is finished."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from registry.catalog import purges, run_purges
from registry.catalog.schema import metadata
from registry.domain.principals import LOCAL
from registry.services.purges import finish_purges, purge_model
from store.index.transactions import Unit
from tests.support.builders import Registry, running_registry

KEPT = {"audit", "audit_seals", "idempotency_keys"}
"""What tells of the past may name what is gone."""


class Died(Exception):
    """Stands for the end of the process before its next transaction."""


async def full_model(registry: Registry, name: str) -> str:
    """A model with some of everything it can hold; returns its id."""
    send, at = registry.send, f"/api/v1/models/{name}"
    made = await send(
        "POST", "/api/v1/models", json={"name": f"{name}-before", "tags": {"a": name, "b": ""}}
    )
    assert (await send("POST", f"{at}-before/rename", json={"name": name})).status == 200
    for number in range(2):
        files = {f"f{n}": b"%d" % (n % 4) for n in range(number + 2)}
        await registry.publish(name, f"{number}.0.0", files)
        await send("PUT", f"{at}/versions/{number}.0.0/tags/c", json={"value": name})
    said = {"source": {"uri": f"s3://{name}"}, "lineage": [parent_of(name, "1.0.0"), DATA]}
    await send("POST", f"{at}/versions", json=said)
    await send("PUT", f"{at}/aliases/champion", json={"version": "0.0.0"})
    await send("PUT", f"/models/{name}/draft/d", data=b"draft")
    await send("PUT", f"{at}/card", data=b"# card", headers={"Content-Type": "text/markdown"})
    child = {"source": {"uri": "s3://child"}, "lineage": [parent_of(name, "0.0.0")]}
    heir = await send("POST", "/api/v1/models/heir/versions", json=child)
    assert heir.status == 201, heir.body
    run = await send("POST", "/api/v1/runs", json={"model": name, "version": "1.0.0"})
    assert run.status == 201, run.body
    points = [{"key": "loss", "value": n, "step": n} for n in range(7)]
    logged = await send("POST", f"/api/v1/runs/{run.json['id']}/metrics", json={"points": points})
    assert logged.status in (200, 201, 204), logged.body
    rated = await send("POST", f"{at}/versions/1.0.0/rate", json={"metrics": ["size"]})
    assert rated.status == 201, rated.body
    review = await send("POST", f"{at}/versions/1.0.0/reviews", json={"verdict": "approve"})
    assert review.status == 201, review.body
    return str(made.json["id"])


def parent_of(model: str, version: str) -> dict[str, Any]:
    return {"relation": "derived", "parent": {"model": model, "version": version}}


DATA = {"relation": "trained-on", "parent": {"uri": "hf:datasets/c4", "kind": "dataset"}}


async def ids_of(registry: Registry, model: str) -> set[str]:
    found = {model}
    for table in ("versions", "revisions", "folders", "runs"):
        rows = await registry.rows(f"SELECT id FROM {table} WHERE model = '{model}'")
        found |= {row[0] for row in rows}
    return found


async def left_of(registry: Registry, ids: set[str]) -> list[str]:
    """Tables and columns that still name something of it."""
    listed = ", ".join(f"'{id}'" for id in ids)
    columns = [
        (table.name, column.name)
        for table in metadata.tables.values()
        if table.name not in KEPT
        for column in table.columns
        if str(column.type) == "TEXT"
    ]
    found = await registry.rows(
        " UNION ALL ".join(
            f"SELECT '{table}.{column}' WHERE EXISTS "
            f'(SELECT 1 FROM "{table}" WHERE "{column}" IN ({listed}))'
            for table, column in [*columns, ("refs", "owner")]
        )
    )
    return [row[0] for row in found]


async def test_a_purge_that_dies_anywhere_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purges, "AT_ONCE", 4)
    monkeypatch.setattr(run_purges, "AT_ONCE", 4)
    async with running_registry(None) as registry:
        index = registry.store.index
        run = index.run
        for deadline in itertools.count():
            name = f"m{deadline}"
            id = await full_model(registry, name)
            ids = await ids_of(registry, id)
            assert len(ids) > 8
            await registry.send("DELETE", f"/api/v1/models/{name}")
            steps = itertools.count()

            async def dying(unit: Unit[Any], steps: Any = steps, last: int = deadline) -> Any:
                if next(steps) >= last:
                    raise Died
                return await run(unit)

            monkeypatch.setattr(index, "run", dying)
            try:
                await purge_model(registry.store, LOCAL, id)
                is_whole = True
            except Died:
                is_whole = False
            monkeypatch.setattr(index, "run", run)

            if not is_whole:
                await stays_unseen(registry, id, is_marked=deadline > 0)
                newcomer = await take_name(registry, name)
                if deadline % 2:
                    assert await finish_purges(registry.store) == 1
                else:
                    again = await registry.send("POST", f"/api/v1/models/{id}/purge")
                    assert again.status == 204
                assert await told_of(registry, name) == newcomer
            assert await left_of(registry, ids) == [], deadline
            assert await registry.rows("PRAGMA foreign_key_check") == []
            audited = f"SELECT count(*) FROM audit WHERE action = 'purge' AND entity = '{id}'"
            assert await registry.rows(audited) == [(1,)]
            if is_whole:
                break
        assert deadline > 15, "each kind of row goes in a transaction of its own"
        await registry.check()


async def stays_unseen(registry: Registry, id: str, *, is_marked: bool) -> None:
    """Nobody reaches what is left."""
    if is_marked:
        restored = await registry.send("POST", f"/api/v1/models/{id}/restore", json={})
        assert (restored.status, restored.code) == (404, "model_not_found")
        gone = await registry.get(f"/api/v1/models/{id}?deleted=true")
        assert (gone.status, gone.code) == (404, "model_not_found")
    for path in (f"/api/v1/models/{id}", f"/models/{id}/1.0.0/f0", f"/api/v1/models/{id}/versions"):
        assert (await registry.get(path)).status == 404, path


async def take_name(registry: Registry, name: str) -> list[Any]:
    """Whoever takes the name meanwhile loses nothing of theirs."""
    said = {"label": "1.0.0", "source": {"uri": "s3://new"}, "tags": {"c": name}}
    made = await registry.send("POST", f"/api/v1/models/{name}/versions", json=said)
    assert made.status == 201, made.body
    return await told_of(registry, name)


async def told_of(registry: Registry, name: str) -> list[Any]:
    paths = (
        f"/api/v1/models/{name}",
        f"/api/v1/models/{name}/versions/1",
        f"/api/v1/models/{name}/aliases/latest",
        f"/api/v1/models?q={name}",
        f"/api/v1/models/{name}-before",
    )
    answers = [await registry.get(path) for path in paths]
    return [(answer.status, answer.body if answer.status == 200 else b"") for answer in answers]
