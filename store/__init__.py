"""Bytes by their SHA-256, kept as long as somebody needs them. Knows no models and no HTTP.

**Words.** A *digest* names bytes. A *blob* is immutable bytes with their digest. An *upload* is a
session that turns received bytes into a blob. A *lease* keeps a blob for a time while work is in
progress; a *reference* keeps it until it is given up; a *pin* is a reference by a principal or a
model to a blob that no tree names. An owner is an opaque text here. A *hold* keeps what was
collected from being removed for good while somebody copies the store.

**Units.** What ends in ``_at`` is in microseconds since the epoch, UTC; lengths, sizes and offsets
are in bytes. Any other unit stands in the name (``_seconds``) or beside it.

**Invariants.**

1. A success for an upload *must* be sent only after the bytes are verified, synced, given their
   name, the directory synced, and the row with its reference or lease committed.
   Kept in `store.ingest`.
   Test: tests/store/test_crash.py::test_acknowledged_blobs_survive_every_crash
2. A visible blob *must* be whole and match its digest; visible means a committed ``present`` row.
   Kept in `store.ingest` and `store.uploads`.
   Test: tests/store/test_crash.py::test_visible_blobs_are_whole_in_every_crash_state
3. A reference *must* keep its blob from collection, and so *must* a lease and the grace age.
   Kept in `store.gc`.
   Test: tests/store/test_interleavings.py::test_no_schedule_loses_a_referenced_blob
4. Damage *must* be found before it is handed out, set aside, and healed by the next upload.
   Kept in `store.reading` and `store.scrub`.
   Test: tests/store/test_scrub.py::test_next_upload_heals
5. Memory *must not* grow with the size of a blob.
   Kept in `store.ingest`. Test: tests/store/test_memory_use.py::test_memory_stays_flat
6. An index row *should* exist for every stored file; `store.fsck` adopts those without.
"""
