"""Directories are remembered exactly, and all shards of a tree in little memory."""

from __future__ import annotations

import tracemalloc

from store.folders import Folders

SHARD = "/data/blobs/sha256/ab/cd"


def test_a_directory_is_in_it_once_it_was_added_and_no_other_is() -> None:
    folders = Folders()
    others = [
        SHARD[:-3],
        f"{SHARD}/00",
        "/data/blobs/sha256/ab/CD",
        "/data/blobs/sha256/ab/ce",
        "/data/blobs/sha256/ac/cd",
        "/data/blobs/sha256/ab/cd1",
        "/data/blobs/sha256/ab/c",
        "/data/blobs/sha256/ab/+d",
        "cd",
    ]
    for path in [SHARD, *others]:
        assert path not in folders
        folders.add(path)
        assert path in folders
    folders.clear()
    folders.add(SHARD)

    assert [path for path in [SHARD, *others] if path in folders] == [SHARD]


def test_all_shards_of_a_tree_take_little_memory() -> None:
    tracemalloc.start()
    try:
        folders = Folders()
        for first in range(256):
            folders.add(f"/data/blobs/sha256/{first:02x}")
            for second in range(0, 256, 16):
                folders.add(f"/data/blobs/sha256/{first:02x}/{second:02x}")
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert taken < 150_000
