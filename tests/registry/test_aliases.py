"""Aliases over HTTP: conditional moves, history, where they pointed at a time, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import aliases
from registry.catalog.migrations import CHAINS
from registry.domain.names import RESERVED_ALIASES
from registry.domain.principals import LOCAL
from registry.domain.references import ByNumber, parse_model
from registry.errors import NotFound, RegistryError
from registry.services.aliases import (
    Move,
    Rollback,
    get_alias,
    get_alias_at,
    list_aliases_at,
    point_alias,
    remove_alias,
    roll_back_alias,
)
from store.opening import Store, StoreSettings, open_store
from tests.support.builders import Answer, Registry, running_registry
from tests.support.clock import ManualClock
from tests.support.plans import plan_of
from tests.support.serving import serving

ALIASES = "/api/v1/models/bert/aliases"
CHAMPION = f"{ALIASES}/champion"
BERT = parse_model("bert")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def versions(registry: Registry, count: int) -> list[Any]:
    """So many versions of bert; their numbers are one more than their places."""
    return [
        await registry.publish("bert", f"v{index + 1}", {"f": str(index).encode()})
        for index in range(count)
    ]


async def point(registry: Registry, version: object, **more: Any) -> Answer:
    body = {"version": str(version), **more}
    answer = await registry.send("PUT", CHAMPION, json=body)
    assert answer.status in (200, 201), answer.body
    return answer


async def back(registry: Registry, **body: Any) -> Answer:
    return await registry.send("POST", f"{CHAMPION}/rollback", json=body)


async def number_at(registry: Registry, query: str = "") -> int | None:
    answer = await registry.get(CHAMPION + query)
    assert answer.status == 200, answer.body
    pointed = answer.json["version"]
    return None if pointed is None else int(pointed["number"])


# Conditions


async def test_of_64_who_expect_the_same_exactly_one_moves_an_alias(registry: Registry) -> None:
    found = await versions(registry, 3)
    await point(registry, 1)

    async def move(index: int) -> Answer:
        body = {"version": str(2 + index % 2), "expected": found[0]["revision"]}
        return await registry.send("PUT", CHAMPION, json=body)

    answers = await asyncio.gather(*(move(index) for index in range(64)))
    history = await registry.get(f"{CHAMPION}/history")

    assert sorted(answer.status for answer in answers) == [200] + [412] * 63
    assert len(history.json["items"]) == 2


async def test_of_64_with_one_etag_exactly_one_moves_an_alias(registry: Registry) -> None:
    await versions(registry, 3)
    tag = (await point(registry, 1)).headers["ETag"]

    async def move(index: int) -> Answer:
        return await registry.send(
            "PUT", CHAMPION, json={"version": str(2 + index % 2)}, headers={"If-Match": tag}
        )

    answers = await asyncio.gather(*(move(index) for index in range(64)))

    assert sorted(answer.status for answer in answers) == [200] + [412] * 63


async def test_a_failed_expectation_says_where_the_alias_points(registry: Registry) -> None:
    one, two = await versions(registry, 2)
    await point(registry, 1)

    moved = await registry.send("PUT", CHAMPION, json={"version": "2", "expected": two["revision"]})
    made = await registry.send(
        "PUT", f"{ALIASES}/new", json={"version": "2", "expected": two["revision"]}
    )

    assert (moved.status, moved.json["actual"]) == (412, one["revision"])
    assert (made.status, made.json["actual"]) == (412, None)


async def test_only_a_new_alias_is_made_if_none_may_match(registry: Registry) -> None:
    await versions(registry, 2)
    only_new = {"If-None-Match": "*"}

    made = await registry.send("PUT", CHAMPION, json={"version": "1"}, headers=only_new)
    again = await registry.send("PUT", CHAMPION, json={"version": "2"}, headers=only_new)

    assert (made.status, again.status) == (201, 412)
    assert await number_at(registry) == 1


async def test_the_etag_changes_with_each_move_and_when_held(registry: Registry) -> None:
    await versions(registry, 2)
    following = (await registry.get(f"{ALIASES}/latest")).headers["ETag"]
    held = await registry.send("PUT", f"{ALIASES}/latest", json={"version": "2"})
    again = await registry.send("PUT", f"{ALIASES}/latest", json={"version": "2"})
    moved = await registry.send("PUT", f"{ALIASES}/latest", json={"version": "1"})
    returned = await registry.send("PUT", f"{ALIASES}/latest", json={"version": "2"})

    tags = [following, held.headers["ETag"], moved.headers["ETag"], returned.headers["ETag"]]
    assert len(set(tags)) == 4
    assert again.headers["ETag"] == held.headers["ETag"]
    assert held.json["held"] is True
    assert (await registry.get(f"{ALIASES}/latest")).headers["ETag"] == tags[-1]


async def test_an_alias_made_anew_has_another_etag_than_before(registry: Registry) -> None:
    await versions(registry, 1)
    before = (await point(registry, 1)).headers["ETag"]
    await registry.send("DELETE", CHAMPION)

    after = (await point(registry, 1)).headers["ETag"]

    assert after != before


async def test_an_alias_is_revalidated(registry: Registry) -> None:
    await versions(registry, 1)
    tag = (await point(registry, 1)).headers["ETag"]

    same = await registry.get(CHAMPION, If_None_Match=tag)
    other = await registry.get(CHAMPION, If_None_Match='"other"')
    failed = await registry.get(CHAMPION, If_Match='"other"')

    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)
    assert (other.status, failed.status) == (200, 412)


async def test_removing_and_rolling_back_are_conditional_too(registry: Registry) -> None:
    await versions(registry, 2)
    old = (await point(registry, 1)).headers["ETag"]
    new = (await point(registry, 2)).headers["ETag"]

    stale = await registry.send("DELETE", CHAMPION, headers={"If-Match": old})
    stale_back = await registry.send("POST", f"{CHAMPION}/rollback", headers={"If-Match": old})
    wrong = await back(registry, expected="0" * 40)
    removed = await registry.send("DELETE", CHAMPION, headers={"If-Match": new})

    assert (stale.status, stale_back.status, wrong.status) == (412, 412, 412)
    assert removed.status == 204


# History


async def test_history_is_paged_newest_first_with_reasons(registry: Registry) -> None:
    await versions(registry, 2)
    for index in range(7):
        await point(registry, 1 + index % 2, reason=f"move {index}")

    pages, after = [], ""
    while True:
        page = await registry.get(f"{CHAMPION}/history?limit=3{after}")
        pages.append([event["reason"] for event in page.json["items"]])
        if page.json["next"] is None:
            break
        assert 'rel="next"' in page.headers["Link"]
        after = "&after=" + page.json["next"]

    assert pages == [
        ["move 6", "move 5", "move 4"],
        ["move 3", "move 2", "move 1"],
        ["move 0"],
    ]


async def test_a_cursor_belongs_to_its_alias(registry: Registry) -> None:
    await versions(registry, 2)
    for name in ("one", "two"):
        for version in ("1", "2"):
            await registry.send("PUT", f"{ALIASES}/{name}", json={"version": version})
    cursor = (await registry.get(f"{ALIASES}/one/history?limit=1")).json["next"]

    other = await registry.get(f"{ALIASES}/two/history?limit=1&after={cursor}")

    assert (other.status, other.code) == (400, "invalid_cursor")


async def test_an_alias_that_never_was_has_no_history(registry: Registry) -> None:
    await versions(registry, 1)

    answer = await registry.get(f"{CHAMPION}/history")

    assert (answer.status, answer.code) == (404, "alias_not_found")


async def test_removing_says_why_in_the_history(registry: Registry) -> None:
    await versions(registry, 1)
    await point(registry, 1)

    await registry.send("DELETE", f"{CHAMPION}?reason=retired")
    history = await registry.get(f"{CHAMPION}/history")

    newest = history.json["items"][0]
    assert (newest["to_revision"], newest["reason"]) == (None, "retired")


async def test_aliases_are_listed_page_by_page(registry: Registry) -> None:
    await versions(registry, 1)
    for name in ("Zeta", "alpha", "Beta"):
        await registry.send("PUT", f"{ALIASES}/{name}", json={"version": "1"})

    first = await registry.get(f"{ALIASES}?limit=3")
    rest = await registry.get(f"{ALIASES}?limit=3&after={first.json['next']}")

    assert [item["name"] for item in first.json["items"]] == ["alpha", "Beta", "latest"]
    assert [item["name"] for item in rest.json["items"]] == ["main", "Zeta"]
    assert rest.json["next"] is None


# Rollback


async def test_rolling_back_goes_to_the_target_before_and_holds_there(registry: Registry) -> None:
    await versions(registry, 2)
    await point(registry, 1)
    await point(registry, 2)

    rolled = await back(registry, reason="errors in production")
    history = (await registry.get(f"{CHAMPION}/history")).json["items"]

    assert (rolled.status, rolled.json["version"]["number"]) == (200, 1)
    assert rolled.json["held"] is True
    assert history[0]["reason"] == "errors in production"
    assert history[0]["restored"] == history[2]["id"]
    assert rolled.headers["ETag"] == (await registry.get(CHAMPION)).headers["ETag"]


async def test_two_rollbacks_in_a_row_end_two_targets_ago(registry: Registry) -> None:
    await versions(registry, 4)
    for number in (1, 2, 3):
        await point(registry, number)

    first = await back(registry)
    second = await back(registry)
    third = await back(registry)

    assert first.json["version"]["number"] == 2
    assert second.json["version"]["number"] == 1
    assert (third.status, third.code) == (409, "alias_history_ends")


async def test_after_a_rollback_and_a_move_the_way_back_leads_to_what_was_rolled_back_to(
    registry: Registry,
) -> None:
    await versions(registry, 4)
    for number in (1, 2, 3):
        await point(registry, number)
    await back(registry)
    await point(registry, 4)

    once = await back(registry)
    twice = await back(registry)

    assert (once.json["version"]["number"], twice.json["version"]["number"]) == (2, 1)


async def test_rolling_back_several_steps_at_once_is_as_one_by_one(registry: Registry) -> None:
    await versions(registry, 4)
    for number in (1, 2, 3, 4):
        await point(registry, number)

    rolled = await back(registry, steps=2)
    again = await back(registry)
    too_far = await back(registry, steps=5)

    assert rolled.json["version"]["number"] == 2
    assert again.json["version"]["number"] == 1
    assert (too_far.status, too_far.json["steps"]) == (409, 0)


async def test_rolling_back_to_an_event_leads_anywhere_in_its_history(registry: Registry) -> None:
    await versions(registry, 3)
    for number in (1, 2, 3):
        await point(registry, number)
    events = (await registry.get(f"{CHAMPION}/history")).json["items"]
    await registry.send("PUT", f"{ALIASES}/other", json={"version": "1"})
    foreign = (await registry.get(f"{ALIASES}/other/history")).json["items"][0]["id"]

    rolled = await back(registry, to=events[2]["id"])
    forward = await back(registry, to=events[0]["id"])
    unknown = await back(registry, to=foreign)
    both = await back(registry, to=events[0]["id"], steps=1)

    assert rolled.json["version"]["number"] == 1
    assert forward.json["version"]["number"] == 3
    assert (unknown.status, unknown.code) == (404, "alias_event_not_found")
    assert both.status == 400


async def test_what_was_deleted_cannot_be_gone_back_to(registry: Registry) -> None:
    await versions(registry, 3)
    for number in (1, 2, 3):
        await point(registry, number)
    await registry.send("DELETE", "/models/bert/v2")
    before = await registry.get(CHAMPION)

    refused = await back(registry)
    past_it = await back(registry, steps=2)

    assert (refused.status, refused.code) == (409, "version_deleted")
    assert (refused.json["number"], refused.json["label"]) == (2, "v2")
    assert "version v2 of bert" in refused.json["detail"]
    assert before.json["version"]["number"] == 3
    assert past_it.json["version"]["number"] == 1


async def test_an_alias_that_is_not_there_cannot_be_rolled_back(registry: Registry) -> None:
    await versions(registry, 1)
    await point(registry, 1)
    removal = (await registry.get(f"{CHAMPION}/history")).json["items"][0]["id"] + 1
    await registry.send("DELETE", CHAMPION)

    gone = await back(registry)
    await point(registry, 1)
    nowhere = await back(registry, to=removal)

    assert (gone.status, gone.code) == (404, "alias_not_found")
    assert (nowhere.status, nowhere.code) == (409, "alias_history_ends")


async def test_latest_rolled_back_stays_until_an_eligible_publish(registry: Registry) -> None:
    await versions(registry, 2)

    rolled = await registry.send("POST", f"{ALIASES}/latest/rollback")
    await registry.publish("bert", "v3", {"f": b"3"})

    assert rolled.json["version"]["number"] == 1
    assert (await registry.get(f"{ALIASES}/latest")).json["version"]["number"] == 3


async def test_a_repeated_rollback_with_its_key_is_done_once(registry: Registry) -> None:
    await versions(registry, 3)
    for number in (1, 2, 3):
        await point(registry, number)
    key = {"Idempotency-Key": "incident-42"}

    first = await registry.send("POST", f"{CHAMPION}/rollback", headers=key)
    again = await registry.send("POST", f"{CHAMPION}/rollback", headers=key)

    assert (first.status, again.status) == (200, 200)
    assert first.json == again.json
    assert await number_at(registry) == 2


async def test_of_many_who_roll_back_from_one_state_one_does(registry: Registry) -> None:
    found = await versions(registry, 4)
    for number in (1, 2, 3, 4):
        await point(registry, number)

    answers = await asyncio.gather(
        *(back(registry, expected=found[3]["revision"]) for _ in range(16))
    )

    assert sorted(answer.status for answer in answers) == [200] + [412] * 15
    assert await number_at(registry) == 3


# Where it pointed


async def test_an_alias_is_told_of_at_a_time(registry: Registry) -> None:
    await versions(registry, 2)
    await point(registry, 1)
    await point(registry, 2)
    await registry.send("DELETE", CHAMPION)
    removed, second, first = (await registry.get(f"{CHAMPION}/history")).json["items"]

    assert (await registry.get(CHAMPION)).status == 404
    assert await number_at(registry, f"?at={first['time']}") == 1
    assert await number_at(registry, f"?at={second['time']}") == 2
    at = datetime.fromisoformat(first["time"]) - timedelta(microseconds=1)
    for moment in (at.isoformat(), removed["time"], "2999-01-01T00:00:00Z", "1950-01-01T00:00:00Z"):
        answer = await registry.get(f"{CHAMPION}?at={quote(moment)}")
        assert (answer.status, answer.code) == (404, "alias_not_found")


async def test_all_aliases_are_told_of_at_a_time_page_by_page(registry: Registry) -> None:
    await versions(registry, 2)
    for name in ("one", "two", "three", "four"):
        await registry.send("PUT", f"{ALIASES}/{name}", json={"version": "1"})
    history = await registry.get(f"{ALIASES}/four/history")
    at = history.json["items"][0]["time"]
    await registry.send("DELETE", f"{ALIASES}/two")
    await registry.send("PUT", f"{ALIASES}/one", json={"version": "2"})
    await registry.send("PUT", f"{ALIASES}/five", json={"version": "2"})

    found, after = [], ""
    while True:
        page = (await registry.get(f"{ALIASES}?at={at}&limit=2{after}")).json
        found += [(item["name"], item["version"]["number"], item["at"]) for item in page["items"]]
        if page["next"] is None:
            break
        after = "&after=" + page["next"]

    assert [(name, number) for name, number, _ in found] == [
        ("four", 1),
        ("latest", 2),
        ("main", 2),
        ("one", 1),
        ("three", 1),
        ("two", 1),
    ]
    assert {told for _, _, told in found} == {at}


@pytest.mark.parametrize("at", ["yesterday", "2026-11-20", "2026-11-20T12:00:00", "1", ""])
async def test_a_time_needs_date_time_and_offset(registry: Registry, at: str) -> None:
    await versions(registry, 1)

    one = await registry.get(f"{ALIASES}/latest?at={at}")
    every = await registry.get(f"{ALIASES}?at={at}")

    assert (one.status, every.status) == (400, 400)


async def test_events_keep_the_revision_of_a_version_that_is_gone(registry: Registry) -> None:
    first, _ = await versions(registry, 2)
    await point(registry, 1)
    at = (await registry.get(f"{CHAMPION}/history")).json["items"][0]["time"]
    await point(registry, 2)
    await registry.send("DELETE", "/models/bert/v1")

    then = await registry.get(f"{CHAMPION}?at={at}")
    oldest = (await registry.get(f"{CHAMPION}/history")).json["items"][-1]

    assert (then.json["revision"], then.json["version"]) == (first["revision"], None)
    assert (oldest["to_revision"], oldest["version"]) == (first["revision"], None)


class Replay:
    """What history must say, kept as plain lists of (time, number or None)."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[int, int | None]]] = {}

    def move(self, name: str, at: int, number: int | None) -> None:
        events = self.events.setdefault(name, [])
        if events and events[-1][1] == number:
            return
        if not events and number is None:
            return
        events.append((max(at, events[-1][0]) if events else at, number))

    def at(self, name: str, time: int) -> int | None:
        found = None
        for moment, number in self.events.get(name, []):
            if moment <= time:
                found = number
        return found


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "B", "c"]),
        st.one_of(st.none(), st.integers(1, 4)),
        st.integers(-3, 5),  # the clock may be set back
    ),
    max_size=25,
)


