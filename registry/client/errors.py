"""What can go wrong for somebody who talks to a registry.

::

    ClientError
      Refused(status, code, detail)   the server understood and said no; repeating is useless
      Unreachable(url, reason)        no answer, or none but "later", for as long as we had patience
      NotARegistry(url, reason)       something answers there, and not as a registry would
      Damaged(what)                   bytes that are not what their digest says, twice
      SourceChanged(path)             a local file changed while it was being sent
      SourceRefused(path, reason)     a local file that cannot be part of a version
      TargetRefused(path, reason)     a place on disk that is not written to
      WriteFailed(path, reason)       the disk gave up
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Root of what this package raises on purpose."""


class Refused(ClientError):
    """A problem document, or another answer of the four hundreds, or an error of the server."""

    def __init__(self, status: int, code: str, detail: str, details: Mapping[str, Any]) -> None:
        self.status = status
        self.code = code
        self.details = details
        super().__init__(detail or f"the server answered {status}")


class Unreachable(ClientError):
    def __init__(self, url: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{url} cannot be reached: {reason}")


class NotARegistry(ClientError):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url} does not answer like digestry: {reason}")


class Damaged(ClientError):
    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")


class SourceChanged(ClientError):
    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} changed while it was being sent")


class SourceRefused(ClientError):
    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} {reason}")


class TargetRefused(ClientError):
    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} {reason}")


class WriteFailed(ClientError):
    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be written: {reason}")
