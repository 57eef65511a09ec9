"""Promotion guards: each rule by itself, then every door that moves an alias or a status."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from registry.config import Config
from registry.domain.guards import Facts, Guard, MetricRule, Rules, failures
from registry.services import guarding
from tests.support.builders import Answer, Registry
from tests.support.people import AUTHENTICATED, Person, grant, join, make_person
from tests.support.serving import opened, serving

MODEL = "nlp~bert"


def external(label: str) -> dict[str, Any]:
    """A version whose bytes are elsewhere."""
    return {"label": label, "source": {"uri": f"s3://models/{label}"}}


class Office(Registry):
    """A registry that asks who is there: a lead, who administers `nlp`, and two who write."""

    lead: Person
    anna: Person
    otto: Person

    async def ask(
        self, who: Person, method: str, path: str, json: Any = None, **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(
            method, f"/api/v1/{path}", json=json, headers={**who.headers, **named}
        )

    async def guard(self, **said: Any) -> str:
        """A guard of the namespace, if nothing else is said."""
        if "model" not in said:
            said = {"namespace": "nlp", **said}
        answer = await self.ask(self.lead, "POST", "guards", said)
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def version(
        self, label: str, who: Person | None = None, *, override: str = "", **said: Any
    ) -> Any:
        """A version that somebody published."""
        wish = {**external(label), **said}
        headers = {"Digestry_Override": override} if override else {}
        return await self.ask(who or self.anna, "POST", f"models/{MODEL}/versions", wish, **headers)

    async def move(
        self, alias: str, version: str, who: Person | None = None, **headers: str
    ) -> Any:
        return await self.ask(
            who or self.anna,
            "PUT",
            f"models/{MODEL}/aliases/{alias}",
            {"version": version},
            **headers,
        )

    async def status(
        self, label: str, status: str, who: Person | None = None, **headers: str
    ) -> Any:
        return await self.ask(
            who or self.anna,
            "PUT",
            f"models/{MODEL}/versions/{label}/status",
            {"status": status},
            **headers,
        )

    async def approve(self, label: str, who: Person, verdict: str = "approve") -> None:
        answer = await self.ask(
            who, "POST", f"models/{MODEL}/versions/{label}/reviews", {"verdict": verdict}
        )
        assert answer.status == 201, answer.body

    async def pointed_at(self, alias: str) -> int | None:
        answer = await self.ask(self.anna, "GET", f"models/{MODEL}/aliases/{alias}")
        return int(answer.json["version"]["number"]) if answer.status == 200 else None


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        running = Office(site)
        running.lead = await make_person(store, "lead")
        running.anna = await make_person(store, "anna")
        running.otto = await make_person(store, "otto")
        await grant(store, running.lead, "admin", kind="namespace", on="nlp*")
        for person in (running.anna, running.otto):
            await grant(store, person, "maintainer", kind="namespace", on="nlp*")
        made = await running.ask(running.lead, "POST", "models", {"name": "nlp/bert"})
        assert made.status == 201, made.body
        yield running


def failed(answer: Answer) -> list[tuple[str, str, str]]:
    """Rules that failed, what they ask for, what was found."""
    assert (answer.status, answer.code) == (403, "guards_failed"), answer.body
    return [(one["rule"], one["required"], one["found"]) for one in answer.json["failed"]]


async def entries(office: Office) -> list[Any]:
    """What the audit log says of changes; that tokens were used it says by and by."""
    return await office.rows("SELECT id, action FROM audit WHERE kind <> 'token' ORDER BY id")


# The rules by themselves.


def guard_of(**rules: Any) -> Guard:
    return Guard(
        id="grd_x",
        model_id="mdl_x",
        namespace_id=None,
        aliases=("champion",),
        statuses=(),
        rules=Rules(**rules),
        description="",
        is_active=True,
        created_at=0,
        created_by="usr_x",
        updated_at=0,
    )


ACCURACY = MetricRule(name="accuracy", split="test", at_least=0.9, at_most=0.99)


@pytest.mark.parametrize(
    ("rules", "facts", "expected"),
    [
        ({"approvals": 2}, Facts(approvals=2), []),
        ({"approvals": 2}, Facts(approvals=1), ["approvals"]),
        ({"approvals": 1}, Facts(approvals=3, rejections=1), ["approvals"]),
        ({}, Facts(rejections=1), []),
        ({"scores": {"licence": 0.5}}, Facts(scores={"licence": 0.5}), []),
        ({"scores": {"licence": 0.5}}, Facts(scores={"licence": 0.49}), ["scores.licence"]),
        ({"scores": {"licence": 0.0}}, Facts(scores={"licence": None}), ["scores.licence"]),
        ({"scores": {"licence": 0.0}}, Facts(), ["scores.licence"]),
        ({"metrics": (ACCURACY,)}, Facts(metrics={("accuracy", "test"): 0.9}), []),
        ({"metrics": (ACCURACY,)}, Facts(metrics={("accuracy", "test"): 0.99}), []),
        (
            {"metrics": (ACCURACY,)},
            Facts(metrics={("accuracy", "train"): 0.95}),
            ["metrics.test.accuracy"],
        ),
        (
            {"metrics": (ACCURACY,)},
            Facts(metrics={("accuracy", "test"): math.nan}),
            ["metrics.test.accuracy"],
        ),
        (
            {"metrics": (ACCURACY,)},
            Facts(metrics={("accuracy", "test"): math.inf}),
            ["metrics.test.accuracy"],
        ),
        (
            {"metrics": (MetricRule(name="loss", split="test"),)},
            Facts(metrics={("loss", "test"): math.nan}),
            ["metrics.test.loss"],
        ),
        ({"licences": ("MIT", "Apache-2.0")}, Facts(licence="apache-2.0"), []),
        ({"licences": ("MIT",)}, Facts(licence="GPL-3.0-only"), ["licences"]),
        ({"licences": ("MIT",)}, Facts(), ["licences"]),
        ({"movers": ("usr_a", "tea_b")}, Facts(), ["movers"]),
    ],
)
def test_a_rule_holds_or_says_what_it_lacks(
    rules: dict[str, Any], facts: Facts, expected: list[str]
) -> None:
    found = [one.rule for one in failures(guard_of(**rules), facts, frozenset(("usr_x",)))]

    assert found == expected


@pytest.mark.parametrize("mover", ["usr_a", "tea_b"])
def test_movers_are_users_and_teams(mover: str) -> None:
    guard = guard_of(movers=("usr_a", "tea_b"))

    assert not list(failures(guard, Facts(), frozenset((mover, "usr_other"))))


def test_taking_an_alias_away_asks_who_alone() -> None:
    guard = guard_of(approvals=2, movers=("usr_a",))

    assert [one.rule for one in failures(guard, None, frozenset(("usr_x",)))] == ["movers"]
    assert not list(failures(guard, None, frozenset(("usr_a",))))


@pytest.mark.parametrize(
    ("patterns", "name", "covered"),
    [
        (("champion",), "Champion", True),
        (("champion",), "challenger", False),
        (("prod-*",), "PROD-eu", True),
        (("*",), "anything", True),
        (("*",), "latest", False),
        (("*",), "main", False),
        (("latest",), "Latest", True),
    ],
)
def test_a_star_covers_all_but_what_publishing_moves(
    patterns: tuple[str, ...], name: str, covered: bool
) -> None:
    guard = msgspec.structs.replace(guard_of(approvals=1), aliases=patterns)

    assert guard.covers_alias(name) is covered


# Doors.


async def test_a_refusal_lists_every_rule_and_changes_nothing(office: Office) -> None:
    await office.guard(
        aliases=["champion"],
        rules={
            "approvals": 1,
            "scores": {"overall": 0.5},
            "metrics": [{"name": "accuracy", "at_least": 0.9}],
            "licences": ["MIT"],
            "movers": [office.otto.id],
        },
    )
    await office.guard(model="nlp/bert", aliases=["*"], rules={"scores": {"licence": 0.1}})
    await office.version("1.0.0")
    before = await entries(office)

    answer = await office.move("champion", "1.0.0")

    assert failed(answer) == [
        ("movers", "one of those that the guard names", "somebody else"),
        ("approvals", "at least 1", "0"),
        ("scores.overall", "at least 0.5", "not rated"),
        ("metrics.test.accuracy", "at least 0.9", "not recorded"),
        ("licences", "one of MIT", "none rated"),
        ("scores.licence", "at least 0.1", "not rated"),
    ]
    assert await office.pointed_at("champion") is None
    assert await entries(office) == before


async def test_what_holds_moves(office: Office) -> None:
    await office.guard(
        aliases=["champion"],
        rules={"approvals": 1, "metrics": [{"name": "accuracy", "at_least": 0.9}]},
    )
    await office.version("1.0.0")
    await office.approve("1.0.0", office.otto)
    for value in (0.5, 0.95):
        recorded = await office.ask(
            office.anna,
            "POST",
            f"models/{MODEL}/versions/1.0.0/metrics",
            {"metrics": [{"name": "accuracy", "split": "test", "value": value}]},
        )
        assert recorded.status == 201, recorded.body

    assert (await office.move("champion", "1.0.0")).status in (200, 201)
    assert await office.pointed_at("champion") == 1


async def test_a_rejection_is_not_outvoted(office: Office) -> None:
    await office.guard(aliases=["champion"], rules={"approvals": 1})
    await office.version("1.0.0")
    await office.approve("1.0.0", office.otto)
    await office.approve("1.0.0", office.lead, "reject")

    answer = await office.move("champion", "1.0.0")

    assert failed(answer) == [("approvals", "nobody who rejects", "1")]


async def test_a_guard_of_one_model_is_not_another_ones(office: Office) -> None:
    made = await office.ask(office.lead, "POST", "models", {"name": "nlp/other"})
    await office.guard(model=made.json["id"], aliases=["*"], rules={"approvals": 1})
    await office.version("1.0.0")

    assert (await office.move("champion", "1.0.0")).status in (200, 201)


async def test_a_status_is_guarded_through_every_door(office: Office) -> None:
    await office.guard(statuses=["production"], rules={"approvals": 1})
    await office.version("1.0.0")

    by_hand = await office.status("1.0.0", "production")
    at_once = await office.version("2.0.0", status="production")

    assert failed(by_hand) == failed(at_once) == [("approvals", "at least 1", "0")]
    assert (await office.status("1.0.0", "validated")).status == 200
    versions = await office.ask(office.anna, "GET", f"models/{MODEL}/versions")
    assert [one["label"] for one in versions.json["items"]] == ["1.0.0"]  # all or nothing


async def test_rolling_back_is_a_move(office: Office) -> None:
    for label in ("1.0.0", "2.0.0"):
        await office.version(label)
        assert (await office.move("champion", label)).status in (200, 201)
    await office.guard(aliases=["champion"], rules={"approvals": 1})

    answer = await office.ask(office.anna, "POST", f"models/{MODEL}/aliases/champion/rollback", {})

    assert failed(answer) == [("approvals", "at least 1", "0")]
    assert await office.pointed_at("champion") == 2


async def test_who_may_not_move_an_alias_may_not_take_it_away(office: Office) -> None:
    await office.version("1.0.0")
    await office.move("champion", "1.0.0")
    await office.guard(aliases=["champion"], rules={"movers": [office.otto.id], "approvals": 5})

    theirs = await office.ask(office.anna, "DELETE", f"models/{MODEL}/aliases/champion")
    allowed = await office.ask(office.otto, "DELETE", f"models/{MODEL}/aliases/champion")

    assert failed(theirs) == [("movers", "one of those that the guard names", "somebody else")]
    assert allowed.status == 204


async def test_a_mover_by_team_is_one_while_the_team_lives(office: Office) -> None:
    root = await make_person(office.store, "root", is_admin=True)
    team = (await office.ask(root, "POST", "teams", {"name": "releases"})).json["id"]
    await join(office.store, office.anna, team, "reader")
    await office.guard(aliases=["champion"], rules={"movers": [team]})
    await office.version("1.0.0")

    assert (await office.move("champion", "1.0.0", office.otto)).status == 403
    assert (await office.move("champion", "1.0.0", office.anna)).status in (200, 201)

    await office.version("2.0.0")
    assert (await office.ask(root, "DELETE", f"teams/{team}")).status == 204
    assert (await office.move("champion", "2.0.0", office.anna)).status == 403


async def test_publishing_passes_over_what_may_not_be_latest(office: Office) -> None:
    await office.version("1.0.0")
    await office.guard(aliases=["latest"], rules={"approvals": 1})

    published = await office.version("2.0.0")

    assert published.status == 201
    assert (await office.pointed_at("latest"), await office.pointed_at("main")) == (1, 2)
    # Deleting what it points at lets it go, because it points at nothing deleted.
    await office.ask(office.anna, "DELETE", f"models/{MODEL}/versions/1.0.0")
    assert await office.pointed_at("latest") is None


async def test_restoring_is_coming_back_to_a_status(office: Office) -> None:
    await office.version("1.0.0")
    await office.status("1.0.0", "production")
    await office.ask(office.anna, "DELETE", f"models/{MODEL}/versions/1.0.0")
    await office.guard(statuses=["production"], rules={"approvals": 1})

    restored = await office.ask(office.anna, "POST", f"models/{MODEL}/versions/1.0.0/restore")
    again = await office.version("1.0.0")

    assert failed(restored) == failed(again) == [("approvals", "at least 1", "0")]


async def test_a_model_is_not_renamed_past_the_guards_of_a_namespace(office: Office) -> None:
    made = await office.ask(office.anna, "POST", "models", {"name": "anna/bert"})
    assert made.status == 201
    await office.ask(office.anna, "POST", "models/anna~bert/versions", external("1.0.0"))
    await office.ask(office.anna, "PUT", "models/anna~bert/aliases/champion", {"version": "1.0.0"})
    await office.guard(aliases=["champion"], statuses=["production"], rules={"approvals": 1})

    renamed = await office.ask(office.anna, "POST", "models/anna~bert/rename", {"name": "nlp/anna"})

    assert failed(renamed) == [("approvals", "at least 1", "0")]
    assert (await office.ask(office.anna, "GET", "models/anna~bert")).status == 200
    await office.ask(office.anna, "DELETE", "models/anna~bert/aliases/champion")
    again = await office.ask(office.anna, "POST", "models/anna~bert/rename", {"name": "nlp/anna"})
    assert again.status == 200


async def test_a_restored_model_is_held_against_guards_made_meanwhile(office: Office) -> None:
    await office.version("1.0.0")
    await office.move("champion", "1.0.0")
    id = (await office.ask(office.lead, "GET", f"models/{MODEL}")).json["id"]
    assert (await office.ask(office.lead, "DELETE", f"models/{MODEL}")).status == 204
    await office.guard(aliases=["champion"], rules={"approvals": 1})

    answer = await office.ask(office.anna, "POST", f"models/{id}/restore")

    assert failed(answer) == [("approvals", "at least 1", "0")]


async def test_an_override_needs_an_administrator_and_leaves_its_reason(office: Office) -> None:
    await office.guard(aliases=["champion"], rules={"approvals": 1})
    await office.version("1.0.0")

    theirs = await office.move("champion", "1.0.0", Digestry_Override="it is Friday")
    ours = await office.move("champion", "1.0.0", office.lead, Digestry_Override="an outage")

    assert failed(theirs) == [("approvals", "at least 1", "0")]
    assert "overriding takes namespace.admin" in theirs.json["detail"]
    assert ours.status in (200, 201)
    found = await office.ask(office.lead, "GET", "audit?kind=guard&action=override")
    entry = found.json["items"][0]
    assert entry["reason"] == "an outage"
    assert entry["actor"] == office.lead.id
    assert [one["rule"] for one in entry["after"]["failed"]] == ["approvals"]


async def test_an_override_without_need_leaves_no_trace(office: Office) -> None:
    await office.version("1.0.0")
    before = await office.rows("SELECT count(*) FROM audit WHERE kind = 'guard'")

    await office.move("champion", "1.0.0", office.lead, Digestry_Override="just in case")

    assert await office.rows("SELECT count(*) FROM audit WHERE kind = 'guard'") == before


async def test_publishing_asks_a_guard_of_both_aliases_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[list[str]]()

    async def facts(tx: Any, guards: list[Guard], version: Any) -> Facts:
        asked.append([guard.id for guard in guards])
        return Facts()

    monkeypatch.setattr(guarding, "_facts", facts)
    both = await office.guard(aliases=["latest", "main"], rules={"approvals": 1})
    main = await office.guard(aliases=["main"], rules={"approvals": 2})

    held = await office.version("1.0.0", office.lead)
    await office.version("2.0.0", office.lead, override="an outage")

    assert held.status == 201
    assert asked == 2 * [[both], [main]], "two were published"
    found = await office.ask(office.lead, "GET", "audit?kind=guard&action=override")
    told = [
        (entry["name"], [one["guard"] for one in entry["after"]["failed"]])
        for entry in found.json["items"]
    ]
    assert told == [("@main of nlp/bert", [main]), ("@latest, @main of nlp/bert", [both])]
    assert await office.pointed_at("main") == await office.pointed_at("latest") == 2


async def test_a_refusal_names_each_rule_once(office: Office) -> None:
    """However many aliases and versions lack the same."""
    await office.guard(
        aliases=["champion", "shadow"], statuses=["validated"], rules={"approvals": 1}
    )
    for label in ("1.0.0", "2.0.0"):
        wish = {**external(label), "status": "validated"}
        await office.ask(office.anna, "POST", "models/anna~bert/versions", wish)
    for alias in ("champion", "shadow"):
        await office.ask(
            office.anna, "PUT", f"models/anna~bert/aliases/{alias}", {"version": "1.0.0"}
        )

    moved = await office.ask(office.anna, "POST", "models/anna~bert/rename", {"name": "nlp/anna"})

    assert failed(moved) == [("approvals", "at least 1", "0")]


async def test_what_a_version_lacks_is_told_before_anybody_tries(office: Office) -> None:
    id = await office.guard(aliases=["champion"], statuses=["production"], rules={"approvals": 1})
    await office.version("1.0.0")
    path = f"models/{MODEL}/versions/1.0.0/guards"

    alias = (await office.ask(office.anna, "GET", f"{path}?alias=champion")).json
    status = (await office.ask(office.anna, "GET", f"{path}?status=production")).json
    free = (await office.ask(office.anna, "GET", f"{path}?alias=other")).json

    assert alias == status
    assert (alias["holds"], alias["guards"], alias["failed"][0]["rule"]) == (
        False,
        [id],
        "approvals",
    )
    assert free == {"holds": True, "guards": [], "failed": []}


# The resource.


async def test_a_guard_is_made_changed_and_removed(office: Office) -> None:
    id = await office.guard(
        aliases=["Champion"], rules={"approvals": 2}, description="two pairs of eyes"
    )
    found = await office.ask(office.anna, "GET", f"guards/{id}")
    assert (found.json["covers"], found.json["aliases"]) == ("nlp", ["champion"])
    assert found.json["rules"]["approvals"] == 2
    tag = found.headers["ETag"]

    stale = await office.ask(
        office.lead, "PATCH", f"guards/{id}", {"active": False}, If_Match='"x.1"'
    )
    changed = await office.ask(
        office.lead, "PATCH", f"guards/{id}", {"active": False}, If_Match=tag
    )

    assert (stale.status, changed.status) == (412, 200)
    await office.version("1.0.0")
    assert (await office.move("champion", "1.0.0")).status in (200, 201)
    assert (await office.ask(office.lead, "DELETE", f"guards/{id}")).status == 204
    assert (await office.ask(office.lead, "GET", f"guards/{id}")).status == 404
    actions = await office.rows("SELECT action FROM audit WHERE kind = 'guard' ORDER BY id")
    assert [row[0] for row in actions] == ["create", "update", "delete"]


@pytest.mark.parametrize(
    "said",
    [
        {"aliases": ["champion"], "rules": {}},
        {"rules": {"approvals": 1}},
        {"aliases": ["a"], "rules": {"scores": {"beauty": 0.5}}},
        {"aliases": ["a"], "rules": {"scores": {"licence": 1.5}}},
        {"aliases": ["a"], "rules": {"movers": ["anna"]}},
        {"aliases": ["a"], "rules": {"metrics": [{"name": "f1", "split": "holdout"}]}},
        {"statuses": ["live"], "rules": {"approvals": 1}},
        {"model": "nlp/bert", "aliases": ["a"], "rules": {"approvals": 1}},
    ],
)
async def test_what_guards_nothing_or_asks_for_nothing_is_refused(
    office: Office, said: dict[str, Any]
) -> None:
    answer = await office.ask(office.lead, "POST", "guards", {"namespace": "nlp", **said})

    assert answer.status == 400, answer.body


async def test_movers_may_be_named_and_are_kept_by_their_ids(office: Office) -> None:
    root = await make_person(office.store, "root", is_admin=True)
    team = (await office.ask(root, "POST", "teams", {"name": "release"})).json["id"]
    said = {"namespace": "nlp", "aliases": ["champion"]}
    named = {**said, "rules": {"movers": ["user:Otto", "team:release", office.otto.id]}}

    made = await office.ask(office.lead, "POST", "guards", named)

    assert made.json["rules"]["movers"] == [office.otto.id, team]
    path = f"guards/{made.json['id']}"
    changed = await office.ask(office.lead, "PATCH", path, {"rules": {"movers": ["user:anna"]}})
    assert changed.json["rules"]["movers"] == [office.anna.id]
    for one, code in (("user:nobody", "user_not_found"), ("team:nobody", "team_not_found")):
        wrong = await office.ask(
            office.lead, "POST", "guards", {**said, "rules": {"movers": [one]}}
        )
        assert (wrong.status, wrong.code) == (404, code)


async def test_only_who_administers_guards(office: Office) -> None:
    said = {"namespace": "nlp", "aliases": ["a"], "rules": {"approvals": 1}}
    id = await office.guard(aliases=["a"], rules={"approvals": 1})
    outsider = await make_person(office.store, "outsider")

    assert (await office.ask(office.anna, "POST", "guards", said)).status == 403
    assert (await office.ask(office.anna, "DELETE", f"guards/{id}")).status == 403
    assert (await office.ask(outsider, "GET", f"guards/{id}")).status == 404
    assert (await office.ask(outsider, "GET", "guards")).json["items"] == []
    listed = await office.ask(office.anna, "GET", "guards?namespace=nlp")
    assert [one["id"] for one in listed.json["items"]] == [id]


async def test_guards_go_with_what_they_guard(office: Office) -> None:
    model = (await office.ask(office.lead, "GET", f"models/{MODEL}")).json["id"]
    await office.guard(model=model, aliases=["a"], rules={"approvals": 1})
    await office.guard(aliases=["a"], rules={"approvals": 1})

    await office.ask(office.lead, "DELETE", f"models/{MODEL}")
    purged = await office.ask(office.lead, "POST", f"models/{model}/purge")
    assert purged.status == 204, purged.body
    assert await office.count("guards") == 1
    removed = await office.ask(office.lead, "DELETE", "namespaces/nlp")

    assert removed.status == 204, removed.body
    assert await office.count("guards") == 0


async def test_the_open_mode_is_guarded_too() -> None:
    """Its one user approves nothing of their own, and may override."""
    async with opened(None) as store, serving(store, Config()) as site:
        registry = Registry(site)
        await registry.send("POST", "/api/v1/models", json={"name": "bert"})
        await registry.send(
            "POST",
            "/api/v1/guards",
            json={"model": "bert", "aliases": ["champion"], "rules": {"approvals": 1}},
        )
        await registry.send("POST", "/api/v1/models/bert/versions", json=external("1.0"))
        refused = await registry.send(
            "PUT", "/api/v1/models/bert/aliases/champion", json={"version": "1.0"}
        )
        moved = await registry.send(
            "PUT",
            "/api/v1/models/bert/aliases/champion",
            json={"version": "1.0"},
            headers={"Digestry-Override": "nobody else is here"},
        )

    assert refused.status == 403
    assert moved.status in (200, 201)
