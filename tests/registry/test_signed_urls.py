"""Signed URLs: what they open, and that they open nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.auth.keys import RootKey
from registry.auth.signed_urls import Claim, SignatureRefused, check, sign, split
from registry.config import Config, ServerConfig
from store.clock import SECOND
from store.index.transactions import Statement, Tx
from tests.support.clock import ManualClock
from tests.support.people import AUTHENTICATED, Person, make_person, revoke_tokens
from tests.support.serving import Answer, Site, opened, serving

FILE = "/models/nlp~bert/1.0.0/model.bin"
BYTES = b"weights"
ROOT = RootKey(bytes(32))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def site(clock: ManualClock) -> AsyncIterator[Site]:
    async with opened(None, clock=clock) as store, serving(store, AUTHENTICATED) as served:
        yield served


@pytest.fixture
async def anna(site: Site) -> Person:
    """Somebody who has a file."""
    person = await make_person(site.store, "anna", is_admin=True)
    put = await site.ask("PUT", f"{FILE}?publish=true", data=BYTES, headers=person.headers)
    assert put.status == 201, put.body
    return person


async def signed(site: Site, who: Person, path: str, **said: Any) -> str:
    """Path and query of a signed URL."""
    answer = await site.ask(
        "POST", "/api/v1/signed-urls", json={"path": path, **said}, headers=who.headers
    )
    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    url = str(answer.json["url"])
    assert url.startswith(site.url)
    return url.removeprefix(site.url)


def refused(answer: Answer) -> str:
    assert (answer.status, answer.code) == (403, "signature_refused"), answer.body
    return str(answer.json["detail"])


async def test_whoever_has_the_url_downloads(site: Site, anna: Person) -> None:
    url = await signed(site, anna, FILE)

    whole, head = await site.ask("GET", url), await site.ask("HEAD", url)
    part = await site.ask("GET", url, headers={"Range": "bytes=0-2"})

    assert (whole.status, whole.body) == (200, BYTES)
    assert head.status == 200
    assert (part.status, part.body) == (206, b"wei")


async def test_a_signature_is_for_one_target(site: Site, anna: Person) -> None:
    signature = split(await signed(site, anna, FILE))[1]

    for other in (
        "/models/nlp~bert/1.0.0/other.bin",
        "/models/nlp~bert/1.0.0/",
        f"/blobs/sha256:{hashlib.sha256(BYTES).hexdigest()}",
        "/api/v1/models",
    ):
        answer = await site.ask("GET", f"{other}?signature={signature}")
        assert refused(answer) == "the signature is not for this request"
    more = await site.ask("GET", f"{FILE}?download=1&signature={signature}")
    assert refused(more) == "the signature is not for this request"
    behind = await site.ask("GET", f"{FILE}?signature={signature}&download=1")
    assert refused(behind) == "the signature does not cover 'download', which follows it"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
async def test_a_download_is_nothing_else(site: Site, anna: Person, method: str) -> None:
    url = await signed(site, anna, FILE)

    refused(await site.ask(method, url, data=b"x"))


async def test_an_upload_is_no_download(site: Site, anna: Person) -> None:
    url = await signed(site, anna, "/models/nlp~bert/2.0.0/model.bin", method="PUT")

    put = await site.ask("PUT", url, data=b"more weights")

    assert put.status == 201
    assert refused(await site.ask("GET", url)) == "the signature is not for this request"


async def test_an_upload_is_bound_to_its_size_and_digest(site: Site, anna: Person) -> None:
    said = {"size": len(BYTES), "digest": f"sha256:{hashlib.sha256(BYTES).hexdigest()}"}
    url = await signed(site, anna, "/models/nlp~bert/3.0.0/m.bin", method="PUT", **said)
    digest = base64.b64encode(hashlib.sha256(BYTES).digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{digest}:"}

    assert "bytes" in refused(await site.ask("PUT", url, data=b"much too long"))
    assert "Repr-Digest" in refused(await site.ask("PUT", url, data=BYTES))
    lied = await site.ask("PUT", url, data=b"WEIGHTS", headers=headers)
    assert (lied.status, lied.code) == (422, "digest_mismatch")
    assert (await site.ask("PUT", url, data=BYTES, headers=headers)).status == 201


async def test_it_ends_in_time(site: Site, anna: Person, clock: ManualClock) -> None:
    url = await signed(site, anna, FILE, expires_in=60)
    clock.advance(59)
    assert (await site.ask("GET", url)).status == 200
    clock.advance(1)

    assert refused(await site.ask("GET", url)) == "the signature has expired"


async def test_it_ends_with_the_rights_of_its_signer(site: Site, anna: Person) -> None:
    otto = await make_person(site.store, "otto")
    theirs = await signed(site, otto, FILE)

    assert (await site.ask("GET", theirs)).status == 404  # signed what otto may not read

    url = await signed(site, anna, FILE)
    await revoke_tokens(site.store, anna)
    assert (await site.ask("GET", url)).status == 200  # a token is not its user
    gone = await site.ask("DELETE", "/api/v1/models/nlp~bert", headers=otto.headers)
    assert gone.status == 404


async def test_who_may_not_write_signs_no_upload(site: Site) -> None:
    reader = await make_person(site.store, "carl", scopes=["content.read", "model.read"])

    answer = await site.ask(
        "POST",
        "/api/v1/signed-urls",
        json={"path": FILE, "method": "PUT"},
        headers=reader.headers,
    )

    assert answer.status == 403


@pytest.mark.parametrize(
    "said",
    [
        {"path": "/api/v1/models"},
        {"path": "models/x"},
        {"path": "/models/ä"},
        {"path": "/models/x#y"},
        {"path": "/models/x?signature=y"},
        {"path": "/models/x", "expires_in": 8 * 86400},
        {"path": "/models/x", "size": 3},
        {"path": "/models/x", "method": "DELETE"},
        {"path": "/models/x", "method": "PUT", "digest": "md5:1"},
    ],
)
async def test_what_cannot_be_signed_is_refused(
    site: Site, anna: Person, said: dict[str, object]
) -> None:
    answer = await site.ask("POST", "/api/v1/signed-urls", json=said, headers=anna.headers)

    assert answer.status == 400


async def test_the_open_mode_looks_at_signatures_too() -> None:
    async with opened(None) as store, serving(store, Config()) as site:
        await site.ask("PUT", f"{FILE}?publish=true", data=BYTES)
        answer = await site.ask("POST", "/api/v1/signed-urls", json={"path": FILE})
        url = answer.json["url"].removeprefix(site.url)

        assert (await site.ask("GET", url)).status == 200
        refused(await site.ask("GET", url[:-1]))


async def test_a_parameter_that_ends_like_it_is_left_alone(site: Site, anna: Person) -> None:
    answer = await site.ask("GET", "/api/v1/models?q=signature=x", headers=anna.headers)
    alone = await site.ask("GET", "/api/v1/models?q=signature=x")

    assert (answer.status, alone.status) == (200, 401)


NOW = 1_800_000_000 * SECOND
CLAIM = Claim("usr_x", NOW // SECOND + 60, 7, "sha256:00")


def test_a_claim_comes_back_as_it_was_signed() -> None:
    signature = sign(ROOT, "upload", "/models/x?a=b", CLAIM)

    assert check(ROOT, "upload", "/models/x?a=b", signature, NOW) == CLAIM


@pytest.mark.parametrize("part", range(2))
def test_no_character_of_a_signature_can_be_changed(part: int) -> None:
    signature = sign(ROOT, "download", "/models/x", CLAIM)
    for at in range(len(signature.split(".")[part]) - 1):
        parts = signature.split(".")
        changed = "B" if parts[part][at] == "A" else "A"
        parts[part] = parts[part][:at] + changed + parts[part][at + 1 :]
        with pytest.raises(SignatureRefused):
            check(ROOT, "download", "/models/x", ".".join(parts), NOW)


@pytest.mark.parametrize("signature", ["", ".", "x", "x.y", "a.b.c", "é.é", "." * 2000])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureRefused):
        check(ROOT, "download", "/models/x", signature, NOW)


def test_another_root_key_signs_otherwise() -> None:
    signature = sign(RootKey(b"x" * 32), "download", "/models/x", CLAIM)

    with pytest.raises(SignatureRefused):
        check(ROOT, "download", "/models/x", signature, NOW)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/a", ("/a", None)),
        ("/a?signature=s", ("/a", "s")),
        ("/a?b=c&signature=s", ("/a?b=c", "s")),
        ("/a?signature=s&b=c", ("/a?signature=s&b=c", None)),
        ("/a?xsignature=s", ("/a?xsignature=s", None)),
        ("/a?signature", ("/a?signature", None)),
    ],
)
def test_the_last_parameter_is_the_signature(target: str, found: tuple[str, str | None]) -> None:
    assert split(target) == found


@pytest.mark.parametrize("accel", ["", "/_blobs/"], ids=["itself", "by the proxy"])
async def test_sensitive_bytes_by_signature_are_told_before_they_leave(
    tmp_path: Path, accel: str
) -> None:
    """Also where a proxy sends them: it has them of nobody else."""
    proxies = ("127.0.0.0/8",) if accel else ()
    server = ServerConfig(accel_redirect=accel, trusted_proxies=proxies)
    config = Config(auth=AUTHENTICATED.auth, server=server)
    async with opened(tmp_path / "data") as store, serving(store, config) as site:
        anna = await make_person(store, "anna", is_admin=True)
        content = BYTES * 100_000
        wish = {"name": "nlp/bert", "risk_level": "high"}
        made = await site.ask("POST", "/api/v1/models", json=wish, headers=anna.headers)
        assert made.status == 201, made.body
        put = await site.ask("PUT", f"{FILE}?publish=true", data=content, headers=anna.headers)
        assert put.status == 201, put.body

        url = await signed(site, anna, FILE)
        got = await site.ask("GET", url, headers={"X-Sendfile-Type": "X-Accel-Redirect"})

        assert (got.status, len(got.body)) == (200, 0 if accel else len(content))
        assert ("X-Accel-Redirect" in got.headers) == bool(accel)
        told = Statement(
            text("SELECT actor, after ->> 'path' FROM audit WHERE action = 'download'")
        )

        async def read(tx: Tx) -> list[Any]:
            return [tuple(row) for row in await tx.all(told)]

        assert await store.index.read(read) == [(anna.id, "model.bin")]
