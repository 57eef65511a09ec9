"""Whose a data directory is, whether it is free, and on what disk it lies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from registry.catalog.migrations import CHAINS
from registry.cli import directory, presence
from registry.cli.exits import CommandError
from store.opening import initialize

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
23 22 0:20 / /srv rw - nfs4 server:/export rw
24 22 254:1 / /data rw - xfs /dev/vdb rw
25 24 254:2 / /data/blobs rw - xfs /dev/vdc rw
26 22 254:3 / /with\\040space rw shared:1 master:2 - btrfs /dev/vdd rw
27 22 254:4 / /data rw - ext4 /dev/vde rw
malformed
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/x", ("/", "ext4")),
        ("/srv/models", ("/srv", "nfs4")),
        ("/srvx", ("/", "ext4")),
        ("/data/uploads", ("/data", "ext4")),
        ("/data/blobs/sha256", ("/data/blobs", "xfs")),
        ("/with space/d", ("/with space", "btrfs")),
    ],
)
def test_the_innermost_and_last_mount_is_the_one(path: str, expected: tuple[str, str]) -> None:
    assert directory.mount_of(Path(path), MOUNTS) == expected


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "mount_of", lambda path, mounts: ("/srv", "nfs4"))

    with pytest.raises(CommandError, match=r"network file system \(nfs4\)"):
        directory.claim(tmp_path, create=True)
    assert os.listdir(tmp_path) == []


def test_blobs_on_another_disk_than_uploads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"layout_version": 1}))
    (tmp_path / "blobs").mkdir()

    def mount_of(path: Path, mounts: str) -> tuple[str, str]:
        return ("/other" if path.name == "blobs" else "/here"), "ext4"

    monkeypatch.setattr(directory, "mount_of", mount_of)

    with pytest.raises(CommandError, match="another file system"):
        directory.claim(tmp_path, create=True)


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    directory.claim(root, create=True).release()

    assert root.stat().st_mode & 0o777 == 0o700


def test_a_missing_directory_is_not_made_for_a_command(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no data directory"):
        directory.claim(tmp_path / "a", create=False)
    assert os.listdir(tmp_path) == []


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with pytest.raises(CommandError, match="not a directory"):
        directory.claim(tmp_path / "data", create=True)


def test_a_foreign_directory_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(CommandError, match=r"not a data directory of digestry.*thesis\.tex"):
        directory.claim(tmp_path, create=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_our_data_without_its_identity_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite3").write_text("")

    with pytest.raises(CommandError, match=r"no store\.json"):
        directory.claim(tmp_path, create=True)


def test_what_a_start_that_was_cut_short_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("lock", "writer.lock", "server.json.new", "store.json.new.123"):
        (tmp_path / name).write_text("")
    (tmp_path / "lost+found").mkdir()

    directory.claim(tmp_path, create=True).release()


def test_a_first_start_that_ended_before_the_identity_is_begun_again(tmp_path: Path) -> None:
    initialize(tmp_path, CHAINS)
    (tmp_path / "store.json").unlink()
    directory.claim(tmp_path, create=True).release()

    (tmp_path / "blobs" / "sha256" / "ab").mkdir()
    with pytest.raises(CommandError, match=r"no store\.json"):
        directory.claim(tmp_path, create=True)


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"layout_version": 99}))

    with pytest.raises(CommandError, match="newer digestry"):
        directory.claim(tmp_path, create=True)


def test_an_unreadable_identity_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("not json")

    with pytest.raises(CommandError, match="not readable as ours"):
        directory.claim(tmp_path, create=True)


def test_a_second_claim_names_the_server_that_holds_the_first(tmp_path: Path) -> None:
    first = directory.claim(tmp_path, create=True)
    told = presence.Presence(os.getpid(), "http://127.0.0.1:1", "secret")
    presence.announce(tmp_path, told)

    with pytest.raises(directory.DirectoryInUse, match=f"id {os.getpid()} at http") as caught:
        directory.claim(tmp_path, create=True)
    assert caught.value.owner == told
    first.release()
    directory.claim(tmp_path, create=True).release()


def test_a_claim_waits_for_the_workers_of_a_dead_server(tmp_path: Path) -> None:
    first = directory.claim(tmp_path, create=True)
    presence.announce(tmp_path, presence.Presence(2**22 + 1, "http://127.0.0.1:1", "secret"))
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        first.release()

    directory.claim(tmp_path, create=True, sleep=sleep).release()

    assert len(waited) == 1
