"""What is hidden shows neither beside what is seen nor to requests of an unusual kind.

`tests.registry.test_enumeration` asks every route as its document shows it. Here the same questions
are asked with conditions and ranges, by methods that an address does not take, from beside things
of one's own, in batches with them, and page by page. Hidden and missing *must not* differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import pytest

from store.digest import Digest
from tests.registry.test_enumeration import (
    HIDDEN_FILE,
    UNSTEADY,
    Asked,
    Place,
    all_asked,
    differing,
    fill,
    missing_names,
    placed,
    sent,
    told,
)
from tests.support.people import Person, grant, make_person
from tests.support.serving import Answer, opened, serving

JSON: Final = {"Content-Type": "application/json"}
SPACE: Final = "nlp-hidden"
ABSENT: Final = "nlp-absent"
DIGEST: Final = Digest.of(HIDDEN_FILE)


class Beside(msgspec.Struct):
    """What the outsider does not see: how to call it, and what names nothing instead."""

    place: Place
    known: Mapping[str, str]
    names: Mapping[str, str]
    requests: Mapping[str, Asked]

    async def differ(self, who: Person | None, asked: Asked) -> str:
        missing = asked.renamed(self.names)
        assert asked != missing, "nothing hidden is named"
        return await differing(self.place, who, asked, missing, self.names)


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    """A world with one of everything, and a request of each route about it."""
    async with placed() as place:
        world = await place.world("hidden")
        assert world.known["namespace"] == SPACE
        world.known["digest"] = str(DIGEST)
        names = missing_names(world)
        assert names[SPACE] == ABSENT
        await place.api(place.root, "POST", "environments", {"name": ABSENT, "type": "staging"})
        requests = await asyncio.to_thread(all_asked, world)
        named = {label: asked for label, asked in requests.items() if asked != asked.renamed(names)}
        for who in (place.outsider, place.root):
            await place.site.ask("GET", "/api/v1/models", headers=who.headers)
        yield Beside(place, world.known, names, named)


@pytest.fixture
async def few() -> AsyncIterator[Beside]:
    """A model with a version, a binding and a webhook that was delivered to."""
    async with placed() as place:
        root = place.root
        path = f"/models/{SPACE}~bert/1.4.0/f?publish=true"
        put = await place.site.ask("PUT", path, data=HIDDEN_FILE, headers=root.headers)
        version = put.json["version"]["id"]
        binding = {"version": version, "provider": "self-hosted"}
        hook = {"url": "https://hooks.invalid/", "events": ["*"]}
        theirs = (await place.api(root, "POST", "webhooks", {**hook, "namespace": SPACE}))["id"]
        ping = await place.api(root, "POST", f"webhooks/{theirs}/ping")
        outsider = place.outsider
        await place.api(outsider, "POST", "models", {"name": "outsider/bert"})
        own = {**hook, "namespace": "outsider"}
        known = {
            "version": version,
            "binding": (await place.api(root, "POST", "bindings", binding))["id"],
            "delivery": str(ping["entry"]),
            "own webhook": (await place.api(outsider, "POST", "webhooks", own))["id"],
        }
        names = {
            SPACE: ABSENT,
            DIGEST.hex: Digest.of(b"no such thing").hex,
            **{known[one]: known[one][:-4] + "zzzz" for one in ("version", "binding")},
        }
        await place.site.ask("GET", "/api/v1/models", headers=outsider.headers)
        yield Beside(place, known, names, {})


def with_headers(asked: Asked, **headers: str) -> Asked:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return msgspec.structs.replace(asked, headers={**asked.headers, **named})


async def etag_of(beside: Beside, asked: Asked) -> str:
    answer, _ = await sent(beside.place, asked, beside.place.root)
    return answer.headers.get("ETag", '"none"')


async def test_requests_of_an_unusual_kind_do_not_tell(beside: Beside) -> None:
    """Conditions that hold of what is hidden, ranges of it, methods that its address lacks."""
    differences = []
    for label, plain in beside.requests.items():
        kinds = {"OPTIONS": msgspec.structs.replace(plain, method="OPTIONS")}
        if plain.method == "GET":
            etag = await etag_of(beside, plain)
            kinds |= {
                "HEAD": msgspec.structs.replace(plain, method="HEAD"),
                "If-None-Match": with_headers(plain, If_None_Match=etag),
                "If-Match and Range": with_headers(plain, If_Match=etag, Range="bytes=0-0"),
                "If-Range": with_headers(plain, If_Range=etag, Range="bytes=9999999-"),
            }
        elif plain.method != "HEAD":
            kinds["If-Match"] = with_headers(plain, If_Match='"none"')
            kinds["If-None-Match"] = with_headers(plain, If_None_Match="*")
            kinds["Idempotency-Key"] = with_headers(plain, Idempotency_Key="beside")
        for kind, asked in kinds.items():
            if difference := await beside.differ(beside.place.outsider, asked):
                differences.append(f"{label} with {kind}: {difference}")
    assert not differences, "\n".join(differences)


async def test_things_of_ones_own_do_not_lead_to_hidden_ones(beside: Beside) -> None:
    """Ids and digests that are hidden, under a model, in a namespace, of a webhook of one's own."""
    place, outsider = beside.place, beside.place.outsider
    for label in ("1.3.0", "1.4.0", "1.5.0"):
        path = f"/models/outsider~bert/{label}/model.safetensors?publish=true"
        put = await place.site.ask("PUT", path, data=label[:3].encode(), headers=outsider.headers)
        assert put.status == 201, put.body
    hook = {"url": "https://hooks.invalid/", "events": ["*"], "namespace": "outsider"}
    own = (await place.api(outsider, "POST", "webhooks", hook))["id"]
    mine = {
        f"{SPACE}~bert": "outsider~bert",
        f"{SPACE}/bert": "outsider/bert",
        f'"{SPACE}"': '"outsider"',
        beside.known["webhook"]: own,
    }
    seen, differences = 0, []
    for label, hidden in beside.requests.items():
        asked = hidden.renamed(mine)
        if asked == hidden or asked == asked.renamed(beside.names):
            continue
        seen += 1
        if difference := await beside.differ(outsider, asked):
            differences.append(f"{label}: {difference}")
    for version in (beside.known["id"], str(DIGEST)):
        for rest in ("", "/storage", "/lineage", "/downloads", "/guards?alias=a", "/reviews"):
            path = f"/api/v1/models/outsider~bert/versions/{version}{rest}"
            seen += 1
            if difference := await beside.differ(outsider, Asked("GET", path, "", {}, None)):
                differences.append(f"{rest} of {version}: {difference}")
    assert not differences, "\n".join(differences)
    assert seen > 15, "own things were asked about hidden ones"


