"""From audit entries to what receivers get: once each, signed, in time, and not for ever."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.app import create_app
from registry.catalog import deliveries as rows
from registry.catalog.audit import Entry, record
from registry.catalog.deliveries import DueDelivery, Outcome, finish_attempt
from registry.cli.worker import housekeeping
from registry.config import Config
from registry.domain.principals import LOCAL, Principal
from registry.domain.signatures import SigningSecret
from registry.domain.webhooks import (
    ATTEMPTS,
    EVENTS,
    UNTOLD,
    delay_seconds,
    message_id,
    retry_after_seconds,
)
from registry.errors import NotFound
from registry.keys import DELIVERER, SEALS, WEBHOOKS
from registry.services import delivering, outbox
from registry.services.deliveries import expire, get_delivery, may_see_responses
from store.clock import SECOND
from store.errors import Unavailable
from store.index.transactions import Statement, Tx
from tests.support.clock import ManualClock
from tests.support.hooks import HOOKS, Hooked, hooked_registry
from tests.support.plans import plan_of
from tests.support.receiving import answering, never

ROOT = Path(__file__).resolve().parents[2]
STRANGER = Principal("usr_stranger", "stranger")
DAY = 86_400


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Hooked]:
    async with hooked_registry(tmp_path / "data", clock=clock) as hooked:
        hooked.site.app[DELIVERER]._jitter = lambda: 0.5
        yield hooked
        await hooked.check()


def events(registry: Hooked, path: str = "/hook") -> list[str]:
    """The types of what arrived at a path."""
    return [one.json["type"] for one in registry.receiver.received if one.path == path]


# From entries to deliveries


async def test_what_happens_to_a_model_is_told(registry: Hooked) -> None:
    hook = await registry.hook()
    model = await registry.make_model("bert")

    assert await registry.follow() == 1
    assert await registry.deliver() == 1

    [received] = registry.receiver.received
    message = received.json
    assert (message["type"], message["id"]) == ("model.create", received.id)
    assert message["data"]["model"] == message["data"]["entity"] == model["id"]
    assert message["data"]["model_name"] == "bert"
    assert (message["data"]["actor"], message["data"]["before"]) == ("usr_local", None)
    assert message["data"]["after"]["name"] == "bert"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("digestry/")
    [delivery] = await registry.deliveries(hook)
    assert (delivery["state"], delivery["status"], delivery["attempts"]) == ("delivered", 204, 1)
    assert (delivery["event"], delivery["message_id"]) == ("model.create", received.id)
    assert delivery["due_at"] is None
    assert await registry.tell() == 0


async def test_a_webhook_hears_what_it_listens_to(registry: Hooked) -> None:
    await registry.hook("/publish", events=["version.publish"])
    await registry.hook("/model", events=["model.*"])
    await registry.publish("bert", "1.0.0", {"a": b"1"})
    await registry.describe("bert", "new")

    await registry.tell()

    assert events(registry, "/publish") == ["version.publish"]
    assert sorted(events(registry, "/model")) == ["model.create", "model.update"]


async def test_a_webhook_hears_of_its_namespace_alone(registry: Hooked) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    await registry.hook("/nlp", namespace="nlp")
    await registry.hook("/default")
    await registry.make_model("nlp/bert")
    await registry.make_model("resnet")
    made = await registry.send(
        "POST", "/api/v1/experiments", json={"name": "rates", "namespace": "nlp"}
    )
    await registry.send("POST", "/api/v1/runs", json={"experiment": made.json["id"]})
    gone = await registry.send(
        "POST", "/api/v1/experiments", json={"name": "gone", "namespace": "nlp"}
    )
    address = f"/api/v1/experiments/{gone.json['id']}"
    await registry.send("DELETE", address)
    assert (await registry.send("POST", f"{address}/purge")).status == 204
    await registry.send("PATCH", "/api/v1/namespaces/nlp", json={"description": "texts"})
    await registry.send("POST", "/api/v1/teams", json={"name": "vision"})

    await registry.tell()

    heard = [
        "experiment.create",
        "experiment.create",
        "experiment.delete",
        "experiment.purge",
        "model.create",
        "namespace.update",
        "run.create",
    ]
    assert sorted(events(registry, "/nlp")) == heard
    assert events(registry, "/default") == ["model.create"]


async def test_a_policy_says_itself_of_which_namespace_it_is(registry: Hooked) -> None:
    hook = await registry.hook()
    [(namespace,)] = await registry.rows("SELECT namespace FROM webhooks")
    for said in ({"namespace_id": namespace}, {"namespace_id": None}, {"namespace_id": "nsp_x"}):
        entry = Entry(action="create", kind="policy", id="pol_x", after=said)
        await registry.store.index.run(partial(record, principal=LOCAL, entry=entry))

    await registry.tell()

    assert events(registry) == ["policy.create"]
    assert len(await registry.deliveries(hook)) == 1


async def test_a_webhook_made_later_hears_nothing_of_the_past(registry: Hooked) -> None:
    """Not even of what the leader has not looked at yet."""
    await registry.hook("/first")
    await registry.make_model("one")
    await registry.hook("/second")
    await registry.make_model("two")

    await registry.tell()

    names = {
        path: sorted(
            one.json["data"]["name"] for one in registry.receiver.received if one.path == path
        )
        for path in ("/first", "/second")
    }  # two are sent to each at once, and either may arrive first
    assert names == {"/first": ["one", "two"], "/second": ["two"]}


async def test_what_happened_while_it_was_off_is_never_told(registry: Hooked) -> None:
    hook = await registry.hook()
    address = f"{HOOKS}/{hook['id']}"
    await registry.send("PATCH", address, json={"active": False})
    await registry.make_model("one")
    await registry.send("PATCH", address, json={"active": True})
    await registry.make_model("two")

    await registry.tell()

    assert [one.json["data"]["name"] for one in registry.receiver.received] == ["two"]


async def test_what_is_due_while_it_is_off_is_given_up(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("one")
    await registry.follow()
    await registry.send("PATCH", f"{HOOKS}/{hook['id']}", json={"active": False})

    await registry.deliver()

    [delivery] = await registry.deliveries(hook)
    assert (delivery["state"], delivery["error"]) == ("failed", "the webhook was turned off")
    assert registry.receiver.received == []


async def test_without_webhooks_nothing_is_read_or_written(registry: Hooked) -> None:
    await registry.make_model("one")

    assert await registry.follow() == 0
    assert await registry.rows("SELECT * FROM store_state WHERE key = 'webhooks.entry'") == []


async def test_entries_that_are_not_sealed_wait(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.follow()
    await registry.make_model("one")

    assert await outbox.follow_audit_log(registry.store) == 0
    assert await registry.follow() == 1
    assert len(await registry.deliveries(hook)) == 1


async def test_long_logs_are_followed_in_steps(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FOLLOWED_AT_ONCE", 3)
    hook = await registry.hook()
    for number in range(10):
        await registry.make_model(f"m{number}")

    assert await registry.follow() == 10
    assert len({one["entry"] for one in await registry.deliveries(hook)}) == 10


async def test_an_entry_is_told_once_although_following_it_died(registry: Hooked) -> None:
    """Deliveries and place are in one transaction: a kill leaves both or neither."""
    hook = await registry.hook()
    await registry.make_model("one")
    await registry.site.app[SEALS].seal()
    index = registry.store.index

    async def dies(tx: Tx) -> None:
        assert await outbox.follow_some(tx, 100) == 1
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await index.run(dies)
    left = await registry.deliveries(hook)
    made = [await index.run(partial(outbox.follow_some, most=100)) for _ in range(3)]

    assert left == []
    assert made == [1, 0, 0]
    assert len(await registry.deliveries(hook)) == 1


async def test_of_two_leaders_one_tells(registry: Hooked) -> None:
    hook = await registry.hook()
    for number in range(5):
        await registry.make_model(f"m{number}")
    await registry.site.app[SEALS].seal()

    made = await asyncio.gather(*(outbox.follow_audit_log(registry.store) for _ in range(4)))

    assert sum(made) == 5
    assert len(await registry.deliveries(hook)) == 5


async def test_a_purged_model_is_told_of_and_its_deliveries_stay(registry: Hooked) -> None:
    hook = await registry.hook(events=["model.purge", "version.*"])
    version = await registry.publish("bert", "1.0.0", {"a": b"1"})
    model = (await registry.get("/api/v1/models/bert")).json["id"]
    await registry.tell()
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")
    await registry.send("POST", f"/api/v1/models/bert/versions/{version['number']}/purge")
    await registry.send("DELETE", "/api/v1/models/bert")
    assert (await registry.send("POST", f"/api/v1/models/{model}/purge")).status == 204
    assert await registry.count("models") == 0

    await registry.tell()

    assert events(registry).count("model.purge") == 1
    assert [one["state"] for one in await registry.deliveries(hook)].count("delivered") >= 2


async def test_secrets_are_masked_in_what_is_told(registry: Hooked) -> None:
    await registry.hook(events=["version.update"])
    await registry.publish("bert", "1.0.0", {"a": b"1"})
    await registry.send(
        "PATCH",
        "/api/v1/models/bert/versions/1.0.0",
        json={"metadata": {"hf_token": "abracadabra", "layers": 12}},
    )

    await registry.tell()

    [received] = registry.receiver.received
    assert received.json["data"]["after"]["metadata"] == {"hf_token": "(masked)", "layers": 12}
    assert b"abracadabra" not in received.body


# Signatures


async def test_a_secret_signs_on_beside_the_next_one_for_a_while(registry: Hooked) -> None:
    hook = await registry.hook()
    path = f"{HOOKS}/{hook['id']}"
    first = hook["secret"]

    async def signed() -> list[str]:
        """By whom the next delivery is signed, in their order."""
        await registry.describe("bert", f"{registry.clock()} {len(secrets)}")
        await registry.tell()
        received = registry.receiver.received[-1]
        seconds = int(received.headers["webhook-timestamp"])
        by = {
            SigningSecret.parse(secret).sign(received.id, seconds, received.body): name
            for name, secret in secrets.items()
        }
        return [by[one] for one in received.headers["webhook-signature"].split(" ")]

    secrets = {"first": first}
    await registry.make_model("bert")
    found = [await signed()]
    for name, overlap in (("second", 3600), ("third", 3600)):
        wish = {"secret": None, "secret_overlap_seconds": overlap}
        secrets[name] = (await registry.send("PATCH", path, json=wish)).json["secret"]
        found.append(await signed())
    registry.clock.advance(3600)
    found.append(await signed())
    etag = (await registry.get(path)).headers["ETag"]
    kept = await registry.rows("SELECT former_secret IS NOT NULL FROM webhooks")
    await registry.site.app[WEBHOOKS].remove_deleted()

    assert found == [["first"], ["second", "first"], ["third", "second"], ["third"]]
    assert kept == [(1,)]
    assert await registry.rows("SELECT former_secret FROM webhooks") == [(None,)]
    assert (await registry.get(path)).headers["ETag"] == etag


async def test_a_former_secret_that_cannot_be_read_keeps_nothing_from_being_told(
    registry: Hooked,
) -> None:
    """Another root key encrypted it, and that is why there is a new one."""
    hook = await registry.hook()
    await registry.send("PATCH", f"{HOOKS}/{hook['id']}", json={"secret": None})
    await registry.store.index.run(_spoil_former)
    await registry.make_model("bert")

    await registry.tell()

    [received] = registry.receiver.received
    assert " " not in received.headers["webhook-signature"]


async def _spoil_former(tx: Tx) -> None:
    await tx.run(Statement(text("UPDATE webhooks SET former_secret = x'0000'")))


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of the reference libraries of Standard Webhooks."""
    secret = SigningSecret.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert "MfKQ" not in repr(secret)


