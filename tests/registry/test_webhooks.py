"""Webhooks over HTTP: made, found, changed, deleted; and where their secrets are not."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.api.wire_webhooks import WebhookBody, WebhookPatchBody
from registry.catalog.webhooks import _page
from registry.domain.principals import Principal
from registry.domain.times import rfc3339
from registry.errors import NotFound
from registry.keys import WEBHOOKS
from store.clock import SECOND
from tests.support.clock import ManualClock
from tests.support.hooks import HOOKS, Hooked, hooked_registry
from tests.support.plans import plan_of

STRANGER = Principal("usr_stranger", "stranger")
SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
URL = "https://ci.example.com/hooks/registry"


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Hooked]:
    async with hooked_registry(tmp_path / "data", clock=clock) as hooked:
        yield hooked
        await hooked.check()


async def make(registry: Hooked, **said: Any) -> Any:
    body = {"url": URL, "events": ["version.publish"], **said}
    return await registry.send("POST", HOOKS, json=body)


async def patch(registry: Hooked, hook: Any, body: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("PATCH", f"{HOOKS}/{hook['id']}", json=body, headers=named)


async def entries(registry: Hooked) -> list[Any]:
    answer = await registry.get("/api/v1/audit?kind=webhook")
    return list(reversed(answer.json["items"]))


# Making


async def test_a_webhook_is_made_and_found(registry: Hooked) -> None:
    answer = await make(registry, description="builds", secret=SECRET)

    assert answer.status == 201
    one = answer.json
    assert answer.headers["Location"] == f"{HOOKS}/{one['id']}"
    assert (one["namespace"], one["events"], one["active"]) == (
        "default",
        ["version.publish"],
        True,
    )
    found = await registry.get(f"{HOOKS}/{one['id']}")
    assert found.json == one
    assert found.headers["ETag"] == answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert (
        await registry.get(f"{HOOKS}/{one['id']}", If_None_Match=found.headers["ETag"])
    ).status == 304


async def test_events_are_kept_once_and_in_order(registry: Hooked) -> None:
    answer = await make(registry, events=["version.publish", "alias.*", "version.publish"])

    assert answer.json["events"] == ["alias.*", "version.publish"]


async def test_an_unknown_event_is_refused_with_those_known(registry: Hooked) -> None:
    answer = await make(registry, events=["version.publish", "version.explode", "*.*"])

    assert (answer.status, answer.code) == (400, "event_unknown")
    assert [one["field"] for one in answer.json["errors"]] == ["events[1]", "events[2]"]
    assert {"*", "version.*", "version.publish", "alias.move"} <= set(answer.json["known"])
    assert "deployment.rollback" in answer.json["known"]
    assert await registry.count("webhooks") == 0


BAD_URLS = [
    "ftp://example.com/",
    "https://user:password@example.com/",
    "https://user@example.com/",
    "https://example.com/#fragment",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://exa mple.com/",
    "https://example.com\\@evil.example/",
    "https://example..com/",
    "https://-example.com/",
    "https://bücher.example/",
    "https://example.com/%zz",
    "https://example.com/\r\nHost: other",
    "https:///path",
    "//example.com/",
    "https://[::1",
    "https://[fe80::1%25eth0]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://1.2.3.4.5/",
    "https://example.com/" + "x" * 2030,
]


async def test_what_is_no_url_to_deliver_to_is_refused(registry: Hooked) -> None:
    for url in BAD_URLS:
        answer = await make(registry, url=url)

        assert answer.status == 400, url
        assert answer.json["errors"][0]["field"] == "url"
        assert "password" not in answer.body.decode()
    assert await registry.count("webhooks") == 0


async def test_an_address_that_may_never_be_called_is_refused_at_once(registry: Hooked) -> None:
    for url in (
        "http://10.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[::1]:80/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
    ):
        answer = await make(registry, url=url)

        assert (answer.status, answer.code) == (400, "url_not_public"), url
    assert (await make(registry, url="http://127.0.0.1:9/")).status == 201
    assert (await make(registry, url="http://[2606:4700::1111]/")).status == 201


async def test_what_a_webhook_cannot_be_is_refused(registry: Hooked) -> None:
    bodies: list[dict[str, Any]] = [
        {"events": []},
        {"events": ["*"] * 101},
        {"description": "x" * 4097},
        {"active": "yes"},
        {"secrets": "x"},
    ]
    for body in bodies:
        assert (await make(registry, **body)).status == 400, body
    assert await registry.count("webhooks") == 0


async def test_an_unknown_namespace_is_named(registry: Hooked) -> None:
    answer = await make(registry, namespace="nobody")

    assert (answer.status, answer.code) == (404, "namespace_not_found")


async def test_a_webhook_that_is_not_there_is_404(registry: Hooked) -> None:
    for id in ("whk_01kagz6y5n8s3v0c4t7x9b2d1f", "nobody", "%FF", "%00"):
        for method in ("GET", "PATCH", "DELETE"):
            body = {"description": "x", "secret": None} if method == "PATCH" else None
            answer = await registry.send(method, f"{HOOKS}/{id}", json=body)

            assert (answer.status, answer.code) == (404, "webhook_not_found"), id


# Secrets


async def test_a_secret_that_was_drawn_is_told_once(registry: Hooked) -> None:
    made = await make(registry)
    one = made.json

    assert one["secret"].startswith("whsec_")
    assert made.headers["Cache-Control"] == "no-store"
    assert "secret" not in (await registry.get(f"{HOOKS}/{one['id']}")).json
    listed = await registry.get(HOOKS)
    assert "secret" not in listed.json["items"][0]
    assert "secret" not in (await patch(registry, one, {"description": "new"})).json


async def test_a_secret_that_was_given_is_never_told(registry: Hooked) -> None:
    made = await make(registry, secret=SECRET)
    rotated = await patch(registry, made.json, {"secret": SECRET})

    assert "secret" not in made.json
    assert "secret" not in rotated.json


async def test_a_new_secret_is_drawn_for_null(registry: Hooked) -> None:
    one = (await make(registry)).json
    registry.clock.advance(60)

    rotated = await patch(registry, one, {"secret": None})

    assert rotated.json["secret"] not in (None, one["secret"])
    assert rotated.json["secret_set_at"] > one["secret_set_at"]
    assert rotated.headers["Cache-Control"] == "no-store"
    assert rotated.headers["ETag"] == f'"{one["id"]}.2"'


async def test_a_secret_that_is_none_is_refused_and_not_repeated(registry: Hooked) -> None:
    for secret in (
        "",
        "hunter2hunter2hunter2hunter2",
        "whsec_",
        "whsec_c2hvcnQ=",
        "whsec_hunter2!",
        "whsec_é" + "A" * 40,
        "whsec_" + b64encode(bytes(65)).decode(),
    ):
        answer = await make(registry, secret=secret)

        assert (answer.status, answer.code) == (400, "webhook_secret_invalid"), secret
        kept = secret.removeprefix("whsec_")
        assert not kept or kept not in answer.body.decode()


async def test_a_secret_of_another_type_is_refused_without_being_shown(registry: Hooked) -> None:
    answer = await make(registry, secret=[SECRET])
    long = await make(registry, secret=SECRET + "A" * 200)

    assert (answer.status, long.status) == (400, 400)
    assert SECRET not in answer.body.decode() + long.body.decode()


async def test_an_answer_with_a_secret_is_not_kept(registry: Hooked) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"url": URL, "events": ["*"]}
    first = await registry.send("POST", HOOKS, json=body, headers=headers)

    again = await registry.send("POST", HOOKS, json=body, headers=headers)

    assert first.status == 201
    assert (again.status, again.code) == (409, "idempotency_answer_secret")
    assert await registry.count("webhooks") == 1
    [(kept,)] = await registry.rows("SELECT body FROM idempotency_keys")
    assert kept == b""


async def test_an_answer_without_a_secret_is_kept(registry: Hooked) -> None:
    sent = [
        await registry.send(
            "POST",
            HOOKS,
            json={"url": URL, "events": ["*"], "secret": SECRET},
            headers={"Idempotency-Key": "once"},
        )
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json


async def test_no_secret_is_in_the_data_directory_or_the_log(
    registry: Hooked, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither its text nor its bytes, nor the paths and queries of URLs in the audit log."""
    hook = (await make(registry, secret=SECRET, url=URL + "?token=abracadabra")).json
    drawn = (await patch(registry, hook, {"secret": None})).json["secret"]
    await patch(registry, hook, {"secret": SECRET, "url": URL + "?token=opensesame"})
    await registry.send("DELETE", f"{HOOKS}/{hook['id']}")
    await registry.store.index.checkpoint()

    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    said = "".join(capfd.readouterr())
    for secret in (SECRET, drawn):
        assert secret.removeprefix("whsec_").encode() not in content
        assert secret not in said
    assert bytes(range(32)) not in content
    log = str(await entries(registry))
    assert "abracadabra" not in log + said
    assert "opensesame" not in log + said
    assert "hooks/registry" not in log


