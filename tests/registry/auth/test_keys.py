"""The root key: made once, durable, private; its sub-keys by HKDF."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from registry.auth.keys import ROOT_FILE, RootKey, hkdf, load_root_key, make_root_key
from store.durable import Disk
from store.errors import StoreRefused

# RFC 5869, appendix A: the three cases with SHA-256.
VECTORS = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        "".join(f"{byte:02x}" for byte in range(0x50)),
        "".join(f"{byte:02x}" for byte in range(0x60, 0xB0)),
        "".join(f"{byte:02x}" for byte in range(0xB0, 0x100)),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "size", "expected"), VECTORS)
def test_hkdf_gives_what_the_rfc_says(
    secret: str, salt: str, info: str, size: int, expected: str
) -> None:
    made = hkdf(
        bytes.fromhex(secret), salt=bytes.fromhex(salt), info=bytes.fromhex(info), size=size
    )

    assert made.hex() == expected


def test_hkdf_refuses_more_than_it_can_give() -> None:
    with pytest.raises(ValueError, match="more than HKDF can give"):
        hkdf(b"secret", info=b"", size=255 * 32 + 1)


def test_each_purpose_has_a_key_of_its_own() -> None:
    root = RootKey(bytes(32))

    assert root.sub_key("audit seal") == root.sub_key("audit seal")
    assert root.sub_key("audit seal") != root.sub_key("cookie")
    assert root.sub_key("audit seal") != RootKey(bytes([1]) * 32).sub_key("audit seal")


def test_a_root_key_shows_nothing_of_itself() -> None:
    root = RootKey(b"k" * 32)

    assert "k" * 8 not in repr(root)
    assert str(root) == "RootKey(…)"


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = make_root_key(tmp_path)
    again = make_root_key(tmp_path)
    loaded = load_root_key(tmp_path)

    assert loaded is not None
    assert made.id == again.id == loaded.id
    assert stat.S_IMODE((tmp_path / ROOT_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["root"]


def test_the_key_has_reached_the_disk_with_its_name(tmp_path: Path) -> None:
    """Its bytes are synced before it has the name, and the directory after."""
    steps: list[str] = []

    class Watched(Disk):
        def sync_data(self, descriptor: int, path: str) -> None:
            steps.append("sync bytes")
            super().sync_data(descriptor, path)

        def link(self, source: str, target: str) -> None:
            steps.append("link")
            super().link(source, target)

        def sync_directory(self, path: str) -> None:
            steps.append(f"sync {os.path.basename(path)}")
            super().sync_directory(path)

    make_root_key(tmp_path, Watched())

    assert steps == [f"sync {tmp_path.name}", "sync bytes", "sync keys", "link", "sync keys"]


def test_of_many_makers_at_once_one_wins(tmp_path: Path) -> None:
    ids: list[str] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        ids.append(make_root_key(tmp_path).id)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["root"]


def test_a_directory_without_a_key_has_none(tmp_path: Path) -> None:
    assert load_root_key(tmp_path) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    make_root_key(tmp_path)
    (tmp_path / ROOT_FILE).chmod(mode)

    with pytest.raises(StoreRefused, match="may be read by others"):
        load_root_key(tmp_path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_that_is_not_whole_is_refused(tmp_path: Path, size: int) -> None:
    make_root_key(tmp_path)
    (tmp_path / ROOT_FILE).write_bytes(bytes(size))

    with pytest.raises(StoreRefused, match="damaged"):
        load_root_key(tmp_path)