async def test_a_webhook_of_ones_own_has_no_deliveries_of_what_is_hidden(few: Beside) -> None:
    place, outsider, own = few.place, few.place.outsider, few.known["own webhook"]
    delivered = few.known["delivery"]
    absent = "9" * len(delivered)

    for method, rest in (("GET", ""), ("POST", "/redeliver")):
        hidden, missing = [
            await place.site.ask(
                method,
                f"/api/v1/webhooks/{own}/deliveries/{number}{rest}",
                headers=outsider.headers,
            )
            for number in (delivered, absent)
        ]
        assert hidden.status == 404
        assert told(hidden, {delivered: absent}) == told(missing, {})
    listed = await place.api(outsider, "GET", f"webhooks/{own}/deliveries")
    assert listed["items"] == []


def batches(own: str, hidden: str, binding: str, id: str) -> dict[str, tuple[str, Any]]:
    """Requests about several things, one of them hidden, and their routes."""
    digest = str(DIGEST)
    file = {"path": "f", "digest": digest}
    return {
        "models": (
            "models/batch",
            {"models": [{"name": f"{own}/new"}, {"name": f"{hidden}/bert"}]},
        ),
        "versions": (
            "versions/batch",
            {
                "versions": [
                    {"model": f"{own}/bert", "label": "v7", "source": {"uri": "s3://a"}},
                    {"model": f"{hidden}/bert", "label": "v7", "source": {"uri": "s3://a"}},
                ]
            },
        ),
        "files of versions": (
            "versions/batch",
            {"versions": [{"model": f"{own}/bert", "label": "v8", "files": [file]}]},
        ),
        "parents of versions": (
            f"models/{own}~bert/versions",
            {
                "label": "v9",
                "source": {"uri": "s3://a"},
                "lineage": [
                    {"relation": "merged", "parent": {"model": f"{hidden}/bert", "version": id}}
                ],
            },
        ),
        "tags": (
            "tags/batch",
            {
                "assign": [
                    {"model": f"{own}/bert", "key": "a"},
                    {"model": f"{hidden}/bert", "key": "a"},
                    {"model": f"{hidden}/bert", "version": "1.4.0", "key": "a"},
                ]
            },
        ),
        "observations": (
            "bindings/observations",
            {"observations": [{"binding": binding}]},
        ),
        "missing": ("blobs/missing", {"digests": [digest]}),
        "pins": ("pins", {"digest": digest}),
    }


async def test_batches_say_of_a_hidden_part_what_they_say_of_a_missing_one(few: Beside) -> None:
    place, outsider, known = few.place, few.place.outsider, few.known
    differences, statuses = {}, {}
    asking = batches("outsider", SPACE, known["binding"], known["version"])
    for name, (path, body) in asking.items():
        content = msgspec.json.encode(body)
        asked = Asked("POST", f"/api/v1/{path}", "", JSON, content)
        if difference := await few.differ(outsider, asked):
            differences[name] = difference
        answer, _ = await sent(place, asked, outsider)
        statuses[name] = answer.status
    assert differences == {}
    assert statuses == {
        **dict.fromkeys(("models", "versions", "files of versions", "tags"), 409),
        **dict.fromkeys(("parents of versions", "pins"), 404),
        **dict.fromkeys(("observations", "missing"), 200),
    }