@asynccontextmanager
async def timed(clock: ManualClock) -> AsyncIterator[Store]:
    """A store in memory with four versions of bert, in which time passes by hand."""
    settings = StoreSettings(reserve_bytes=0, reserve_share=0, chains=CHAINS)
    store = await open_store(settings, clock=clock)
    try:
        async with serving(store) as site:
            await versions(Registry(site), 4)
            yield store
    finally:
        await store.close()


@settings(max_examples=25, deadline=None)
@given(steps=_STEPS)
async def test_what_was_at_a_time_is_what_replaying_history_gives(
    steps: list[tuple[str, int | None, int]],
) -> None:
    clock, replay, times = ManualClock(), Replay(), set[int]()
    async with timed(clock) as store:
        for name, number, ahead in steps:
            clock.now += ahead
            times |= {clock.now - 1, clock.now, clock.now + 1}
            replay.move(name, clock.now, number)
            if number is not None:
                await point_alias(store, LOCAL, BERT, name, Move(ByNumber(number)))
            elif await is_there(store, name):
                await remove_alias(store, LOCAL, BERT, name)
        for time in times:
            wanted = {name: replay.at(name, time) for name in ("a", "B", "c")}
            assert {name: await number_then(store, name, time) for name in wanted} == wanted
            listed = await list_aliases_at(store, LOCAL, BERT, time)
            told = {past.event.name: past.version and past.version.number for past in listed}
            there = {name: number for name, number in wanted.items() if number is not None}
            assert {name: told[name] for name in told if name not in RESERVED_ALIASES} == there


