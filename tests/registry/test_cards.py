"""Model cards through HTTP: the README at main, or what was put where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from registry.services.cards import MOST_BYTES, follow_cards
from tests.support.builders import Registry

CARD = "/api/v1/models/bert/card"
README = b"---\nlicense: mit\n---\n# BERT\nA zebra among models.\n"


async def make(registry: Registry, name: str) -> Any:
    answer = await registry.send("POST", "/api/v1/models", json={"name": name})
    assert answer.status == 201, answer.body
    return answer.json


async def found(registry: Registry, question: str) -> list[str]:
    answer = await registry.get(f"/api/v1/search?q={question}")
    return [item["model"]["name"] for item in answer.json["items"]]


async def test_the_card_is_the_readme_at_main_as_it_was_written(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"readme.MD": README, "sub/README.md": b"no"})

    card = await registry.get(CARD)

    assert (card.status, card.body) == (200, README)
    assert card.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert card.headers["Content-Disposition"] == 'attachment; filename="readme.MD"'
    assert card.headers["X-Content-Type-Options"] == "nosniff"
    assert card.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    again = await registry.get(CARD, If_None_Match=card.headers["ETag"])
    assert again.status == 304
    plain = await registry.get(CARD, Accept="text/plain")
    assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert plain.headers["Content-Disposition"].startswith("inline")


async def test_the_card_follows_main_and_so_does_search(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"README.md": README})
    assert await follow_cards(registry.store) == 1
    assert await found(registry, "zebra") == ["bert"]

    await registry.publish("bert", "2.0.0", {"README.md": b"An okapi."})
    assert (await registry.get(CARD)).body == b"An okapi."  # before anybody followed
    assert await follow_cards(registry.store) == 1
    assert (await found(registry, "zebra"), await found(registry, "okapi")) == ([], ["bert"])

    deleted = await registry.send("DELETE", "/models/bert/2.0.0")
    assert deleted.status == 204
    assert (await registry.get(CARD)).body == README
    moved = await registry.send("POST", "/api/v1/models/bert/versions/2/restore")
    assert moved.status == 200
    assert await follow_cards(registry.store) == 1
    assert await follow_cards(registry.store) == 0
    assert await found(registry, "okapi") == ["bert"]


async def test_search_follows_where_nobody_reads_the_card(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"README.md": README})
    await registry.publish("bert", "2.0.0", {"f": b"no card"})

    await follow_cards(registry.store)

    assert await found(registry, "zebra") == []
    assert (await registry.get(CARD)).code == "card_not_found"


async def test_models_without_a_readme_are_followed_away_from_the_event_loop(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await registry.publish(f"bert-{number}", "1.0.0", {"f": b"no card"})

    async def refuse(unit: object) -> None:
        raise AssertionError("looked up on the event loop")

    monkeypatch.setattr(type(registry.store.index), "look", lambda self, unit: refuse(unit))

    assert await follow_cards(registry.store) == 3


async def test_a_card_is_put_only_where_no_readme_is_one(registry: Registry) -> None:
    await make(registry, "bert")
    assert (await registry.get(CARD)).code == "card_not_found"

    put = await registry.put(CARD, README)
    assert put.status == 201
    again = await registry.put(CARD, README)
    assert again.status == 204
    assert (await registry.get(CARD)).body == README
    assert await found(registry, "zebra") == ["bert"]

    await registry.publish("bert", "1.0.0", {"README.md": b"published"})
    refused = await registry.put(CARD, b"other")
    assert (refused.status, refused.code) == (409, "card_is_readme")
    removed = await registry.send("DELETE", CARD)
    assert (removed.status, removed.code) == (409, "card_is_readme")
    assert (await registry.get(CARD)).body == b"published"


async def test_a_put_card_can_be_replaced_conditionally_and_removed(registry: Registry) -> None:
    await make(registry, "bert")
    first = await registry.put(CARD, b"one")

    stale = await registry.put(CARD, b"two", If_Match=f'"sha256:{"0" * 64}"')
    assert (stale.status, stale.code) == (412, "precondition_failed")
    new = await registry.put(CARD, b"two", If_None_Match="*")
    assert (new.status, new.code) == (412, "precondition_failed")
    changed = await registry.put(CARD, b"two", If_Match=first.headers["ETag"])
    assert changed.status == 204
    assert (await registry.send("DELETE", CARD)).status == 204
    gone = await registry.send("DELETE", CARD)
    assert (gone.status, gone.code) == (404, "card_not_found")


async def test_what_cannot_be_a_card_is_said(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"README.md": b"\xff\xfe"})
    assert (await registry.get(CARD)).code == "card_not_text"

    await registry.publish("bert", "2.0.0", {"README.md": b"x" * (MOST_BYTES + 1)})
    large = await registry.get(CARD)
    assert (large.status, large.code) == (404, "card_too_large")

    await make(registry, "other")
    refused = await registry.put("/api/v1/models/other/card", b"\xff")
    assert (refused.status, refused.code) == (400, "card_not_text")
    refused = await registry.put("/api/v1/models/other/card", b"x" * (MOST_BYTES + 1))
    assert (refused.status, refused.code) == (413, "body_too_large")


async def test_moves_are_followed_although_a_purge_took_the_last_events(
    registry: Registry,
) -> None:
    made = await make(registry, "gone")
    await registry.publish("gone", "1.0.0", {"README.md": b"1"})
    await registry.publish("gone", "2.0.0", {"README.md": b"2"})
    await follow_cards(registry.store)
    await registry.send("DELETE", "/api/v1/models/gone")
    await registry.send("POST", f"/api/v1/models/{made['id']}/purge")

    await registry.publish("bert", "1.0.0", {"README.md": README})

    assert await follow_cards(registry.store) == 1
    assert await found(registry, "zebra") == ["bert"]
