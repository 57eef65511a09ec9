"""Quotas at each door: what is certain not to fit is refused before the rest of it travels.

Requests are sent cut off: an answer can come only if the server did not wait for what is missing.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

import pytest

from registry.services import quota_watch
from store.digest import Digest
from tests.support.builders import Registry, tar_of
from tests.support.people import AUTHENTICATED, make_person
from tests.support.serving import Answer, head, opened, serving

KB: Final = 1024
TUS: Final = {"Tus-Resumable": "1.0.0"}


def of(letter: str, size: int = KB) -> bytes:
    return letter.encode() * size


async def limit(registry: Registry, **quotas: int) -> None:
    made = await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp", **quotas})
    if made.status != 201:
        changed = await registry.send("PATCH", "/api/v1/namespaces/nlp", json=quotas)
        assert changed.status == 200, changed.body


async def cut_off(
    registry: Registry, method: str, path: str, body: bytes, at: int, kind: str = "x/y"
) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request of which only so many bytes of its body are sent."""
    start = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{registry.site.port}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head(await registry.site.raw(start.encode() + body[:at]))


@pytest.mark.parametrize(("most", "status"), [(3 * KB, 413), (5 * KB, 429)])
async def test_a_large_file_of_an_archive_is_refused_by_its_length(
    registry: Registry, most: int, status: int
) -> None:
    await limit(registry, quota_bytes=most)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a", 2 * KB)})
    archive = tar_of({"f": of("b", 4 * KB)})

    found, headers, _ = await cut_off(registry, "PUT", "/models/nlp~a/2.0.0.tar", archive, 512)

    assert found == status
    assert ("retry-after" in headers) == (status == 429)


async def test_an_archive_is_refused_once_what_is_new_in_it_does_not_fit(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_watch, "ASKED_AT_ONCE", 1)
    await limit(registry, quota_bytes=8 * KB)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a", 4 * KB), "g": of("b", 2 * KB)})
    known = {"f": of("a", 4 * KB), "g": of("b", 2 * KB), "h": of("c"), "i": of("d")}
    assert (await registry.put("/models/nlp~a/2.0.0.tar", tar_of(known))).status == 201

    archive = tar_of({"f": of("a", 4 * KB), "j": of("e"), "last": of("f", 100 * KB)})
    cut = archive.index(of("f"))
    found, _, body = await cut_off(registry, "PUT", "/models/nlp~a/3.0.0.tar", archive, cut)

    assert (found, b"quota_reached" in body) == (429, True)


async def test_an_archive_is_refused_where_no_version_fits(registry: Registry) -> None:
    await limit(registry, quota_versions=1)
    files = {"f": of("a")}
    await registry.publish("nlp~a", "1.0.0", files)

    found, _, _ = await cut_off(registry, "PUT", "/models/nlp~a/2.0.0.tar", tar_of(files), 0)
    again = await registry.put("/models/nlp~a/1.0.0.tar", tar_of(files))

    assert (found, again.status) == (429, 200)


@pytest.mark.parametrize(("most", "status"), [(20 * KB, 413), (100 * KB, 429)])
async def test_a_multipart_body_is_refused_among_its_bytes(
    registry: Registry, most: int, status: int
) -> None:
    await limit(registry, quota_bytes=most)
    await registry.publish("nlp~a", "1.0.0", {"f": of("a", 20 * KB)})
    part = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        + of("b", 120 * KB)
        + b"\r\n--b--\r\n"
    )

    found, _, _ = await cut_off(
        registry,
        "POST",
        "/api/v1/models/nlp~a/versions",
        part,
        96 * KB,
        "multipart/form-data; boundary=b",
    )

    assert found == status


@pytest.mark.parametrize(
    ("quotas", "status"),
    [
        ({"quota_bytes": 3 * KB}, 413),
        ({"quota_bytes": 5 * KB}, 429),
        ({"quota_versions": 1}, 429),
    ],
    ids=["larger than the quota", "larger than the rest", "a version too many"],
)
async def test_an_import_is_refused_by_what_its_trees_name(
    registry: Registry, quotas: dict[str, int], status: int
) -> None:
    await registry.publish("other~a", "1.0.0", {"f": of("b", 4 * KB)})
    archive = (await registry.get("/api/v1/models/other~a/export")).body
    await registry.publish("nlp~a", "1.0.0", {"f": of("a", 2 * KB)})
    await limit(registry, **quotas)

    cut = archive.index(b"blobs/")
    found, _, body = await cut_off(
        registry, "POST", "/api/v1/imports?name=nlp%2Fb", archive, cut, "application/x-tar"
    )

    assert found == status, body


async def test_an_import_of_what_a_full_namespace_holds_is_let_in(registry: Registry) -> None:
    await registry.publish("nlp~a", "1.0.0", {"f": of("a", 2 * KB)})
    archive = (await registry.get("/api/v1/models/nlp~a/export")).body
    await limit(registry, quota_bytes=2 * KB)

    made = await registry.send(
        "POST",
        "/api/v1/imports?name=nlp%2Fb",
        data=archive,
        headers={"Content-Type": "application/x-tar"},
    )

    assert made.status == 201, made.body


async def test_an_upload_session_is_refused_where_no_pin_fits(tmp_path: Path) -> None:
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        root = await make_person(store, "root", is_admin=True)
        ada = await make_person(store, "ada")

        async def ask(method: str, path: str, **more: Any) -> Answer:
            headers = {**ada.headers, **more.pop("headers", {})}
            return await site.ask(method, path, headers=headers, **more)

        async def begin(digest: Digest | None = None) -> Answer:
            headers = {**TUS, "Upload-Length": "5"}
            if digest is not None:
                told = base64.b64encode(str(digest).encode()).decode()
                headers["Upload-Metadata"] = f"digest {told}"
            return await ask("POST", "/uploads", headers=headers)

        space = {"slug": "ada", "owner": {"kind": "user", "name": "ada"}, "quota_pins": 1}
        made = await site.ask("POST", "/api/v1/namespaces", json=space, headers=root.headers)
        assert made.status == 201, made.body
        assert (await begin()).status == 201
        put = await ask("PUT", f"/blobs/{Digest.of(b'first')}", data=b"first")
        assert put.status == 201, put.body

        refused = await begin()
        known = await begin(Digest.of(b"first"))
        other = await begin(Digest.of(b"other"))
        changed = await site.ask(
            "PATCH", "/api/v1/namespaces/ada", json={"quota_pins": 0}, headers=root.headers
        )
        assert changed.status == 200, changed.body
        never = await begin()

        assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        assert (known.status, other.status, never.status) == (201, 429, 413)
