"""The audit log: what leaves an entry, what an entry says, and how entries are found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from registry.catalog.audit import (
    MOST_JSON_BYTES,
    MOST_REASON,
    Entry,
    Wanted,
    _search,
    find_entries,
    record,
)
from registry.domain.principals import HOUSEKEEPING, LOCAL, Principal
from registry.http.times import rfc3339
from registry.services.idle_drafts import expire_drafts
from store.clock import SECOND
from store.digest import Digest
from store.index.claims import expire_leases
from store.index.transactions import Statement, Tx
from store.opening import Store
from tests.support.builders import Registry, tar_of

HELLO = Digest.of(b"hello")


async def entries(registry: Registry, query: str = "") -> list[dict[str, Any]]:
    """The whole log, oldest first."""
    answer = await registry.get(f"/api/v1/audit?limit=1000{query}")
    assert answer.status == 200, answer.body
    return list(reversed(answer.json["items"]))


async def said(registry: Registry, query: str = "") -> list[tuple[str, str, str]]:
    """Action, kind and name of each entry but those of aliases, oldest first."""
    found = await entries(registry, query)
    return [(one["action"], one["kind"], one["name"]) for one in found if one["kind"] != "alias"]


# What leaves an entry.


async def test_the_first_file_of_a_model_tells_of_model_and_draft(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")

    model, draft = await entries(registry)
    assert (model["action"], model["kind"], model["name"]) == ("create", "model", "bert")
    assert model["entity"] == model["model"] == draft["model"]
    assert model["before"] is None
    assert model["after"]["name"] == "bert"
    assert (draft["action"], draft["kind"], draft["name"]) == ("create", "draft", "1.0.0")
    assert draft["before"] is None
    assert draft["after"] == {"path": "a.txt", "digest": str(HELLO), "size": 5}


async def test_a_file_that_is_replaced_says_what_was_there(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"before")
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")

    last = (await entries(registry))[-1]
    assert last["action"] == "update"
    assert last["before"] == {"path": "a.txt", "digest": str(Digest.of(b"before")), "size": 6}
    assert last["after"] == {"path": "a.txt", "digest": str(HELLO), "size": 5}


async def test_a_file_put_again_changes_nothing_and_says_nothing(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")
    before = await registry.count("audit")
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")
    await registry.publish("bert", "1.0.0", {})
    published = await registry.count("audit")
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")

    assert before == 2
    assert await registry.count("audit") == published


async def test_a_file_taken_out_of_a_draft_is_told_once(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")
    for _ in range(2):
        await registry.send("DELETE", "/models/bert/1.0.0/a.txt")

    assert [one["after"] for one in await entries(registry, "&kind=draft")] == [
        {"path": "a.txt", "digest": str(HELLO), "size": 5},
        None,
    ]


async def test_a_version_comes_goes_and_returns_in_the_log(registry: Registry) -> None:
    made = await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    await registry.send("DELETE", "/models/bert/1.0.0")
    await registry.send("POST", "/api/v1/models/bert/versions/1/restore")
    await registry.send("POST", "/api/v1/models/bert/versions/1/restore")

    told = await entries(registry, "&kind=version")
    assert [one["action"] for one in told] == ["publish", "delete", "restore"]
    assert {one["entity"] for one in told} == {made["id"]}
    assert [one["after"] is None for one in told] == [False, True, False]
    assert told[0]["after"]["number"] == 1
    assert told[0]["after"]["tree"] == made["tree"] == told[1]["before"]["tree"]


async def test_publishing_twice_is_told_once(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    again = await registry.send("POST", "/api/v1/models/bert/versions/1.0.0/publish")

    assert again.status == 200
    assert [one["action"] for one in await entries(registry, "&kind=version")] == ["publish"]


async def test_a_label_that_comes_back_is_a_restored_version(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    await registry.send("DELETE", "/models/bert/1.0.0")
    archive = await registry.put("/models/bert/1.0.0.tar", tar_of({"a.txt": b"hello"}))

    assert archive.status == 201, archive.body
    told = await entries(registry, "&kind=version")
    assert [one["action"] for one in told] == ["publish", "delete", "restore"]


async def test_a_directory_in_one_archive_is_one_entry(registry: Registry) -> None:
    files = {f"{number}.txt": b"%d" % number for number in range(40)}
    await registry.put("/models/bert/1.0.0.tar", tar_of(files))

    assert await said(registry) == [("create", "model", "bert"), ("publish", "version", "1.0.0")]


async def test_a_draft_that_is_discarded_says_what_it_held(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")
    await registry.send("DELETE", "/models/bert/1.0.0")

    last = (await entries(registry))[-1]
    assert (last["action"], last["kind"]) == ("delete", "draft")
    assert last["before"] == {"label": "1.0.0", "files": 1, "size": 5}
    assert last["after"] is None


async def test_a_draft_that_expires_was_taken_by_housekeeping(registry: Registry) -> None:
    await registry.put("/models/bert/1.0.0/a.txt", b"hello")
    await expire_drafts(registry.store, idle_seconds=-1)

    last = (await entries(registry))[-1]
    assert (last["action"], last["kind"], last["reason"]) == ("delete", "draft", "expired")
    assert (last["actor"], last["request_id"]) == (HOUSEKEEPING.id, "")


async def test_aliases_moved_by_hand_and_by_publishing_are_told(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    url = "/api/v1/models/bert/aliases/champion"
    for _ in range(2):
        await registry.send("PUT", url, json={"version": "1.0.0", "reason": "best"})
    await registry.send("DELETE", url)

    told = await entries(registry, "&kind=alias")
    assert [(one["action"], one["name"]) for one in told] == [
        ("move", "latest"),
        ("move", "main"),
        ("move", "champion"),
        ("remove", "champion"),
    ]
    assert told[2]["reason"] == "best"
    assert told[2]["before"] is None
    assert told[3]["before"] == told[2]["after"]


async def test_pins_made_by_hand_are_told_and_those_of_uploads_are_not(
    registry: Registry,
) -> None:
    await registry.put("/blobs/x", b"hello")
    await registry.put("/blobs/y", b"other")
    for _ in range(2):
        await registry.send("POST", "/api/v1/pins", json={"digest": str(HELLO)})
    for _ in range(2):
        await registry.send("DELETE", f"/api/v1/pins/{HELLO}")
    await registry.send("DELETE", f"/blobs/{Digest.of(b'other')}")
    await registry.store.index.run(expire_leases)  # what remembers the releases

    assert await said(registry) == [
        ("create", "pin", str(HELLO)),
        ("delete", "pin", str(HELLO)),
    ]


async def test_operations_are_told_when_they_are_started(registry: Registry) -> None:
    started = [
        await registry.send("POST", "/api/v1/gc/plan"),
        await registry.send("POST", "/api/v1/gc/confirm"),
        await registry.send("POST", "/api/v1/scrub", json={}),
    ]
    await registry.send("DELETE", started[2].json["url"])

    told = [(one["action"], one["kind"]) for one in await entries(registry)]
    assert told[:3] == [("plan", "gc"), ("confirm", "gc"), ("run", "scrub")]
    assert (await entries(registry))[0]["entity"] == started[0].json["id"]


async def test_what_is_refused_leaves_no_entry(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    before = await registry.count("audit")
    refused = [
        await registry.put("/models/bert/1.0.0/a.txt", b"other"),
        await registry.send("POST", "/api/v1/models/bert/versions/2/restore"),
        await registry.send("POST", "/api/v1/pins", json={"digest": str(Digest.of(b"none"))}),
    ]

    assert [one.status for one in refused] == [409, 404, 404]
    assert await registry.count("audit") == before


async def test_a_failed_upload_leaves_no_entry(registry: Registry) -> None:
    wrong = {"Repr_Digest": "sha-256=:" + "A" * 43 + "=:"}
    answer = await registry.put("/models/bert/1.0.0/a.txt", b"hello", **wrong)

    assert answer.status == 422
    assert await registry.count("audit") == 0


# What an entry says.


async def test_an_entry_names_the_request_that_made_it(registry: Registry) -> None:
    headers = {"X-Request-Id": "my-request-1"}
    answer = await registry.send("PUT", "/models/bert/1.0.0/a.txt", data=b"hello", headers=headers)

    assert answer.headers["X-Request-Id"] == "my-request-1"
    for one in await entries(registry):
        assert one["request_id"] == "my-request-1"
        assert (one["actor"], one["actor_name"]) == (LOCAL.id, LOCAL.name)


async def written(store: Store, entry: Entry, principal: Principal = LOCAL) -> Any:
    """An entry as it stands in the log."""

    async def unit(tx: Tx) -> None:
        await record(tx, principal, entry)

    await store.index.run(unit)
    [found] = await store.index.read(partial(find_entries, wanted=Wanted(), before=None, limit=1))
    return found


async def test_secrets_are_masked(store: Store) -> None:
    content = {"endpoint": "https://host", "config": {"api_key": "sk-123"}}
    found = await written(
        store, Entry(action="create", kind="binding", id="bnd_1", before=content, after=content)
    )

    for said_ in (found.before, found.after):
        assert "sk-123" not in said_
        assert msgspec.json.decode(said_) == {
            "endpoint": "https://host",
            "config": {"api_key": "(masked)"},
        }


async def test_what_is_too_long_is_cut_and_says_so(store: Store) -> None:
    """Escaping must not let it grow past the bound again."""
    for content in ({"note": '"' * MOST_JSON_BYTES}, {"note": "é😀" * MOST_JSON_BYTES}):
        found = await written(store, Entry(action="update", kind="card", id="x", after=content))
        cut = msgspec.json.decode(found.after)

        assert len(found.after.encode()) <= MOST_JSON_BYTES
        assert cut["truncated"] is True
        assert cut["size"] == len(msgspec.json.encode(content))
        assert cut["digest"] == str(Digest.of(msgspec.json.encode(content)))
        assert msgspec.json.encode(content).decode().startswith(cut["beginning"])


async def test_what_just_fits_is_whole(store: Store) -> None:
    content = {"note": "x" * (MOST_JSON_BYTES - len('{"note":""}'))}
    found = await written(store, Entry(action="update", kind="card", id="x", after=content))

    assert msgspec.json.decode(found.after) == content


async def test_structs_and_digests_can_be_told(store: Store) -> None:
    class Shown(msgspec.Struct):
        digest: Digest
        score: float

    shown = Shown(HELLO, float("nan"))
    found = await written(store, Entry(action="create", kind="x", id="x", after=shown))

    assert msgspec.json.decode(found.after) == {"digest": str(HELLO), "score": None}


async def test_a_long_reason_is_cut(store: Store) -> None:
    found = await written(store, Entry(action="a", kind="b", id="c", reason="r" * 2000))

    assert found.reason == "r" * MOST_REASON


# How entries are found.


async def filled(registry: Registry, count: int) -> None:
    """Entries by two actors on two kinds, a second apart in the middle of an hour."""
    actors = [LOCAL, Principal("usr_other", "other")]

    async def unit(tx: Tx) -> None:
        for number in range(count):
            tx.now = (1_700_000_000 + number) * SECOND
            await record(
                tx,
                actors[number % 2],
                Entry(
                    action=("create", "update", "delete")[number % 3],
                    kind=("model", "team")[number % 2],
                    id=f"id_{number % 5}",
                    name=str(number),
                    model=f"mdl_{number % 4}" if number % 2 else None,
                ),
            )

    await registry.store.index.run(unit)


def numbers(found: Sequence[dict[str, Any]]) -> list[int]:
    return [int(one["name"]) for one in found]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("", lambda number: True),
        ("&kind=model", lambda number: number % 2 == 0),
        ("&kind=model&entity=id_3", lambda number: number % 2 == 0 and number % 5 == 3),
        ("&entity=id_3", lambda number: number % 5 == 3),
        ("&actor=usr_other", lambda number: number % 2 == 1),
        ("&action=delete", lambda number: number % 3 == 2),
        ("&action=delete&actor=usr_other", lambda number: number % 6 == 5),
        ("&kind=nothing", lambda number: False),
    ],
)
async def test_entries_are_found_by_what_they_say(
    registry: Registry, query: str, fits: Any
) -> None:
    await filled(registry, 60)

    assert numbers(await entries(registry, query)) == [n for n in range(60) if fits(n)]


async def test_entries_are_found_by_their_model(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"a.txt": b"hello"})
    await registry.publish("gpt", "1.0.0", {"a.txt": b"hello"})
    [named, *rest] = await entries(registry, "&model=bert")

    assert {one["model"] for one in rest} == {named["entity"]}
    assert await entries(registry, f"&model={named['entity']}") == [named, *rest]
    unknown = await registry.get("/api/v1/audit?model=missing")
    assert (unknown.status, unknown.code) == (404, "model_not_found")


async def test_entries_are_found_by_time(registry: Registry) -> None:
    """From the first moment on, before the second; found without looking at the others."""
    await filled(registry, 300)
    since, until = (rfc3339((1_700_000_000 + second) * SECOND) for second in (100, 200))

    assert numbers(await entries(registry, f"&since={since}")) == list(range(100, 300))
    assert numbers(await entries(registry, f"&until={until}")) == list(range(200))
    assert numbers(await entries(registry, f"&since={since}&until={until}")) == list(
        range(100, 200)
    )
    assert await entries(registry, f"&since={until}&until={since}") == []


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ((1000, 1001, 500, 501, 502), [2, 3, 4]),
        ((500, 501, 1000, 502, 503), [0, 1, 3, 4]),
        ((500, 501, 100, 502, 503), [0, 1, 3, 4]),
    ],
)
async def test_a_clock_that_was_set_back_hides_nothing(
    registry: Registry, seconds: tuple[int, ...], found: list[int]
) -> None:
    async def unit(tx: Tx) -> None:
        for number, second in enumerate(seconds):
            tx.now = second * SECOND
            await record(tx, LOCAL, Entry(action="a", kind="b", id="c", name=str(number)))

    await registry.store.index.run(unit)
    since, until = rfc3339(500 * SECOND), rfc3339(600 * SECOND)

    assert numbers(await entries(registry, f"&since={since}&until={until}")) == found


async def test_pages_follow_each_other_while_entries_come(registry: Registry) -> None:
    await filled(registry, 25)
    found: list[dict[str, Any]] = []
    url: str | None = "/api/v1/audit?limit=10&kind=model"
    while url is not None:
        answer = await registry.get(url)
        found += answer.json["items"]
        await filled(registry, 1)
        after = answer.json["next"]
        url = None if after is None else f"/api/v1/audit?limit=10&kind=model&after={after}"

    assert numbers(found) == list(range(24, -1, -2))


async def test_a_cursor_of_another_question_is_refused(registry: Registry) -> None:
    await filled(registry, 5)
    after = (await registry.get("/api/v1/audit?limit=2")).json["next"]
    answer = await registry.get(f"/api/v1/audit?limit=2&kind=model&after={after}")

    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-01-01", "limit=0", "who=me"])
async def test_a_question_that_is_not_understood_is_refused(registry: Registry, query: str) -> None:
    assert (await registry.get(f"/api/v1/audit?{query}")).status == 400


@pytest.mark.parametrize(
    ("equal", "index"),
    [
        (("entity",), "audit_by_entity"),
        (("entity", "model", "kind", "action", "actor"), "audit_by_entity"),
        (("model", "actor"), "audit_by_model"),
        (("kind", "actor"), "audit_by_kind"),
        (("action", "actor"), "audit_by_action"),
        (("actor",), "audit_by_actor"),
        ((), "INTEGER PRIMARY KEY"),
    ],
)
async def test_every_question_is_answered_from_one_index_in_order(
    store: Store, equal: tuple[str, ...], index: str
) -> None:
    """Newest first without sorting, and by what fits fewest entries, however long the log is."""
    explain = Statement(text(f"EXPLAIN QUERY PLAN {_search(equal, '').sqlite}"))
    bounds = {"low": 1, "high": 9, "since": 0, "until": 9, "limit": 1}

    async def unit(tx: Tx) -> list[str]:
        return [str(row[3]) for row in await tx.all(explain, **dict.fromkeys(equal, "x"), **bounds)]

    [plan] = await store.index.read(unit)
    assert plan.startswith("SEARCH audit USING")
    assert index in plan
