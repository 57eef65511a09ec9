"""What is no whole exported model makes nothing, and the refusal says what is wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from registry.config import Config, LimitsConfig
from registry.domain.tars import END
from tests.support.builders import Registry, files_in, running_registry, tar_of_members
from tests.support.exporting import Entries, edited, export, import_, packed

LARGE = b"w" * 100_000
V1, V2, V3 = (f"versions/000000000{number}.json" for number in (1, 2, 3))


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A model with two versions, a deleted one and an alias."""
    return asyncio.run(_archive())


async def _archive() -> bytes:
    async with running_registry(None) as source:
        await source.publish("bert", "1.0.0", {"a.bin": LARGE, "b/c": b"{}"})
        await source.publish("bert", "1.1.0", {"a.bin": LARGE})
        await source.publish("bert", "bad", {"x": b"a mistake"})
        assert (await source.send("DELETE", "/models/bert/bad")).status == 204
        await source.send("PUT", "/api/v1/models/bert/aliases/top", json={"version": "1.0.0"})
        return await export(source, "bert")


@pytest.fixture
async def target() -> AsyncIterator[Registry]:
    """An empty registry, which it stays."""
    limits = LimitsConfig(version_files=3, json_bytes=65_536)
    async with running_registry(None, config=Config(limits=limits)) as running:
        yield running
        await running.check()
        tables = ("models", "versions", "revisions", "trees", "tree_files", "refs", "audit")
        assert {table: await running.count(table) for table in tables} == dict.fromkeys(tables, 0)


Change = Callable[[Entries], Entries]


def first(prefix: str, entries: Entries) -> str:
    return next(name for name in entries if name.startswith(prefix))


def without(prefix: str) -> Change:
    def change(entries: Entries) -> Entries:
        del entries[first(prefix, entries)]
        return entries

    return change


def replaced(prefix: str, content: bytes) -> Change:
    def change(entries: Entries) -> Entries:
        entries[first(prefix, entries)] = content
        return entries

    return change


def followed_by(name: str, content: bytes = b"") -> Change:
    return lambda entries: {**entries, name: content}


def preceded_by(name: str, before: str) -> Change:
    def change(entries: Entries) -> Entries:
        at = list(entries).index(first(before, entries))
        items = list(entries.items())
        return dict([*items[:at], (name, b"{}"), *items[at:]])

    return change


def reversed_from(prefix: str) -> Change:
    def change(entries: Entries) -> Entries:
        kept = [item for item in entries.items() if not item[0].startswith(prefix)]
        turned = [item for item in entries.items() if item[0].startswith(prefix)]
        at = list(entries).index(turned[0][0])
        return dict([*kept[:at], *reversed(turned), *kept[at:]])

    return change


def forged_tree(entries: Entries) -> Entries:
    """A tree under its right name that is no canonical text."""
    text = b"digestry-tree-1\n07 " + b"0" * 64 + b" x\n"
    name = first("trees/", entries)
    old = name.removeprefix("trees/")
    new = hashlib.sha256(text).hexdigest()
    return {
        key.replace(old, new): text if key == name else value.replace(old.encode(), new.encode())
        for key, value in entries.items()
    }


