"""Where things live under the data directory, as pure functions of digests and session ids.

::

    store.json                      store id, layout version, index epoch
    lock writer.lock leader.lock move.lock    process locks
    index.sqlite3                   the index
    blobs/sha256/ab/cd/<64 hex>     blobs
    segments/sha256/ab/cd/<64 hex>  BLAKE3 digests of a blob's segments, derived
    uploads/<session id>            bytes being received
    quarantine/<64 hex>.<gen>       damaged or collected blobs
    restoring/                      what a restore works with until the directory is whole
    archive/archive.json            whose archive it is; all of it may lie in another directory
    archive/zstd/ab/cd/<64 hex>.<n> cold blobs, compressed, by the number of their row
    archive/partial/<64 hex>.<n>    cold blobs being written

Two levels of 256 shards give 65,536 directories: at ten million blobs each holds about 150 names,
few enough for every file system to list at once and for `scrub` to take in one piece.
The last path element is the whole digest, so a file found in ``lost+found`` identifies itself.
"""

from __future__ import annotations

import re
from typing import Final

from store.digest import Digest, InvalidDigest

LAYOUT_VERSION: Final = 1
STORE_FILE: Final = "store.json"
INDEX_FILE: Final = "index.sqlite3"
PROCESS_LOCK: Final = "lock"
WRITER_LOCK: Final = "writer.lock"
LEADER_LOCK: Final = "leader.lock"
MOVE_LOCK: Final = "move.lock"
BLOBS: Final = "blobs/sha256"
SEGMENTS: Final = "segments/sha256"
UPLOADS: Final = "uploads"
QUARANTINE: Final = "quarantine"
RESTORING: Final = "restoring"
ARCHIVE: Final = "archive"
ARCHIVE_FILE: Final = "archive.json"
COLD: Final = "zstd"
PARTIAL: Final = "partial"

_SESSION = re.compile(r"[a-z0-9_]{8,64}\Z")
_NUMBERED = re.compile(r"([0-9a-f]{64})\.([0-9]{1,19})\Z")


def blob_key(digest: Digest) -> str:
    """``blobs/sha256/ab/cd/<64 hex>``."""
    return f"{BLOBS}/{digest.hex[:2]}/{digest.hex[2:4]}/{digest.hex}"


def segments_key(digest: Digest) -> str:
    """``segments/sha256/ab/cd/<64 hex>``."""
    return f"{SEGMENTS}/{digest.hex[:2]}/{digest.hex[2:4]}/{digest.hex}"


def upload_key(session: str) -> str:
    """``uploads/<session id>``; raises `ValueError` for what no session id of ours looks like."""
    if _SESSION.match(session) is None:
        raise ValueError(f"not a session id: {session[:80]!r}")
    return f"{UPLOADS}/{session}"


def quarantine_key(digest: Digest, generation: int) -> str:
    """``quarantine/<64 hex>.<generation>``."""
    return f"{QUARANTINE}/{digest.hex}.{generation}"


def parse_blob_name(shard: str, name: str) -> Digest | None:
    """The digest of a file called `name` in the directory ``ab/cd``; None if it is not a blob's."""
    try:
        digest = Digest.from_hex(name)
    except InvalidDigest:
        return None
    return digest if shard == f"{name[:2]}/{name[2:4]}" else None


def parse_aside_name(name: str) -> tuple[Digest, int] | None:
    """The digest and generation of a quarantined file's name; None if it is not ours."""
    match = _NUMBERED.match(name)
    return None if match is None else (Digest(match[1]), int(match[2]))


def cold_key(digest: Digest, number: int) -> str:
    """``zstd/ab/cd/<64 hex>.<number>``, below the archive."""
    return f"{COLD}/{digest.hex[:2]}/{digest.hex[2:4]}/{digest.hex}.{number}"


def partial_key(digest: Digest, number: int) -> str:
    """``partial/<64 hex>.<number>``, below the archive."""
    return f"{PARTIAL}/{digest.hex}.{number}"


def parse_cold_name(shard: str, name: str) -> tuple[Digest, int] | None:
    """The digest and number of a file in the archive's shard ``ab/cd``; None if it is not ours."""
    found = parse_aside_name(name)
    return found if found is not None and shard == f"{name[:2]}/{name[2:4]}" else None


def is_session(name: str) -> bool:
    """Whether `name` could be the name of a staging file of ours."""
    return _SESSION.match(name) is not None
