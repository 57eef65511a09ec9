"""The local backend keeps the contract, and what only a directory can show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from store import layout
from store.backends import local as backend
from store.backends.directory import prepare
from store.backends.local import LocalBlobStore
from store.blobs import Promotion
from store.digest import Digest
from store.durable import Disk
from store.errors import StorageFull, StorageReadOnly, TooManyOpenFiles, Unavailable
from store.threads import Threads
from tests.contracts.blob_store import CONTENT, DIGEST, BlobStoreContract, staged, store


@pytest.fixture
def threads() -> Iterator[Threads]:
    pools = Threads()
    yield pools
    pools.close()


class RawDirectory:
    """The files below a data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, digest: Digest) -> bytes | None:
        found = list((self.root / "blobs" / "sha256").rglob(digest.hex))
        return found[0].read_bytes() if found else None

    def damage(self, digest: Digest, content: bytes) -> None:
        (path,) = (self.root / "blobs" / "sha256").rglob(digest.hex)
        path.chmod(0o600)
        path.write_bytes(content)

    def staged(self) -> list[str]:
        return os.listdir(self.root / "uploads")

    def aside(self) -> list[tuple[Digest, int]]:
        names = [name.split(".") for name in os.listdir(self.root / "quarantine")]
        return [(Digest(name[0]), int(name[1])) for name in names]


class TestLocalBlobStore(BlobStoreContract):
    @pytest.fixture
    async def blobs(self, tmp_path: Path, threads: Threads) -> AsyncIterator[LocalBlobStore]:
        prepare(tmp_path, Disk())
        yield LocalBlobStore(tmp_path, threads)
        assert os.listdir(tmp_path / "uploads") == [], "a test left a staging file behind"

    @pytest.fixture
    def raw(self, tmp_path: Path) -> RawDirectory:
        return RawDirectory(tmp_path)


@pytest.fixture
def local(tmp_path: Path, threads: Threads) -> LocalBlobStore:
    prepare(tmp_path, Disk())
    return LocalBlobStore(tmp_path, threads)


async def test_stored_files_cannot_be_written(local: LocalBlobStore) -> None:
    await store(local, CONTENT)

    assert local.path_of(DIGEST).stat().st_mode & 0o777 == 0o444


async def test_foreign_names_are_passed_over(local: LocalBlobStore, tmp_path: Path) -> None:
    """A file that is not ours is neither listed nor harmed."""
    await store(local, CONTENT)
    shard = local.path_of(DIGEST).parent
    strangers = [
        shard / "notes.txt",
        shard / ("f" * 64),  # a digest of another shard
        tmp_path / "blobs" / "sha256" / "README",
        tmp_path / "uploads" / "Not Ours",
        tmp_path / "quarantine" / "thing",
    ]
    for path in strangers:
        path.write_text("not ours")

    assert [info.digest async for page in local.list() for info in page] == [DIGEST]
    assert [info async for info in local.list_staged()] == []
    assert [info async for info in local.list_aside()] == []
    assert all(path.exists() for path in strangers)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (28, StorageFull),  # ENOSPC
        (122, StorageFull),  # EDQUOT
        (30, StorageReadOnly),  # EROFS
        (24, TooManyOpenFiles),  # EMFILE
        (5, Unavailable),  # EIO
    ],
)
async def test_failures_of_the_disk_have_a_kind(
    tmp_path: Path, threads: Threads, number: int, kind: type[Exception]
) -> None:
    class Failing(Disk):
        def link(self, source: str, target: str) -> None:
            raise OSError(number, os.strerror(number))

    prepare(tmp_path, Disk())
    local = LocalBlobStore(tmp_path, threads, Failing())
    writer = await staged(local, CONTENT)

    with pytest.raises(kind):
        await writer.promote(DIGEST)

    await writer.discard()


async def test_a_short_write_is_cut_back(tmp_path: Path, threads: Threads) -> None:
    """When the disk fills up in the middle of a batch, the file holds whole batches only."""

    class Filling(Disk):
        def write(self, descriptor: int, path: str, pieces: object, at: int) -> int:
            if at:
                os.pwrite(descriptor, b"half", at)
                raise OSError(28, "full")
            return os.pwrite(descriptor, b"first", at)

    prepare(tmp_path, Disk())
    local = LocalBlobStore(tmp_path, threads, Filling())
    writer = await local.stage("put_12345678")
    writer.append_blocking(0, [b"first"])

    with pytest.raises(StorageFull):
        writer.append_blocking(5, [b"second"])

    assert (tmp_path / layout.upload_key("put_12345678")).read_bytes() == b"first"
    assert writer.size_bytes == 5
    await writer.discard()


class Counting(Disk):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def link(self, source: str, target: str) -> None:
        self.asked["link"] += 1
        super().link(source, target)

    def rename(self, source: str, target: str) -> None:
        self.asked["rename"] += 1
        super().rename(source, target)

    def sync_data(self, descriptor: int, path: str) -> None:
        self.asked["sync_data"] += 1

    def begin_writing(self, descriptor: int, at: int, size_bytes: int) -> None:
        self.asked[f"write {at} and {size_bytes} more"] += 1
        super().begin_writing(descriptor, at, size_bytes)

    def sync_directory(self, path: str) -> None:
        self.asked["sync_directory"] += 1

    def sync_everything(self, watch: int) -> None:
        self.asked["sync_everything"] += 1

    def write(
        self, descriptor: int, path: str, pieces: Sequence[bytes | memoryview], at: int
    ) -> int:
        self.asked["write"] += 1
        return super().write(descriptor, path, pieces, at)


