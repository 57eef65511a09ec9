"""The few kinds of storage failure, with structured fields and no HTTP.

::

    StoreError
      BlobNotFound(digest)
      DigestMismatch(expected, actual)
      SizeMismatch(expected, actual)           received more or fewer bytes than declared
      RangeNotSatisfiable(digest, size_bytes)
      StorageFull(needed_bytes)                the disk, or the reserve kept for the index
      StorageReadOnly(operation)               the directory cannot be written
      TooManyOpenFiles(operation)
      Corrupt(digest)                          stored bytes no longer match their digest
      IndexConflict(constraint)                a row breaks a rule of the schema
      Unavailable(operation)                   the only kind that is worth repeating as it is
        ArchiveUnavailable(reason)             the cold tier cannot be read now; nothing is lost
      StoreRefused(reason)                     a directory not ours, newer than us, or in use
      CollectionRefused(reason)                something looks wrong; nothing was removed
      UploadError(session)
        UploadNotFound
        UploadExpired
        UploadFinished
        UploadLocked                           another writer holds the session and did not yield
        UploadTaken                            a newer writer took the session; this one must stop
        UploadTooLarge(limit)                  more bytes than the session declared
        OffsetConflict(expected, actual)
        ChecksumMismatch(algorithm)

Errors carry fields; ``str()`` makes one plain sentence of them.
"""

from __future__ import annotations

from store.digest import Digest


class StoreError(Exception):
    """Root of everything the store raises on purpose."""


class BlobNotFound(StoreError):
    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        super().__init__(f"no blob {digest}")


class DigestMismatch(StoreError):
    def __init__(self, expected: Digest, actual: Digest) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"expected {expected} but the bytes hash to {actual}")


class SizeMismatch(StoreError):
    """``actual`` counts what was read before giving up, when more came than was declared."""

    def __init__(self, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"expected {expected} bytes but received {actual}")


class RangeNotSatisfiable(StoreError):
    def __init__(self, digest: Digest, size_bytes: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        super().__init__(f"range lies outside the {size_bytes} bytes of {digest}")


class StorageFull(StoreError):
    def __init__(self, needed_bytes: int | None = None) -> None:
        self.needed_bytes = needed_bytes
        needed = "" if needed_bytes is None else f" for {needed_bytes} bytes"
        super().__init__(f"not enough free space{needed}")


class StorageReadOnly(StoreError):
    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(f"the data directory cannot be written ({operation})")


class TooManyOpenFiles(StoreError):
    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(f"too many open files ({operation})")


class Corrupt(StoreError):
    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        super().__init__(f"the stored bytes of {digest} are damaged")


class IndexConflict(StoreError):
    """A unit of work tried to keep a row that a key, a check or a foreign key forbids."""

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        super().__init__(f"the index refuses a row ({constraint})")


class Unavailable(StoreError):
    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(f"{operation} is not possible right now; try again")


class ArchiveUnavailable(Unavailable):
    """Cold bytes are where nobody can get at them now: not mounted, or another archive is."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__("reading the archive")
        self.args = (f"the archive cannot be used: {reason}",)


class StoreRefused(StoreError):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CollectionRefused(StoreError):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"collection refused: {reason}")


class UploadError(StoreError):
    """Root of what can go wrong with one upload session."""

    def __init__(self, session: str, problem: str) -> None:
        self.session = session
        super().__init__(f"upload {session} {problem}")


class UploadNotFound(UploadError):
    def __init__(self, session: str) -> None:
        super().__init__(session, "does not exist")


class UploadExpired(UploadError):
    def __init__(self, session: str) -> None:
        super().__init__(session, "has expired")


class UploadFinished(UploadError):
    def __init__(self, session: str) -> None:
        super().__init__(session, "is already finished")


class UploadLocked(UploadError):
    def __init__(self, session: str) -> None:
        super().__init__(session, "is being written by somebody else")


class UploadTaken(UploadError):
    def __init__(self, session: str) -> None:
        super().__init__(session, "was taken over by a newer request")


class UploadTooLarge(UploadError):
    def __init__(self, session: str, limit: int) -> None:
        self.limit = limit
        super().__init__(session, f"received more than its {limit} bytes")


class OffsetConflict(UploadError):
    def __init__(self, session: str, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(session, f"stands at offset {actual}, not {expected}")


class ChecksumMismatch(UploadError):
    def __init__(self, session: str, algorithm: str) -> None:
        self.algorithm = algorithm
        super().__init__(session, f"received bytes that do not match their {algorithm} checksum")
