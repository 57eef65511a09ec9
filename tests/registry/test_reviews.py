"""Reviews of versions: over HTTP in open mode, and the rules of authorship at the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from registry.catalog import reviews as rows
from registry.catalog.reviews import count_verdicts, insert_review
from registry.domain.expectations import Expected
from registry.domain.principals import HOUSEKEEPING, LOCAL, RECOVERED, Principal, Visibility
from registry.domain.references import ByNumber, parse_model
from registry.domain.reviews import Review, does_count
from registry.domain.scoring.evidence import Reviews
from registry.errors import Denied, NotFound, PreconditionFailed
from registry.services.reviews import (
    ReviewPatch,
    ReviewWish,
    change_review,
    create_review,
    delete_review,
    get_review,
    list_reviews,
)
from registry.services.scoring import Raters, rate_version
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

VERSION = "/api/v1/models/bert/versions/1.0.0"
REVIEWS = f"{VERSION}/reviews"
BERT, FIRST = parse_model("bert"), ByNumber(1)


class Person(Principal, frozen=True):
    """A principal who sees everything, as somebody with a role on the registry would."""

    @property
    def visibility(self) -> Visibility:
        return Visibility(everything=True)


ANN, BOB, EVE = (Person(f"usr_{name}", name) for name in ("ann", "bob", "eve"))


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        await running.publish("bert", "1.0.0", {"f": b"1"})
        yield running
        await running.check()


async def by(registry: Registry, author: Principal) -> None:
    """Say that `author` made the version."""
    sql = Statement(text("UPDATE versions SET created_by = :author"))

    async def unit(tx: Tx) -> None:
        await tx.run(sql, author=author.id)

    await registry.store.index.run(unit)


async def review(registry: Registry, who: Principal, verdict: Any, comment: str = "") -> Review:
    return await create_review(registry.store, who, BERT, FIRST, ReviewWish(verdict, comment))


async def reviewedness(registry: Registry) -> float | None:
    rated = await rate_version(registry.store, ANN, Raters(), BERT, FIRST, ["reviewedness"])
    return rated.scores[0].value


async def write(registry: Registry, path: str = REVIEWS, **said: Any) -> Answer:
    return await registry.send("POST", path, json={"verdict": "approve", **said})


# Open mode, over HTTP


async def test_a_review_is_written_and_read_back(registry: Registry) -> None:
    answer = await write(registry, verdict="reject", comment="too slow")
    path = answer.headers["Location"]
    found = await registry.get(path)

    assert answer.status == 201
    assert answer.json["verdict"] == "reject"
    assert answer.json["comment"] == "too slow"
    assert answer.json["reviewer"] == "usr_local"
    assert path == f"{REVIEWS}/{answer.json['id']}"
    assert found.json == answer.json
    assert found.headers["ETag"] == answer.headers["ETag"]


async def test_in_open_mode_reviews_are_kept_and_count_nothing(registry: Registry) -> None:
    for _ in range(3):
        answer = await write(registry)
        assert answer.json["counts"] is False
        assert "open mode" in answer.json["reason"]
    rated = await registry.send("POST", f"{VERSION}/rate", json={"metrics": ["reviewedness"]})
    [score] = rated.json["scores"]

    assert len((await registry.get(REVIEWS)).json["items"]) == 3
    assert score["value"] is None
    assert "open mode" in score["reason"]
    assert score["evidence"] == {"approvals": 0, "rejections": 0, "reviews": 3, "uncounted": 3}


async def test_a_review_is_changed(registry: Registry) -> None:
    path = (await write(registry)).headers["Location"]
    before = await registry.get(path)
    answer = await registry.send(
        "PATCH",
        path,
        json={"verdict": "comment", "comment": "hm"},
        headers={"If-Match": before.headers["ETag"]},
    )
    emptied = await registry.send("PATCH", path, json={"comment": None})

    assert (answer.json["verdict"], answer.json["comment"]) == ("comment", "hm")
    assert answer.headers["ETag"] != before.headers["ETag"]
    assert (emptied.json["verdict"], emptied.json["comment"]) == ("comment", "")
    assert answer.json["created_at"] == before.json["created_at"]
    assert answer.json["updated_at"] > before.json["updated_at"]


async def test_what_changes_nothing_leaves_no_trace(registry: Registry) -> None:
    path = (await write(registry)).headers["Location"]
    before = await registry.get(path)
    after = await registry.send("PATCH", path, json={"verdict": "approve", "comment": ""})

    assert after.headers["ETag"] == before.headers["ETag"]
    assert await audited(registry) == ["create"]


async def audited(registry: Registry) -> list[str]:
    found = await registry.rows("SELECT action FROM audit WHERE kind = 'review' ORDER BY id")
    return [row[0] for row in found]


async def test_every_change_is_audited(registry: Registry) -> None:
    path = (await write(registry, comment="fine")).headers["Location"]
    await registry.send("PATCH", path, json={"verdict": "reject"})
    deleted = await registry.send("DELETE", path)
    [(before, after)] = await registry.rows(
        "SELECT before, after FROM audit WHERE kind = 'review' AND action = 'delete'"
    )

    assert deleted.status == 204
    assert (await registry.get(path)).code == "review_not_found"
    assert await audited(registry) == ["create", "update", "delete"]
    assert '"comment":"fine"' in before
    assert after is None


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_an_old_entity_tag_changes_nothing(registry: Registry, method: str) -> None:
    created = await write(registry)
    path = created.headers["Location"]
    await registry.send("PATCH", path, json={"comment": "newer"})
    answer = await registry.send(
        method,
        path,
        json={"comment": "x"} if method == "PATCH" else None,
        headers={"If-Match": created.headers["ETag"]},
    )

    assert (answer.status, answer.code) == (412, "precondition_failed")
    assert (await registry.get(path)).json["comment"] == "newer"


async def test_an_unchanged_review_is_not_sent_again(registry: Registry) -> None:
    created = await write(registry)
    answer = await registry.get(created.headers["Location"], If_None_Match=created.headers["ETag"])

    assert (answer.status, answer.body) == (304, b"")


async def test_a_repeated_key_reviews_once(registry: Registry) -> None:
    sent = [
        await registry.send(
            "POST", REVIEWS, json={"verdict": "approve"}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert await registry.count("reviews") == 1


async def test_reviews_are_listed_page_by_page_the_latest_first(registry: Registry) -> None:
    made = [
        (await write(registry, verdict=verdict)).json["id"]
        for verdict in ("approve", "reject", "comment", "approve", "approve")
    ]
    first = await registry.get(f"{REVIEWS}?limit=3")
    rest = await registry.get(f"{REVIEWS}?limit=3&after={first.json['next']}")
    approvals = await registry.get(f"{REVIEWS}?verdict=approve")
    foreign = await registry.get(f"{REVIEWS}?verdict=approve&after={first.json['next']}")

    assert [one["id"] for one in first.json["items"]] == made[:1:-1]
    assert [one["id"] for one in rest.json["items"]] == made[1::-1]
    assert rest.json["next"] is None
    assert [one["id"] for one in approvals.json["items"]] == [made[4], made[3], made[0]]
    assert foreign.code == "invalid_cursor"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": None}, "verdict"),
        ({"verdict": "approve", "comment": "x" * 16_385}, "comment"),
        ({"verdict": "approve", "comment": 1}, "comment"),
        ({"verdict": "approve", "reviewer": "usr_ann"}, "reviewer"),
        ({"verdict": "approve", "counts": True}, "counts"),
    ],
)
async def test_what_is_no_review_is_refused(registry: Registry, body: Any, field: str) -> None:
    answer = await registry.send("POST", REVIEWS, json=body)

    assert (answer.status, [one["field"] for one in answer.json["errors"]]) == (400, [field])
    assert await registry.count("reviews") == 0


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("bert/versions/9", 404, "version_not_found"),
        ("gpt/versions/1", 404, "model_not_found"),
        ("bert/versions/draft", 409, "version_is_draft"),
    ],
)
async def test_what_is_no_version_has_no_reviews(
    registry: Registry, path: str, status: int, code: str
) -> None:
    await registry.put("/models/bert/draft/f", b"1")
    for method in ("GET", "POST"):
        body = {"verdict": "approve"} if method == "POST" else None
        answer = await registry.send(method, f"/api/v1/models/{path}/reviews", json=body)
        assert (answer.status, answer.code) == (status, code)


async def test_a_review_is_found_at_its_own_version_alone(registry: Registry) -> None:
    await registry.publish("bert", "2.0.0", {"f": b"2"})
    id = (await write(registry)).json["id"]
    other = f"/api/v1/models/bert/versions/2.0.0/reviews/{id}"

    for method in ("GET", "PATCH", "DELETE"):
        body = {"comment": "x"} if method == "PATCH" else None
        assert (await registry.send(method, other, json=body)).code == "review_not_found"
    assert (await registry.get("/api/v1/models/bert/versions/2.0.0/reviews")).json["items"] == []


# Authorship, at the service


@pytest.mark.parametrize("verdict", ["approve", "reject", "comment"])
async def test_whoever_made_a_version_does_not_review_it(registry: Registry, verdict: Any) -> None:
    await by(registry, ANN)

    with pytest.raises(Denied) as refused:
        await review(registry, ANN, verdict)
    assert refused.value.code == "review_of_own_version"
    assert await registry.count("reviews") == 0


async def test_a_review_by_another_counts(registry: Registry) -> None:
    await by(registry, ANN)
    found = await review(registry, BOB, "approve")

    assert found.counts
    assert await reviewedness(registry) == 0.5


async def test_a_version_made_in_open_mode_has_no_reviews_that_count(registry: Registry) -> None:
    """Its author may be anybody, the reviewer too."""
    assert not (await review(registry, BOB, "approve")).counts
    assert await reviewedness(registry) is None


@pytest.mark.parametrize("nobody", [LOCAL, RECOVERED, HOUSEKEEPING])
def test_principals_that_are_nobody_count_nothing_on_either_side(nobody: Principal) -> None:
    assert not does_count(nobody.id, ANN.id)
    assert not does_count(ANN.id, nobody.id)
    assert not does_count(nobody.id, nobody.id)
    assert does_count(ANN.id, BOB.id)


async def test_of_one_reviewer_the_newest_verdict_counts(registry: Registry) -> None:
    await by(registry, ANN)
    await review(registry, BOB, "reject")
    rejected = await reviewedness(registry)
    await review(registry, BOB, "approve")
    approved = await reviewedness(registry)
    await review(registry, BOB, "approve")

    assert (rejected, approved, await reviewedness(registry)) == (0.0, 0.5, 0.5)


async def test_a_comment_is_no_verdict_and_takes_none_back(registry: Registry) -> None:
    await by(registry, ANN)
    await review(registry, BOB, "comment", "looking at it")
    before = await reviewedness(registry)
    await review(registry, BOB, "approve")
    await review(registry, BOB, "comment", "by the way")

    assert before is None
    assert await reviewedness(registry) == 0.5


async def test_several_reviewers_are_counted_apart(registry: Registry) -> None:
    await by(registry, ANN)
    await review(registry, BOB, "approve")
    await review(registry, EVE, "approve")
    both = await reviewedness(registry)
    await review(registry, EVE, "reject")
    await review(registry, LOCAL, "reject")

    assert (both, await reviewedness(registry)) == (1.0, 0.25)


async def test_a_verdict_that_is_changed_or_taken_back_counts_so(registry: Registry) -> None:
    await by(registry, ANN)
    made = await review(registry, BOB, "approve")
    place = (registry.store, BOB, BERT, FIRST, made.id)
    await change_review(*place, ReviewPatch(verdict="reject"))
    changed = await reviewedness(registry)
    await delete_review(*place)

    assert (changed, await reviewedness(registry)) == (0.0, None)


async def test_a_review_is_changed_and_taken_back_by_its_reviewer_alone(
    registry: Registry,
) -> None:
    await by(registry, ANN)
    made = await review(registry, BOB, "reject")

    for other in (EVE, ANN):
        place = (registry.store, other, BERT, FIRST, made.id)
        with pytest.raises(Denied) as refused:
            await change_review(*place, ReviewPatch(verdict="approve"))
        assert refused.value.code == "review_of_another"
        with pytest.raises(Denied) as refused:
            await delete_review(*place)
        assert refused.value.code == "review_of_another"
        assert await get_review(*place) == made


async def test_whether_a_review_is_ones_own_is_said_before_whether_it_changed(
    registry: Registry,
) -> None:
    await by(registry, ANN)
    made = await review(registry, BOB, "reject")
    old = Expected(frozenset({(made.id, 9)}))

    with pytest.raises(Denied):
        await delete_review(registry.store, EVE, BERT, FIRST, made.id, old)
    with pytest.raises(PreconditionFailed):
        await delete_review(registry.store, BOB, BERT, FIRST, made.id, old)


async def test_strangers_find_no_reviews(registry: Registry) -> None:
    made = await review(registry, LOCAL, "approve")
    stranger = Principal("usr_stranger", "stranger")

    with pytest.raises(NotFound):
        await list_reviews(registry.store, stranger, BERT, FIRST, verdict=None, after=None, limit=1)
    with pytest.raises(NotFound):
        await get_review(registry.store, stranger, BERT, FIRST, made.id)
    with pytest.raises(NotFound):
        await review(registry, stranger, "approve")


async def test_a_refusal_has_its_status_and_code(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The author is `local` over HTTP, who is nobody; here nobody is somebody."""
    monkeypatch.setattr("registry.domain.reviews.NOBODY", frozenset())
    answer = await write(registry)

    assert (answer.status, answer.code) == (403, "review_of_own_version")


