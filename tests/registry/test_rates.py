"""Limits on how often a principal may ask: the bucket by itself, then over HTTP."""

from __future__ import annotations

import pytest

from registry.config import AuthConfig, Config, RatesConfig, ServerConfig
from registry.http.rates import MOST_BUCKETS, Rates
from tests.support.people import make_person
from tests.support.serving import opened, serving

MODELS = "/api/v1/models"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_lets_so_many_through_and_then_one_at_a_time() -> None:
    clock = Clock()
    rates = Rates({"read": 3}, clock)

    at_once = [rates.take("anna", "read") for _ in range(4)]
    assert [one.remaining for one in at_once] == [2, 1, 0, 0]
    assert [one.retry_seconds for one in at_once] == [0, 0, 0, 20]

    clock.now += 19.9
    assert rates.take("anna", "read").retry_seconds == 1
    clock.now += 0.1
    assert rates.take("anna", "read").retry_seconds == 0
    assert rates.take("anna", "read").retry_seconds == 20


def test_an_idle_minute_fills_the_bucket_and_no_more() -> None:
    clock = Clock()
    rates = Rates({"read": 3}, clock)
    for _ in range(3):
        rates.take("anna", "read")
    clock.now += 3600

    waits = [rates.take("anna", "read").retry_seconds for _ in range(4)]

    assert waits == [0, 0, 0, 20]


@pytest.mark.parametrize("limit", [1, 7, 60, 6000])
def test_no_request_of_a_bucket_is_lost_to_rounding(limit: int) -> None:
    rates = Rates({"write": limit}, Clock())

    waits = [rates.take("anna", "write").retry_seconds for _ in range(limit + 1)]

    assert not any(waits[:limit])
    assert waits[limit]


def test_principals_and_classes_do_not_share() -> None:
    rates = Rates({"read": 1, "write": 1}, Clock())

    assert rates.take("anna", "read").retry_seconds == 0
    assert rates.take("otto", "read").retry_seconds == 0
    assert rates.take("anna", "write").retry_seconds == 0
    assert rates.take("anna", "read").retry_seconds


def test_a_class_without_a_limit_is_not_counted() -> None:
    rates = Rates({"read": 0, "write": 5})

    assert not rates.counts("read")
    assert not rates.counts("login")
    assert rates.counts("write")


def test_buckets_are_bounded() -> None:
    clock = Clock()
    rates = Rates({"login": 5}, clock)
    for number in range(MOST_BUCKETS + 10):
        rates.take(str(number), "login")

    assert len(rates._full_at) <= MOST_BUCKETS


async def test_one_too_many_is_429_and_says_when_to_come_back() -> None:
    config = Config(auth=AuthConfig(mode="authenticated"), rates=RatesConfig(reads_per_minute=2))
    async with opened(None) as store, serving(store, config) as site:
        anna = await make_person(store, "anna", is_admin=True)
        otto = await make_person(store, "otto", is_admin=True)
        first, _, third = [await site.ask("GET", MODELS, headers=anna.headers) for _ in range(3)]
        other = await site.ask("GET", MODELS, headers=otto.headers)
        written = await site.ask("POST", MODELS, json={"name": "bert"}, headers=anna.headers)

    assert first.status == 200
    assert first.headers["RateLimit-Policy"] == '"read";q=2;w=60'
    assert first.headers["RateLimit"] == '"read";r=1;t=30'
    assert (third.status, third.code) == (429, "throttled")
    assert 1 <= int(third.headers["Retry-After"]) <= 30
    assert third.headers["RateLimit"].startswith('"read";r=0;')
    assert (other.status, written.status) == (200, 201)
    assert "RateLimit" not in written.headers


async def test_nobody_is_told_apart_by_address_and_a_client_cannot_choose_its_own() -> None:
    """The header counts only from a proxy that is named, and then its last word."""
    config = Config(
        server=ServerConfig(trusted_proxies=("127.0.0.1",)),
        rates=RatesConfig(reads_per_minute=1),
    )
    async with opened(None) as store, serving(store, config) as site:
        found = [
            (await site.ask("GET", MODELS, headers={"X-Forwarded-For": said})).status
            for said in ("203.0.113.1", "203.0.113.2", "198.51.100.9, 203.0.113.1")
        ]

    assert found == [200, 200, 429]


async def test_tokens_that_do_not_hold_are_counted_by_address() -> None:
    """Nobody is asked for that lives there: who shows a good one from there goes on."""
    config = Config(
        auth=AuthConfig(mode="authenticated"),
        rates=RatesConfig(reads_per_minute=2, writes_per_minute=1),
    )
    async with opened(None) as store, serving(store, config) as site:
        anna = await make_person(store, "anna")

        async def answers(authorization: str) -> list[tuple[int, str]]:
            found = []
            for _ in range(3):
                answer = await site.ask("GET", MODELS, headers={"Authorization": authorization})
                found.append((answer.status, answer.headers["RateLimit"][:10]))
            return found

        wrong = await answers("Bearer dgt_wrong")
        nonsense = await answers("Nonsense")
        good = await answers(f"Bearer {anna.token}")

    assert wrong == [(401, '"read";r=1'), (401, '"read";r=0'), (429, '"read";r=0')]
    assert nonsense == [(429, '"read";r=0')] * 3
    assert good == [(200, '"read";r=1'), (200, '"read";r=0'), (429, '"read";r=0')]


async def test_without_a_limit_nothing_is_said() -> None:
    async with opened(None) as store, serving(store) as site:
        answer = await site.ask("GET", MODELS)

    assert "RateLimit" not in answer.headers