async def test_how_long_a_secret_signs_on_is_about_a_new_one(registry: Hooked) -> None:
    one = (await make(registry)).json
    assert one["former_secret_until"] is None

    alone = await patch(registry, one, {"secret_overlap_seconds": 60})
    long = await patch(registry, one, {"secret": None, "secret_overlap_seconds": 31 * 86_400})
    at_once = await patch(registry, one, {"secret": None, "secret_overlap_seconds": 0})
    in_a_day = await patch(registry, one, {"secret": None})

    for refused in (alone, long):
        assert (refused.status, refused.code) == (400, "invalid")
    assert at_once.json["former_secret_until"] is None
    day = registry.clock() + 86_400 * SECOND
    assert in_a_day.json["former_secret_until"] == rfc3339(day)


async def test_the_audit_log_says_when_a_secret_was_set_and_no_more(registry: Hooked) -> None:
    hook = (await make(registry)).json
    registry.clock.advance(60)
    await patch(registry, hook, {"secret": None})

    created, updated = await entries(registry)

    assert created["after"]["url"] == "https://ci.example.com/(masked)"
    assert created["after"]["secret"] == updated["after"]["secret"] == "(masked)"
    assert updated["before"]["signed_since"] < updated["after"]["signed_since"]


def test_no_repr_shows_a_secret() -> None:
    body = WebhookBody(url=URL + "?token=abracadabra", events=["*"], secret=SECRET)
    changed = WebhookPatchBody(secret=SECRET)

    for shown in (body, body.wish(), changed, changed.patch()):
        assert SECRET not in repr(shown)
        assert "abracadabra" not in repr(shown)


