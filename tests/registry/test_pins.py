"""Pins over HTTP: list, keep by name, release."""

from __future__ import annotations

from functools import partial

import pytest

from store.digest import Digest
from store.index import claims
from tests.support.serving import Site
from tests.support.storing import put, release

CONTENT = b"kept for ever"
DIGEST = Digest.of(CONTENT)


async def pins_of(site: Site, query: str = "") -> list[tuple[str, str]]:
    answer = await site.ask("GET", f"/api/v1/pins{query}")
    return [(item["kind"], item["digest"]) for item in answer.json["items"]]


async def test_an_upload_makes_a_pin(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)

    (pin,) = (await site.ask("GET", "/api/v1/pins")).json["items"]

    assert (pin["kind"], pin["digest"], pin["size"]) == ("pin", str(DIGEST), len(CONTENT))
    assert pin["url"] == f"/blobs/{DIGEST}"
    assert pin["created_at"].endswith("Z")


@pytest.mark.parametrize("name", [str(DIGEST), DIGEST.hex])
async def test_a_blob_is_kept_by_name_once(site: Site, name: str) -> None:
    """A kept pin stands beside the one the upload made, and repeating it changes nothing."""
    await site.ask("PUT", "/blobs/x", data=CONTENT)

    first = await site.ask("POST", "/api/v1/pins", json={"digest": name})
    second = await site.ask("POST", "/api/v1/pins", json={"digest": name})

    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json
    assert first.json["kind"] == "kept"
    assert first.headers["Location"] == f"/api/v1/pins/{DIGEST}"
    assert await pins_of(site) == [("kept", str(DIGEST)), ("pin", str(DIGEST))]


async def test_a_kept_pin_makes_the_next_upload_no_news(site: Site) -> None:
    await put(site.store, CONTENT, owner="mdl_somebody")
    await site.ask("POST", "/api/v1/pins", json={"digest": str(DIGEST)})

    assert (await site.ask("PUT", "/blobs/x", data=CONTENT)).status == 200


@pytest.mark.parametrize("path", ["/api/v1/pins", "/blobs"])
async def test_release_gives_up_both_kinds(site: Site, path: str) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    await site.ask("POST", "/api/v1/pins", json={"digest": str(DIGEST)})

    answers = [await site.ask("DELETE", f"{path}/{DIGEST}") for _ in range(2)]

    assert [answer.status for answer in answers] == [204, 204]
    assert await pins_of(site) == []
    assert not await site.store.index.read(partial(claims.any_ref, digest=DIGEST))


async def test_what_is_missing_or_hidden_cannot_be_kept(site: Site) -> None:
    hidden = await put(site.store, b"hidden", owner="usr_gone")
    await release(site.store, hidden, owner="usr_gone")

    for digest in (DIGEST, hidden):
        answer = await site.ask("POST", "/api/v1/pins", json={"digest": str(digest)})
        assert (answer.status, answer.code) == (404, "blob_not_found")
        gone = await site.ask("DELETE", f"/api/v1/pins/{digest}")
        assert (gone.status, gone.code) == (404, "blob_not_found")


@pytest.mark.parametrize("digest", ["", "sha256:abc", DIGEST.hex.upper(), "model.bin"])
async def test_only_a_digest_can_be_kept(site: Site, digest: str) -> None:
    answer = await site.ask("POST", "/api/v1/pins", json={"digest": digest})

    assert (answer.status, answer.code) == (400, "invalid_digest")


async def test_pages_give_every_pin_once(site: Site) -> None:
    digests = [Digest.of(str(number).encode()) for number in range(7)]
    for number in range(7):
        await site.ask("PUT", "/blobs/x", data=str(number).encode())
    for digest in digests[:4]:
        await site.ask("POST", "/api/v1/pins", json={"digest": str(digest)})
    expected = [("kept", str(d)) for d in sorted(digests[:4])] + [
        ("pin", str(d)) for d in sorted(digests)
    ]

    for limit in (1, 2, 3, 4, 5, 11, 12):
        found, path = [], f"/api/v1/pins?limit={limit}"
        while path:
            answer = await site.ask("GET", path)
            assert len(answer.json["items"]) <= limit
            found += [(item["kind"], item["digest"]) for item in answer.json["items"]]
            link = answer.headers.get("Link", "")
            path = link.partition("<")[2].partition(">")[0]
            assert (answer.json["next"] is None) == (not path)
        assert found == expected


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "invalid"),
        ("limit=1001", "invalid"),
        ("limit=x", "invalid"),
        ("limit=-1", "invalid"),
        ("after=x", "invalid_cursor"),
        (f"after=tree.{DIGEST.hex}", "invalid_cursor"),
        (f"after=pin.{DIGEST.hex.upper()}", "invalid_cursor"),
    ],
)
async def test_a_bad_page_is_refused(site: Site, query: str, code: str) -> None:
    answer = await site.ask("GET", f"/api/v1/pins?{query}")

    assert (answer.status, answer.code) == (400, code)
