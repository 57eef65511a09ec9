"""Who sees what: models by id, namespace or level; blobs by whoever owns them; names by who may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from registry.catalog.migrations import CATALOG, CHAINS
from registry.catalog.schema.models import DEFAULT_NAMESPACE_ID
from registry.domain.ids import NAMESPACE
from registry.domain.names import ModelName
from registry.domain.principals import Principal, Visibility, visibility_of
from registry.domain.roles import WORDS, Rights
from registry.services.blobs import BlobLimits, Blobs, known
from registry.services.drafts import Target, claim_file
from store.digest import Digest
from store.index.driver import sqlite
from store.index.readable import _IS_READABLE
from store.index.reader import Reader
from store.index.upgrade import STORE, create_blocking, upgrade
from tests.support.builders import Registry
from tests.support.people import AUTHENTICATED, Person, grant, make_person
from tests.support.serving import Answer, Site, opened, serving

WEIGHTS: Final = b"weights that one model has"
DIGEST: Final = Digest.of(WEIGHTS)
OTHER: Final = Digest.of(b"weights that nobody has")


def somebody(**rights: Any) -> Principal:
    """A user with these rights, and what they let it see."""
    held = Rights(**rights)
    return Principal("usr_some", "some", rights=held, sight=visibility_of("usr_some", held))


async def is_known(registry: Registry, visibility: Visibility) -> bool:
    found = await registry.store.index.read(partial(known, digest=DIGEST, visibility=visibility))
    return found is not None


# Blobs


async def test_a_blob_is_readable_by_whom_an_owner_of_it_is(registry: Registry) -> None:
    await registry.publish("nlp~bert", "1.0.0", {"f": WEIGHTS})
    model = (await registry.get("/api/v1/models/nlp~bert")).json
    [(namespace,)] = await registry.rows("SELECT id FROM namespaces WHERE slug = 'nlp'")

    reader = WORDS["reader"]
    assert await is_known(registry, Visibility(True))
    assert await is_known(registry, somebody(models={model["id"]: reader}).visibility)
    assert await is_known(registry, somebody(namespaces={namespace: reader}).visibility)
    assert await is_known(registry, somebody(levels=frozenset(("private",))).visibility)
    others = frozenset(("public", "internal"))
    elsewhere = {f"{NAMESPACE}{0:026d}": reader}
    assert not await is_known(registry, somebody(levels=others, namespaces=elsewhere).visibility)
    without_reading = somebody(namespaces={namespace: frozenset(("deploy",))})
    assert not await is_known(registry, without_reading.visibility)
    limited = somebody(namespaces={namespace: reader}, limit=frozenset(("content.write",)))
    assert not await is_known(registry, limited.visibility)


async def test_a_shortcut_that_may_not_be_taken_does_not_look_at_the_blob(
    registry: Registry,
) -> None:
    """Neither at its row nor at its file, which would take time and so tell that it is there."""
    await registry.publish("nlp~bert", "1.0.0", {"f": WEIGHTS})
    store, stranger = registry.store, somebody(patterns=(("*", WORDS["writer"]),))
    blobs = Blobs(store.blobs, store.index, store.ingest, BlobLimits())
    target = Target(ModelName("mine/bert", "mine/bert"), "1.0.0", "f")

    async def steps(attempt: Awaitable[object]) -> int:
        before = store.index.statement_count()
        assert await attempt is None
        return store.index.statement_count() - before

    for digest in (DIGEST, OTHER):
        assert await steps(blobs.claim(stranger, digest)) == 1
        assert await steps(claim_file(store, stranger, target, digest)) == 1


async def test_claims_follow_their_model_to_another_level_and_namespace(
    registry: Registry,
) -> None:
    await registry.publish("nlp~bert", "1.0.0", {"f": WEIGHTS})
    await registry.put("/models/nlp~bert/draft/g", b"of a draft")
    in_levels = {
        level: Visibility(False, levels=frozenset((level,))) for level in ("public", "private")
    }

    async def seen() -> list[str]:
        return [level for level, one in in_levels.items() if await is_known(registry, one)]

    before = await seen()
    await registry.send("PATCH", "/api/v1/models/nlp~bert", json={"visibility": "public"})
    opened_up = await seen()
    await registry.send("PATCH", "/api/v1/models/nlp~bert", json={"visibility": "private"})
    closed = await seen()
    await registry.send("POST", "/api/v1/models/nlp~bert/rename", json={"name": "vision/bert"})
    [(here,)] = await registry.rows("SELECT id FROM namespaces WHERE slug = 'vision'")
    [(there,)] = await registry.rows("SELECT id FROM namespaces WHERE slug = 'nlp'")

    assert (before, opened_up, closed) == (["private"], ["public"], ["private"])
    assert await is_known(registry, Visibility(False, frozenset((here,))))
    assert not await is_known(registry, Visibility(False, frozenset((there,))))
    deleted = (await registry.get("/api/v1/models/vision~bert")).json["id"]
    await registry.send("DELETE", "/api/v1/models/vision~bert")
    restored = {"name": "nlp/bert"}
    await registry.send("POST", f"/api/v1/models/{deleted}/restore", json=restored)
    assert await is_known(registry, Visibility(False, frozenset((there,))))


def steps_of(connection: sqlite.Connection, digest: Digest, reader: Reader) -> int:
    """How many steps SQLite takes to say whether a blob is readable."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    bound = {"digest": digest.raw, **reader.bound()}
    connection.execute(_IS_READABLE.sqlite, bound).fetchall()  # the first time it is prepared
    connection.set_progress_handler(step, 1)
    connection.execute(_IS_READABLE.sqlite, bound).fetchall()
    connection.set_progress_handler(None, 0)
    return count


