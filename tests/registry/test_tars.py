"""A whole directory in one request and back; what hostile archives get."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.config import Config, LimitsConfig
from registry.domain import tars
from registry.domain.trees import TreeFile, tree_digest
from registry.errors import Invalid, UnsupportedMedia
from registry.services.unpack import TarLimits, TarReader
from store.digest import Digest
from tests.support.builders import (
    Registry,
    files_in,
    running_registry,
    tar_of,
    tar_of_members,
)

FILES = {
    "README.md": b"# bert\n",
    "config.json": b"{}",
    "empty": b"",
    "weights/model-00001.bin": b"w" * 100_000,
    "weights/model-00002.bin": bytes(range(256)) * 3000,
}
END = bytes(1024)


def tree_of(files: Mapping[str, bytes]) -> str:
    return str(tree_digest(TreeFile(p, Digest.of(c), len(c)) for p, c in files.items()))


def entry(name: str | bytes, content: bytes = b"", **fields: object) -> bytes:
    """One raw entry with a right checksum, whatever else it says."""
    raw = name.encode() if isinstance(name, str) else name
    size = fields.get("size", b"%011o\0" % len(content))
    kind = fields.get("kind", b"0")
    magic = fields.get("magic", b"ustar\x0000")
    assert isinstance(size, bytes)
    assert isinstance(kind, bytes)
    assert isinstance(magic, bytes)
    block = bytearray(512)
    block[0 : len(raw[:100])] = raw[:100]
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = magic
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def pax(records: Mapping[str, str], kind: bytes = b"x") -> bytes:
    content = b"".join(tars._pax_record(key, value) for key, value in records.items())
    return entry("PaxHeaders/x", content, kind=kind)


def special(kind: bytes, link: str = "") -> Callable[[], bytes]:
    def make() -> bytes:
        info = tarfile.TarInfo("bad")
        info.type = kind
        info.linkname = link
        return tar_of_members([(tarfile.TarInfo("good"), b"1"), (info, b"")])

    return make


async def put_tar(registry: Registry, content: bytes, label: str = "v1") -> tuple[int, str]:
    answer = await registry.put(f"/models/bert/{label}.tar", content)
    return answer.status, "" if answer.status < 400 else answer.code


# Round trips.


async def test_a_directory_goes_in_and_comes_back(registry: Registry) -> None:
    put = await registry.put("/models/bert/v1.tar", tar_of(FILES))
    got = await registry.get("/models/bert/v1.tar")

    assert (put.status, put.json["state"]) == (201, "published")
    assert put.json["version"]["tree"] == tree_of(FILES)
    assert got.status == 200
    assert files_in(got.body) == FILES
    assert got.headers["Content-Length"] == str(len(got.body))
    assert got.headers["Content-Type"] == "application/x-tar"
    assert got.headers["Content-Disposition"] == 'attachment; filename="bert-v1.tar"'
    assert got.headers["ETag"] == f'"{tree_of(FILES)}.tar"'
    for path, content in FILES.items():
        assert (await registry.get(f"/models/bert/v1/{path}")).body == content


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_every_dialect_of_tar_is_read(registry: Registry, format: int) -> None:
    files = {"d" * 90 + "/" + "f" * 90: b"long"}
    if format != tarfile.USTAR_FORMAT:
        files |= {"gr\u00fcn/\U0001f600": b"wide", "x" * 200 + "/" + "y" * 200: b"longer"}

    status = await put_tar(registry, tar_of(files, format=format))

    assert status == (201, "")
    assert files_in((await registry.get("/models/bert/v1.tar")).body) == files


async def test_an_archive_is_the_same_bytes_however_its_files_came(registry: Registry) -> None:
    reverse = dict(reversed(FILES.items()))
    await put_tar(registry, tar_of(FILES))
    await registry.put("/models/bert/v2.tar", tar_of(reverse, format=tarfile.GNU_FORMAT))
    await registry.publish("bert", "v3", FILES)

    archives = {(await registry.get(f"/models/bert/v{i}.tar")).body for i in (1, 2, 3)}

    assert len(archives) == 1


async def test_the_archive_can_be_sent_back_in(registry: Registry) -> None:
    await registry.publish("bert", "v1", FILES)
    archive = (await registry.get("/models/bert/v1.tar")).body

    assert await put_tar(registry, archive) == (200, "")
    assert await put_tar(registry, archive, "v2") == (201, "")


async def test_entries_of_an_archive_say_nothing_of_people_and_times(registry: Registry) -> None:
    await registry.publish("bert", "v1", FILES)
    body = (await registry.get("/models/bert/v1.tar")).body

    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        members = archive.getmembers()

    assert [member.name for member in members] == sorted(FILES, key=str.encode)
    facts = {(m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members}
    assert facts == {(0o644, 0, 0, 0, "", "")}


async def test_directories_and_dots_are_understood(registry: Registry) -> None:
    def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type = tarfile.DIRTYPE
        return info, b""

    members = [
        directory("./"),
        directory("./a/"),
        directory("./a/"),
        (tarfile.TarInfo("./a/f"), b"1"),
        directory("empty"),
        (tarfile.TarInfo("./b"), b"2"),
    ]

    assert await put_tar(registry, tar_of_members(members)) == (201, "")
    assert files_in((await registry.get("/models/bert/v1.tar")).body) == {"a/f": b"1", "b": b"2"}


async def test_names_are_normalised(registry: Registry) -> None:
    await put_tar(registry, tar_of({"gru\u0308n": b"1"}))

    assert (await registry.get("/models/bert/v1/gr%C3%BCn")).body == b"1"


async def test_harmless_extensions_are_read_over(registry: Registry) -> None:
    archive = (
        pax({"comment": "0123"}, kind=b"g")
        + pax({"mtime": "1.5", "SCHILY.xattr.user.x": "y"})
        + entry("a", b"1")
        + END
        + bytes(9 * 512)
    )

    assert await put_tar(registry, archive) == (201, "")


async def test_a_pax_size_replaces_that_of_the_header(registry: Registry) -> None:
    archive = pax({"size": "3"}) + entry("a", b"123", size=b"00000000000\0") + END

    assert await put_tar(registry, archive) == (201, "")
    assert (await registry.get("/models/bert/v1/a")).body == b"123"


async def test_a_binary_size_is_read(registry: Registry) -> None:
    archive = entry("a", b"123", size=b"\x80" + (3).to_bytes(11, "big")) + END

    assert await put_tar(registry, archive) == (201, "")


async def test_archives_of_many_small_files_are_taken_in_batches(registry: Registry) -> None:
    files = {f"{i % 7}/{i}": b"%d" % (i % 300) for i in range(1000)}

    put = await registry.put("/models/bert/v1.tar", tar_of(files))

    assert put.json["version"]["files"] == 1000
    assert put.json["version"]["tree"] == tree_of(files)
    assert files_in((await registry.get("/models/bert/v1.tar")).body) == files


async def entries_of(
    archive: bytes, piece_bytes: int, limits: TarLimits | None = None
) -> list[tuple[str, bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), piece_bytes):
            yield archive[start : start + piece_bytes]

    found = TarReader(pieces(), limits or TarLimits()).entries()
    return [(entry.path, b"".join([p async for p in entry.content])) async for entry in found]


@pytest.mark.parametrize("piece_bytes", [1, 511, 512, 1000, 1537, 4096, 1 << 20])
async def test_entries_are_the_same_however_the_archive_arrives(piece_bytes: int) -> None:
    """Those that are all there are read in another way than those that are cut in two."""
    files = {"a": b"", "b/c": b"1", "d": bytes(512), "e": bytes(range(256)) * 7, ".f": b"22"}
    archive = pax({"mtime": "1.5"}) + tar_of(files)

    assert await entries_of(archive, piece_bytes) == list(files.items())


async def test_a_small_file_that_is_not_taken_is_refused_when_it_is_all_there() -> None:
    for members, code in (
        ([(tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("../b"), b"1")], "path_invalid"),
        ([(tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("c/.git"), b"1")], "path_invalid"),
    ):
        with pytest.raises(Invalid) as refused:
            await entries_of(tar_of_members(members), 1 << 20)
        assert refused.value.code == code


async def test_limits_hold_for_files_that_are_all_there() -> None:
    archive = tar_of({"a": b"1", "bcd": b"22", "e": b"333"})
    for limits, code in (
        (TarLimits(entries=2), "tar_too_many_entries"),
        (TarLimits(path_bytes=2), "path_invalid"),
        (TarLimits(blob_bytes=2), "tar_file_too_large"),
    ):
        with pytest.raises(Invalid) as refused:
            await entries_of(archive, 1 << 20, limits)
        assert refused.value.code == code


def test_a_checksum_is_the_sum_of_all_bytes() -> None:
    for number in range(256):
        header = bytearray(tars.header_of("a", 1))
        header[0:100] = bytes([number or 1]) * 100
        header[157:257] = bytes([number]) * 100
        header[265:500] = bytes([255]) * 235
        header[148:156] = b" " * 8
        header[257:263] = b"nothis"
        header[148:156] = b"%06o\0 " % sum(header)
        assert tars.parse_header(bytes(header)).size_bytes == 1
        header[300] -= 1
        with pytest.raises(Invalid):
            tars.parse_header(bytes(header))


async def test_batches_that_are_stored_at_once_are_all_stored(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0
    commit = registry.store.ingest.commit

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await commit(*given, **named)
        finally:
            under_way -= 1

    monkeypatch.setattr(registry.store.ingest, "commit", counted)
    monkeypatch.setattr("registry.services.stowing.SMALL_FILES", 16)
    files = {f"{i % 7}/{i}": b"%d" % (i % 30) for i in range(150)} | {"large": bytes(70_000)}

    put = await registry.put("/models/bert/v1.tar", tar_of(files))

    assert most == 2
    assert put.json["version"]["tree"] == tree_of(files)
    assert files_in((await registry.get("/models/bert/v1.tar")).body) == files


# Ranges.


async def test_any_range_of_an_archive_is_that_of_the_whole(registry: Registry) -> None:
    await registry.publish("bert", "v1", FILES)
    whole = (await registry.get("/models/bert/v1.tar")).body
    size = len(whole)
    edges = [0, 1, 511, 512, 513, 1024, 1030, 1536, 2048, 2600, 103_000, size - 1025, size - 1]

    for start in edges:
        for stop in (start + 1, start + 700, size):
            got = await registry.get("/models/bert/v1.tar", Range=f"bytes={start}-{stop - 1}")
            assert got.status == 206
            assert got.body == whole[start:stop], (start, stop)
            last = min(stop, size) - 1
            assert got.headers["Content-Range"] == f"bytes {start}-{last}/{size}"


async def test_a_broken_download_resumes_only_from_the_same_archive(registry: Registry) -> None:
    await registry.publish("bert", "v1", FILES)
    whole = await registry.get("/models/bert/v1.tar")
    etag = whole.headers["ETag"]

    same = await registry.get("/models/bert/v1.tar", Range="bytes=1000-", If_Range=etag)
    other = await registry.get("/models/bert/v1.tar", Range="bytes=1000-", If_Range='"x"')
    beyond = await registry.get("/models/bert/v1.tar", Range=f"bytes={len(whole.body)}-")
    known = await registry.get("/models/bert/v1.tar", If_None_Match=etag)
    head = await registry.send("HEAD", "/models/bert/v1.tar")

    assert (same.status, whole.body[:1000] + same.body) == (206, whole.body)
    assert (other.status, other.body) == (200, whole.body)
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{len(whole.body)}"
    assert known.status == 304
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(whole.body)))


async def test_aliases_have_archives_too(registry: Registry) -> None:
    await registry.publish("bert", "v1", FILES)

    for reference in ("latest", "@main", "1"):
        assert (await registry.get(f"/models/bert/{reference}.tar")).status == 200


# Refusals.

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "symbolic link": (special(tarfile.SYMTYPE, "/etc/passwd"), "tar_link"),
    "hard link": (special(tarfile.LNKTYPE, "good"), "tar_link"),
    "character device": (special(tarfile.CHRTYPE), "tar_device"),
    "block device": (special(tarfile.BLKTYPE), "tar_device"),
    "named pipe": (special(tarfile.FIFOTYPE), "tar_device"),
    "sparse file": (lambda: entry("a", kind=b"S") + END, "tar_sparse"),
    "sparse file in pax": (
        lambda: pax({"GNU.sparse.major": "1"}) + entry("a", b"1") + END,
        "tar_sparse",
    ),
    "part of another volume": (lambda: entry("a", kind=b"M") + END, "tar_entry_unsupported"),
    "absolute path": (lambda: tar_of({"/etc/passwd": b"1"}), "path_invalid"),
    "parent": (lambda: tar_of({"../up": b"1"}), "path_invalid"),
    "parent inside": (lambda: tar_of({"a/../../up": b"1"}), "path_invalid"),
    "dot inside": (lambda: tar_of({"a/./b": b"1"}), "path_invalid"),
    "git": (lambda: tar_of({"a/.git/config": b"1"}), "path_invalid"),
    "backslash": (lambda: tar_of({"a\\b": b"1"}), "path_invalid"),
    "newline": (lambda: tar_of({"a\nb": b"1"}), "path_invalid"),
    "NUL": (lambda: pax({"path": "a\0b"}) + entry("a", b"1") + END, "path_invalid"),
    "not UTF-8": (lambda: entry(b"a\xff", b"1") + END, "tar_path_invalid"),
    "long segment": (lambda: tar_of({"x" * 256: b"1"}), "path_invalid"),
    "long path": (lambda: tar_of({"/".join(["x" * 250] * 5): b"1"}), "path_invalid"),
    "parent directory": (lambda: entry("../d/", kind=b"5") + END, "path_invalid"),
    "twice": (lambda: entry("a", b"1") + entry("a", b"2") + END, "path_twice"),
    "twice, normalised": (
        lambda: entry("gru\u0308n", b"1") + entry("gr\u00fcn", b"1") + END,
        "path_twice",
    ),
    "twice, dotted": (lambda: entry("a", b"1") + entry("./a", b"1") + END, "path_twice"),
    "file, then below it": (
        lambda: entry("a", b"1") + entry("a/b", b"1") + END,
        "path_is_a_directory",
    ),
    "below it, then file": (
        lambda: entry("a/b", b"1") + entry("a-", b"1") + entry("a", b"1") + END,
        "path_is_a_directory",
    ),
    "directory, then file": (
        lambda: entry("a/", kind=b"5") + entry("a", b"1") + END,
        "path_is_a_directory",
    ),
    "file, then directory": (
        lambda: entry("a", b"1") + entry("a/", kind=b"5") + END,
        "path_is_a_directory",
    ),
    "file, then directory below": (
        lambda: entry("a", b"1") + entry("a/b/c/", kind=b"5") + END,
        "path_is_a_directory",
    ),
    "directory with content": (
        lambda: entry("a/", b"x" * 512, kind=b"5") + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "giant pax header": (
        lambda: pax({"comment": "x" * 5_000_000}) + entry("a", b"1") + END,
        "tar_header_too_large",
    ),
    "giant long name": (
        lambda: entry("L", b"x" * 5_000_000, kind=b"L") + entry("a", b"1") + END,
        "tar_header_too_large",
    ),
    "endless headers": (
        lambda: pax({"comment": "x"}) * 1000 + entry("a", b"1") + END,
        "tar_header_too_large",
    ),
    "a header that lies about its size": (
        lambda: entry("x", size=b"77777777777\0", kind=b"x") + END,
        "tar_header_too_large",
    ),
    "headers without an entry": (lambda: pax({"path": "a"}) + END, "tar_malformed"),
    "global header that renames": (
        lambda: pax({"path": "a"}, kind=b"g") + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "broken pax record": (
        lambda: entry("x", b"999 path=a\n", kind=b"x") + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "pax record of length zero": (
        lambda: entry("x", b"0 path=a\n", kind=b"x") + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "negative size": (lambda: entry("a", size=b"\xff" * 12) + END, "tar_malformed"),
    "impossible size": (lambda: entry("a", size=b"\x80" + b"\xff" * 11) + END, "tar_malformed"),
    "size that is no number": (lambda: entry("a", size=b"12x4567890a\0") + END, "tar_malformed"),
    "wrong checksum": (
        lambda: b"b" + entry("a", b"1")[1:] + END,
        "tar_malformed",
    ),
    "no tar at all": (lambda: b"hello, world\n" * 100, "tar_malformed"),
    "nothing": (lambda: b"", "tar_malformed"),
    "no files": (lambda: entry("a/", kind=b"5") + END, "tar_empty"),
    "only an end": (lambda: END, "tar_empty"),
    "no end mark": (lambda: entry("a", b"1"), "tar_malformed"),
    "half an end mark": (lambda: entry("a", b"1") + bytes(512), "tar_malformed"),
    "cut in a header": (lambda: entry("a", b"1")[:300], "tar_malformed"),
    "cut in a file": (lambda: entry("a", b"1" * 2000)[:1000], "tar_malformed"),
    "file larger than what follows": (
        lambda: entry("a", size=b"77777777777\0") + b"1" * 4096,
        "tar_malformed",
    ),
    "empty block inside": (
        lambda: entry("a", b"1") + bytes(512) + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "two archives in a row": (
        lambda: entry("a", b"1") + END + entry("b", b"1") + END,
        "tar_malformed",
    ),
    "garbage at the end": (lambda: entry("a", b"1") + END + b"garbage", "tar_malformed"),
    "endless zeros": (lambda: entry("a", b"1") + END + bytes(2 << 20), "tar_malformed"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_hostile_archives_are_refused_and_leave_nothing(
    registry: Registry, case: str
) -> None:
    make, code = REFUSED[case]

    assert await put_tar(registry, make()) == (400, code)
    assert await registry.count("models") == 0
    assert await registry.count("versions") == 0
    assert await registry.count("refs") == 0


async def test_a_refusal_names_the_entry_and_the_way_out(registry: Registry) -> None:
    make, _ = REFUSED["symbolic link"]

    answer = await registry.put("/models/bert/v1.tar", make())

    assert answer.json["errors"] == [
        {
            "field": "archive",
            "reason": "'bad' is a symbolic link; "
            "use `tar -h --hard-dereference` to pack what it leads to",
        }
    ]


@pytest.mark.parametrize(
    ("pack", "media"),
    [
        (gzip.compress, "application/gzip"),
        (bz2.compress, "application/x-bzip2"),
        (lzma.compress, "application/x-xz"),
        (lambda archive: b"\x28\xb5\x2f\xfd" + archive, "application/zstd"),
    ],
)
async def test_compressed_archives_are_named_for_what_they_are(
    registry: Registry, pack: Callable[[bytes], bytes], media: str
) -> None:
    answer = await registry.put("/models/bert/v1.tar", pack(tar_of(FILES)))

    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert media in answer.json["detail"]
    assert "not compressed" in answer.json["detail"]


async def test_limits_of_entries_and_sizes_hold(tmp_path: Path) -> None:
    limits = LimitsConfig(tar_entries=10, tar_path_bytes=100, blob_bytes=1000)
    async with running_registry(None, config=Config(limits=limits)) as registry:
        ten = {f"{i}": b"" for i in range(10)}
        many = await put_tar(registry, tar_of(ten | {"x": b""}))
        long = await put_tar(registry, tar_of({"a/" + "b" * 99: b""}))
        large = await put_tar(registry, tar_of({"a": bytes(1001)}))
        fine = await put_tar(registry, tar_of(ten))

        assert many == (400, "tar_too_many_entries")
        assert long == (400, "path_invalid")
        assert large == (400, "tar_file_too_large")
        assert fine == (201, "")
        await registry.check()


async def test_a_million_entries_are_refused_at_the_limit(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        block = b"".join(entry(f"{i:03}") for i in range(100))
        for batch in range(10_000):
            name = b"%07d/" % batch
            yield b"".join(
                _renamed(block[i * 512 : (i + 1) * 512], name + b"%03d" % i) for i in range(100)
            )
            sent += 100
        yield END

    with pytest.raises(Invalid) as refused:
        await contents(TarReader(endless(), TarLimits(entries=2000)))

    assert refused.value.code == "tar_too_many_entries"
    assert sent <= 2100


def _renamed(block: bytes, name: bytes) -> bytes:
    changed = bytearray(block)
    changed[0:100] = name.ljust(100, b"\0")
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


# Labels.


async def test_an_archive_takes_a_free_label_only(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"a": b"1"})
    await registry.put("/models/bert/draft/a", b"1")
    archive = tar_of({"a": b"1"})

    assert await put_tar(registry, archive, "1") == (409, "label_required")
    assert await put_tar(registry, archive, "@latest") == (409, "label_required")
    assert await put_tar(registry, archive, "latest") == (409, "label_is_alias")
    assert await put_tar(registry, archive, "draft") == (409, "draft_exists")
    assert await put_tar(registry, archive, "V1") == (409, "label_taken")
    bad = await registry.put("/models/Bert/v2.tar", archive)
    assert (bad.status, bad.code) == (409, "model_name_taken")


@pytest.mark.parametrize(
    "files",
    [
        {"a": b"1"},
        {"a": b"1", "b": b"3"},
        {"a": b"1", "b": b"22"},
        {"a": b"1", "b": b"2", "c": b"3"},
        {"a": b"1", "c": b"2"},
    ],
)
async def test_other_files_on_a_published_label_are_refused(
    registry: Registry, files: dict[str, bytes]
) -> None:
    await registry.publish("bert", "v1", {"a": b"1", "b": b"2"})

    assert await put_tar(registry, tar_of(files)) == (409, "version_published")
    assert await registry.count("blobs") == 2


async def test_a_burnt_label_takes_back_the_same_archive_only(registry: Registry) -> None:
    await put_tar(registry, tar_of(FILES))
    await registry.send("DELETE", "/models/bert/v1")

    assert await put_tar(registry, tar_of({"a": b"1"})) == (409, "label_burnt")
    assert await put_tar(registry, tar_of(FILES)) == (201, "")
    assert await registry.count("versions") == 1


async def test_archives_racing_for_a_label_end_in_one_version(registry: Registry) -> None:
    same = [registry.put("/models/bert/v1.tar", tar_of(FILES)) for _ in range(6)]
    other = [registry.put("/models/bert/v1.tar", tar_of({"a": b"%d" % i})) for i in range(3)]

    answers = await asyncio.gather(*same, *other)

    assert {answer.status for answer in answers} <= {200, 201, 409}
    assert [answer.status for answer in answers].count(201) == 1
    assert await registry.count("versions") == 1


async def test_an_archive_that_breaks_off_leaves_no_lease(registry: Registry) -> None:
    archive = tar_of({f"{i}": bytes(1000) for i in range(300)})

    async def broken() -> AsyncIterator[bytes]:
        yield archive[: len(archive) // 2]
        while not await registry.count("leases"):
            await asyncio.sleep(0.001)
        raise ConnectionResetError("gone")

    async with asyncio.timeout(20):
        with pytest.raises((ClientError, ConnectionError)):
            await registry.put("/models/bert/v1.tar", broken())
        while await registry.count("leases"):
            await asyncio.sleep(0.001)

    assert await registry.count("models") == 0


async def test_a_damaged_file_is_said_before_the_archive_begins(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"a": b"1", "b": b"2"})
    digest = Digest.of(b"2")
    [(generation,)] = await registry.rows(
        f"SELECT generation FROM blobs WHERE lower(hex(digest)) = '{digest.hex}'"
    )
    await registry.store.quarantine.convict(digest, generation)

    answer = await registry.get("/models/bert/v1.tar")

    assert (answer.status, answer.code) == (500, "blob_damaged")
    assert answer.json["digest"] == str(digest)
    # Sending the bytes again heals it, and the archive is whole.
    await registry.put("/blobs/b", b"2")
    assert files_in((await registry.get("/models/bert/v1.tar")).body) == {"a": b"1", "b": b"2"}


# Properties, without a server.

names = st.lists(
    st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn"), exclude_characters="/\\"),
        min_size=1,
        max_size=60,
    ).filter(lambda segment: segment not in (".", "..") and segment.casefold() != ".git"),
    min_size=1,
    max_size=5,
).map("/".join)


async def read_all(archive: bytes, piece: int) -> dict[str, bytes]:
    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), piece):
            yield archive[start : start + piece]

    return await contents(TarReader(source(), TarLimits()))


async def contents(reader: TarReader) -> dict[str, bytes]:
    found = {}
    async for one in reader.entries():
        found[one.path] = b"".join([part async for part in one.content])
    return found


def is_read_or_refused(archive: bytes, piece: int) -> bool:
    """Whether a reader gets through, or says properly why not; anything else is raised."""
    try:
        asyncio.run(read_all(archive, piece))
    except (Invalid, UnsupportedMedia) as refused:
        return bool(refused.code)
    return True


@given(path=names, size=st.integers(0, 1500), piece=st.integers(1, 3000))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_headers_mean_to_tarfile_what_they_mean_to_us(path: str, size: int, piece: int) -> None:
    import unicodedata

    path = unicodedata.normalize("NFC", path)
    content = b"x" * size
    archive = tars.header_of(path, size) + content + bytes(tars.padded(size) - size) + tars.END

    assert len(archive) == tars.entry_size(path, size) + len(tars.END)
    assert files_in(archive) == {path: content}
    if len(path.encode()) <= 1024 and all(len(s.encode()) <= 255 for s in path.split("/")):
        assert asyncio.run(read_all(archive, piece)) == {path: content}


@given(
    size=st.integers(8**11 - 2, 2**45),
    path=st.sampled_from(["a", "gr\u00fcn", "d/" * 70 + "f"]),
)
@settings(max_examples=30, deadline=None)
def test_sizes_that_octal_cannot_hold_travel_in_pax(size: int, path: str) -> None:
    header = tars.header_of(path, size)
    info = tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict")
    with tarfile.open(fileobj=io.BytesIO(header + tars.END), mode="r:") as archive:
        member = archive.next()

    assert info.isreg()
    assert member is not None
    assert (member.name, member.size) == (path, size)


@given(data=st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_the_reader_fail_otherwise_than_by_refusing(data: bytes) -> None:
    assert is_read_or_refused(data, 700)


@given(
    position=st.integers(0, 2000),
    value=st.integers(0, 255),
    seed=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_of_an_archive_is_read_or_refused(
    position: int, value: int, seed: int
) -> None:
    format = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[seed]
    name = "a" if seed == 0 else "gr\u00fcn" * 40
    archive = bytearray(tar_of({name: b"1" * 600}, format=format))
    archive[position % len(archive)] = value

    assert is_read_or_refused(bytes(archive), 512)


def test_the_checksum_of_old_writers_is_accepted() -> None:
    block = bytearray(entry(b"gr\xc3\xbcn"))
    block[148:156] = b" " * 8
    signed = sum(struct.unpack("512b", bytes(block)))
    block[148:156] = b"%06o\0 " % signed

    assert tars.parse_header(bytes(block)).name == b"gr\xc3\xbcn"


def test_an_archive_is_written_the_same_way_for_ever() -> None:
    """Entity tags promise it; a change here must change the tag in `registry.http.tars` too."""
    paths = ("a/b", "gr\u00fcn", "x" * 120)
    headers = b"".join(tars.header_of(path, 5) for path in paths)

    assert (len(headers), zlib.crc32(headers)) == (3584, 1960599610)
