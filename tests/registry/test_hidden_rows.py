"""What is hidden costs nothing: lists take as many steps beside much of it as beside little.

Each list is asked by a reader of one namespace, once with a few hidden rows before the first that
they see and once with many. A step is one of SQLite's virtual machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeAlias
from unittest.mock import AsyncMock

import pytest

from registry.catalog import audit as audit_rows
from registry.catalog import visible
from registry.catalog.audit import Wanted, find_entries
from registry.catalog.bindings import BindingFilters, bindings_before, count_bindings
from registry.catalog.costs import CostFilters, spent_by, spent_in_all
from registry.catalog.deployment_lists import (
    DeploymentFilters,
    count_deployments,
    deployments_before,
    deployments_standing,
)
from registry.catalog.experiments import (
    ExperimentFilters,
    count_experiments,
    experiments_before,
)
from registry.catalog.guards import guards_before
from registry.catalog.model_filters import ModelFilters, TagFilter
from registry.catalog.model_lists import count_models, models_after
from registry.catalog.namespaces import namespaces_after
from registry.catalog.retention import policies_before
from registry.catalog.retention_plans import models_after as planned_models_after
from registry.catalog.retraining import aged_models
from registry.catalog.runs import RunFilters, count_runs, runs_before
from registry.catalog.schema import (
    audit,
    bindings,
    deployments,
    environments,
    experiments,
    guards,
    model_tags,
    models,
    namespaces,
    retention_policies,
    runs,
    tags,
    teams,
    versions,
    webhooks,
)
from registry.catalog.storage import models_owning
from registry.catalog.summaries import summarize_teams
from registry.catalog.tag_lists import count_tag, tags_after
from registry.catalog.version_lists import VersionFilter, count_everywhere, versions_everywhere
from registry.catalog.webhooks import webhooks_before
from registry.domain.principals import Visibility
from store.digest import Digest
from store.index.schema import refs
from tests.support.steps import CountedTx, put

SEEN: Final = 7
MANY: Final = 300
BLOB: Final = Digest.of(b"what everybody has")
READER: Final = Visibility(False, frozenset(("nsp_seen", "usr_reader")), frozenset(("public",)))
WORDS: Final = READER.seen


def fill(tx: CountedTx, number: int, space: str, at: int) -> None:
    """A model with one of everything that has its place, and a namespace for itself."""
    model, version = f"mdl_{number:06d}", f"ver_{number:06d}"
    own, tag = f"nsp_{number:06d}", f"tag_{number:06d}"
    common = {"created_at": at, "updated_at": at}
    is_seen = space == "nsp_seen"
    level = "public" if is_seen else "private"
    put(tx, namespaces, id=own, slug=own, folded=f"{at:09d}", visibility=level, **common)
    called = {"folded": f"{at:09d}", "namespace": space, "team": "tem_a", **common}
    put(tx, models, id=model, name=model, **called)
    put(tx, models, id=f"mdl_gone{number:06d}", deleted_at=at, deleted_by="x", **called)
    put(
        tx,
        versions,
        id=version,
        model=model,
        number=1,
        revision=f"{number:040d}",
        tree=BLOB.raw,
        retired_at=at,
        eval_score=0.5,
        cost_per_1k=1.0,
        **common,
    )
    run = {"owner": model, "model": model, "status": "succeeded", "started_at": at, "ended_at": at}
    put(tx, runs, id=f"run_{number:06d}", cost_usd=1.0, **run, **common)
    deployed = {"environment": "env_a", "model": model, "version": version, "status": "healthy"}
    names = {"name": f"d{number}", "folded": f"d{number}"}
    put(tx, deployments, id=f"dep_{number:06d}", **names, **deployed, **common)
    put(tx, bindings, id=f"bnd_{at:06d}", model=model, version=version, **common)
    put(tx, experiments, id=f"exp_{number:06d}", namespace=own, folded=f"{at}", **common)
    put(tx, webhooks, id=f"whk_{at:06d}", namespace=own, **common)
    put(tx, guards, id=f"grd_{at:06d}", model=model, namespace=None, **common)
    put(tx, retention_policies, id=f"pol_{at:06d}", scope="model", model=model, **common)
    put(tx, tags, id=tag, folded=f"{at:09d}", description="", **common)
    for one in (tag, "tag_common"):
        put(tx, model_tags, model=model, key=one, tag=one, name=f"{at:09d}")
    for place, kind, entity in ((model, "model", model), (None, "experiment", f"exp_{number:06d}")):
        entry = {"kind": kind, "entity": entity, "model": place, "created_at": at}
        put(tx, audit, id=2 * at + (place is None), action="create", **entry)
    put(tx, refs, digest=BLOB.raw, owner=model, kind="tree", count=1, realm=space, level="private")


def world(hidden: int) -> CountedTx:
    """What is hidden comes first in every list, and last too."""
    tx = CountedTx()
    for space in ("nsp_seen", "nsp_hidden"):
        put(tx, namespaces, id=space, slug=space, folded=space)
    put(tx, teams, id="tem_a", folded="a")
    put(tx, environments, id="env_a", folded="a")
    put(tx, tags, id="tag_common", folded="common", description="")
    for number in range(SEEN):
        fill(tx, number, "nsp_seen", 400_000 + number)
    for number in range(hidden):
        fill(tx, 1000 + number, "nsp_hidden", (100_000 if number % 2 else 700_000) + number)
    return tx


@pytest.fixture(scope="module")
def worlds() -> Iterator[tuple[CountedTx, CountedTx]]:
    """One where little is hidden and one where much is."""
    with world(2) as little, world(MANY) as much:
        yield little, much


Question: TypeAlias = Callable[[CountedTx], Awaitable[Any]]
PAGE: Final = 3
TAGGED: Final = (TagFilter("tag_common", "tag_common"), TagFilter("tag_common", None))
PLACES: Final = '["nsp_seen", "nsp_000002"]'

QUESTIONS: Final[dict[str, Question]] = {
    "models": lambda tx: models_after(tx, ModelFilters(seen=WORDS), "name", None, PAGE),
    "models made": lambda tx: models_after(tx, ModelFilters(seen=WORDS), "created", None, PAGE),
    "models behind": lambda tx: models_after(
        tx, ModelFilters(seen=WORDS, kind="model"), "name", ("000400003",), PAGE
    ),
    "models of two letters": lambda tx: models_after(
        tx, ModelFilters(seen=WORDS, text="00"), "name", None, PAGE
    ),
    "models by tag": lambda tx: models_after(
        tx, ModelFilters(seen=WORDS, tags=TAGGED), "name", None, PAGE
    ),
    "models by tag, made": lambda tx: models_after(
        tx, ModelFilters(seen=WORDS, tags=TAGGED[1:]), "created", None, PAGE
    ),
    "models by tag counted": lambda tx: count_models(tx, ModelFilters(seen=WORDS, tags=TAGGED)),
    "models deleted": lambda tx: models_after(
        tx, ModelFilters(seen=WORDS, is_deleted=True), "deleted", None, PAGE
    ),
    "models deleted counted": lambda tx: count_models(
        tx, ModelFilters(seen=WORDS, is_deleted=True)
    ),
    "models counted": lambda tx: count_models(tx, ModelFilters(seen=WORDS)),
    "versions": lambda tx: versions_everywhere(tx, READER, VersionFilter(), None, PAGE),
    "versions behind": lambda tx: versions_everywhere(
        tx, READER, VersionFilter(), (400_004, "ver_000004"), PAGE
    ),
    "versions by status": lambda tx: versions_everywhere(
        tx, READER, VersionFilter(status="registered"), None, PAGE
    ),
    "versions retired": lambda tx: versions_everywhere(
        tx, READER, VersionFilter(retired=True), None, PAGE
    ),
    "versions by score": lambda tx: versions_everywhere(
        tx, READER, VersionFilter(min_eval_score=0.1), None, PAGE
    ),
    "versions by cost": lambda tx: versions_everywhere(
        tx, READER, VersionFilter(max_cost_per_1k=2.0), None, PAGE
    ),
    "versions counted": lambda tx: count_everywhere(tx, READER, VersionFilter(tier="hot")),
    "runs": lambda tx: runs_before(tx, RunFilters(seen=WORDS), None, PAGE),
    "runs behind": lambda tx: runs_before(
        tx, RunFilters(seen=WORDS), (400_004, "run_000004"), PAGE
    ),
    "runs by status": lambda tx: runs_before(
        tx, RunFilters(seen=WORDS, status="succeeded"), None, PAGE
    ),
    "runs since": lambda tx: runs_before(tx, RunFilters(seen=WORDS, since=100), None, PAGE),
    "runs deleted": lambda tx: runs_before(tx, RunFilters(seen=WORDS, is_deleted=True), None, PAGE),
    "runs counted": lambda tx: count_runs(tx, RunFilters(seen=WORDS), 100),
    "costs": lambda tx: spent_in_all(tx, CostFilters(seen=WORDS)),
    "costs by model": lambda tx: spent_by(tx, "model", CostFilters(seen=WORDS), PAGE),
    "costs by team": lambda tx: spent_by(tx, "team", CostFilters(seen=WORDS, since=1), PAGE),
    "deployments": lambda tx: deployments_before(tx, DeploymentFilters(seen=WORDS), None, PAGE),
    "deployments that run": lambda tx: deployments_before(
        tx, DeploymentFilters(seen=WORDS, active=True), None, PAGE
    ),
    "deployments by environment": lambda tx: deployments_before(
        tx, DeploymentFilters(seen=WORDS, environment="env_a"), None, PAGE
    ),
    "deployments counted": lambda tx: count_deployments(
        tx, DeploymentFilters(seen=WORDS, status="healthy"), 100
    ),
    "deployments standing": lambda tx: deployments_standing(tx, WORDS),
    "bindings": lambda tx: bindings_before(tx, BindingFilters(seen=WORDS), None, PAGE),
    "bindings by provider": lambda tx: bindings_before(
        tx, BindingFilters(seen=WORDS, provider="x"), None, PAGE
    ),
    "bindings counted": lambda tx: count_bindings(tx, BindingFilters(seen=WORDS), 100),
    "experiments": lambda tx: experiments_before(tx, ExperimentFilters(seen=WORDS), None, PAGE),
    "experiments counted": lambda tx: count_experiments(tx, ExperimentFilters(seen=WORDS), 100),
    "namespaces": lambda tx: namespaces_after(tx, "", PAGE, seen=WORDS),
    "webhooks": lambda tx: webhooks_before(
        tx, namespace_id=None, seen=WORDS, before=None, limit=PAGE
    ),
    "guards": lambda tx: guards_before(
        tx, model_id=None, namespace_id=None, seen=WORDS, before="grd_900000", limit=PAGE
    ),
    "policies": lambda tx: policies_before(tx, scope=None, seen=WORDS, before=None, limit=PAGE),
    "audit log": lambda tx: find_entries(tx, Wanted(places=PLACES), before=None, limit=PAGE),
    "audit log behind": lambda tx: find_entries(
        tx, Wanted(places=PLACES), before=800_004, limit=PAGE
    ),
    "audit log by kind": lambda tx: find_entries(
        tx, Wanted(places=PLACES, kind="experiment"), before=None, limit=PAGE
    ),
    "audit log by action": lambda tx: find_entries(
        tx, Wanted(places=PLACES, action="create", actor="x"), before=None, limit=2 * SEEN
    ),
    "tags": lambda tx: tags_after(tx, "", "", PAGE, seen=WORDS),
    "one tag": lambda tx: count_tag(tx, "tag_common", seen=WORDS),
    "owners of a blob": lambda tx: models_owning(tx, BLOB, PAGE, seen=WORDS),
    "teams": lambda tx: summarize_teams(tx, "", PAGE, seen=WORDS),
    "models to train again": lambda tx: aged_models(tx, 10**9, None, PAGE, seen=WORDS),
    "models of a plan": lambda tx: planned_models_after(
        tx, namespace_id=None, seen=WORDS, after="", limit=PAGE
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_many_hidden_rows_cost_a_reader_no_more_than_few(
    worlds: tuple[CountedTx, CountedTx], name: str
) -> None:
    question, steps, answers = QUESTIONS[name], list[int](), list[Any]()
    for tx in worlds:
        tx.steps = 0
        answers.append(await question(tx))
        steps.append(tx.steps)

    assert answers[0] == answers[1]
    assert answers[0] or name == "runs deleted"
    assert steps[0] == steps[1]


@pytest.mark.parametrize("name", QUESTIONS)
async def test_whatever_leads_a_list_its_rows_are_the_same(
    worlds: tuple[CountedTx, CountedTx], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The few that are seen, the index of what is asked, or all rows one by one."""
    question, (_, much) = QUESTIONS[name], worlds
    along_few = await question(much)
    monkeypatch.setattr(visible, "FEW_ROWS", 10**6)
    monkeypatch.setattr(visible, "own_little", AsyncMock(return_value=False))
    along_filter = await question(much)
    monkeypatch.setattr(visible, "FEW", -1)
    monkeypatch.setattr(audit_rows, "MOST_SUBJECTS", -1)
    one_by_one = await question(much)

    assert along_few == along_filter == one_by_one


async def test_a_page_of_models_to_train_again_costs_what_it_holds(
    worlds: tuple[CountedTx, CountedTx],
) -> None:
    """For who sees everything, however many models there are."""
    steps = []
    for tx in worlds:
        tx.steps = 0
        assert len(await aged_models(tx, 10**9, None, PAGE, seen=None)) == PAGE
        steps.append(tx.steps)

    assert abs(steps[0] - steps[1]) < PAGE, "other models have other names"