# Rows


async def test_verdicts_are_counted_along_the_index(registry: Registry) -> None:
    for statement in (rows._VERDICTS, rows._TOTALS, rows._page(has_verdict=True, has_place=True)):
        plan = " / ".join(await plan_of(registry.store.index, statement))
        assert "reviews_by_version" in plan
    page = rows._page(has_verdict=False, has_place=True)
    assert "TEMP B-TREE" not in " / ".join(await plan_of(registry.store.index, page))


async def test_of_reviews_made_at_the_same_time_one_counts(registry: Registry) -> None:
    [(version,)] = await registry.rows("SELECT id FROM versions")
    same = {
        "version_id": version,
        "reviewer": BOB.id,
        "comment": "",
        "counts": True,
        "created_at": 5,
        "created_by": BOB.id,
        "updated_at": 5,
    }

    async def unit(tx: Tx) -> Reviews:
        await insert_review(tx, Review(id="rev_a", verdict="reject", **same))
        await insert_review(tx, Review(id="rev_b", verdict="approve", **same))
        return await count_verdicts(tx, version)

    assert await registry.store.index.run(unit) == Reviews(approvals=1, total=2)


@pytest.mark.parametrize(
    "wrong", [{"verdict": "maybe"}, {"comment": "x" * 16_385}, {"version_id": "ver_none"}]
)
async def test_the_table_refuses_what_no_review_is(
    registry: Registry, wrong: dict[str, Any]
) -> None:
    made = await review(registry, LOCAL, "approve")

    with pytest.raises(IndexConflict):
        await registry.store.index.run(
            lambda tx: insert_review(tx, msgspec.structs.replace(made, id="rev_x", **wrong))
        )
