"""Many blobs in one archive: each stands for itself, and what was whole and right is kept."""

from __future__ import annotations

from typing import Any

import pytest

from registry.config import Config, LimitsConfig
from registry.keys import DRAIN
from store.digest import EMPTY, Digest
from store.opening import Store
from tests.support.builders import tar_of
from tests.support.people import AUTHENTICATED, make_person
from tests.support.serving import Answer, Site, serving

TAR = "/api/v1/blobs.tar"
SMALL = [b"", b"one", b"two", b"two", b"x" * 10_000]
LARGE = bytes(range(256)) * 1_000


def named(*contents: bytes) -> dict[str, bytes]:
    return {Digest.of(content).hex: content for content in contents}


def archive(*contents: bytes) -> bytes:
    return tar_of(named(*contents))


async def pinned(site: Site, **options: Any) -> set[str]:
    answer = await site.ask("GET", "/api/v1/pins?limit=1000", **options)
    return {pin["digest"] for pin in answer.json["items"]}


def digests(*contents: bytes) -> set[str]:
    return {str(Digest.of(content)) for content in contents}


async def test_every_file_is_a_blob_and_pinned(site: Site) -> None:
    answer = await site.ask("PUT", TAR, data=archive(*SMALL, LARGE))

    size = 6 + 10_000 + len(LARGE)
    assert (answer.status, answer.json) == (200, {"blobs": 5, "size": size, "new": 5})
    assert await pinned(site) == digests(*SMALL, LARGE)
    for content in (*SMALL, LARGE):
        assert (await site.ask("GET", f"/blobs/{Digest.of(content)}")).body == content


async def test_what_the_caller_held_is_not_new(site: Site) -> None:
    await site.ask("PUT", f"/blobs/{EMPTY}", data=b"")
    first = await site.ask("PUT", TAR, data=archive(*SMALL))
    second = await site.ask("PUT", TAR, data=archive(*SMALL))

    assert (first.json["new"], second.json["new"]) == (3, 0)
    assert second.json["blobs"] == 4


async def test_the_same_bytes_may_come_twice(site: Site) -> None:
    hex = Digest.of(b"two").hex
    answer = await site.ask("PUT", TAR, data=tar_of({hex: b"two", f"sha256:{hex}": b"two"}))

    assert answer.json == {"blobs": 2, "size": 6, "new": 1}
    assert await site.stored() == [f"sha256:{hex}"]


async def test_an_archive_may_be_empty(site: Site) -> None:
    assert (await site.ask("PUT", TAR, data=tar_of({}))).json == {"blobs": 0, "size": 0, "new": 0}


async def test_many_are_few_transactions(store: Store) -> None:
    contents = [f"{number}".encode() for number in range(500)]
    async with serving(store) as site:
        body = archive(*contents)
        before = store.index.statement_count()
        answer = await site.ask("PUT", TAR, data=body)

        assert answer.json["new"] == 500
        assert store.index.statement_count() - before < 60
        assert await pinned(site) == digests(*contents)


@pytest.mark.parametrize("wrong", [b"other", LARGE], ids=["small", "large"])
async def test_other_bytes_than_the_name_says_are_refused_and_the_others_kept(
    site: Site, wrong: bytes
) -> None:
    claimed = Digest.of(b"claimed")
    body = tar_of({**named(*SMALL), claimed.hex: wrong, **named(b"behind")})

    answer = await site.ask("PUT", TAR, data=body)

    assert (answer.status, answer.code) == (422, "digest_mismatch")
    assert answer.json["expected"] == str(claimed)
    found = await pinned(site)
    assert digests(*SMALL) <= found
    assert not {str(claimed), *digests(wrong)} & {*found, *await site.stored()}


@pytest.mark.parametrize(
    ("name", "code"), [("model.bin", "invalid_digest"), ("../x", "path_invalid")]
)
async def test_a_file_that_is_not_called_by_its_digest_is_refused_by_name(
    site: Site, name: str, code: str
) -> None:
    answer = await site.ask("PUT", TAR, data=tar_of({**named(b"before"), name: b"x"}))

    assert (answer.status, answer.code) == (400, code)
    assert name in answer.json["detail"]
    assert await pinned(site) == digests(b"before")


async def cut(site: Site, body: bytes, after: int) -> None:
    """Send so much of a body, hang up, and wait until the server has seen to it."""
    _, writer = await site.connect()
    head = f"PUT {TAR} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:after])
    await writer.drain()
    drain = site.app[DRAIN]
    await site.until(lambda: bool(drain.in_flight))
    writer.close()
    await writer.wait_closed()
    await site.until(lambda: not drain.in_flight)
    await site.store.ingest.close()


@pytest.mark.parametrize(
    "contents", [SMALL[1:3], [b"one", LARGE], [LARGE, b"one"]], ids=["small", "before", "behind"]
)
async def test_what_came_whole_before_the_client_was_lost_is_kept(
    site: Site, contents: list[bytes]
) -> None:
    body = archive(*contents, b"y" * 10_000)
    await cut(site, body, body.index(b"y" * 5_000) + 5_000)

    assert await pinned(site) == digests(*contents)
    assert set(await site.stored()) == digests(*contents)


async def test_batches_before_a_wrong_one_are_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.stowing.SMALL_FILES", 2)
    contents = [f"{number}".encode() for number in range(9)]
    body = tar_of({**named(*contents), Digest.of(b"claimed").hex: b"other", **named(b"behind")})

    assert (await site.ask("PUT", TAR, data=body)).status == 422
    assert digests(*contents) <= await pinned(site)


async def test_limits_of_archives_and_blobs_hold(store: Store) -> None:
    config = Config(limits=LimitsConfig(blob_bytes=1_000, tar_entries=3))
    async with serving(store, config) as site:
        large = await site.ask("PUT", TAR, data=archive(b"one", b"x" * 1_001))
        many = await site.ask("PUT", TAR, data=archive(b"two", b"three", b"four", b"five"))

        assert (large.code, many.code) == ("tar_file_too_large", "tar_too_many_entries")
        assert await pinned(site) == digests(b"one", b"two", b"three", b"four")


async def test_pins_that_have_no_room_are_refused(store: Store) -> None:
    async with serving(store, AUTHENTICATED) as site:
        admin = await make_person(store, "root", is_admin=True)
        ada = await make_person(store, "ada")
        made = {"slug": "ada", "quota_pins": 2, "owner": {"kind": "user", "name": "ada"}}
        await site.ask("POST", "/api/v1/namespaces", json=made, headers=admin.headers)

        async def send(*contents: bytes) -> Answer:
            return await site.ask("PUT", TAR, data=archive(*contents), headers=ada.headers)

        assert (await send(b"one", b"two")).status == 200
        assert (await send(b"one", b"two")).status == 200, "they are held already"
        full = await send(b"one", b"three")
        assert (full.status, full.code) == (429, "quota_reached")
        assert await pinned(site, headers=ada.headers) == digests(b"one", b"two")


async def test_who_may_not_write_stores_nothing(store: Store) -> None:
    async with serving(store, AUTHENTICATED) as site:
        answer = await site.ask("PUT", TAR, data=archive(b"one"))

        assert answer.status == 401
        assert await site.stored() == []