async def test_the_documented_verification_accepts_what_arrives_and_nothing_else(
    registry: Hooked,
) -> None:
    """The example in ``API.md`` is run as it stands there."""
    documented = (ROOT / "registry/API.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", documented, re.DOTALL)
    example: dict[str, Any] = {}
    exec(code, example)
    verify = example["verify"]
    registry.clock.now = int(time.time()) * SECOND
    hook = await registry.hook()
    other = SigningSecret.fresh().text
    await registry.make_model("bert")

    await registry.tell()

    [received] = registry.receiver.received
    headers, body = received.headers, received.body
    assert verify(hook["secret"], headers, body)
    assert not verify(hook["secret"], headers, body + b" ")
    assert not verify(hook["secret"], {**headers, "webhook-id": "msg_other"}, body)
    assert not verify(other, headers, body)
    later = str(int(headers["webhook-timestamp"]) + 1)
    assert not verify(hook["secret"], {**headers, "webhook-timestamp": later}, body)
    old = {**headers, "webhook-timestamp": str(int(time.time()) - 400)}
    assert not verify(hook["secret"], old, body)


async def test_a_new_secret_signs_what_is_sent_from_then_on(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.follow()
    rotated = await registry.send("PATCH", f"{HOOKS}/{hook['id']}", json={"secret": None})

    await registry.deliver()

    [received] = registry.receiver.received
    secret = SigningSecret.parse(rotated.json["secret"])
    timestamp = int(received.headers["webhook-timestamp"])
    expected = secret.sign(received.id, timestamp, received.body)
    assert received.headers["webhook-signature"].split(" ")[0] == expected


# Attempts


async def test_what_fails_is_tried_again_later_and_given_up_at_last(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.follow()
    registry.receiver.then(answering(503, "busy"))
    waited = []

    while await registry.deliver():
        [delivery] = await registry.deliveries(hook)
        [(due, now)] = await registry.rows("SELECT due_at, attempted_at FROM deliveries")
        if due is None:
            break
        waited.append((due - now) / SECOND)
        registry.clock.now = due - 1
        assert await registry.deliver() == 0
        registry.clock.now = due

    assert waited == [10, 40, 160, 640, 2560, 10240, 28800, 28800]
    assert (delivery["state"], delivery["attempts"]) == ("failed", 9)
    assert (delivery["status"], delivery["error"]) == (503, "answered 503")
    sent = registry.receiver.received
    assert len(sent) == ATTEMPTS
    assert len({one.id for one in sent}) == len({one.body for one in sent}) == 1
    assert len({one.headers["webhook-timestamp"] for one in sent}) == ATTEMPTS
    registry.clock.advance(10 * DAY)
    assert await registry.deliver() == 0


def test_an_entry_that_a_restored_index_numbers_anew_has_another_message_id() -> None:
    of = partial(message_id, "whk_01kagz6y5n8s3v0c4t7x9b2d1f", 7)

    assert of(1_800_000_000) != of(1_800_000_001)


def test_waits_differ_by_up_to_a_fifth() -> None:
    assert delay_seconds(1, 0) == pytest.approx(8)
    assert delay_seconds(1, 1) == pytest.approx(12)
    assert delay_seconds(8, 1) == pytest.approx(28_800 * 1.2)
    assert delay_seconds(9, 0.5) is None


async def test_a_receiver_may_ask_for_more_time_within_bounds(registry: Hooked) -> None:
    asked = {"3": 10, "600": 600, "999999": DAY, "-5": 10, "soon": 10, "1e9": 10}
    await registry.hook()
    for number, (text_, seconds) in enumerate(asked.items()):
        await registry.make_model(f"m{number}")
        registry.receiver.then(answering(429, Retry_After=text_))
        await registry.tell()
        [(waited,)] = await registry.rows(
            "SELECT due_at - attempted_at FROM deliveries ORDER BY entry DESC LIMIT 1"
        )

        assert waited / SECOND == seconds, text_


def test_a_time_to_come_back_at_may_be_a_date() -> None:
    now = 1_800_000_000

    assert retry_after_seconds(formatdate(now + 90, usegmt=True), now * SECOND) == 90
    assert retry_after_seconds(formatdate(now - 90, usegmt=True), now * SECOND) == 0
    assert retry_after_seconds("Wed, 99 Nov 2026 99:99:99 GMT", now * SECOND) == 0


async def test_a_redirect_is_a_failure(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    registry.receiver.then(answering(307, Location=registry.receiver.url + "/elsewhere"))

    await registry.tell()

    [delivery] = await registry.deliveries(hook)
    assert (delivery["state"], delivery["status"]) == ("waiting", 307)
    assert "redirects" in delivery["error"]
    assert [one.path for one in registry.receiver.received] == ["/hook"]


async def test_a_receiver_that_is_gone_is_told_nothing_more(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("one")
    registry.receiver.then(410)

    await registry.tell()
    await registry.make_model("two")
    await registry.tell()

    assert len(registry.receiver.received) == 1
    assert not (await registry.get(f"{HOOKS}/{hook['id']}")).json["active"]
    [delivery] = await registry.deliveries(hook)
    assert (delivery["state"], delivery["status"]) == ("failed", 410)
    entry = (await registry.get("/api/v1/audit?kind=webhook&limit=1")).json["items"][0]
    assert (entry["actor"], entry["action"]) == ("usr_housekeeping", "update")
    assert entry["reason"] == "it answered 410 Gone"
    assert (entry["before"]["active"], entry["after"]["active"]) == (True, False)


async def test_an_address_that_became_private_is_refused(
    registry: Hooked, tmp_path: Path, clock: ManualClock
) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.follow()
    strict = create_app(Config(), registry.store)

    await strict[DELIVERER].run()

    [delivery] = await registry.deliveries(hook)
    assert delivery["state"] == "waiting"
    assert "outbound.allow_private" in delivery["error"]
    assert registry.receiver.received == []


async def test_at_most_64_kib_of_an_answer_are_kept_for_administrators(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")

    async def answer(_: Any) -> Any:
        return await answering(200, "é\0" + "x" * 70_000)(_)

    registry.receiver.then(answer)
    await registry.tell()

    [listed] = await registry.deliveries(hook)
    one = await registry.get(f"{HOOKS}/{hook['id']}/deliveries/{listed['entry']}")
    assert "response" not in listed
    assert one.json["response"] == "é\ufffd" + "x" * (65_536 - 3)
    assert may_see_responses(LOCAL)
    assert not may_see_responses(STRANGER)
    with pytest.raises(NotFound):
        await get_delivery(registry.store, STRANGER, hook["id"], listed["entry"])


async def test_an_answer_is_hidden_from_who_is_no_administrator(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    registry.receiver.then(answering(200, "inside"))
    await registry.tell()
    [listed] = await registry.deliveries(hook)
    monkeypatch.setattr("registry.api.webhooks.may_see_responses", lambda _: False)

    one = await registry.get(f"{HOOKS}/{hook['id']}/deliveries/{listed['entry']}")

    assert "response" not in one.json
    assert b"inside" not in one.body


# Crashes


async def test_an_attempt_that_was_cut_is_made_again(registry: Hooked) -> None:
    """The leader ends, or is killed, while a receiver thinks."""
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.follow()
    registry.receiver.then(never, 204)
    leading = asyncio.create_task(registry.deliver())
    await registry.site.until(lambda: len(registry.receiver.received) == 1)
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading

    assert await registry.deliver() == 1

    first, second = registry.receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    [delivery] = await registry.deliveries(hook)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)


async def test_an_attempt_that_was_not_taken_down_is_made_again(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.hook()
    await registry.make_model("bert")
    await registry.follow()

    async def dies(*_: Any, **__: Any) -> bool:
        raise Unavailable("commit")

    with monkeypatch.context() as patched:
        patched.setattr(delivering, "_finish", dies)
        with pytest.raises(ExceptionGroup):
            await registry.deliver()

    assert await registry.deliver() == 1
    assert len({one.id for one in registry.receiver.received}) == 1
    assert len(registry.receiver.received) == 2


async def test_of_two_leaders_only_the_first_takes_an_attempt_down(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.follow()
    [due] = await registry.store.index.read(
        partial(rows.due_deliveries, webhook_id=hook["id"], limit=1)
    )
    outcomes = [
        Outcome(state="delivered", ended_at=1, attempted_at=1, status=200),
        Outcome(state="waiting", due_at=2, attempted_at=1, status=500, error="answered 500"),
    ]

    taken = [
        await registry.store.index.run(
            partial(finish_attempt, delivery=due.delivery, outcome=outcome)
        )
        for outcome in outcomes
    ]

    assert taken == [True, False]
    assert (await registry.deliveries(hook))[0]["state"] == "delivered"


async def test_a_secret_that_cannot_be_read_stops_no_other_webhook(registry: Hooked) -> None:
    broken, other = await registry.hook("/broken"), await registry.hook("/other")
    await registry.make_model("bert")
    # The secret of the one in the place of the other's is as unreadable as one of a lost key.
    move = Statement(
        text(
            "UPDATE webhooks SET secret = (SELECT secret FROM webhooks WHERE id = :a) WHERE id = :b"
        )
    )
    await registry.store.index.run(lambda tx: tx.run(move, a=other["id"], b=broken["id"]))

    await registry.tell()

    [delivery] = await registry.deliveries(broken)
    assert delivery["state"] == "waiting"
    assert "cannot be read" in delivery["error"]
    assert events(registry, "/other") == ["model.create"]


async def test_a_fault_of_ours_stops_no_other_webhook(registry: Hooked) -> None:
    bad, _ = await registry.hook("/bad"), await registry.hook("/other")
    await registry.make_model("bert")
    broken = Statement(text("UPDATE webhooks SET url = 'no url' WHERE id = :id"))
    await registry.store.index.run(lambda tx: tx.run(broken, id=bad["id"]))

    await registry.tell()

    [delivery] = await registry.deliveries(bad)
    assert delivery["error"] == "the server failed to send it"
    assert events(registry, "/other") == ["model.create"]


# Many at once


async def test_a_receiver_that_hangs_holds_up_no_other(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.01)

    async def by_path(request: Any) -> Any:
        return await (never if request.path == "/dead" else answering(204))(request)

    registry.receiver.then(by_path)
    await registry.hook("/dead")
    await registry.hook("/alive")
    for number in range(8):
        await registry.make_model(f"m{number}")
    await registry.follow()

    leading = asyncio.create_task(registry.deliver())
    await registry.site.until(
        lambda: (
            len(events(registry, "/alive")) == 8
            and len(events(registry, "/dead")) >= delivering.AT_ONCE_EACH
        )
    )
    hanging = len(events(registry, "/dead"))
    leading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leading

    assert hanging == delivering.AT_ONCE_EACH


class Held:
    """A receiver's behaviour: it answers once it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def __call__(self, request: Any) -> Any:
        await self.gate.wait()
        return await answering(204)(request)


async def look_again(registry: Hooked, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many attempts are under way once the deliverer has looked for more three times."""
    deliverer, looks = registry.site.app[DELIVERER], 0
    choose = deliverer._next

    async def counted() -> Any:
        nonlocal looks
        looks += 1
        return await choose()

    monkeypatch.setattr(deliverer, "_next", counted)
    await registry.site.until(lambda: looks >= 3)
    return len(deliverer._running)


async def test_attempts_under_way_are_bounded_in_all(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "AT_ONCE", 3)
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.001)
    receiver, held = registry.receiver, Held()
    hooks = [(await registry.hook(f"/{number}"))["id"] for number in range(4)]
    await registry.make_model("bert")
    await registry.make_model("gpt")
    await registry.follow()
    receiver.then(held)
    deliverer, served = registry.site.app[DELIVERER], []
    start = deliverer._start

    def noting(group: asyncio.TaskGroup, due: DueDelivery) -> None:
        served.append(due.delivery.webhook_id)  # they may arrive in another order
        start(group, due)

    monkeypatch.setattr(deliverer, "_start", noting)

    leading = asyncio.create_task(registry.deliver())
    await registry.site.until(lambda: receiver.under_way >= 3)
    under_way = await look_again(registry, monkeypatch)
    held.gate.set()
    await leading

    assert under_way == receiver.most_under_way == 3
    assert len(receiver.received) == 8
    assert len(served) == 8
    assert set(served[:4]) == set(hooks), "who waits longest comes first"


async def test_a_webhook_that_failed_is_tried_one_at_a_time(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.01)
    receiver, held = registry.receiver, Held()
    await registry.hook()
    await registry.make_model("first")
    receiver.then(500, held)
    await registry.tell()
    for number in range(3):
        await registry.make_model(f"m{number}")
    await registry.follow()

    leading = asyncio.create_task(registry.deliver())
    await registry.site.until(lambda: receiver.under_way >= 1)
    under_way = await look_again(registry, monkeypatch)
    held.gate.set()
    await leading

    assert under_way == 1
    assert len(receiver.received) == 4


async def test_attempts_that_end_during_a_look_leave_nothing_due(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they held up when the look began is found by the next one."""
    monkeypatch.setattr(delivering, "LOOK_SECONDS", 0.001)
    deliverer, receiver, held = registry.site.app[DELIVERER], registry.receiver, Held()
    await registry.hook()
    for number in range(5):
        await registry.make_model(f"m{number}")
    await registry.follow()
    receiver.then(held)
    choose = deliverer._next

    async def looking() -> Any:
        was_full = receiver.under_way == delivering.AT_ONCE_EACH
        found = await choose()
        if was_full:
            held.gate.set()
            await registry.site.until(lambda: not deliverer._running)
        return found

    monkeypatch.setattr(deliverer, "_next", looking)

    assert await registry.deliver() == 5
    assert len(receiver.received) == 5


async def test_no_attempt_takes_longer_than_its_bound(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "ATTEMPT_SECONDS", 0.05)
    hook = await registry.hook()
    await registry.make_model("bert")
    registry.receiver.then(never)

    await registry.tell()

    [delivery] = await registry.deliveries(hook)
    assert (delivery["status"], delivery["error"]) == (None, "took longer than 0.05 s")
    assert delivery["milliseconds"] >= 50


# Asking


async def test_a_ping_is_delivered_whatever_the_webhook_listens_to(registry: Hooked) -> None:
    hook = await registry.hook(events=["version.publish"])
    address = f"{HOOKS}/{hook['id']}"

    pinged = await registry.send("POST", f"{address}/ping")
    await registry.tell()

    assert pinged.status == 202
    assert pinged.headers["Location"] == f"{address}/deliveries/{pinged.json['entry']}"
    assert events(registry) == ["webhook.ping"]
    assert (await registry.get(pinged.headers["Location"])).json["state"] == "delivered"


async def test_everything_does_not_mean_changes_of_webhooks(registry: Hooked) -> None:
    hook = await registry.hook(events=["*"])
    await registry.send("PATCH", f"{HOOKS}/{hook['id']}", json={"description": "new"})
    await registry.hook("/other")

    assert await registry.tell() == 0


async def test_a_repeated_ping_with_a_key_is_one(registry: Hooked) -> None:
    hook = await registry.hook()
    sent = [
        await registry.send("POST", f"{HOOKS}/{hook['id']}/ping", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert await registry.count("deliveries") == 1


async def test_a_webhook_that_is_off_is_neither_pinged_nor_told_again(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    await registry.tell()
    [delivery] = await registry.deliveries(hook)
    address = f"{HOOKS}/{hook['id']}"
    await registry.send("PATCH", address, json={"active": False})

    answers = [
        await registry.send("POST", f"{address}/ping"),
        await registry.send("POST", f"{address}/deliveries/{delivery['entry']}/redeliver"),
    ]

    assert [(one.status, one.code) for one in answers] == [(409, "webhook_inactive")] * 2


async def test_a_delivery_can_be_asked_for_again(registry: Hooked) -> None:
    hook = await registry.hook()
    await registry.make_model("bert")
    registry.receiver.then(500, 204)
    await registry.tell()
    [delivery] = await registry.deliveries(hook)
    address = f"{HOOKS}/{hook['id']}/deliveries/{delivery['entry']}"

    asked = await registry.send("POST", f"{address}/redeliver")
    await registry.deliver()
    again = await registry.send("POST", f"{address}/redeliver")
    await registry.deliver()

    assert (asked.status, asked.json["state"], asked.json["attempts"]) == (202, "waiting", 0)
    assert again.status == 202
    assert len(registry.receiver.received) == 3
    assert len({one.id for one in registry.receiver.received}) == 1
    assert (await registry.get(address)).json["attempts"] == 1
    entry = (await registry.get("/api/v1/audit?action=redeliver")).json["items"][0]
    assert entry["before"] == {"entry": delivery["entry"], "state": "delivered"}


async def test_a_delivery_that_is_not_there_is_404(registry: Hooked) -> None:
    hook = await registry.hook()
    for number in ("1", "0", "-1", "x", "9" * 30, "%C2%B2"):
        answer = await registry.get(f"{HOOKS}/{hook['id']}/deliveries/{number}")

        assert (answer.status, answer.code) == (404, "delivery_not_found")


async def test_deliveries_are_listed_by_state_a_page_at_a_time(registry: Hooked) -> None:
    hook, other = await registry.hook(), await registry.hook("/other")
    for number in range(5):
        await registry.make_model(f"m{number}")
    await registry.tell()
    await registry.make_model("last")
    await registry.follow()

    found: list[int] = []
    query = "?limit=2&state=delivered"
    while query:
        answer = await registry.get(f"{HOOKS}/{hook['id']}/deliveries{query}")
        found += [one["entry"] for one in answer.json["items"]]
        next = answer.json["next"]
        query = f"?limit=2&state=delivered&after={next}" if next else ""

    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert len(await registry.deliveries(hook, "?state=waiting")) == 1
    assert await registry.deliveries(hook, "?state=failed") == []
    cursor = (await registry.get(f"{HOOKS}/{hook['id']}/deliveries?limit=1")).json["next"]
    foreign = await registry.get(f"{HOOKS}/{other['id']}/deliveries?limit=1&after={cursor}")
    assert (foreign.status, foreign.code) == (400, "invalid_cursor")


async def test_deliveries_go_30_days_after_they_ended_in_steps(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.services.deliveries.EXPIRED_AT_ONCE", 2)
    hook = await registry.hook()
    for number in range(5):
        await registry.make_model(f"m{number}")
    await registry.tell()
    await registry.make_model("waits")
    await registry.follow()

    registry.clock.advance(30 * DAY - 1)
    early = await expire(registry.store)
    registry.clock.advance(2)

    assert early == 0
    assert await expire(registry.store) == 5
    assert [one["state"] for one in await registry.deliveries(hook)] == ["waiting"]


async def test_no_question_reads_all_deliveries_or_entries(registry: Hooked) -> None:
    for statement in (
        rows._page(("state", "before")),
        rows._page(("before",)),
        rows._DUE,
        rows._WEBHOOKS_DUE,
        rows._FOLLOWED,
        rows._EXPIRE,
        rows._WAITING,
    ):
        plan = await plan_of(registry.store.index, statement)
        scans = [step for step in plan if re.match(r"SCAN (?!webhooks|waiting)", step)]

        assert [step for step in scans if "INDEX deliveries_due" not in step] == [], statement
    [step] = [
        step
        for step in await plan_of(registry.store.index, rows._page(("state", "before")))
        if "deliveries_by_state" in step
    ]
    assert step.endswith("(webhook=? AND state=? AND entry<?)")


# What is told of, and by whom


def test_the_documented_events_are_those_there_are() -> None:
    section = (
        (ROOT / "registry/API.md").read_text().partition("## Webhooks")[2].partition("\n## ")[0]
    )
    found = {
        kind: tuple(re.findall(r"`([a-z]+)`", actions))
        for kind, actions in re.findall(r"^\| `([a-z]+)` \| (`[a-z`, ]+) \|$", section, re.M)
    }

    assert found == dict(EVENTS)


def test_every_entry_of_the_audit_log_is_an_event_or_belongs_to_no_namespace() -> None:
    """So far as modules say it in plain words: kinds everywhere, actions beside a single kind."""
    found: set[tuple[str, str]] = set()
    for path in (ROOT / "registry/services").rglob("*.py"):
        source = path.read_text()
        if "Entry" not in source:
            continue  # its kinds are of something else
        all_kinds = set(re.findall(r'\bkind="([a-z]+)"', source))
        kinds = all_kinds - UNTOLD - {"webhook"}
        actions = re.findall(r'\b_?entry(?:_of)?\(\s*"([a-z]+)"|\baction="([a-z]+)"', source)
        found |= {(kind, "") for kind in kinds}
        if kinds == all_kinds and len(kinds) == 1:
            found |= {(*kinds, one or other) for one, other in actions}
    unknown = [
        (kind, action)
        for kind, action in sorted(found)
        if kind not in EVENTS or (action and action not in EVENTS[kind])
    ]

    assert unknown == [], "list them in EVENTS or UNTOLD of registry/domain/webhooks.py, and API.md"
    assert ("review", "create") in found


async def test_the_leader_follows_delivers_and_tidies_up(registry: Hooked) -> None:
    keeper = housekeeping(Config(), registry.store, registry.site.app)
    names = [job.name for job in keeper._jobs]

    telling = ["follow audit log", "deliver to webhooks", "expire deliveries"]
    assert [name for name in names if name in telling] == telling
    assert "remove deleted webhooks" in names


async def test_deliveries_are_counted(registry: Hooked) -> None:
    await registry.hook()
    await registry.make_model("one")
    registry.receiver.then(500, 204)
    await registry.tell()
    await registry.make_model("two")
    await registry.tell()

    shown = (await registry.get("/metrics")).body.decode()

    assert "digestry_webhooks_delivered_total 1.0" in shown
    assert "digestry_webhooks_failed_attempts_total 1.0" in shown
    assert "digestry_webhooks_waiting 1.0" in shown