async def is_there(store: Store, name: str) -> bool:
    try:
        await get_alias(store, LOCAL, BERT, name)
    except NotFound:
        return False
    return True


async def number_then(store: Store, name: str, time: int) -> int | None:
    try:
        past = await get_alias_at(store, LOCAL, BERT, name, time)
    except NotFound:
        return None
    assert past.version is not None
    return past.version.number


async def test_a_clock_that_is_set_back_does_not_turn_history_round() -> None:
    clock = ManualClock()
    async with timed(clock) as store:
        await point_alias(store, LOCAL, BERT, "champion", Move(ByNumber(1)))
        later = clock.now
        clock.advance(-3600)
        await point_alias(store, LOCAL, BERT, "champion", Move(ByNumber(2)))

        assert await number_then(store, "champion", later) == 2
        assert await number_then(store, "champion", later - 1) is None
        placed = await get_alias(store, LOCAL, BERT, "champion")
        assert placed.alias.moved_at == later


@settings(max_examples=25, deadline=None)
@given(moves=st.lists(st.one_of(st.integers(1, 4), st.just("back")), min_size=1, max_size=20))
async def test_rolling_back_is_undoing_in_a_stack(moves: list[int | str]) -> None:
    """The model keeps targets in a stack: a move pushes, a rollback takes the top away."""
    clock = ManualClock()
    stack: list[int] = []
    async with timed(clock) as store:
        for move in moves:
            clock.advance(1)
            if isinstance(move, int):
                await point_alias(store, LOCAL, BERT, "champion", Move(ByNumber(move)))
                if not stack or stack[-1] != move:
                    stack.append(move)
            elif len(stack) > 1:
                placed = await roll_back_alias(store, LOCAL, BERT, "champion", Rollback())
                stack.pop()
                assert placed.version is not None
                assert placed.version.number == stack[-1]
            else:
                with pytest.raises(RegistryError) as refused:
                    await roll_back_alias(store, LOCAL, BERT, "champion", Rollback())
                assert refused.value.code in ("alias_history_ends", "alias_not_found")


# How it is read


@pytest.mark.parametrize(
    "which", ["_FIND", "_PAGE", "_EVENTS", "_EVENT", "_EVENT_AT", "_TARGET_BEFORE", "_EVENTS_AT"]
)
async def test_no_question_about_aliases_reads_or_sorts_a_whole_table(
    registry: Registry, which: str
) -> None:
    plan = await plan_of(registry.store.index, getattr(aliases, which))

    assert [step for step in plan if step.startswith("SCAN alias")] == []
    assert [step for step in plan if "TEMP B-TREE" in step] == []
