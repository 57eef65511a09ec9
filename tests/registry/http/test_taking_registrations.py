"""Registrations that a connection takes in by itself: nobody can tell, and no right is lent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from registry.keys import DRAIN, STORE, TAKES
from tests.registry.http.test_repeating import served, told
from tests.registry.http.test_taking import HOST, Fields, Place, putting, showing
from tests.registry.http.test_taking_files import rows, status
from tests.support.faults import no_commits
from tests.support.people import AUTHENTICATED, grant, make_person, own
from tests.support.serving import opened

BERT = "/api/v1/models/bert/versions"
JSON = ("Content-Type", "application/json")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """Somebody was let in to register a version."""
    async with opened(None) as store, served(store) as site:
        made = Place(site)
        assert status(await made.put((HOST,))) == 201  # a blob, of `content(1)`
        assert await post(made, BERT, elsewhere("begun")) == (201, 0)
        yield made
        assert site.app[DRAIN].in_flight == 0


def elsewhere(name: str, **more: Any) -> dict[str, Any]:
    return {"source": {"uri": f"s3://elsewhere/{name}"}, "tags": {"stage": "candidate"}, **more}


async def send(place: Place, path: str, said: Any, fields: Fields = (HOST, JSON)) -> bytes:
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return await place.send(putting(content, fields, path=path, method="POST"))


async def post(
    place: Place, path: str, said: Any, fields: Fields = (HOST, JSON)
) -> tuple[int, int]:
    """Which status a registration is answered, and whether it was taken."""
    before = place.taken
    answer = await send(place, path, said, fields)
    return status(answer), place.taken - before


def alike(answer: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """What is told, but for what every version has its own of."""
    own = rb"ver_[0-9a-z]+|\"[0-9a-f]{40}\"|-[0-9a-f]{8}\"|20..-..-..T[0-9:.]+Z"
    return told(re.sub(own, b"OWN", answer))


async def test_answers_are_those_of_the_handler(place: Place) -> None:
    content = place.content()
    await place.put((), content)
    named = [{"path": "a/weights", "digest": f"sha256:{sha256(content).hexdigest()}"}]
    for number, said in enumerate(
        (
            elsewhere("x", description="said", parameters={"lr": 0.1}, status="validated"),
            elsewhere("y", label="1.0.0"),
            {"label": "caf", "files": named},
            {"files": named, "lineage": []},
        )
    ):
        taken: list[bytes] = []
        whole: list[bytes] = []
        for answers, model in ((taken, f"taken~{number}"), (whole, f"whole~{number}")):
            for _ in range(2):
                if answers is whole:
                    place.site.app[TAKES]._passes.clear()
                answers.append(await send(place, f"/api/v1/models/{model}/versions", said))

        assert [status(answer) for answer in taken] == [201, 200]
        assert [alike(answer) for answer in taken] == [
            alike(answer.replace(b"whole", b"taken")) for answer in whole
        ]
        await send(place, BERT, elsewhere("pass"))
    assert place.taken >= 8


async def test_only_what_the_handler_would_do_the_same_way_is_taken(place: Place) -> None:
    said = elsewhere("other")
    for fields in ((HOST,), (HOST, ("Content-Type", "text/plain"))):
        for _ in range(2):
            assert await post(place, BERT, said, fields) == (415, 0)
    with_key = (HOST, JSON, ("Idempotency-Key", "k"))
    for _ in range(2):
        assert await post(place, BERT, said, with_key) == (201, 0)
    draft = {"label": "draft", "files": [], "publish": False}
    for path, wish, refused in (
        (BERT, b"{", 400),
        (BERT, {"unknown": 1}, 400),
        (BERT, {}, 400),
        (BERT, {"label": "x", "files": [{"path": "../x", "digest": None}]}, 400),
        (BERT, draft, 400),
        (f"{BERT}?x=1", said, 400),
        ("/api/v1/models/a%zz/versions", said, 400),
        ("/api/v1/models/../versions", said, 400),
        (f"{BERT}/none/publish", {}, 404),
        (BERT, {"files": [{"path": "a", "digest": f"sha256:{'0' * 64}"}]}, 409),
        ("/api/v1/models/mdl_00000000000000000000000000/versions", said, 404),
    ):
        for _ in range(2):
            assert await post(place, path, wish) == (refused, 0), (path, wish)
    assert await post(place, "/api/v1/models", {"name": "made"}) == (201, 0)
    assert await post(place, BERT, elsewhere("good")) == (201, 1)


async def test_a_label_that_is_published_is_refused_by_the_handler(place: Place) -> None:
    assert await post(place, BERT, elsewhere("a", label="1.0")) == (201, 1)
    assert await post(place, BERT, elsewhere("b", label="1.0")) == (409, 0)
    assert await post(place, BERT, elsewhere("a", label="1.0")) == (200, 1)


async def test_each_is_in_the_audit_log_by_its_own_request(place: Place) -> None:
    others = [Place(place.site) for _ in range(4)]
    for other in others:
        other.line = type(place.line)(place.site.port)
    answers = await asyncio.gather(
        *(
            send(other, BERT, elsewhere(f"n{n}"), (HOST, JSON, ("X-Request-Id", f"request-{n}")))
            for n, other in enumerate(others)
        )
    )
    for other in others:
        other.line.close()

    assert [status(answer) for answer in answers] == [201] * 4
    assert place.taken == 4
    found = await rows(
        place,
        "SELECT request, actor, json_extract(after, '$.source') FROM audit "
        "WHERE request LIKE 'request-%' AND action = 'publish' ORDER BY request",
    )
    assert found == [(f"request-{n}", "usr_local", f"s3://elsewhere/n{n}") for n in range(4)]


async def test_what_cannot_be_committed_is_refused_and_not_there(place: Place) -> None:
    with no_commits(place.site.app[STORE].index):
        assert (await post(place, BERT, elsewhere("lost")))[0] >= 500

    assert place.taken == 0
    assert await rows(place, "SELECT number FROM versions") == [(1,)]
    assert await post(place, BERT, elsewhere("kept")) == (201, 1)


async def test_no_right_is_lent() -> None:
    async with opened(None) as store, served(store, AUTHENTICATED) as site:
        place = Place(site)
        people = {
            name: await make_person(store, name, is_admin=name == "root")
            for name in ("ada", "bob", "root")
        }
        root, ada, bob = ([*showing(people[name]), JSON] for name in ("root", "ada", "bob"))
        for slug in ("team", "others"):
            assert (await post(place, "/api/v1/namespaces", {"slug": slug}, root))[0] == 201
            path = f"/api/v1/models/{slug}~m/versions"
            assert await post(place, path, elsewhere("begun"), root) == (201, 0)
        await own(store, "team", "user", people["ada"].id)
        await grant(store, people["ada"], "reader", kind="namespace", on="others")
        team, others = (f"/api/v1/models/{slug}~m/versions" for slug in ("team", "others"))

        assert (await post(place, team, elsewhere("a"), ada))[0] == 201
        taken = 0
        for number in range(2):
            get = putting(b"", ada, path="/api/v1/models", method="GET")
            await place.send(get)  # has somebody look whether rights changed
            answered, was_taken = await post(place, team, elsewhere(f"b{number}"), ada)
            assert answered == 201
            taken += was_taken
            assert await post(place, others, elsewhere("c"), ada) == (403, 0)
            assert await post(place, team, elsewhere("d"), bob) == (404, 0)
        assert taken > 0
        await own(store, "team", "user", people["bob"].id)
        assert (await post(place, team, elsewhere("late"), ada))[0] in (403, 404)
        made_by = await rows(place, "SELECT created_by FROM versions WHERE number > 1")
        assert set(made_by) == {(people["ada"].id,)}
