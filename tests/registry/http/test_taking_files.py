"""Files of drafts that a connection takes in by itself: nobody can tell, and no right is lent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from registry.http.taking import place_of
from registry.keys import DRAIN, STORE, TAKES
from store.index.transactions import Statement, Tx
from tests.registry.http.test_repeating import served, told
from tests.registry.http.test_taking import HOST, Fields, Place, putting, showing
from tests.support.people import AUTHENTICATED, grant, make_person, own
from tests.support.serving import opened

DRAFT = "/models/bert/v1"


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """Somebody was let in to put files into a draft."""
    async with opened(None) as store, served(store) as site:
        made = Place(site)
        assert status(await made.put((HOST,), path=f"{DRAFT}/begun")) == 201
        yield made
        assert site.app[DRAIN].in_flight == 0


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def put(
    place: Place, path: str, content: bytes | None = None, fields: Fields = (HOST,)
) -> tuple[int, int]:
    """Which status a file is answered, and whether it was taken."""
    if place.line._streams is None:
        await place.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    before = place.taken
    answer = await place.put(fields, content, path=path)
    return status(answer), place.taken - before


async def ask(place: Place, method: str, path: str, value: Any, fields: Fields = (HOST,)) -> int:
    typed = [*fields, ("Content-Type", "application/json")]
    content = b"" if value is None else json.dumps(value).encode()
    return status(await place.send(putting(content, typed, path=path, method=method)))


async def rows(place: Place, statement: str) -> list[Any]:
    async def unit(tx: Tx) -> list[Any]:
        return [tuple(row) for row in await tx.all(Statement(text(statement)))]

    return await place.site.app[STORE].index.read(unit)


async def test_answers_are_those_of_the_handler(place: Place) -> None:
    old, new = place.content(), place.content()
    found = []
    for path in ("plain.bin", "a/b/c", "with%20space", "caf%C3%A9"):
        taken: list[bytes] = []
        whole: list[bytes] = []
        for answers, folder in ((taken, "x"), (whole, "y")):
            for content in (old, old, new):
                if answers is whole:
                    place.site.app[TAKES]._passes.clear()
                answers.append(await place.put((), content, path=f"{DRAFT}/{folder}/{path}"))
            get = f"GET {DRAFT}/{folder}/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert (await place.send(get.encode())).endswith(new)
        found += [told(answer)[0] for answer in taken]
        assert [told(answer) for answer in taken] == [
            told(
                answer.replace(f"{DRAFT}/y/".encode(), f"{DRAFT}/x/".encode()).replace(
                    b'"path":"y/', b'"path":"x/'
                )
            )
            for answer in whole
        ]

    assert found == [201, 200, 200] * 4
    assert place.taken == 12


async def test_what_is_published_is_as_ever(place: Place) -> None:
    content = place.content()
    assert await put(place, f"{DRAFT}/a", content) == (201, 1)
    assert await ask(place, "POST", "/api/v1/models/bert/versions/v1/publish", {}) == 201

    taken = await place.put((), content, path=f"{DRAFT}/a")
    place.site.app[TAKES]._passes.clear()
    assert told(taken) == told(await place.put((), content, path=f"{DRAFT}/a"))
    assert json.loads(taken.partition(b"\r\n\r\n")[2])["state"] == "published"
    assert await put(place, f"{DRAFT}/a") == (409, 0)
    assert await put(place, f"{DRAFT}/other") == (409, 0)


async def test_a_pass_is_for_one_version_of_one_model(place: Place) -> None:
    assert await put(place, f"{DRAFT}/a") == (201, 1)
    for number, other in enumerate(("bert/v2", "other/v1", "be%72t/v1")):
        assert await put(place, f"/models/{other}/first{number}") == (201, 0)
        assert await put(place, f"/models/{other}/then{number}/deeper") == (201, 1)


@pytest.mark.parametrize(
    ("address", "place_"),
    [
        ("/blobs/x", "/blobs"),
        ("/models/m/v/p", "/models/m/v"),
        ("/models/m/v/p/q/r", "/models/m/v"),
        ("/models/m/v", "/models/m"),
        ("http://h/models/m/v", "http://h/models"),
        ("x", ""),
    ],
)
def test_the_place_of_a_file_is_its_version(address: str, place_: str) -> None:
    assert place_of(address) == place_


async def test_what_is_refused_is_refused_by_the_handler(place: Place) -> None:
    for path, refused in (
        ("", 400),
        ("a//b", 400),
        ("../x", 400),
        ("%zz", 400),
        ("%ff", 400),
        (".git/x", 400),
        ("begun/below", 409),
        ("a?publish=true&expect_files=9", 409),
        ("a?x=1", 400),
    ):
        for _ in range(2):
            assert await put(place, f"{DRAFT}/{path}") == (refused, 0), path
    assert await put(place, f"{DRAFT}/good") == (201, 1)


async def test_a_quota_is_that_of_everybody(place: Place) -> None:
    quota = {"slug": "nlp", "quota_bytes": 250}
    assert await ask(place, "POST", "/api/v1/namespaces", quota) == 201
    first = place.content()
    assert await put(place, "/models/nlp~a/v1/one", first) == (201, 0)
    assert await put(place, "/models/nlp~a/v1/two") == (201, 1)
    assert await put(place, "/models/nlp~a/v1/three") == (429, 0)
    assert await put(place, "/models/nlp~a/v1/large", place.content(300)) == (413, 0)
    assert await put(place, "/models/nlp~a/v1/same", first) in ((201, 1), (429, 0))
    [[held]] = await rows(place, "SELECT count(DISTINCT digest) FROM folder_files")
    assert held == 3


async def test_a_draft_that_is_discarded_is_made_anew(place: Place) -> None:
    assert await put(place, f"{DRAFT}/a") == (201, 1)
    deleting = putting(b"", path=DRAFT, method="DELETE")
    place.line._streams[1].write(deleting)  # type: ignore[index]  # it was asked before
    await place.line._streams[0].readuntil(b"\r\n\r\n")  # type: ignore[index]  # as above

    assert await put(place, f"{DRAFT}/b") == (201, 1)
    assert await rows(place, "SELECT path FROM folder_files") == [("b",)]


async def test_each_is_in_the_audit_log_by_its_own_request(place: Place) -> None:
    for number in range(3):
        fields = [HOST, ("X-Request-Id", f"request-{number}")]
        assert await put(place, f"{DRAFT}/{number}", fields=fields) == (201, 1)

    found = await rows(
        place,
        "SELECT request, actor, action, json_extract(after, '$.path') FROM audit "
        "WHERE request LIKE 'request-%' ORDER BY request",
    )
    assert found == [(f"request-{n}", "usr_local", "update", str(n)) for n in range(3)]


async def test_two_of_a_path_at_once_are_both_answered(place: Place) -> None:
    other = Place(place.site)
    other.line = type(place.line)(place.site.port)
    contents = place.content(), place.content()
    answers = await asyncio.gather(
        place.put((), contents[0], path=f"{DRAFT}/a"),
        place.send(putting(contents[1], path=f"{DRAFT}/a"), other.line),
    )
    other.line.close()

    assert sorted(map(status, answers)) == [200, 201]


async def test_no_right_on_one_model_is_lent_to_another() -> None:
    async with opened(None) as store, served(store, AUTHENTICATED) as site:
        place = Place(site)
        people = {}
        for name in ("ada", "bob", "root"):
            people[name] = await make_person(store, name, is_admin=name == "root")
        root, ada, bob = (showing(people[name]) for name in ("root", "ada", "bob"))
        for slug in ("team", "others"):
            assert await ask(place, "POST", "/api/v1/namespaces", {"slug": slug}, root) == 201
            assert await put(place, f"/models/{slug}~m/v1/begun", fields=root) == (201, 0)
        await own(store, "team", "user", people["ada"].id)
        await grant(store, people["ada"], "reader", kind="namespace", on="others")

        assert (await put(place, "/models/team~m/v1/a", fields=ada))[0] == 201
        taken = 0
        for number in range(2):
            await ask(place, "GET", "/api/v1/models", None, ada)
            answered, was_taken = await put(place, f"/models/team~m/v1/{number}", fields=ada)
            assert answered == 201
            taken += was_taken
            assert await put(place, f"/models/others~m/v1/{number}", fields=ada) == (403, 0)
            assert await put(place, f"/models/team~m/v1/{number}", fields=bob) == (404, 0)
        assert taken > 0
        await own(store, "team", "user", people["bob"].id)
        assert (await put(place, "/models/team~m/v1/late", fields=ada))[0] in (403, 404)
        stored = await rows(place, "SELECT DISTINCT created_by FROM folders")
        assert stored == [(people["root"].id,)]
