"""Fetching: whole, continued, verified, and never outside of the directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from registry.client.errors import (
    ClientError,
    Damaged,
    NotARegistry,
    Refused,
    TargetRefused,
    Unreachable,
)
from registry.client.pull import Pulled, Wish, pull
from registry.client.targets import Target, part_path
from registry.domain.trees import TreeFile, tree_digest
from store.digest import Digest
from tests.registry.client.conftest import Connect, Watched, answering, linked
from tests.support.builders import Registry

LARGE = bytes(range(256)) * 12_000  # three megabytes
FILES = {
    "model.safetensors": LARGE,
    "config.json": b"{}",
    "sub/deep/Ünïcode näme.txt": b"text",
    "empty": b"",
}
IN_URLS = {quote(path): content for path, content in FILES.items()}
WISH = Wish(model="bert", reference="1.0.0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "target"


def content_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def file_of(path: str, content: bytes) -> TreeFile:
    return TreeFile(path, Digest.of(content), len(content))


def part_of(root: Path, path: str, content: bytes) -> Path:
    return root / part_path(file_of(path, content))


async def fetch(url: str, connect: Connect, root: Path, wish: Wish = WISH, **how: Any) -> Pulled:
    async with connect(url) as connection:
        return await pull(connection, wish, root, watch=lambda step: None, **how)


# From a real server


@pytest.mark.parametrize("reference", ["1.0.0", "1", "latest", "@latest"])
async def test_a_version_is_fetched_whole(
    registry: Registry, connect: Connect, root: Path, reference: str, watched: Watched
) -> None:
    version = await registry.publish("bert", "1.0.0", IN_URLS)
    async with connect(registry.url) as connection:
        wish = Wish(model="bert", reference=reference)
        pulled = await pull(connection, wish, root, watch=watched)

    assert content_of(root) == FILES
    assert (pulled.number, pulled.label, pulled.tree) == (1, "1.0.0", version["tree"])
    assert (pulled.files, pulled.fetched, pulled.already_there) == (4, 4, 0)
    assert watched.ended_full("fetching")


async def test_what_is_there_is_not_fetched_again(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", IN_URLS)
    await fetch(registry.url, connect, root)
    async with linked(registry.site.port) as link:
        again = await fetch(link.url, connect, root)

    assert (again.fetched, again.already_there) == (0, 4)
    assert link.received < 10_000


async def test_a_name_of_several_segments_is_fetched(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("team~bert", "1.0.0", {"f": b"x"})

    assert (await fetch(registry.url, connect, root, Wish(model="team/bert", reference="1"))).files
    assert content_of(root) == {"f": b"x"}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("config.json",), {"config.json"}),
        (("sub",), {"sub/deep/Ünïcode näme.txt"}),
        (("sub/", "empty"), {"sub/deep/Ünïcode näme.txt", "empty"}),
        (("*.json",), {"config.json"}),
        (("*",), set(FILES)),
    ],
)
async def test_some_files_are_chosen(
    registry: Registry, connect: Connect, root: Path, wanted: tuple[str, ...], found: set[str]
) -> None:
    await registry.publish("bert", "1.0.0", IN_URLS)
    wish = Wish(model="bert", reference="1", paths=wanted)
    await fetch(registry.url, connect, root, wish)

    assert set(content_of(root)) == found


async def test_a_file_that_is_not_there_is_named(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", IN_URLS)

    with pytest.raises(Refused, match="conf"):
        await fetch(registry.url, connect, root, Wish(model="bert", reference="1", paths=("conf",)))
    with pytest.raises(Refused, match="nobody"):
        await fetch(registry.url, connect, root, Wish(model="nobody", reference="1"))


async def test_a_draft_is_not_fetched(registry: Registry, connect: Connect, root: Path) -> None:
    await registry.put("/models/bert/1.0.0/f", b"x")

    with pytest.raises(Refused, match="draft"):
        await fetch(registry.url, connect, root)


async def test_a_long_list_is_read_page_by_page(
    registry: Registry, connect: Connect, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.api.files.MOST_LISTED", 3)
    files = {f"{number:03}": b"%d" % number for number in range(10)}
    await registry.publish("bert", "1.0.0", files)
    await fetch(registry.url, connect, root)

    assert content_of(root) == files


# Broken links


async def test_a_broken_transfer_goes_on_where_it_stopped(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"model": LARGE})
    async with linked(registry.site.port) as link:
        link.down = [None, 1_000_000, 1_000_000, 500]
        link.down[0] = 900_000  # the list and the first bytes share a connection
        await fetch(link.url, connect, root)

    assert content_of(root) == {"model": LARGE}
    assert link.received < len(LARGE) + 50_000


async def test_a_killed_pull_is_continued_by_the_next(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"model": LARGE})
    root.mkdir()
    part_of(root, "model", LARGE).write_bytes(LARGE[:2_000_000])
    async with linked(registry.site.port) as link:
        await fetch(link.url, connect, root)

    assert content_of(root) == {"model": LARGE}
    assert link.received < len(LARGE) - 2_000_000 + 50_000


@pytest.mark.parametrize(
    "left", [b"x" * 1000, b"", LARGE, LARGE + b"more", LARGE[:-1] + b"\0\0", b"x" * len(LARGE)]
)
async def test_whatever_a_part_holds_the_file_is_right(
    registry: Registry, connect: Connect, root: Path, left: bytes
) -> None:
    await registry.publish("bert", "1.0.0", {"model": LARGE})
    root.mkdir()
    part_of(root, "model", LARGE).write_bytes(left)
    await fetch(registry.url, connect, root)

    assert content_of(root) == {"model": LARGE}


async def test_a_pull_that_is_cancelled_leaves_no_file_under_its_name(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"model": LARGE})
    begun = asyncio.Event()

    def watch(step: Any) -> None:
        if step.stage == "fetching" and step.done:
            begun.set()

    async with connect(registry.url) as connection:
        task = asyncio.create_task(pull(connection, WISH, root, watch=watch))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    left = content_of(root)
    assert list(left) == [part_path(file_of("model", LARGE))]
    assert LARGE.startswith(left.popitem()[1])
    await fetch(registry.url, connect, root)
    assert content_of(root) == {"model": LARGE}


async def test_a_server_that_is_not_there_is_given_up_soon(
    connect: Connect, root: Path, pauses: list[float]
) -> None:
    with pytest.raises(Unreachable):
        await fetch("http://127.0.0.1:1", connect, root)

    assert 1 <= len(pauses) <= 3


# What is in the way


async def test_a_file_that_differs_is_left_alone_unless_told(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", IN_URLS)
    root.mkdir()
    (root / "config.json").write_bytes(b"[]")
    (root / "mine").write_bytes(b"mine")

    with pytest.raises(TargetRefused, match=r"config\.json is there and differs"):
        await fetch(registry.url, connect, root)
    assert content_of(root) == {"config.json": b"[]", "mine": b"mine"}

    await fetch(registry.url, connect, root, replace=True)
    assert content_of(root) == {**FILES, "mine": b"mine"}


async def test_no_link_leads_out_of_the_directory(
    registry: Registry, connect: Connect, root: Path, tmp_path: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"sub/file": b"new"})
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "sub").symlink_to(outside)

    with pytest.raises(TargetRefused, match="link"):
        await fetch(registry.url, connect, root, replace=True)
    assert list(outside.iterdir()) == []


async def test_a_link_is_replaced_and_not_written_through(
    registry: Registry, connect: Connect, root: Path, tmp_path: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"file": b"new"})
    outside = tmp_path / "outside"
    outside.write_bytes(b"old")
    root.mkdir()
    (root / "file").symlink_to(outside)

    with pytest.raises(TargetRefused, match="differs"):
        await fetch(registry.url, connect, root)
    await fetch(registry.url, connect, root, replace=True)
    assert outside.read_bytes() == b"old"
    assert (root / "file").read_bytes() == b"new"
    assert not (root / "file").is_symlink()


async def test_a_part_that_is_a_link_is_not_written_through(
    registry: Registry, connect: Connect, root: Path, tmp_path: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"file": b"new"})
    outside = tmp_path / "outside"
    outside.write_bytes(b"old")
    root.mkdir()
    part_of(root, "file", b"new").symlink_to(outside)

    with pytest.raises(TargetRefused):
        await fetch(registry.url, connect, root, replace=True)
    assert outside.read_bytes() == b"old"


@pytest.mark.parametrize("wrong", ["directory", "file above", "fifo"])
async def test_what_cannot_be_replaced_is_refused(
    registry: Registry, connect: Connect, root: Path, wrong: str
) -> None:
    await registry.publish("bert", "1.0.0", {"sub/file": b"new"})
    if wrong == "directory":
        (root / "sub" / "file").mkdir(parents=True)
    elif wrong == "file above":
        root.mkdir()
        (root / "sub").write_bytes(b"")
    else:
        (root / "sub").mkdir(parents=True)
        os.mkfifo(part_of(root, "sub/file", b"new"))

    with pytest.raises(TargetRefused):
        await fetch(registry.url, connect, root, replace=True)


async def test_two_pulls_do_not_write_one_file(
    registry: Registry, connect: Connect, root: Path
) -> None:
    await registry.publish("bert", "1.0.0", {"file": b"new"})
    target = Target(root)
    part = target.open_part(file_of("file", b"new"))
    with pytest.raises(TargetRefused, match="another process"):
        await fetch(registry.url, connect, root)
    part.close()
    target.close()


async def test_a_disk_without_room_is_refused_before_a_byte_is_written(
    registry: Registry, connect: Connect, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.publish("bert", "1.0.0", IN_URLS)
    monkeypatch.setattr(Target, "free_bytes", lambda self: 1000)

    with pytest.raises(TargetRefused, match="1000 bytes free"):
        await fetch(registry.url, connect, root)
    assert content_of(root) == {}


def test_parts_have_names_of_bearable_length() -> None:
    long = "d/" + "é" * 127
    assert part_path(file_of("a/b.bin", b"")) == "a/b.bin.e3b0c44298fc1c14.part"
    assert part_path(file_of(long, b"")).startswith("d/")
    assert len(part_path(file_of(long, b"")).encode()) < 255


# From a server that lies


def listing(files: Mapping[str, bytes], **changed: Any) -> dict[str, Any]:
    entries = [file_of(path, content) for path, content in files.items()]
    try:
        tree = str(tree_digest(entries))
    except Exception:
        tree = str(Digest.of(b"?"))
    return {
        "model": "bert",
        "version": {"number": 1, "label": "1.0.0"},
        "tree": tree,
        "files": [
            {"path": file.path, "digest": str(file.digest), "size": file.size_bytes}
            for file in entries
        ],
        "next": None,
        **changed,
    }


def lying(found: dict[str, Any], *answers: web.Response) -> Any:
    """Lists `found`, then gives out `answers`, the last one for ever."""
    left = list(answers)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/"):
            return web.json_response(found)
        answer = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    return handler


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a//b", "", "a\\b", "a\nb", ".git/config", "."]
)
async def test_a_path_that_leads_astray_is_refused(
    connect: Connect, root: Path, tmp_path: Path, path: str
) -> None:
    async with answering(lying(listing({path: b"x"}), web.Response(body=b"x"))) as url:
        with pytest.raises(NotARegistry):
            await fetch(url, connect, root)

    assert not list(tmp_path.rglob("*evil*"))
    assert not root.exists()


async def test_a_list_that_is_not_the_trees_is_refused(connect: Connect, root: Path) -> None:
    found = listing({"a": b"x"}, tree=str(Digest.of(b"other")))
    async with answering(lying(found, web.Response(body=b"x"))) as url:
        with pytest.raises(NotARegistry, match="lists files of"):
            await fetch(url, connect, root)


async def test_names_that_look_like_parts_are_refused(connect: Connect, root: Path) -> None:
    files = {"a": b"x", part_path(file_of("a", b"x")): b"y"}
    async with answering(lying(listing(files), web.Response(body=b"x"))) as url:
        with pytest.raises(TargetRefused, match="part of another"):
            await fetch(url, connect, root)


@pytest.mark.parametrize("body", [b"wrong", b"righ", b"right and more", b""])
async def test_wrong_bytes_never_get_the_name(connect: Connect, root: Path, body: bytes) -> None:
    async with answering(lying(listing({"f": b"right"}), web.Response(body=body))) as url:
        with pytest.raises(ClientError) as raised:
            await fetch(url, connect, root)

    assert isinstance(raised.value, Damaged | Unreachable)
    assert not (root / "f").exists()


async def test_bytes_that_were_wrong_once_are_fetched_again(connect: Connect, root: Path) -> None:
    answers = (web.Response(body=b"wrong"), web.Response(body=b"right"))
    async with answering(lying(listing({"f": b"right"}), *answers)) as url:
        await fetch(url, connect, root)

    assert content_of(root) == {"f": b"right"}


async def test_a_range_that_was_not_asked_for_is_refused(connect: Connect, root: Path) -> None:
    root.mkdir()
    part_of(root, "f", b"right").write_bytes(b"ri")
    answer = web.Response(status=206, body=b"ght", headers={"Content-Range": "bytes 0-2/5"})
    async with answering(lying(listing({"f": b"right"}), answer)) as url:
        with pytest.raises(Damaged, match="asked from byte 2"):
            await fetch(url, connect, root)
    assert not (root / "f").exists()


async def test_an_answer_of_later_is_obeyed(
    connect: Connect, root: Path, pauses: list[float]
) -> None:
    later = web.Response(status=503, headers={"Retry-After": "7"})
    async with answering(lying(listing({"f": b"x"}), later, web.Response(body=b"x"))) as url:
        await fetch(url, connect, root)

    assert pauses == [7]


@pytest.mark.parametrize("status", [500, 404, 403])
async def test_other_answers_are_not_repeated(
    connect: Connect, root: Path, pauses: list[float], status: int
) -> None:
    async with answering(lying(listing({"f": b"x"}), web.Response(status=status))) as url:
        with pytest.raises(Refused):
            await fetch(url, connect, root)

    assert pauses == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"model": 1}', b"\xff"])
async def test_something_else_at_that_address_is_not_believed(
    connect: Connect, root: Path, body: bytes
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    async with answering(handler) as url:
        with pytest.raises(NotARegistry):
            await fetch(url, connect, root)