# Lists


async def test_pages_hold_every_webhook_once_the_latest_first(registry: Hooked) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    for number in range(5):
        registry.clock.advance(1)
        await make(registry, description=str(number), namespace="nlp" if number % 2 else "default")

    found: list[str] = []
    query = "?limit=2"
    while query:
        answer = await registry.get(HOOKS + query)
        found += [one["description"] for one in answer.json["items"]]
        next = answer.json["next"]
        query = f"?limit=2&after={next}" if next else ""

    assert found == ["4", "3", "2", "1", "0"]
    of_one = await registry.get(f"{HOOKS}?namespace=nlp")
    assert [one["description"] for one in of_one.json["items"]] == ["3", "1"]


@pytest.mark.parametrize("given", [("before",), ("namespace", "before")])
async def test_lists_run_along_an_index(registry: Hooked, given: tuple[str, ...]) -> None:
    plan = await plan_of(registry.store.index, _page(given))

    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert not [step for step in plan if step.startswith("SCAN")]


async def test_who_does_not_see_a_namespace_sees_no_webhook_of_it(registry: Hooked) -> None:
    hook = (await make(registry)).json
    webhooks = registry.site.app[WEBHOOKS]

    with pytest.raises(NotFound):
        await webhooks.get(STRANGER, hook["id"])
    page = await webhooks.list(STRANGER, namespace=None, before=None, limit=10)
    assert page.items == []


