"""When a model was trained last: kept by triggers, whatever happens to its runs and versions."""

from __future__ import annotations

import random

import pytest

from registry.catalog.models import _TAKE_NUMBER
from registry.catalog.schema import models, runs, versions
from registry.catalog.schema.training import trained_last
from tests.support.steps import CountedTx, put


@pytest.mark.parametrize("seed", range(3))
def test_when_a_model_was_trained_last_is_what_runs_and_versions_say(seed: int) -> None:
    """Whatever happens to them; the column is compared with a look at all of them."""
    chance = random.Random(seed)
    with CountedTx() as tx:
        run = tx.connection.execute
        for known in ("mdl_a", "mdl_b"):
            put(tx, models, id=known, folded=known)
        for step in range(120):
            kind, id = chance.choice(("run", "version")), f"{chance.randrange(8)}"
            model, at = chance.choice(("mdl_a", "mdl_b", None)), chance.randrange(50)
            match chance.choice(("make", "change", "delete", "restore", "remove")), kind:
                case "make", "run":
                    status = chance.choice(("succeeded", "failed", "running"))
                    run("DELETE FROM runs WHERE id = ?", (id,))
                    put(tx, runs, id=id, model=model, status=status, started_at=at)
                case "make", _:
                    run("DELETE FROM versions WHERE id = ?", (id,))
                    place = {"model": model or "mdl_a", "number": step, "revision": f"{step}"}
                    put(tx, versions, id=id, created_at=at, **place)
                    raised = {"id_": place["model"], "number": step + 1, "now": at}
                    run("UPDATE models SET last_number = ? WHERE id = ?", (step, raised["id_"]))
                    run(_TAKE_NUMBER.sqlite, raised)
                case "change", "run":
                    said = (model, at, chance.choice(("succeeded", "failed")), id)
                    run("UPDATE runs SET model = ?, started_at = ?, status = ? WHERE id = ?", said)
                case "remove", _:
                    run(f"DELETE FROM {kind}s WHERE id = ?", (id,))
                case word, _:
                    gone = at if word == "delete" else None
                    run(f"UPDATE {kind}s SET deleted_at = ? WHERE id = ?", (gone, id))
            kept = run(f"SELECT id, trained_at, {trained_last('models.id')} FROM models")
            for trained, trained_at, truth in kept.fetchall():
                assert trained_at == truth, (step, trained)