async def test_an_import_collides_only_for_who_may_make_models_there(few: Beside) -> None:
    place = few.place
    async with opened(None) as other, serving(other) as site:
        put = await site.ask("PUT", "/models/m/1.0.0/f?publish=true", data=b"imported")
        assert put.status == 201
        archive = (await site.ask("GET", "/api/v1/models/m/export")).body
    tar = {"Content-Type": "application/x-tar"}
    asked = Asked("POST", "/api/v1/imports", f"name={SPACE}%2Fbert", tar, archive)
    words = ["model.create", "content.write", "version.publish", "alias.move"]
    maker = await make_person(place.site.store, "maker", scopes=words)
    await grant(place.site.store, maker, "maintainer", kind="namespace", on=SPACE)

    outside, _ = await sent(place, asked, place.outsider)
    within, _ = await sent(place, asked, maker)

    assert await few.differ(place.outsider, asked) == ""
    assert (outside.status, outside.code) == (404, "namespace_not_found")
    assert (within.status, within.code) == (409, "model_name_taken")
    assert not {"existing", "id"} & set(within.json)


PAGES: Final = (
    *("models", "models?order=created", "models?q=ber", "search?q=bert", "versions"),
    *("versions?status=production", "namespaces", "tags", "experiments", "runs", "deployments"),
    *("bindings", "analytics/teams", "analytics/retraining?days=0", "resolve", "guards"),
)


async def test_links_and_cursors_of_pages_are_as_if_nothing_was_hidden() -> None:
    async with placed() as place:
        root, outsider = place.root, place.outsider
        await place.api(root, "POST", "teams", {"name": "vision"})
        for name in ("open/bert", "open/bert2"):
            await fill(place, root, name, "vision")
            model = f"models/{name.replace('/', '~')}"
            await place.api(root, "PATCH", model, {"visibility": "internal"})
        before = await pages(place, outsider)
        for name in ("open/bert1", "secret/bert"):
            await fill(place, root, name, "vision")
        after = await pages(place, outsider)

    assert {path: one for path, one in after.items() if one != before[path]} == {}
    linked = [path for path, walked in before.items() if any("Link" in one[1] for one in walked)]
    assert len(linked) > 7


async def pages(place: Place, who: Person) -> dict[str, list[tuple[int, dict[str, str], str]]]:
    """Every page of one entry, of every list."""
    found = {}
    for path in PAGES:
        query: str | None = "limit=1"
        walked = found[path] = list[tuple[int, dict[str, str], str]]()
        while query is not None and len(walked) < 5:
            joint = "&" if "?" in path else "?"
            target = f"/api/v1/{path}{joint}{query}"
            answer: Answer = await place.site.ask("GET", target, headers=who.headers)
            status, headers, body = told(answer, {})
            walked.append((status, headers, UNSTEADY.sub(b"", body.encode()).decode()))
            next = answer.json.get("next")
            query = None if next is None else f"limit=1&after={next}"
    return found


async def test_what_a_purge_frees_and_why_a_blob_is_kept_ignores_what_is_hidden() -> None:
    """To a reader of one model, a hidden one in its namespace or elsewhere changes neither."""
    async with placed() as place:
        root, outsider = place.root, place.outsider
        put = "/models/open~bert/1.0.0/f?publish=true"
        await place.site.ask("PUT", put, data=b"shared", headers=root.headers)
        await place.api(root, "PATCH", "models/open~bert", {"visibility": "internal"})
        digest = Digest.of(b"shared")
        paths = ("models/open~bert/storage", "models/open~bert/versions/1.0.0/storage")
        asked = [
            *(Asked("GET", f"/api/v1/{path}", "", {}, None) for path in paths),
            Asked("GET", f"/api/v1/blobs/{digest}/owners", "", {}, None),
        ]
        for _ in range(2):
            before = [await sent(place, one, outsider) for one in asked]
        for model, label in (("open~hidden", "1.0.0?publish=true"), ("secret~bert", "draft")):
            label, _, query = label.partition("?")
            path = f"/models/{model}/{label}/f?{query}"
            assert (
                await place.site.ask("PUT", path, data=b"shared", headers=root.headers)
            ).status == 201
        await place.site.ask("PUT", f"/blobs/{digest}", data=b"shared", headers=root.headers)
        for _ in range(2):  # once to learn what changed of everybody's rights
            after = [await sent(place, one, outsider) for one in asked]

    for (was, steps), (now, others) in zip(before, after, strict=True):
        assert was.status == 200, was.body
        assert (told(was, {}), steps) == (told(now, {}), others)
