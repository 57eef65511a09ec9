"""Sending: which files, only what is missing, continued where it broke, one version at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from registry.client import uploading
from registry.client.bundles import Bundles
from registry.client.errors import Refused, SourceChanged, SourceRefused, Unreachable
from registry.client.sources import Hashed, find_sources, hash_sources, open_source
from registry.client.transfer import Meter, Step
from registry.client.unfinished import Session, Unfinished
from registry.keys import DRAIN
from store.digest import Digest
from tests.registry.client.conftest import Connect, Watched, answering, filled, linked, send
from tests.support.builders import Registry

LARGE = bytes(range(256)) * 20_000  # five megabytes
FILES = {"model.safetensors": LARGE, "config.json": b"{}", "sub/Ünïcode": b"text", "empty": b""}


@pytest.fixture(autouse=True)
def large_files_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr("registry.client.push.LARGE_BYTES", 1 << 20)


@pytest.fixture
def unfinished(tmp_path: Path) -> Unfinished:
    return Unfinished.of({"XDG_STATE_HOME": str(tmp_path / "state")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path / "model", FILES)


def state_files(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "state" / "digestry" / "uploads")


# To a real server


async def test_a_directory_becomes_a_version(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path, watched: Watched
) -> None:
    pushed = await send(registry.url, connect, unfinished, folder, watch=watched)

    assert (pushed.state, pushed.number, pushed.label) == ("published", 1, "1.0.0")
    assert (pushed.files, pushed.sent, pushed.is_new) == (4, 4, True)
    assert watched.ended_full("hashing")
    assert watched.ended_full("sending")
    listed = (await registry.get("/models/bert/1.0.0/")).json
    assert {file["path"]: file["digest"] for file in listed["files"]} == {
        path: str(Digest.of(content)) for path, content in FILES.items()
    }
    assert (await registry.get("/models/bert/latest/model.safetensors")).body == LARGE


async def test_what_is_stored_is_not_sent(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path
) -> None:
    await send(registry.url, connect, unfinished, folder)
    (folder / "config.json").write_bytes(b"[]")
    async with linked(registry.site.port) as link:
        pushed = await send(link.url, connect, unfinished, folder, label="1.1.0")

    assert (pushed.number, pushed.sent, pushed.sent_size, pushed.already_there) == (2, 1, 2, 3)
    assert link.sent < 10_000


async def test_the_same_push_twice_is_one_version(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path
) -> None:
    first = await send(registry.url, connect, unfinished, folder)
    second = await send(registry.url, connect, unfinished, folder)

    assert (second.number, second.tree) == (first.number, first.tree)
    assert (first.is_new, second.is_new) == (True, False)
    assert await registry.count("versions") == 1


async def test_a_label_with_other_files_is_refused(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path
) -> None:
    await send(registry.url, connect, unfinished, folder)
    (folder / "config.json").write_bytes(b"[]")

    with pytest.raises(Refused) as raised:
        await send(registry.url, connect, unfinished, folder)
    assert raised.value.status == 409


async def test_a_version_without_a_label_has_a_number(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path
) -> None:
    assert (await send(registry.url, connect, unfinished, folder, label=None)).number == 1


async def test_a_draft_and_a_base_and_what_is_said(
    registry: Registry, connect: Connect, unfinished: Unfinished, folder: Path
) -> None:
    draft = await send(registry.url, connect, unfinished, folder, is_draft=True)
    assert (draft.state, draft.number) == ("draft", None)

    said = {"framework": "pytorch", "metadata": {"a": 1}}
    await send(registry.url, connect, unfinished, folder, label="2.0.0", said=said)
    card = filled(folder.parent / "card", {"README.md": b"# BERT"})
    await send(registry.url, connect, unfinished, card, label="2.0.1", base="2.0.0")

    found = await registry.rows(
        "SELECT v.label, v.framework, d.metadata FROM versions v "
        "JOIN version_details d ON d.version = v.id ORDER BY v.number"
    )
    assert [tuple(row) for row in found] == [("2.0.0", "pytorch", '{"a":1}'), ("2.0.1", "", "{}")]
    listed = (await registry.get("/models/bert/2.0.1/")).json
    assert {file["path"] for file in listed["files"]} == {*FILES, "README.md"}


async def test_blobs_that_go_between_question_and_version_are_sent_again(
    registry: Registry,
    connect: Connect,
    unfinished: Unfinished,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = Digest.of(b"{}")
    asked = 0
    original = Bundles.send

    async def send_all_but_one(self: Bundles, blobs: Sequence[Hashed]) -> None:
        nonlocal asked
        asked += digest in {blob.digest for blob in blobs}
        await original(self, [blob for blob in blobs if blob.digest != digest or asked > 1])

    monkeypatch.setattr(Bundles, "send", send_all_but_one)
    pushed = await send(registry.url, connect, unfinished, folder)

    assert (pushed.number, asked) == (1, 2)


# Broken links


async def test_a_broken_upload_goes_on_where_it_stopped(
    registry: Registry, connect: Connect, unfinished: Unfinished, tmp_path: Path
) -> None:
    folder = filled(tmp_path / "model", {"model": LARGE})
    async with linked(registry.site.port) as link:
        link.up = [2_000_000, 1_000_000, 300]
        pushed = await send(link.url, connect, unfinished, folder)

    assert pushed.number == 1
    assert (await registry.get("/models/bert/1/model")).body == LARGE
    # What was on its way when the link broke is sent twice, and no more.
    assert link.sent < len(LARGE) + 3 * 1_500_000
    assert state_files(tmp_path) == []


async def test_a_killed_push_is_continued_by_the_next(
    registry: Registry, connect: Connect, unfinished: Unfinished, tmp_path: Path
) -> None:
    folder = filled(tmp_path / "model", {"model": LARGE})
    async with linked(registry.site.port) as link:
        link.up = [4_000_000, *[0] * 5]
        with pytest.raises(Unreachable):
            await send(link.url, connect, unfinished, folder, patience={"failures": 1})
        assert len(state_files(tmp_path)) == 1
        assert await registry.count("versions") == 0
        drain = registry.site.app[DRAIN]
        await registry.site.until(lambda: not drain.in_flight)  # the server has seen the break

        link.up, link.sent = [], 0
        pushed = await send(link.url, connect, unfinished, folder)

    assert pushed.number == 1
    assert link.sent < len(LARGE) - 1_000_000
    assert state_files(tmp_path) == []


async def test_a_session_that_the_server_forgot_is_begun_anew(
    registry: Registry, connect: Connect, unfinished: Unfinished, tmp_path: Path
) -> None:
    folder = filled(tmp_path / "model", {"model": LARGE})
    with unfinished.slot(registry.url, Digest.of(LARGE)) as slot:
        slot.save(Session(registry.url, str(Digest.of(LARGE)), "/uploads/upl_gone"))

    assert (await send(registry.url, connect, unfinished, folder)).number == 1
    assert state_files(tmp_path) == []


async def test_a_session_of_other_bytes_is_begun_anew(
    registry: Registry,
    connect: Connect,
    unfinished: Unfinished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of an upload came from a file that has changed since: its end would be a mismatch."""
    monkeypatch.setattr("registry.client.push.ROUNDS", 1)
    digest = Digest.of(LARGE)
    made = await registry.send(
        "POST",
        "/uploads",
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(len(LARGE))},
    )
    await registry.send(
        "PATCH",
        made.headers["Location"],
        data=b"x" * 1000,
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    with unfinished.slot(registry.url, digest) as slot:
        slot.save(Session(registry.url, str(digest), made.headers["Location"]))
    folder = filled(tmp_path / "model", {"model": LARGE})

    assert (await send(registry.url, connect, unfinished, folder)).number == 1
    assert (await registry.get("/models/bert/1/model")).body == LARGE


async def test_a_continued_upload_asks_before_it_sends(
    connect: Connect, unfinished: Unfinished, tmp_path: Path
) -> None:
    """The server may have more than it says: the end of the broken request is on its way."""
    expectations: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.Response(status=201, headers={"Location": "/uploads/upl_1"})
        size = {"Upload-Length": str(len(LARGE))}
        if request.method == "HEAD":
            return web.Response(headers={"Upload-Offset": "0", **size})
        expectations.append(request.headers.get("Expect", ""))
        if len(expectations) == 1:
            return web.Response(status=503)
        return web.Response(status=204, headers={"Upload-Offset": str(len(LARGE))})

    places = [filled(tmp_path / "model", {"model": LARGE})]
    async with answering(handler) as url, connect(url) as connection:
        (blob,) = await hash_sources(find_sources(places), lambda step: None)
        await uploading.send_blob(
            connection, blob, Meter("sending", len(LARGE), lambda step: None), unfinished
        )

    assert expectations == ["", "100-continue"]


# Files that change


def test_a_file_that_changed_since_it_was_found_is_not_opened(tmp_path: Path) -> None:
    (source,) = find_sources([filled(tmp_path / "model", {"f": b"one"})])
    (tmp_path / "model" / "f").write_bytes(b"other")

    with pytest.raises(SourceChanged):
        open_source(source)
    (tmp_path / "model" / "f").unlink()
    with pytest.raises(SourceChanged):
        open_source(source)


@pytest.mark.parametrize("size", [1000, len(LARGE)])
async def test_a_file_that_changes_while_it_is_sent_makes_no_version(
    registry: Registry, connect: Connect, unfinished: Unfinished, tmp_path: Path, size: int
) -> None:
    folder = filled(tmp_path / "model", {"model": LARGE[:size]})

    def watch(step: Step) -> None:
        if step.stage == "sending":
            (folder / "model").write_bytes(b"other" + LARGE[: size - 5])

    with pytest.raises(SourceChanged, match="model changed while"):
        await send(registry.url, connect, unfinished, folder, watch=watch)
    assert await registry.count("versions") == 0


async def test_bytes_that_change_under_the_same_time_and_size_are_found_by_the_server(
    registry: Registry,
    connect: Connect,
    unfinished: Unfinished,
    tmp_path: Path,
) -> None:
    folder = filled(tmp_path / "model", {"model": LARGE})
    times = (folder / "model").stat()

    def watch(step: Step) -> None:
        if step.stage == "sending":
            with (folder / "model").open("r+b") as file:
                file.write(b"other")
            os.utime(folder / "model", ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(SourceChanged):
        await send(registry.url, connect, unfinished, folder, watch=watch)
    assert await registry.count("versions") == 0
    assert state_files(tmp_path) == []


# Which files


def paths_of(*places: Path) -> list[str]:
    return [source.path for source in find_sources(places)]


def test_a_file_is_called_by_its_last_segment_and_a_directory_by_what_is_in_it(
    tmp_path: Path,
) -> None:
    filled(tmp_path, {"a/b/one": b"", "a/two": b"", "c": b"", "a/.hidden": b"", "a/.git/x": b""})

    assert paths_of(tmp_path / "a", tmp_path / "c") == [".hidden", "b/one", "c", "two"]


def test_decomposed_names_are_composed(tmp_path: Path) -> None:
    filled(tmp_path, {"u\u0308": b""})

    assert paths_of(tmp_path) == ["\u00fc"]


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    """Caches of models are made of them."""
    filled(tmp_path, {"blobs/1234": b"weights"})
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model").symlink_to("../blobs/1234")

    assert [s.size_bytes for s in find_sources([tmp_path / "snapshot"])] == [7]


def link_to_a_directory(root: Path) -> None:
    (root / "x" / "loop").symlink_to(root)


def dangling_link(root: Path) -> None:
    (root / "x" / "nowhere").symlink_to("missing")


def named_pipe(root: Path) -> None:
    os.mkfifo(root / "x" / "pipe")


def name_that_is_not_text(root: Path) -> None:
    (root / "x" / os.fsdecode(b"\xff")).touch()


def name_with_a_line_break(root: Path) -> None:
    (root / "x" / "a\nb").touch()


def nothing(root: Path) -> None:
    (root / "x" / "one").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        link_to_a_directory,
        dangling_link,
        named_pipe,
        name_that_is_not_text,
        name_with_a_line_break,
        nothing,
    ],
)
def test_what_cannot_be_part_of_a_version_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    filled(tmp_path, {"x/one": b""})
    spoil(tmp_path)

    with pytest.raises(SourceRefused):
        find_sources([tmp_path / "x"])


