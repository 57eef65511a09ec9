"""Bytes of a draft, asked for by their digest: open to who reads its model, and to nobody else.

A draft is a claim of its model's, as a version is; it opens its bytes for as long as it has them.
"""

from __future__ import annotations

from typing import Any, Final

from store.digest import Digest
from tests.registry.test_enumeration import Asked, Place, differing, placed, sent
from tests.support.people import Person, grant, make_person
from tests.support.serving import Answer

DRAFTED: Final = b"weights that nobody published yet"
DIGEST: Final = Digest.of(DRAFTED)
NOTHING: Final = Digest.of(b"weights that nobody has put")
JSON: Final = {"Content-Type": "application/json"}


async def put(place: Place, who: Person, path: str, content: bytes) -> Answer:
    answer = await place.site.ask("PUT", path, data=content, headers=who.headers)
    assert answer.status in (200, 201), answer.body
    return answer


async def opens(place: Place, who: Person) -> bool:
    """Whether somebody gets the bytes; what they may know of them by other ways must agree."""
    headers = who.headers
    got = await place.site.ask("GET", f"/blobs/{DIGEST}", headers=headers)
    owners = await place.site.ask("GET", f"/api/v1/blobs/{DIGEST}/owners", headers=headers)
    asked = await place.site.ask(
        "POST", "/api/v1/blobs/missing", json={"digests": [str(DIGEST)]}, headers=headers
    )
    is_open = got.status == 200
    assert got.status in (200, 404)
    assert got.body == DRAFTED or not is_open
    assert (owners.status == 200) is is_open
    assert asked.json["missing"] == ([] if is_open else [str(DIGEST)])
    return is_open


async def test_a_draft_opens_its_bytes_to_who_reads_its_model_while_it_has_them() -> None:
    async with placed() as place:
        root, reader = place.root, place.outsider
        await put(place, root, "/models/nlp~bert/draft/f", DRAFTED)
        await put(place, root, "/models/cv~resnet/draft/f", DRAFTED)
        models = [
            (await place.api(root, "GET", f"models/{name}"))["id"]
            for name in ("nlp~bert", "cv~resnet")
        ]
        before = await opens(place, reader)
        granted = grant_on("nlp/bert", reader)
        await place.api(root, "POST", "grants", granted)
        within = await opens(place, reader)
        [owner] = (await place.api(reader, "GET", f"blobs/{DIGEST}/owners"))["models"]
        await put(place, root, "/models/nlp~bert/draft/f", b"other weights")
        replaced = await opens(place, reader)
        await place.api(root, "POST", "grants", grant_on("cv/resnet", reader))
        by_another = await opens(place, reader)
        gone = await place.site.ask(
            "DELETE", "/api/v1/models/cv~resnet/versions/draft", headers=root.headers
        )
        discarded = await opens(place, reader)

    assert (before, within, replaced, by_another, discarded) == (False, True, False, True, False)
    assert owner["id"] == models[0]
    assert gone.status == 204


def grant_on(model: str, who: Person) -> dict[str, Any]:
    return {
        "subject": {"kind": "user", "name": who.name},
        "resource": {"kind": "model", "name": model},
        "role": "reader",
    }


async def test_a_draft_that_is_hidden_is_as_good_as_missing() -> None:
    """In status, headers, body and statements, also while another hidden model has the bytes."""
    async with placed() as place:
        root, outsider = place.root, place.outsider
        elsewhere = await make_person(place.site.store, "elsewhere")
        await place.api(root, "POST", "models", {"name": "mine/bert"})
        await grant(place.site.store, outsider, "writer", kind="namespace", on="mine")
        await put(place, root, "/models/nlp~bert/draft/f", DRAFTED)
        names = {DIGEST.hex: NOTHING.hex}
        file = f'{{"label":"v1","files":[{{"path":"f","digest":"{DIGEST}"}}]}}'.encode()
        pin = f'{{"digest":"{DIGEST}"}}'.encode()
        asked = [
            Asked("GET", f"/blobs/{DIGEST}", "", {}, None),
            Asked("HEAD", f"/blobs/{DIGEST}", "", {}, None),
            Asked("GET", f"/blobs/{DIGEST}", "", {"If-None-Match": f'"{DIGEST}"'}, None),
            Asked("GET", f"/blobs/{DIGEST}", "", {"Range": "bytes=0-3"}, None),
            Asked("GET", f"/api/v1/blobs/{DIGEST}/owners", "", {}, None),
            Asked("GET", f"/models/nlp~bert/{DIGEST}/f", "", {}, None),
            Asked("POST", "/api/v1/pins", "", JSON, pin),
            Asked("POST", "/api/v1/models/mine~bert/versions", "", JSON, file),
        ]
        differences = []
        for others in range(3):
            if others == 1:
                await put(place, root, "/models/secret~bert/v1/f?publish=true", DRAFTED)
            if others == 2:
                await put(place, elsewhere, f"/blobs/{DIGEST}", DRAFTED)
            for who in (outsider, None):
                await sent(place, asked[0], who)  # who they are is learnt once
                for one in asked:
                    missing = one.renamed(names)
                    if difference := await differing(place, who, one, missing, names):
                        differences.append(f"{others}, {one.method} {one.path}: {difference}")
    assert not differences, "\n".join(differences)
