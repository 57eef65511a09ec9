"""A data directory as its backend sees it: where its files lie, and how they are reached."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from store import layout
from store.backends.shards import Shards
from store.digest import Digest
from store.durable import Disk, translated
from store.threads import Threads


class Directory(msgspec.Struct, frozen=True, eq=False):
    """What a store and its staged writers share; its folders lie on one file system."""

    root: str
    disk: Disk
    threads: Threads
    shards: Shards

    def blob(self, digest: Digest) -> str:
        return f"{self.root}/{layout.blob_key(digest)}"

    def upload(self, session: str) -> str:
        return f"{self.root}/{layout.upload_key(session)}"

    def segments(self, digest: Digest) -> str:
        return f"{self.root}/{layout.segments_key(digest)}"

    def aside(self, digest: Digest, generation: int) -> str:
        return f"{self.root}/{layout.quarantine_key(digest, generation)}"


def prepare(root: Path, disk: Disk) -> None:
    """Make the folders of a local store below an existing directory, durably; blocking."""
    with translated("prepare the data directory"):
        for folder in (layout.BLOBS, layout.SEGMENTS, layout.UPLOADS, layout.QUARANTINE):
            disk.make_directory(f"{root}/{folder}", below=str(root))


def size_of(path: str) -> int | None:
    """How many bytes a file has; None if it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None
