"""Small files that come at once into a draft: what they share, and that it changes nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from registry.domain.principals import LOCAL, Principal
from registry.domain.references import parse_model
from registry.domain.roles import NO_RIGHTS
from registry.errors import Conflict, NotFound, QuotaReached
from registry.keys import DRAFT_BATCHES
from registry.services.draft_batches import MOST_BYTES
from registry.services.drafts import FilePut, Target
from registry.services.together import MOST
from store.digest import Digest
from store.errors import DigestMismatch, StorageFull
from store.ingest import Ingest
from tests.support.builders import Registry
from tests.support.faults import no_commits

BEFORE = b"before"


def of(number: int) -> bytes:
    return b"%08d" % number * 100


async def begin(registry: Registry, path: str = "begun", model: str = "bert") -> None:
    """Make the model and the draft, which a batch does not."""
    assert (await registry.put(f"/models/{model}/v1/{path}", BEFORE)).status == 201


async def at_once(
    registry: Registry,
    files: Sequence[tuple[str, bytes]],
    *,
    principal: Principal = LOCAL,
    expected: dict[str, Digest] | None = None,
    model: str = "bert",
) -> dict[str, Any]:
    """Put files in one turn of the loop; what became of each path, an error too."""
    batches = registry.site.app[DRAFT_BATCHES]
    found = await asyncio.gather(
        *(
            batches.put(
                principal,
                Target(parse_model(model), "v1", path),
                content,
                (expected or {}).get(path),
            )
            for path, content in files
        ),
        return_exceptions=True,
    )
    return {path: put for (path, _), put in zip(files, found, strict=True)}


def outcomes(puts: dict[str, Any]) -> dict[str, str]:
    return {
        path: put.outcome if isinstance(put, FilePut) else type(put).__name__
        for path, put in puts.items()
    }


async def units(registry: Registry, files: Sequence[tuple[str, bytes]]) -> int:
    """How many units of the index it takes to put files that come at once."""
    before = registry.store.index.stats.units
    puts = await at_once(registry, files)
    assert set(outcomes(puts).values()) == {"created"}
    return registry.store.index.stats.units - before


async def test_files_that_come_at_once_are_one_transaction(registry: Registry) -> None:
    await begin(registry)
    files = [(f"part/{number}", of(number)) for number in range(12)]

    assert await units(registry, files) == 1
    for path, content in files:
        assert (await registry.get(f"/models/bert/v1/{path}")).body == content
    assert await registry.count("folder_uploads") == 0


async def test_more_files_are_hardly_more_statements(registry: Registry) -> None:
    await begin(registry)
    counts = []
    for count in (4, 12):
        before = registry.store.index.statement_count()
        await units(registry, [(f"of{count}/{number}", of(number)) for number in range(count)])
        counts.append(registry.store.index.statement_count() - before)

    assert counts[1] - counts[0] <= 2, "more rows of one statement"


async def test_each_file_has_its_own_entry_in_the_audit_log(registry: Registry) -> None:
    await begin(registry)
    answers = await asyncio.gather(
        *(
            registry.put(f"/models/bert/v1/{number}", of(number), X_Request_Id=f"request-{number}")
            for number in range(8)
        )
    )

    assert {answer.status for answer in answers} == {201}
    entries = await registry.rows(
        "SELECT request, action, kind, json_extract(after, '$.path') FROM audit "
        "WHERE request LIKE 'request-%' ORDER BY request"
    )
    assert entries == [(f"request-{n}", "update", "draft", str(n)) for n in range(8)]


async def test_what_was_there_is_replaced_or_unchanged(registry: Registry) -> None:
    await begin(registry, "kept")
    await begin(registry, "replaced")

    puts = await at_once(registry, [("kept", BEFORE), ("replaced", of(1)), ("new", of(1))])

    assert outcomes(puts) == {"kept": "unchanged", "replaced": "replaced", "new": "created"}
    told = await registry.rows("SELECT count(*) FROM audit WHERE before IS NOT NULL")
    assert told == [(1,)], "what did not change is not told"


async def test_of_two_files_for_one_path_one_is_the_last(registry: Registry) -> None:
    await begin(registry)

    puts = await asyncio.gather(
        at_once(registry, [("a", of(1))]), at_once(registry, [("a", of(2))])
    )

    assert sorted(outcomes(put)["a"] for put in puts) == ["created", "replaced"]
    last = next(put["a"] for put in puts if put["a"].outcome == "replaced")
    found = await registry.get("/models/bert/v1/a")
    assert str(Digest.of(found.body)) == str(last.file.digest)


async def test_more_than_a_batch_are_several(registry: Registry) -> None:
    await begin(registry)
    files = [(f"{number}", of(number)) for number in range(MOST + 1)]

    assert await units(registry, files) == 2


async def test_a_wrong_digest_is_refused_alone(registry: Registry) -> None:
    await begin(registry)
    files = [(f"{number}", of(number)) for number in range(4)]

    puts = await at_once(registry, files, expected={"2": Digest.of(b"other")})

    assert outcomes(puts) == {
        "0": "created",
        "1": "created",
        "2": DigestMismatch.__name__,
        "3": "created",
    }


@pytest.mark.parametrize("paths", [["a", "a/b"], ["begun/below", "c"], ["x", "d"]])
async def test_no_file_is_a_directory(registry: Registry, paths: list[str]) -> None:
    await begin(registry)
    await begin(registry, "x/y")

    puts = await at_once(registry, [(path, of(1)) for path in paths])

    assert sorted(outcomes(puts).values()) == ["Conflict", "created"]
    [refused] = [put for put in puts.values() if isinstance(put, Conflict)]
    assert refused.code == "path_is_a_directory"


async def test_a_quota_lets_in_those_that_fit(registry: Registry) -> None:
    size = len(of(1))
    quota = {"slug": "nlp", "quota_bytes": 3 * size + len(BEFORE)}
    assert (await registry.send("POST", "/api/v1/namespaces", json=quota)).status == 201
    await begin(registry, model="nlp~a")

    files = [(f"{number}", of(number)) for number in range(5)]
    puts = await at_once(registry, files, model="nlp/a")

    assert sorted(outcomes(puts).values()) == ["QuotaReached"] * 2 + ["created"] * 3
    await _adopt_or_remove(registry)


async def test_what_cannot_fit_is_not_written(registry: Registry) -> None:
    quota = {"slug": "nlp", "quota_bytes": len(BEFORE)}
    assert (await registry.send("POST", "/api/v1/namespaces", json=quota)).status == 201
    await begin(registry, model="nlp~a")

    puts = await at_once(registry, [("a", of(1)), ("b", of(2))], model="nlp/a")

    assert set(outcomes(puts).values()) == {"QuotaExceeded"}
    assert len(await registry.site.stored()) == 1


async def test_a_quota_that_is_full_when_they_are_recorded_holds(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(of(1))
    assert (await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})).status == 201
    await begin(registry, model="nlp~a")
    promoted = Ingest._promote_missing

    async def lowered(self: Ingest, *arguments: Any) -> None:
        await promoted(self, *arguments)
        quota = {"quota_bytes": size + len(BEFORE)}
        changed = await registry.send("PATCH", "/api/v1/namespaces/nlp", json=quota)
        assert changed.status == 200

    monkeypatch.setattr(Ingest, "_promote_missing", lowered)
    puts = await at_once(registry, [("a", of(1)), ("b", of(2))], model="nlp/a")

    assert sorted(outcomes(puts).values()) == [QuotaReached.__name__, "created"]
    monkeypatch.undo()
    await _adopt_or_remove(registry)


async def _adopt_or_remove(registry: Registry) -> None:
    """What was written and then refused has no row, as ever; `fsck` deals with it."""
    await registry.store.ingest.close()
    await registry.store.fsck.run(repair=True)


async def test_who_may_not_write_is_refused_and_nothing_is_written(registry: Registry) -> None:
    await begin(registry)
    stored = await registry.site.stored()
    nobody = Principal("usr_nobody", "nobody", rights=NO_RIGHTS, word="content.write")

    puts = await at_once(registry, [("a", of(1)), ("b", of(2))], principal=nobody)

    assert all(isinstance(put, NotFound) for put in puts.values())
    assert await registry.site.stored() == stored


async def test_a_label_that_is_published_meanwhile_takes_none_of_them(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(registry)
    promoted = Ingest._promote_missing

    async def published(self: Ingest, *arguments: Any) -> None:
        await promoted(self, *arguments)
        await registry.send("POST", "/api/v1/models/bert/versions/v1/publish")

    monkeypatch.setattr(Ingest, "_promote_missing", published)
    puts = await at_once(registry, [("begun", BEFORE), ("other", of(1)), ("third", of(2))])
    monkeypatch.undo()

    assert outcomes(puts) == {"begun": "unchanged", "other": "Conflict", "third": "Conflict"}
    assert puts["other"].code == "version_published"
    await _adopt_or_remove(registry)


async def test_one_that_alone_cannot_be_stored_fails_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(registry)

    async def full(self: Ingest, *arguments: Any, **named: Any) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "store", full)
        puts = await at_once(registry, [("a", of(1)), ("b", of(2))])

    assert set(outcomes(puts).values()) == {"created"}, "there is room for each"


async def test_nobody_is_answered_before_the_commit(registry: Registry) -> None:
    await begin(registry)

    with no_commits(registry.store.index):
        puts = await at_once(registry, [("a", of(1)), ("b", of(2))])
        await registry.store.ingest.close()

    assert set(outcomes(puts).values()) == {"Unavailable"}
    await _adopt_or_remove(registry)


async def test_files_for_different_drafts_and_people_are_not_mixed(registry: Registry) -> None:
    await begin(registry)
    await begin(registry, model="gpt")
    other = Principal("usr_other", "other", kind="local", rights=LOCAL.rights, sight=LOCAL.sight)

    puts = await asyncio.gather(
        at_once(registry, [("a", of(1))]),
        at_once(registry, [("a", of(2))], model="gpt"),
        at_once(registry, [("b", of(3))], principal=other),
    )

    assert [outcomes(put) for put in puts] == [{"a": "created"}] * 2 + [{"b": "created"}]
    assert (await registry.get("/models/gpt/v1/a")).body == of(2)
    assert await registry.rows("SELECT count(*) FROM audit WHERE actor = 'usr_other'") == [(1,)]


async def test_who_leaves_takes_nobody_along(registry: Registry) -> None:
    await begin(registry)
    batches = registry.site.app[DRAFT_BATCHES]
    puts = [
        asyncio.create_task(batches.put(LOCAL, Target(parse_model("bert"), "v1", path), of(1)))
        for path in ("a", "b")
    ]
    await asyncio.sleep(0)
    puts[0].cancel()
    with suppress(asyncio.CancelledError):
        await puts[0]

    assert (await puts[1]).outcome == "created"


async def test_a_file_that_is_larger_or_has_a_condition_goes_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(registry)

    async def together(*arguments: Any, **named: Any) -> None:
        pytest.fail("these go alone")

    monkeypatch.setattr(Ingest, "store", together)
    large = await registry.put("/models/bert/v1/large", bytes(MOST_BYTES + 1))
    only_new = await registry.put("/models/bert/v1/new", of(1), If_None_Match="*")
    refused = await registry.put("/models/bert/v1/new", of(2), If_None_Match="*")
    published = await registry.put("/models/bert/v1/last?publish=true", of(3))

    assert (large.status, only_new.status, refused.status) == (201, 201, 412)
    assert published.json["state"] == "published"
