"""What is taken, what a purge frees and why a blob is kept, for operators and for who sees less."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from store.digest import Digest
from tests.support.builders import Registry
from tests.support.people import AUTHENTICATED, Person, grant, make_person
from tests.support.serving import Site, opened, serving

KB: Final = 1024
API: Final = "/api/v1"


def of(letter: str) -> bytes:
    return letter.encode() * KB


async def told(registry: Registry, path: str) -> dict[str, Any]:
    answer = await registry.get(API + path)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def sums(found: dict[str, Any]) -> tuple[int, ...]:
    frees = [found[f"frees_of_{whole}"] // KB for whole in ("model", "namespace", "store")]
    return (found["blobs"], found["bytes"] // KB, *frees)


async def test_what_purging_a_version_frees_is_what_nothing_else_has(registry: Registry) -> None:
    await registry.publish("nlp~a", "1.0.0", {c: of(c) for c in "abcd"} | {"again": of("a")})
    await registry.publish("nlp~a", "2.0.0", {"b": of("b")})
    await registry.publish("nlp~b", "1.0.0", {"c": of("c")})
    await registry.publish("cv~a", "1.0.0", {"d": of("d")})

    version = await told(registry, "/models/nlp~a/versions/1.0.0/storage")
    assert (version["model"], version["version"]) == ("nlp/a", "1.0.0")
    assert sums(version) == (4, 4, 3, 2, 1)
    assert sums(await told(registry, "/models/nlp~a/storage")) == (4, 4, 4, 3, 2)

    await registry.put("/models/nlp~a/3.0.0/draft", of("d"))
    assert sums(await told(registry, "/models/nlp~a/versions/1.0.0/storage")) == (4, 4, 2, 1, 1)
    assert sums(await told(registry, "/models/nlp~a/versions/3.0.0/storage")) == (1, 1, 0, 0, 0)


async def test_what_was_told_is_what_a_purge_frees(registry: Registry) -> None:
    await registry.publish("nlp~a", "1.0.0", {c: of(c) for c in "abc"})
    await registry.publish("nlp~a", "2.0.0", {"b": of("b")})
    await registry.publish("nlp~b", "1.0.0", {"c": of("c")})
    freed = (await told(registry, "/models/nlp~a/versions/1.0.0/storage"))["frees_of_namespace"]
    before = await told(registry, "/namespaces/nlp/usage")

    await registry.send("DELETE", f"{API}/models/nlp~a/versions/1.0.0")
    await registry.send("POST", f"{API}/models/nlp~a/versions/1.0.0/purge")

    after = await told(registry, "/namespaces/nlp/usage")
    assert (before["bytes"] - after["bytes"], freed) == (KB, KB)
    assert (before["versions"], after["versions"]) == (3, 2)


async def test_a_blob_is_kept_by_files_drafts_pins_and_leases(registry: Registry) -> None:
    digest = Digest.of(of("a"))
    await registry.publish("nlp~a", "1.0.0", {"x": of("a"), "y": of("a")})
    await registry.publish("nlp~b", "1.0.0", {"z": of("a")})
    await registry.put("/models/nlp~b/2.0.0/w", of("a"))
    await registry.send("DELETE", f"{API}/models/nlp~a/versions/1.0.0")
    await registry.put("/blobs/", of("a"))

    found = await told(registry, f"/blobs/{digest}/owners")

    files = {
        (model["name"], file["number"], file["label"], file["path"], file["deleted"])
        for model in found["models"]
        for file in model["files"]
    }
    assert files == {
        ("nlp/a", 1, "1.0.0", "x", True),
        ("nlp/a", 1, "1.0.0", "y", True),
        ("nlp/b", 1, "1.0.0", "z", False),
        ("nlp/b", None, "2.0.0", "w", False),
    }
    assert [(pin["owner"], pin["kind"]) for pin in found["pins"]] == [("usr_local", "pin")]
    assert (found["size"], found["more_models"], found["leases"]) == (KB, False, [])
    missing = await registry.get(f"{API}/blobs/{Digest.of(b'nothing')}/owners")
    assert (missing.status, missing.code) == (404, "blob_not_found")


# With people


class Guarded:
    """A registry with an administrator, and two models that share a blob in one namespace."""

    def __init__(self, site: Site, admin: Person) -> None:
        self.site, self.admin = site, admin

    async def ask(self, who: Person, method: str, path: str, **named: Any) -> Any:
        return await self.site.ask(method, path, headers=who.headers, **named)


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        admin = await make_person(store, "root", is_admin=True)
        world = Guarded(site, admin)
        for model in ("open", "hidden"):
            put = f"/models/nlp~{model}/1.0.0/f?publish=true"
            assert (await world.ask(admin, "PUT", put, data=of("a"))).status == 201
        await world.ask(admin, "PATCH", f"{API}/models/nlp~open", json={"visibility": "internal"})
        yield world


async def test_hidden_owners_are_neither_named_nor_counted(guarded: Guarded) -> None:
    store = guarded.site.store
    reader = await make_person(store, "ada")
    all_of_it = await make_person(store, "grace")
    namespace = await guarded.ask(guarded.admin, "GET", f"{API}/namespaces/nlp")
    await grant(store, all_of_it, "reader", kind="namespace", on=namespace.json["slug"])
    other = await make_person(store, "zoe", is_admin=True)
    digest = str(Digest.of(of("a")))
    for who in (guarded.admin, other):
        await guarded.ask(who, "POST", f"{API}/pins", json={"digest": digest})
    owners = f"{API}/blobs/{digest}/owners"

    def is_root(who: Person) -> bool:
        return who is guarded.admin

    async def names(who: Person) -> list[str]:
        found = (await guarded.ask(who, "GET", owners)).json
        pins = [(pin["owner"], pin["kind"]) for pin in found["pins"]]
        assert pins == ([(guarded.admin.id, "kept"), (other.id, "kept")] if is_root(who) else [])
        assert (found["leases"] is None) == (not is_root(who))
        return sorted(model["name"] for model in found["models"])

    assert await names(reader) == ["nlp/open"]
    assert await names(all_of_it) == ["nlp/hidden", "nlp/open"]
    assert await names(guarded.admin) == ["nlp/hidden", "nlp/open"]

    async def frees(who: Person) -> list[int | None]:
        found = (await guarded.ask(who, "GET", f"{API}/models/nlp~open/storage")).json
        return [found[f"frees_of_{whole}"] for whole in ("model", "namespace", "store")]

    assert await frees(reader) == [KB, None, None]
    assert await frees(all_of_it) == [KB, 0, None]
    assert await frees(guarded.admin) == [KB, 0, 0]
    usage = f"{API}/namespaces/nlp/usage"
    for who, status in ((reader, 403), (all_of_it, 403), (guarded.admin, 200)):
        assert (await guarded.ask(who, "GET", usage)).status == status
    hidden = await guarded.ask(reader, "GET", f"{API}/models/nlp~hidden/storage")
    assert (hidden.status, hidden.json["code"]) == (404, "model_not_found")


async def test_pins_count_in_the_namespace_of_the_users_own_name(guarded: Guarded) -> None:
    ada = await make_person(guarded.site.store, "ada")
    made = {"slug": "ada", "quota_pins": 2, "owner": {"kind": "user", "name": "ada"}}
    assert (await guarded.ask(guarded.admin, "POST", f"{API}/namespaces", json=made)).status == 201

    async def put(letter: str) -> Any:
        return await guarded.ask(ada, "PUT", "/blobs/", data=of(letter))

    assert [(await put(letter)).status for letter in "xyx"] == [201, 201, 200]
    full = await put("z")
    assert (full.status, full.json["code"], full.json["quota"]) == (429, "quota_reached", "pins")
    usage = (await guarded.ask(ada, "GET", f"{API}/namespaces/ada/usage")).json
    assert (usage["pins"], usage["quota_pins"]) == (2, 2)

    tus = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(KB),
        "Content-Type": "application/offset+octet-stream",
    }
    sent = await guarded.site.ask("POST", "/uploads", data=of("z"), headers=ada.headers | tus)
    assert (sent.status, sent.json["quota"], sent.headers["Retry-After"]) == (429, "pins", "300")
    kept = await guarded.ask(ada, "POST", f"{API}/pins", json={"digest": str(Digest.of(of("x")))})
    assert kept.status == 201, "what is pinned already is not one more"
    released = await guarded.ask(ada, "DELETE", f"/blobs/{Digest.of(of('x'))}")
    assert released.status == 204
    assert (await put("z")).status == 201
