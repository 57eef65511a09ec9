"""What differs between two versions: files, and what is said of them."""

from __future__ import annotations

from typing import Any

from registry.catalog import diffs
from store.digest import Digest
from tests.support.builders import Answer, Registry
from tests.support.plans import plan_of


async def version(registry: Registry, model: str, label: str, files: Any, **said: Any) -> None:
    for content in set(files.values()):
        await registry.put("/blobs/", content)
    body = {
        "label": label,
        "files": [{"path": p, "digest": str(Digest.of(c))} for p, c in files.items()],
        **said,
    }
    made = await registry.send("POST", f"/api/v1/models/{model}/versions", json=body)
    assert made.status == 201, made.body


async def diff(registry: Registry, old: str, new: str, query: str = "") -> Answer:
    return await registry.get(f"/api/v1/models/bert/versions/{old}/diff/{new}{query}")


async def test_files_are_added_removed_and_changed(registry: Registry) -> None:
    await version(registry, "bert", "v1", {"a": b"1", "b": b"2", "d/e": b"3", "same": b"4"})
    await version(registry, "bert", "v2", {"a": b"9", "c": b"2", "d/e": b"33", "same": b"4"})

    answer = await diff(registry, "v1", "@latest", "?total=true")

    assert answer.status == 200, answer.body
    assert [(one["path"], one["change"]) for one in answer.json["files"]] == [
        ("a", "changed"),
        ("b", "removed"),
        ("c", "added"),
        ("d/e", "changed"),
    ]
    assert answer.json["files"][3]["before"] == {"digest": str(Digest.of(b"3")), "size": 1}
    assert answer.json["files"][3]["after"] == {"digest": str(Digest.of(b"33")), "size": 2}
    assert answer.json["total"] == {"added": 1, "removed": 1, "changed": 2}
    assert (answer.json["from"]["label"], answer.json["to"]["label"]) == ("v1", "v2")
    assert not answer.json["same_files"]


async def test_a_long_difference_comes_in_pages(registry: Registry) -> None:
    old = {f"f{n:03d}": b"%d" % (n % 3) for n in range(40)}
    new = {f"f{n:03d}": b"%d" % (n % 4) for n in range(20, 60)}
    await version(registry, "bert", "v1", old)
    await version(registry, "bert", "v2", new)
    expected = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))

    for limit in (1, 7, 1000):
        found, after = [], ""
        while True:
            answer = await diff(registry, "v1", "v2", f"?limit={limit}{after}")
            found += [one["path"] for one in answer.json["files"]]
            if answer.json["next"] is None:
                break
            assert answer.json["next"] in answer.headers["Link"]
            after = f"&after={answer.json['next']}"
        assert found == expected


async def test_what_is_said_differently_is_told_field_by_field(registry: Registry) -> None:
    files = {"f": b"1"}
    await version(
        registry,
        "bert",
        "v1",
        files,
        eval_score=0.5,
        parameters={"lr": 1, "deep": {"a": 1, "b": [1]}},
        tags={"gold": ""},
    )
    await version(
        registry,
        "bert",
        "v2",
        files,
        eval_score=0.6,
        parameters={"lr": 1.0, "deep": {"a": 1, "b": [2]}, "new": None},
        status="validated",
    )

    answer = await diff(registry, "v1", "v2")

    assert answer.json["same_files"]
    assert answer.json["files"] == []
    assert {one["field"]: (one["before"], one["after"]) for one in answer.json["facts"]} == {
        "status": ("registered", "validated"),
        "tags.gold": ("", None),
        "eval_score": (0.5, 0.6),
        "parameters.deep.b": ([1], [2]),
        "parameters.lr": (1, 1.0),
    }


async def test_a_version_does_not_differ_from_itself(registry: Registry) -> None:
    await version(registry, "bert", "v1", {"f": b"1"}, metadata={"a": 1})

    answer = await diff(registry, "v1", "1", "?total=true")

    assert answer.json["same_files"]
    assert (answer.json["files"], answer.json["facts"]) == ([], [])
    assert answer.json["total"] == {"added": 0, "removed": 0, "changed": 0}


async def test_the_other_version_may_be_of_another_model(registry: Registry) -> None:
    await version(registry, "bert", "v1", {"f": b"1"})
    await version(registry, "nlp~gpt", "v1", {"g": b"1"})

    answer = await diff(registry, "v1", "v1", "?model=nlp/gpt")

    assert [(one["path"], one["change"]) for one in answer.json["files"]] == [
        ("f", "removed"),
        ("g", "added"),
    ]
    assert answer.json["to"]["model"] == "nlp/gpt"


async def test_only_versions_are_compared(registry: Registry) -> None:
    await version(registry, "bert", "v1", {"f": b"1"})
    await registry.put("/models/bert/draft1/f", b"2")

    draft = await diff(registry, "v1", "draft1")
    missing = await diff(registry, "v1", "v9")
    model = await diff(registry, "v1", "v1", "?model=other")
    pages = await diff(registry, "v1", "v1", "?after=nonsense")

    assert (draft.status, draft.code) == (409, "diff_of_draft")
    assert (missing.status, missing.code) == (404, "version_not_found")
    assert (model.status, model.code) == (404, "model_not_found")
    assert (pages.status, pages.code) == (400, "invalid_cursor")


async def test_a_page_reads_both_trees_in_their_own_order(registry: Registry) -> None:
    for statement in (diffs._GONE_OR_CHANGED, diffs._ADDED):
        plan = await plan_of(registry.store.index, statement)
        assert all("PRIMARY KEY (tree=? AND path" in step for step in plan), plan