def test_two_files_of_one_path_are_refused(tmp_path: Path) -> None:
    filled(tmp_path, {"a/f": b"", "b/f": b"", "c": b"", "d/c/f": b""})

    with pytest.raises(SourceRefused, match="would both be f"):
        find_sources([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(SourceRefused, match="a file and a directory"):
        find_sources([tmp_path / "c", tmp_path / "d"])
    with pytest.raises(SourceRefused, match="cannot be read"):
        find_sources([tmp_path / "missing"])


# What is remembered


def test_a_session_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    digest = Digest.of(b"x")
    session = Session("http://a", str(digest), "/uploads/upl_1")
    with Unfinished(tmp_path).slot("http://a", digest) as slot:
        assert slot.session is None
        slot.save(session)
        with Unfinished(tmp_path).slot("http://a", digest) as other:
            assert other.session is None, "held by somebody else"
    with Unfinished(tmp_path).slot("http://b", digest) as slot:
        assert slot.session is None
    with Unfinished(tmp_path).slot("http://a", digest) as slot:
        assert slot.session == session
        slot.forget()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"server":"x","digest":"y","path":"/z"}'])
def test_a_memory_that_makes_no_sense_is_none(tmp_path: Path, content: bytes) -> None:
    digest = Digest.of(b"x")
    with Unfinished(tmp_path).slot("http://a", digest) as slot:
        slot.save(Session("http://a", str(digest), "/uploads/upl_1"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)

    with Unfinished(tmp_path).slot("http://a", digest) as slot:
        assert slot.session is None
