"""Every composite operation syncs what it must, in the right order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from store import durable
from store.durable import Disk, translated
from store.errors import StorageFull, Unavailable


class Recorder(Disk):
    """Names each primitive call, with paths below `root`."""

    def __init__(self, root: Path, *, relaxed: bool = False) -> None:
        super().__init__(relaxed=relaxed)
        self.root = root
        self.calls: list[str] = []

    def _note(self, call: str, *paths: str) -> None:
        self.calls.append(" ".join([call, *(os.path.relpath(path, self.root) for path in paths)]))

    def sync_data(self, descriptor: int, path: str) -> None:
        self._note("sync", path)
        super().sync_data(descriptor, path)

    def sync_directory(self, path: str) -> None:
        self._note("sync", path)
        super().sync_directory(path)

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        self._note("link", source, target)

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self._note("rename", source, target)

    def mkdir(self, path: str) -> bool:
        self._note("mkdir", path)
        return super().mkdir(path)

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._note("unlink", path)


@pytest.fixture
def disk(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def test_new_directories_are_synced_in_their_parents(disk: Recorder, tmp_path: Path) -> None:
    disk.make_directory(f"{tmp_path}/a/b", below=str(tmp_path))

    assert disk.calls == ["mkdir a", "sync .", "mkdir a/b", "sync a"]


def test_existing_directories_are_synced_once_per_process(disk: Recorder, tmp_path: Path) -> None:
    """Whoever made them may have died before their parent was synced."""
    (tmp_path / "a").mkdir()
    disk.make_directory(f"{tmp_path}/a", below=str(tmp_path))
    disk.make_directory(f"{tmp_path}/a", below=str(tmp_path))

    assert disk.calls == ["mkdir a", "sync ."]


def test_promotion_syncs_the_directory_last(disk: Recorder, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "new").write_bytes(b"new")

    assert not disk.promote(f"{tmp_path}/new", f"{tmp_path}/to/blob")

    assert disk.calls == ["link new to/blob", "sync to"]
    assert (tmp_path / "to" / "blob").read_bytes() == b"new"


def test_promotion_over_a_file_replaces_it(disk: Recorder, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "blob").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")

    assert disk.promote(f"{tmp_path}/new", f"{tmp_path}/to/blob")

    assert disk.calls == ["link new new_again", "rename new_again to/blob", "sync to"]
    assert (tmp_path / "to" / "blob").read_bytes() == b"new"


def test_promotion_repeated_leaves_one_name(disk: Recorder, tmp_path: Path) -> None:
    """Renaming one name of a file over another does nothing, so the spare name must go."""
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "to").mkdir()
    for _ in range(3):
        disk.promote(f"{tmp_path}/new", f"{tmp_path}/to/blob")

    assert os.listdir(tmp_path / "to") == ["blob"]


def test_moves_sync_both_directories(disk: Recorder, tmp_path: Path) -> None:
    """The new name first: a crash between the two must not lose both."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "x").write_bytes(b"x")

    disk.move(f"{tmp_path}/from/x", f"{tmp_path}/to/y")

    assert disk.calls == ["rename from/x to/y", "sync to", "sync from"]


def test_removal_is_synced_and_may_be_repeated(disk: Recorder, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    disk.remove(f"{tmp_path}/x")
    disk.remove(f"{tmp_path}/x")

    assert disk.calls == ["unlink x", "sync ."]


def test_small_files_are_replaced_whole(disk: Recorder, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    disk.write_file(f"{tmp_path}/f", b"new", mode=0o600)

    fresh = f"f.new.{os.getpid()}"
    assert [f"sync {fresh}", f"rename {fresh} f", "sync ."] == disk.calls
    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def short(descriptor: int, pieces: Sequence[bytes], at: int) -> int:
        whole = b"".join(pieces)
        return real(descriptor, [whole[: max(1, len(whole) // 2)]], at)

    monkeypatch.setattr(os, "pwritev", short)
    disk = Disk()
    descriptor = disk.create(f"{tmp_path}/f")
    content = [b"abc", b"", b"defgh", b"i"]

    assert disk.write(descriptor, "f", content, 0) == 9

    os.close(descriptor)
    assert (tmp_path / "f").read_bytes() == b"abcdefghi"


def test_relaxed_disks_sync_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    disk = Disk(relaxed=True)
    disk.write_file(f"{tmp_path}/f", b"x")
    disk.make_directory(f"{tmp_path}/d", below=str(tmp_path))

    assert synced == []


def test_failures_are_translated_and_missing_files_are_not() -> None:
    with pytest.raises(StorageFull), translated("x"):
        raise OSError(28, "no space")
    with pytest.raises(Unavailable, match="x"), translated("x"):
        raise OSError(5, "input/output error")
    with pytest.raises(FileNotFoundError), translated("x"):
        raise FileNotFoundError


def test_a_file_system_that_cannot_be_synced_says_so(tmp_path: Path) -> None:
    disk = Disk()
    with disk.watching(str(tmp_path)) as watch:
        disk.sync_everything(watch)

    with pytest.raises(OSError, match="Bad file descriptor"):
        durable._syncfs(-1)


def test_relaxed_leaves_out_the_sync_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_syncfs", lambda _: pytest.fail("synced"))

    disk = Disk(relaxed=True)
    with disk.watching(str(tmp_path)) as watch:
        disk.sync_everything(watch)
