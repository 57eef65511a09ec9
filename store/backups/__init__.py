"""Copies of a whole store in a directory of their own, made while it is in use, and the way back.

**Why a backup is consistent.** The index is copied first, at one moment *T*, then the files that
this copy names. A row that is ``present`` at *T* had its whole, synced file under its name, because
ingest commits no row before. From *T* on the file may be moved, but it cannot be lost:

- *Collection* (the reference was dropped after *T*), *scrub* and *fsck* only move files, to
  ``quarantine/<digest>.<generation>``. So each digest is looked for under its name and in
  quarantine, and again where it was found in neither, since it may have changed places between the
  two looks.
- *The archive* gets the bytes before the file goes, and gives them back before its own goes, which
  waits for the hold. So the archive is one more place to look; what is found there is decompressed.
- *Undo* moves it back, which the same looks cover. What undo finds superseded it removes; then the
  digest has been stored anew, and that file is under its name.
- *Purge* and the sweep of the archive's spare files are all that removes a blob's bytes, and they
  wait while there is a hold (`store.holds`, taken before *T*). The hold has an expiry, so that a
  killed backup stops nobody for long; it is renewed while the copying lasts, and a backup whose
  hold had lapsed for however short a time is given up: its files may be gone, and "missing" would
  be a lie about the store.
- *Healing* puts other bytes under the name, which are the same by their digest.
- An *open* file keeps its bytes whatever happens to its names.

Whatever is found is verified against SHA-256 as it is in the copy; the place where it was found
says nothing. A blob whose every file is damaged, or that has none, is reported and is not in the
backup. Rows that are ``moving`` at *T* are treated alike, but may well be gone: they are only
missed if something refers to them. Files stored after *T* are not in the copy of the index and not
copied.

**Why a backup stays valid.** Blobs never change, so generations of a backup share them, and a file
that has its name there is whole: it gets it after it is verified and synced. A generation is one
copy of the index; the marker lists the finished ones and is replaced as a whole, after everything
else is synced. Until then the marker names an unfinished one beside them. Old generations leave the
marker first, then their files go, and of blobs only those that no listed generation names.

**Why a restore is never taken for whole before it is.** ``store.json`` is written last, and without
it nobody opens a directory. The restored index is of a new epoch, with collection off until
confirmed.

Test: tests/store/test_backup.py::test_what_was_acknowledged_before_is_restored_byte_by_byte
"""
