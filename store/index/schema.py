"""Tables of the store: which blobs exist, who needs them, and what is in progress.

Times are integers, microseconds since the epoch in UTC, so that both dialects keep and compare them
alike. Digests are the 32 raw bytes: half the size of their hexadecimal form in every index page.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from store.index.partial import only

metadata = MetaData()

SCHEMA_NUMBER: Final = 3
"""The newest migration of this chain; part of ``PRAGMA user_version``."""

blobs = Table(
    "blobs",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("last_claimed", BigInteger, nullable=False),
    # BLAKE3 of the blob itself up to one segment, of its segments file above; NULL: not computed.
    Column("segments", LargeBinary(32)),
    # When and since which boot of the machine the whole file was known to match its digest.
    Column("verified_at", BigInteger),
    Column("verified_boot", Text),
    Column("created_at", BigInteger, nullable=False),
    # Which file of the archive has the bytes; NULL: the file under the blob's own name has.
    Column("archived", BigInteger),
    CheckConstraint("state IN ('present', 'moving', 'damaged')", name="blob_state"),
    CheckConstraint("length(digest) = 32", name="blob_digest"),
    CheckConstraint("size >= 0", name="blob_size"),
    sqlite_with_rowid=False,
)
Index("blobs_by_claim", blobs.c.last_claimed)
Index("blobs_unsettled", blobs.c.state, sqlite_where=blobs.c.state != "present")

archived = Table(
    "archived",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    # Bytes on the disk; NULL while they are being written.
    Column("stored", BigInteger),
    # Since when neither a blob nor the quarantine names it; NULL: one does.
    Column("spare_since", BigInteger),
    Column("made_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("archived_spare", archived.c.spare_since, sqlite_where=archived.c.spare_since.is_not(None))

refs = Table(
    "refs",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("owner", Text, primary_key=True),
    # pin: made by an upload; kept: asked for by name; tree, folder: counted by the catalog.
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # What opens it to others than its owner, in words of whoever claims; NULL, both: nothing.
    Column("realm", Text),
    Column("level", Text),
    CheckConstraint("count > 0", name="ref_count"),
    sqlite_with_rowid=False,
)
Index("refs_by_owner", refs.c.owner, refs.c.kind, refs.c.digest)
# Whether a reader has a claim on a blob is a handful of seeks here, however many others have one.
Index(
    "refs_by_access",
    refs.c.digest,
    refs.c.level,
    refs.c.realm,
    **only(refs.c.level.is_not(None)),
)

leases = Table(
    "leases",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("leases_by_expiry", leases.c.expires_at)
Index("leases_by_holder", leases.c.holder)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("length", BigInteger),
    Column("offset", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    # 1: bytes past `offset` await a checksum and do not count after a kill.
    Column("strict", Integer, nullable=False),
    Column("boot", Text, nullable=False),
    Column("expected", LargeBinary(32)),
    Column("digest", LargeBinary(32)),
    Column("metadata", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint("state IN ('receiving', 'finished')", name="upload_state"),
    sqlite_with_rowid=False,
)
Index("uploads_by_expiry", uploads.c.expires_at)
Index("uploads_by_owner", uploads.c.owner)

quarantine = Table(
    "quarantine",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("size", BigInteger, nullable=False),
    # collected: may be undone; damaged: kept for inspection.
    Column("reason", Text, nullable=False),
    Column("collection", Text),
    Column("segments", LargeBinary(32)),
    Column("moved_at", BigInteger, nullable=False),
    # Which file of the archive has the bytes, which stay there; NULL: the file in quarantine has.
    Column("archived", BigInteger),
    CheckConstraint("reason IN ('collected', 'damaged')", name="quarantine_reason"),
    sqlite_with_rowid=False,
)
Index("quarantine_by_collection", quarantine.c.collection)

counters = Table(
    "counters",
    metadata,
    # generation: never repeats; moves: how many times a blob was marked moving.
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

store_state = Table(
    "store_state",
    metadata,
    # store_id, epoch: what store.json says too; collection_off: why collection refuses, if it does;
    # archive_id: what archive.json says too.
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