def test_twenty_thousand_hidden_owners_cost_a_reader_nothing() -> None:
    """One hidden owner costs as many steps, and so does a blob that is not there."""
    often, once = DIGEST, Digest.of(b"one owner")
    namespaces = {f"{NAMESPACE}{number:026d}": WORDS["reader"] for number in range(20)}
    levels = frozenset(("public", "internal"))
    reader = somebody(namespaces=namespaces, levels=levels).visibility.reader
    assert reader is not None
    hidden = [
        (digest.raw, f"mdl_{number:026d}", f"{NAMESPACE}{number + 100:026d}")
        for digest, owners in ((often, 20_000), (once, 1))
        for number in range(owners)
    ]

    with closing(sqlite.connect(":memory:")) as connection:
        create_blocking(connection, CHAINS)
        connection.executemany(
            "INSERT INTO refs (digest, owner, kind, count, created_at, realm, level) "
            "VALUES (?, ?, 'tree', 1, 0, ?, 'private')",
            hidden,
        )
        steps = {steps_of(connection, digest, reader) for digest in (often, once, OTHER)}

    assert len(steps) == 1, steps
    assert steps.pop() < 1_000


def test_an_index_of_before_gets_what_opens_its_claims(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    upgrade(path, [replace(STORE, number=2), replace(CATALOG, number=8)])
    with closing(sqlite.connect(str(path), isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO models (id, name, folded, kind, visibility, last_number, created_at, "
            "created_by, updated_at) VALUES ('mdl_a', 'a', 'default/a', 'model', 'internal', 0, 0, "
            "'usr_a', 0)"
        )
        for owner, kind in (("mdl_a", "tree"), ("mdl_a", "folder"), ("usr_a", "pin")):
            connection.execute(
                "INSERT INTO refs (digest, owner, kind, count, created_at) VALUES (?, ?, ?, 1, 0)",
                (DIGEST.raw, owner, kind),
            )

    upgrade(path, CHAINS)

    with closing(sqlite.connect(str(path))) as connection:
        found = connection.execute("SELECT kind, realm, level FROM refs ORDER BY kind").fetchall()
    assert found == [
        ("folder", DEFAULT_NAMESPACE_ID, "internal"),
        ("pin", None, None),
        ("tree", DEFAULT_NAMESPACE_ID, "internal"),
    ]


# Names


async def asked(site: Site, who: Person, method: str, path: str, content: Any = None) -> Answer:
    return await site.ask(method, path, json=content, headers=who.headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        yield site


MODELS: Final = "/api/v1/models"


async def test_who_may_make_models_there_is_told_that_a_name_is_taken(site: Site) -> None:
    root = await make_person(site.store, "root", is_admin=True)
    inside = await make_person(site.store, "inside")
    outside = await make_person(site.store, "outside")
    await asked(site, root, "POST", MODELS, {"name": "nlp/bert"})
    await grant(site.store, inside, "writer", kind="namespace", on="nlp")

    taken = await asked(site, inside, "POST", MODELS, {"name": "nlp/BERT"})
    hidden = await asked(site, outside, "POST", MODELS, {"name": "nlp/bert"})
    free = await asked(site, outside, "POST", MODELS, {"name": "nlp/other"})
    nowhere = await asked(site, outside, "POST", MODELS, {"name": "absent/bert"})
    own = await asked(site, outside, "POST", MODELS, {"name": "outside/bert"})

    assert (taken.status, taken.code) == (409, "model_name_taken")
    assert taken.json["existing"] == "nlp/bert"
    told = {(one.status, one.code) for one in (hidden, free, nowhere)}
    assert told == {(404, "namespace_not_found")}
    assert own.status == 201


async def test_who_makes_models_unseen_is_told_no_more_than_that_a_name_is_taken(
    site: Site,
) -> None:
    """A token that may only make them collides with what it cannot read."""
    root = await make_person(site.store, "root", is_admin=True)
    maker = await make_person(site.store, "maker", scopes=["model.create", "content.write"])
    await asked(site, root, "POST", MODELS, {"name": "nlp/bert"})
    await grant(site.store, maker, "writer", kind="namespace", on="nlp")

    made = await asked(site, maker, "POST", MODELS, {"name": "nlp/BERT"})
    put = await site.ask("PUT", "/models/nlp~bert/1.0.0/f", data=b"x", headers=maker.headers)

    assert [(one.status, one.code) for one in (made, put)] == [(409, "model_name_taken")] * 2
    for one in (made, put):
        assert "existing" not in one.json
        assert "id" not in one.json


async def test_a_model_moves_only_to_where_its_mover_may_make_models(site: Site) -> None:
    root = await make_person(site.store, "root", is_admin=True)
    mover = await make_person(site.store, "mover")
    for name in ("nlp/bert", "vision/resnet"):
        await asked(site, root, "POST", MODELS, {"name": name, "visibility": "internal"})
    await grant(site.store, mover, "writer", kind="namespace", on="nlp")
    rename = f"{MODELS}/nlp~bert/rename"

    away = await asked(site, mover, "POST", rename, {"name": "vision/bert"})
    within = await asked(site, mover, "POST", rename, {"name": "nlp/bert2"})

    assert (away.status, away.code) == (403, "denied")
    assert within.status == 200, within.body


async def test_the_audit_log_is_read_where_somebody_may(site: Site) -> None:
    root = await make_person(site.store, "root", is_admin=True)
    auditor = await make_person(site.store, "auditor")
    for space in ("nlp", "vision"):
        await asked(site, root, "POST", MODELS, {"name": f"{space}/bert"})
        wish = {"name": "rates", "namespace": space}
        await asked(site, root, "POST", "/api/v1/experiments", wish)
    await grant(site.store, auditor, "admin", kind="namespace", on="nlp")

    mine = await asked(site, auditor, "GET", "/api/v1/audit")
    named = [(one["kind"], one["name"]) for one in mine.json["items"]]

    assert sorted(named) == [("experiment", "rates"), ("model", "nlp/bert"), ("namespace", "nlp")]


async def test_reading_a_namespace_does_not_open_what_takes_more(site: Site) -> None:
    """Who sees one model of a namespace sees its name, and neither its experiments nor webhooks."""
    root = await make_person(site.store, "root", is_admin=True)
    guest = await make_person(site.store, "guest")
    made = await asked(site, root, "POST", MODELS, {"name": "nlp/bert"})
    await asked(site, root, "POST", MODELS, {"name": "nlp/secret"})
    wish = {"name": "rates", "namespace": "nlp"}
    experiment = await asked(site, root, "POST", "/api/v1/experiments", wish)
    await grant(site.store, guest, "admin", kind="model", on=made.json["id"])

    namespace = await asked(site, guest, "GET", "/api/v1/namespaces/nlp")
    one = await asked(site, guest, "GET", f"/api/v1/experiments/{experiment.json['id']}")
    experiments = await asked(site, guest, "GET", "/api/v1/experiments")
    models = await asked(site, guest, "GET", f"{MODELS}?namespace=nlp&total=true")
    policy = {"namespace": "nlp", "keep_last": 3}
    kept = await asked(site, guest, "POST", "/api/v1/retention/policies", policy)
    own = {"model": "nlp/bert", "keep_last": 3}
    of_its_own = await asked(site, guest, "POST", "/api/v1/retention/policies", own)
    listed = await asked(site, guest, "GET", "/api/v1/retention/policies")

    assert namespace.status == 200
    assert (one.status, experiments.json["items"]) == (404, [])
    assert models.json["total"] == 1
    assert (kept.status, kept.code) == (403, "denied")
    assert (of_its_own.status, len(listed.json["items"])) == (201, 1)


async def test_who_may_only_read_there_is_shown_neither_webhooks_nor_policies(site: Site) -> None:
    root = await make_person(site.store, "root", is_admin=True)
    reader = await make_person(site.store, "reader")
    for space in ("nlp", "mine"):
        await asked(site, root, "POST", MODELS, {"name": f"{space}/bert"})
        hook = {"url": "https://hooks.invalid/", "events": ["*"], "namespace": space}
        await asked(site, root, "POST", "/api/v1/webhooks", hook)
        policy = {"namespace": space, "keep_last": 3}
        await asked(site, root, "POST", "/api/v1/retention/policies", policy)
    await grant(site.store, reader, "reader", kind="namespace", on="nlp")
    await grant(site.store, reader, "admin", kind="namespace", on="mine")

    webhooks = await asked(site, reader, "GET", "/api/v1/webhooks")
    policies = await asked(site, reader, "GET", "/api/v1/retention/policies")

    assert [one["namespace"] for one in webhooks.json["items"]] == ["mine"]
    assert len(policies.json["items"]) == 1
