"""Small blobs that come at once: what they share, and that it changes nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.domain.principals import LOCAL, Principal
from registry.domain.roles import NO_RIGHTS
from registry.errors import BodyTooLarge, QuotaReached
from registry.keys import BLOB_BATCHES, BLOBS
from registry.services.blob_batches import MOST_BYTES
from registry.services.blobs import Put
from store.digest import Digest
from store.errors import DigestMismatch, StorageFull, Unavailable
from store.index import claims
from store.index.transactions import Statement, Tx, Unit
from store.ingest import Ingest
from tests.support.builders import Registry
from tests.support.faults import no_commits
from tests.support.people import AUTHENTICATED, make_person
from tests.support.serving import opened, serving


def of(number: int) -> bytes:
    return b"%08d" % number * 100


async def at_once(
    registry: Registry,
    contents: Sequence[bytes],
    *,
    principal: Principal = LOCAL,
    expected: dict[int, Digest] | None = None,
) -> list[Put | BaseException]:
    """Put blobs in one turn of the loop; what became of each."""
    batches = registry.site.app[BLOB_BATCHES]
    return await asyncio.gather(
        *(
            batches.put(principal, content, (expected or {}).get(number))
            for number, content in enumerate(contents)
        ),
        return_exceptions=True,
    )


def kinds(puts: Sequence[Put | BaseException]) -> list[str]:
    return [type(put).__name__ for put in puts]


async def cost(registry: Registry, contents: Sequence[bytes]) -> tuple[int, int, int]:
    """Units, commits and statements of putting blobs that come at once."""
    index = registry.store.index
    before = (index.stats.units, index.stats.commits, index.statement_count())
    puts = await at_once(registry, contents)
    assert kinds(puts) == ["Put"] * len(contents)
    now = (index.stats.units, index.stats.commits, index.statement_count())
    return (now[0] - before[0], now[1] - before[1], now[2] - before[2])


async def test_blobs_that_come_at_once_are_one_transaction(registry: Registry) -> None:
    contents = [of(number) for number in range(12)]
    units, commits, statements = await cost(registry, contents)

    assert (units, commits) == (1, 1)
    for content in contents:
        answer = await registry.get(f"/blobs/{Digest.of(content)}")
        assert (answer.status, answer.body) == (200, content)
    assert statements == (await cost(registry, [of(number) for number in range(100, 140)]))[2]


async def test_each_is_pinned_and_said_to_be_new_once(registry: Registry) -> None:
    puts = await at_once(registry, [of(1), of(2), of(1)])
    again = await at_once(registry, [of(2), of(3)])

    assert [put.is_new for put in puts if isinstance(put, Put)] == [True, True, False]
    assert [put.is_new for put in again if isinstance(put, Put)] == [False, True]
    assert await registry.rows("SELECT owner, kind, count(*) FROM refs GROUP BY 1, 2") == [
        (LOCAL.id, claims.PIN, 3)
    ]


async def test_blobs_by_http_are_stored_together(registry: Registry) -> None:
    commits = registry.store.index.stats.commits
    contents = [of(number) for number in range(16)]
    answers = await asyncio.gather(
        *(registry.put(f"/blobs/{Digest.of(content)}", content) for content in contents)
    )

    assert {answer.status for answer in answers} == {201}
    assert [answer.json["digest"] for answer in answers] == [str(Digest.of(c)) for c in contents]
    assert registry.store.index.stats.commits - commits < len(contents)


async def test_a_wrong_digest_is_refused_alone(registry: Registry) -> None:
    contents = [of(number) for number in range(4)]
    puts = await at_once(registry, contents, expected={2: Digest.of(b"other")})

    assert kinds(puts) == ["Put", "Put", DigestMismatch.__name__, "Put"]
    assert len(await registry.site.stored()) == 3


async def test_two_equal_ones_are_one_file(registry: Registry) -> None:
    contents = [of(number // 2) for number in range(8)]
    await at_once(registry, contents)

    assert len(await registry.site.stored()) == 4
    assert await registry.site.staged() == []


async def test_nobody_is_answered_before_the_commit(registry: Registry) -> None:
    with no_commits(registry.store.index):
        puts = await at_once(registry, [of(1), of(2)])
        await registry.store.ingest.close()

    assert kinds(puts) == [Unavailable.__name__] * 2
    await registry.store.fsck.run(repair=True)


async def test_bytes_are_in_their_place_before_the_transaction(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [of(number) for number in range(6)]
    run, seen = registry.store.index.run, []

    async def looking(unit: Unit[Any]) -> Any:
        seen.append(await registry.site.stored())
        return await run(unit)

    with monkeypatch.context() as patched:
        patched.setattr(registry.store.index, "run", looking)
        await at_once(registry, contents)

    assert [set(stored) for stored in seen] == [{str(Digest.of(content)) for content in contents}]


async def test_what_has_no_room_together_may_have_it_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: Ingest, *arguments: Any, **named: Any) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(Ingest, "store", full)
        puts = await at_once(registry, [of(1), of(2)])

    assert kinds(puts) == ["Put", "Put"]


async def test_pins_are_let_in_while_they_fit(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store, serving(store, AUTHENTICATED) as site:
        ada = await make_person(store, "ada")
        root = await make_person(store, "root", is_admin=True)
        space = {"slug": "ada", "owner": {"kind": "user", "name": "ada"}, "quota_pins": 3}
        made = await site.ask("POST", "/api/v1/namespaces", json=space, headers=root.headers)
        assert made.status == 201, made.body
        answers = await asyncio.gather(
            *(
                site.ask("PUT", f"/blobs/{Digest.of(of(n))}", data=of(n), headers=ada.headers)
                for n in range(5)
            )
        )

        assert sorted(answer.status for answer in answers) == [201] * 3 + [429] * 2
        assert {a.code for a in answers if a.status == 429} == {QuotaReached.code}
        await store.ingest.close()
        await store.fsck.run(repair=True)


async def test_blobs_of_different_people_are_not_mixed(registry: Registry) -> None:
    others = [Principal(f"usr_{number}", f"{number}", rights=NO_RIGHTS) for number in range(2)]
    puts = await asyncio.gather(
        *(
            at_once(registry, [of(1), of(number + 2)], principal=who)
            for number, who in enumerate(others)
        )
    )

    assert [kinds(put) for put in puts] == [["Put"] * 2] * 2
    assert [one.is_new for put in puts for one in put if isinstance(one, Put)] == [True] * 4
    assert await registry.rows("SELECT owner, count(*) FROM refs GROUP BY 1 ORDER BY 1") == [
        ("usr_0", 2),
        ("usr_1", 2),
    ]


async def test_what_is_too_long_for_one_is_too_long_here(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = registry.site.app[BLOBS]
    limits = type(service.limits)(blob_bytes=len(of(1)) - 1)
    monkeypatch.setattr(service, "limits", limits)

    assert kinds(await at_once(registry, [of(1)])) == [BodyTooLarge.__name__]


async def test_larger_ones_and_those_with_a_key_go_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def together(*arguments: Any, **named: Any) -> None:
        pytest.fail("these go alone")

    monkeypatch.setattr(Ingest, "store", together)
    large = bytes(MOST_BYTES + 1)

    assert (await registry.put(f"/blobs/{Digest.of(large)}", large)).status == 201
    keyed = {"Idempotency-Key": "once"}
    first = await registry.send("POST", "/blobs", data=of(1), headers=keyed)
    second = await registry.send("POST", "/blobs", data=of(1), headers=keyed)
    assert (first.status, second.status) == (201, 201)
    assert second.headers["Idempotency-Replayed"] == "true"


async def test_what_somebody_holds_is_found_by_digest_and_not_by_all_they_hold(
    registry: Registry,
) -> None:
    sql = claims._OWNER_REFS.sqlite
    explained = Statement(text("EXPLAIN QUERY PLAN " + sql.replace("\n", " ")))
    names = dict.fromkeys(re.findall(r":(\w+)", sql))

    async def unit(tx: Tx) -> list[Any]:
        return await tx.all(explained, **names)

    plan = " ".join(row[3] for row in await registry.store.index.read(unit))
    assert "(digest=? AND owner=?)" in plan
    assert "refs_by_owner" not in plan