ENTRIES: list[tuple[str, Change, int, str, str]] = [
    ("no heading", without("digestry"), 400, "export_unknown", "model.json"),
    ("no model", without("model"), 400, "export_invalid", "where model.json must stand"),
    ("no version", without("versions"), 400, "export_invalid", "has 2 of 3 versions"),
    ("no tree", without("trees"), 400, "export_invalid", "must stand"),
    ("no blob", without("blobs"), 400, "export_invalid", "must stand"),
    ("unknown at the end", followed_by("more.txt"), 400, "export_invalid", "'more.txt'"),
    ("unknown between", preceded_by("trees/x", "blobs"), 400, "export_invalid", "'trees/x'"),
    ("a second model", preceded_by("model2.json", "versions"), 400, "export_invalid", "has 0 of 3"),
    ("versions turned", reversed_from("versions"), 400, "export_invalid", "out of order"),
    ("trees turned", reversed_from("trees"), 400, "export_invalid", "must stand"),
    ("blobs turned", reversed_from("blobs"), 400, "export_invalid", "must stand"),
    ("other bytes", replaced("blobs", b"w" * 99_999 + b"v"), 422, "digest_mismatch", "sha256"),
    ("fewer bytes", replaced("blobs", b"w"), 400, "export_invalid", "has 1 bytes"),
    ("another tree", replaced("trees", b"digestry-tree-1\n"), 422, "digest_mismatch", "sha256"),
    ("a forged tree", forged_tree, 400, "export_invalid", "is not in canonical form"),
    ("no JSON", replaced("model", b"{"), 400, "export_invalid", "not well-formed JSON"),
    ("not UTF-8", replaced("model", b'{"name": "\xff"}'), 400, "export_invalid", "UTF-8"),
    ("NUL", replaced("model", b'{"name": "\\u0000"}'), 400, "export_invalid", "U+0000"),
    ("NaN", replaced("model", b'{"name": NaN}'), 400, "export_invalid", "not well-formed"),
    ("too deep", replaced("model", b"[" * 999 + b"]" * 999), 400, "export_invalid", "levels deep"),
    ("too long", replaced("model", b" " * 65_537), 400, "tar_file_too_large", "65536 bytes"),
    ("empty", lambda _: {}, 400, "export_unknown", "is empty"),
]


@pytest.mark.parametrize(
    ("change", "status", "code", "word"),
    [case[1:] for case in ENTRIES],
    ids=[c[0] for c in ENTRIES],
)
async def test_entries_that_are_wrong_are_refused(
    target: Registry, archive: bytes, change: Change, status: int, code: str, word: str
) -> None:
    refused = await import_(target, packed(change(files_in(archive))))

    assert (refused.status, refused.code) == (status, code), refused.body
    assert word in refused.body.decode()


def put(**said: Any) -> Callable[[Any], object]:
    return lambda document: document.update(said)


def alias(**said: Any) -> Callable[[Any], object]:
    """The alias ``top`` otherwise."""
    return lambda model: model["aliases"][-1].update(said)


def edge(**said: Any) -> Callable[[Any], object]:
    return put(lineage=[{"relation": "merged", **said}])


def move(to: int | None) -> dict[str, Any]:
    return {"to": to, "at": "2026-11-21T00:00:00Z", "by": "x"}


