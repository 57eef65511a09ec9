"""Who reads what of the audit log: administrators all of it, others what is of their places."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.people import AUTHENTICATED, Person, grant, make_person, own
from tests.support.serving import Site, opened, serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with opened(None) as store, serving(store, AUTHENTICATED) as served:
        yield served


@pytest.fixture
async def root(site: Site) -> Person:
    """An administrator who filled two namespaces."""
    root = await make_person(site.store, "root", is_admin=True)
    for name in ("nlp/bert", "nlp/gpt", "speech/whisper"):
        await change(site, root, "POST", "models", {"name": name, "visibility": "public"})
    await change(site, root, "POST", "experiments", {"namespace": "nlp", "name": "tuning"})
    await change(site, root, "POST", "experiments", {"namespace": "speech", "name": "hearing"})
    for run, experiment in (("tuned", "nlp~tuning"), ("heard", "speech~hearing")):
        await change(site, root, "POST", "runs", {"name": run, "experiment": experiment})
    crossed = {"name": "crossed", "experiment": "nlp~tuning", "model": "speech/whisper"}
    await change(site, root, "POST", "runs", crossed)  # it lies where its model does
    for namespace in ("nlp", "speech"):
        guard = {"namespace": namespace, "aliases": ["*"], "rules": {"approvals": 1}}
        await change(site, root, "POST", "guards", guard)
    await change(site, root, "POST", "teams", {"name": "crew"})
    return root


async def change(site: Site, who: Person, method: str, path: str, content: object) -> None:
    made = await site.ask(method, f"/api/v1/{path}", json=content, headers=who.headers)
    assert made.status < 300, made.body


async def seen(site: Site, who: Person, query: str = "") -> set[tuple[str, str]]:
    """Kind and name of the entries that somebody reads, page by page."""
    found: set[tuple[str, str]] = set()
    after = ""
    while True:
        path = f"/api/v1/audit?limit=2{query}{after}"
        page = await site.ask("GET", path, headers=who.headers)
        assert page.status == 200, page.body
        found |= {(one["kind"], one["name"]) for one in page.json["items"]}
        if page.json["next"] is None:
            return found
        after = f"&after={page.json['next']}"


NLP = {
    ("namespace", "nlp"),
    ("model", "nlp/bert"),
    ("model", "nlp/gpt"),
    ("experiment", "tuning"),
    ("run", "tuned"),
    ("guard", "nlp"),
}
OTHERS = {
    ("namespace", "speech"),
    ("model", "speech/whisper"),
    ("team", "crew"),
    ("run", "heard"),
    ("run", "crossed"),
}


async def test_an_administrator_reads_everything(site: Site, root: Person) -> None:
    assert await seen(site, root) >= NLP | OTHERS


@pytest.mark.parametrize("query", ["", "&action=create", "&actor={root}"])
async def test_the_admin_of_a_namespace_reads_what_is_of_it(
    site: Site, root: Person, query: str
) -> None:
    anna = await make_person(site.store, "anna")
    await grant(site.store, anna, "admin", kind="namespace", on="nlp")

    assert await seen(site, anna, query.format(root=root.id)) == NLP


async def test_the_admin_of_a_model_reads_what_is_of_it(site: Site, root: Person) -> None:
    found = await site.ask("GET", "/api/v1/models/nlp~bert", headers=root.headers)
    anna = await make_person(site.store, "anna")
    await grant(site.store, anna, "admin", kind="model", on=found.json["id"])

    assert await seen(site, anna) == {("model", "nlp/bert")}


async def test_who_has_but_a_name_of_their_own_reads_what_is_of_that(
    site: Site, root: Person
) -> None:
    """They hold every word in the namespace of their name, so nobody stops them at the door."""
    anna = await make_person(site.store, "anna")
    before = await seen(site, anna)
    await change(site, anna, "POST", "models", {"name": "anna/first"})

    assert before == set()
    assert await seen(site, anna) == {("namespace", "anna"), ("model", "anna/first")}


async def test_what_is_asked_for_opens_nothing(site: Site, root: Person) -> None:
    found = await site.ask("GET", "/api/v1/models/speech~whisper", headers=root.headers)
    anna = await make_person(site.store, "anna")
    await grant(site.store, anna, "admin", kind="namespace", on="nlp")
    whisper = found.json["id"]

    for query in (f"&model={whisper}", "&model=speech/whisper", f"&entity={whisper}"):
        if query == "&model=speech/whisper":  # seen, because it is public, but not its log
            answer = await site.ask("GET", f"/api/v1/audit?{query}", headers=anna.headers)
            assert answer.status == 403
        else:
            assert await seen(site, anna, query) == set()


async def test_a_token_without_the_word_reads_nothing(site: Site, root: Person) -> None:
    anna = await make_person(site.store, "anna", scopes=["model.read"])
    await grant(site.store, anna, "admin", kind="namespace", on="nlp")

    assert (await site.ask("GET", "/api/v1/audit", headers=anna.headers)).status == 403


@pytest.mark.parametrize("path", ["head", "verify", "export"])
async def test_seals_are_of_the_whole_log(site: Site, root: Person, path: str) -> None:
    anna = await make_person(site.store, "anna")
    await own(site.store, "nlp", "user", anna.id)

    refused = await site.ask("GET", f"/api/v1/audit/{path}", headers=anna.headers)
    allowed = await site.ask("GET", f"/api/v1/audit/{path}", headers=root.headers)

    assert (refused.status, refused.code) == (403, "denied")
    assert allowed.status == 200