# Changing


async def test_a_patch_changes_what_it_names(registry: Hooked) -> None:
    hook = (await make(registry, description="old")).json

    answer = await patch(registry, hook, {"events": ["*"], "active": False, "description": None})

    assert answer.status == 200
    assert (answer.json["events"], answer.json["active"]) == (["*"], False)
    assert (answer.json["description"], answer.json["url"]) == ("", hook["url"])


async def test_a_patch_is_checked_like_a_new_webhook(registry: Hooked) -> None:
    hook = (await make(registry)).json

    codes = [
        (await patch(registry, hook, body)).code
        for body in (
            {"events": ["no.such"]},
            {"url": "http://10.0.0.1/"},
            {"url": "http://u:p@example.com"},
            {"secret": "x"},
            {"namespace": "other"},
        )
    ]

    expected = [
        "event_unknown",
        "url_not_public",
        "url_invalid",
        "webhook_secret_invalid",
        "invalid",
    ]
    assert codes == expected


async def test_what_changes_nothing_leaves_no_trace(registry: Hooked) -> None:
    hook = (await make(registry, description="d")).json

    answer = await patch(registry, hook, {"description": "d", "url": URL, "active": True})

    assert answer.headers["ETag"].endswith('.1"')
    assert [one["action"] for one in await entries(registry)] == ["create"]


async def test_changes_are_conditional(registry: Hooked) -> None:
    hook = (await make(registry)).json
    first = f'"{hook["id"]}.1"'
    await patch(registry, hook, {"description": "new"}, If_Match=first)

    stale = await patch(registry, hook, {"secret": None}, If_Match=first)
    deleted = await registry.send("DELETE", f"{HOOKS}/{hook['id']}", headers={"If-Match": first})

    assert (stale.status, deleted.status) == (412, 412)
    assert "secret" not in stale.json


# Deleting


async def test_a_deleted_webhook_is_gone_and_its_deliveries_go_in_steps(
    registry: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.catalog.webhooks.AT_ONCE", 2)
    hook, other = await registry.hook(), await registry.hook("/other")
    for number in range(5):
        await registry.make_model(f"m{number}")
    await registry.follow()

    deleted = await registry.send("DELETE", f"{HOOKS}/{hook['id']}")

    assert deleted.status == 204
    assert (await registry.get(f"{HOOKS}/{hook['id']}")).status == 404
    assert (await registry.get(f"{HOOKS}/{hook['id']}/deliveries")).status == 404
    assert [one["id"] for one in (await registry.get(HOOKS)).json["items"]] == [other["id"]]
    await registry.deliver()
    assert {one.path for one in registry.receiver.received} == {"/other"}
    assert await registry.site.app[WEBHOOKS].remove_deleted() == 3
    assert await registry.rows("SELECT DISTINCT webhook FROM deliveries") == [(other["id"],)]
    assert await registry.count("webhooks") == 1


async def test_a_namespace_with_webhooks_is_not_empty(registry: Hooked) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    hook = await registry.hook(namespace="nlp")
    await registry.send("POST", f"{HOOKS}/{hook['id']}/ping")

    held = await registry.send("DELETE", "/api/v1/namespaces/nlp")
    await registry.send("DELETE", f"{HOOKS}/{hook['id']}")
    freed = await registry.send("DELETE", "/api/v1/namespaces/nlp")

    assert (held.status, held.code, held.json["webhooks"]) == (409, "namespace_not_empty", 1)
    assert freed.status == 204, "what is left of a deleted webhook holds no namespace"
    await registry.site.app[WEBHOOKS].remove_deleted()
    assert await registry.count("webhooks") == await registry.count("deliveries") == 0