PARENT = {"model": "m", "kind": "model", "number": 1, "label": None, "tree": "sha256:" + "0" * 64}
DOCUMENTS: list[tuple[str, str, Callable[[Any], object], str]] = [
    ("another format", "digestry.json", put(format="zip"), "is of the format 'zip'"),
    ("format zero", "digestry.json", put(number=0), "digestry.json: number"),
    ("more versions", "digestry.json", put(versions=4), "has 3 of 4 versions"),
    ("fewer versions", "digestry.json", put(versions=2), "alias latest points at no version"),
    ("more trees", "digestry.json", put(trees=9), "counts other trees"),
    ("more blobs", "digestry.json", put(blobs=9), "counts other blobs"),
    ("another size", "digestry.json", put(size=9), "counts other blobs"),
    ("another model", "digestry.json", put(model="x"), "about another model"),
    ("unknown field", "model.json", put(owner="x"), "owner"),
    ("a reserved name", "model.json", put(name="api/x"), "about another model"),
    ("unknown kind", "model.json", put(kind="zoo"), "kind"),
    ("a low number", "model.json", put(last_number=1), "last_number"),
    ("an odd tag", "model.json", put(tags={"a=b": ""}), "contains '='"),
    ("a tag twice", "model.json", put(tags={"a": "", "A": ""}), "several spellings"),
    ("no such alias", "model.json", alias(name="a/b"), "model.json: aliases"),
    ("a label's alias", "model.json", alias(name="1.0.0"), "is taken"),
    ("an alias twice", "model.json", alias(name="MAIN"), "is taken"),
    ("an alias to nowhere", "model.json", alias(moves=[move(9)]), "points at no version"),
    ("an alias to burnt", "model.json", alias(moves=[move(3)]), "points at a burnt version"),
    ("an alias at rest", "model.json", alias(moves=[move(1), move(1)]), "moves to where it is"),
    ("an alias unmoved", "model.json", alias(moves=[]), "moves"),
    ("another number", V1, put(number=2), "has version 2 under"),
    ("number zero", V1, put(number=0), "number"),
    ("a huge number", V1, put(number=2**80), "number"),
    ("an alias as label", V1, put(label="9"), "has digits only"),
    ("a label twice", V1, put(label="1.1.0"), "two versions have one label"),
    ("no digest", V1, put(tree="sha256:../../etc"), "tree"),
    ("more files", V1, put(files=3), "holds other files"),
    ("another total", V1, put(size=1), "holds other files"),
    ("negative", V1, put(size=-1), "size"),
    ("no time", V1, put(created_at="yesterday"), "created_at"),
    ("a time nowhere", V1, put(created_at="2026-11-21T00:00:00"), "created_at"),
    ("a word for a number", V1, put(parameters={"lr": "NaN"}), "parameters.lr"),
    ("a score above", V1, put(eval_score=1.5), "eval_score"),
    ("files and a source", V1, put(source={"uri": "s3:x", "digest": None, "size": None}), "source"),
    ("an edge of both", V1, edge(parent=PARENT, uri="hf:x", kind="dataset"), "either"),
    ("an edge of none", V1, edge(), "either"),
    ("no URI", V1, edge(uri="nothing", kind="external"), "is no URI"),
    ("burnt and said of", V3, put(tags={"a": ""}), "says more"),
    ("an unknown status", V2, put(status="best"), "status"),
]


@pytest.mark.parametrize(
    ("name", "change", "word"), [case[1:] for case in DOCUMENTS], ids=[c[0] for c in DOCUMENTS]
)
async def test_documents_that_are_wrong_are_refused(
    target: Registry, archive: bytes, name: str, change: Callable[[Any], object], word: str
) -> None:
    refused = await import_(target, edited(archive, name, change))

    assert (refused.status, refused.code) == (400, "export_invalid"), refused.body
    assert word in refused.body.decode()


async def test_a_newer_format_is_named_whatever_else_it_says(
    target: Registry, archive: bytes
) -> None:
    newer = edited(archive, "digestry.json", put(number=2, colour="blue"))

    refused = await import_(target, newer)

    assert (refused.status, refused.code) == (400, "export_newer")
    assert (refused.json["number"], refused.json["known"]) == (2, 1)


async def test_archives_that_are_none_or_hostile_are_refused(
    target: Registry, archive: bytes
) -> None:
    def member(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        return tar_of_members([(info, b"")])

    cases = {
        "tar_malformed": b"no tar at all" * 100,
        "tar_link": member("digestry.json", tarfile.SYMTYPE),
        "path_invalid": member("../digestry.json"),
        "export_unknown": member("somewhere/digestry.json"),
        "tar_header_too_large": tar_of_members([(tarfile.TarInfo("x" * 70_000), b"")]),
    }
    answers = {code: await import_(target, content) for code, content in cases.items()}
    cut = await import_(target, archive[: len(archive) // 2])
    unended = await import_(target, archive.removesuffix(END))
    trailing = await import_(target, archive + b"more")

    assert {code: (one.status, one.code) for code, one in answers.items()} == {
        code: (400, code) for code in cases
    }
    for one in (cut, unended, trailing):
        assert (one.status, one.code) == (400, "tar_malformed")


async def test_limits_of_versions_hold_for_imports(target: Registry) -> None:
    async with running_registry(None) as source:
        await source.publish("many", "v1", {f"{n}": b"%d" % n for n in range(4)})
        archive = await export(source, "many")

    refused = await import_(target, archive)

    assert (refused.status, refused.code) == (400, "export_invalid")
    assert "more than 3 files" in refused.body.decode()