async def promoted_together(
    blobs: LocalBlobStore, stranger: str | None, known_bytes: int | None
) -> Counter[str]:
    disk = blobs._disk
    assert isinstance(disk, Counting)
    disk.asked.clear()
    wanted = []
    for number in range(20):
        content = b"%05d" % number
        writer = await blobs.stage(f"put_{number:032x}")
        writer.hold([content])
        wanted.append(Promotion(writer, Digest.of(content), known_bytes))
    assert all(await blobs.promote_all(wanted, stranger))
    for one in wanted:
        await one.writer.discard()
    return Counter(disk.asked)


async def test_many_blobs_are_synced_once(tmp_path: Path, threads: Threads) -> None:
    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, Counting())

    assert await promoted_together(blobs, None, None) == {
        "write": 20,
        "rename": 20,
        "sync_everything": 2,
    }
    assert await promoted_together(blobs, None, 5) == {}


def open_below(folder: Path) -> list[str]:
    """Of what this process has open, the files there; others in it open and close their own."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in found if path.startswith(f"{folder}/")]


async def test_files_of_a_batch_are_read_only_and_none_stays_open(
    tmp_path: Path, threads: Threads
) -> None:
    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, Counting())
    wanted = []
    for number in range(20):
        writer = await blobs.stage(f"put_{number:032x}")
        writer.hold([b"%05d" % number])
        wanted.append(Promotion(writer, Digest.of(b"%05d" % number), None))

    await blobs.promote_all(wanted)
    await blobs.promote_all(wanted)  # a transaction that found another state has it done again

    assert open_below(tmp_path) == []
    assert {os.stat(blobs.path_of(one.digest)).st_mode & 0o777 for one in wanted} == {0o444}
    assert [info async for info in blobs.list_staged()] == []
    for one in wanted:
        await one.writer.discard()


async def test_a_file_of_a_batch_that_was_swept_fails_its_batch(
    tmp_path: Path, threads: Threads
) -> None:
    class Sweeping(Counting):
        def sync_everything(self, watch: int) -> None:
            for path in (tmp_path / layout.UPLOADS).iterdir():
                path.unlink()

    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, Sweeping())
    writer = await blobs.stage("put_" + 32 * "0")
    writer.hold([b"x"])

    with pytest.raises(Unavailable):
        await blobs.promote_all([Promotion(writer, Digest.of(b"x"), None)])

    await writer.discard()
    assert not blobs.path_of(Digest.of(b"x")).exists()


async def test_who_syncs_everything_watched_before_the_first_write(
    tmp_path: Path, threads: Threads
) -> None:
    """The kernel tells nobody of a write that failed before he opened what he syncs by."""
    done: list[str] = []

    class Telling(Disk):
        @contextmanager
        def watching(self, path: str) -> Iterator[int]:
            done.append("watch")
            with super().watching(path) as watch:
                yield watch

        def create(self, path: str) -> int:
            done.append("write")
            return super().create(path)

        def sync_everything(self, watch: int) -> None:
            os.fstat(watch)
            done.append("sync")

    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, Telling())
    writer = await blobs.stage("put_" + 32 * "0")
    writer.hold([b"x"])
    await blobs.promote_all([Promotion(writer, Digest.of(b"x"), None)])
    await writer.discard()

    assert done == ["watch", "write", "sync", "sync"]


async def test_where_syncing_everything_proves_nothing_each_is_synced_by_itself(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "TELLS_FAILED_WRITES", False)
    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, Counting())
    writer = await blobs.stage("put_" + 32 * "0")
    writer.hold([b"x"])

    assert await blobs.promote_all([Promotion(writer, Digest.of(b"x"), None)]) == [False]
    await writer.discard()


async def test_a_stranger_causes_the_same_work_for_many_whether_they_are_there_or_not(
    tmp_path: Path, threads: Threads
) -> None:
    """A directory that is made stands against a name that is not used."""
    prepare(tmp_path, Disk())
    new = await promoted_together(LocalBlobStore(tmp_path, threads, Counting()), "usr_a", None)
    there = await promoted_together(LocalBlobStore(tmp_path, threads, Counting()), "usr_a", 5)

    assert new["write"] == there["write"] == 20
    assert new["rename"] == there["rename"] == 20
    assert new["sync_everything"] == there["sync_everything"] == 2
    assert new["sync_data"] == there["sync_data"] == 0
    made = sum(1 for path in (tmp_path / "blobs" / "sha256").glob("**/") if path.name != "sha256")
    assert new["link"] + made == there["link"]


async def test_a_large_file_is_written_behind_what_arrives(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its sync, which others wait behind, has little left to do."""
    monkeypatch.setattr("store.backends.staging.WRITTEN_BEHIND_BYTES", 1000)
    prepare(tmp_path, Disk())
    blobs = LocalBlobStore(tmp_path, threads, disk := Counting())
    writer = await blobs.stage(f"put_{0:032x}")
    for offset in range(0, 2400, 600):
        writer.append_blocking(offset, [b"x" * 600])
    await writer.discard()

    begun = {name for name in disk.asked if name.startswith("write ")}
    assert begun == {"write 0 and 1200 more", "write 1000 and 1400 more"}
