"""The headers of tus 1.0 as values: every function reads or writes text and touches nothing else.

What a client sent wrongly raises `registry.errors.Invalid` with the header's name as its field.
Numbers are ASCII digits only: ``int()`` alone would also take signs, underscores, spaces and the
digits of other scripts, and two servers of one upload must never read one header differently.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from email.utils import formatdate
from typing import Final

import msgspec

from registry.errors import Invalid
from store.digest import Digest, InvalidDigest

VERSION: Final = "1.0.0"
EXTENSIONS: Final = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "expiration",
    "termination",
)
CONTENT_TYPE: Final = "application/offset+octet-stream"
METADATA_BYTES: Final = 4096
"""What a session keeps of ``Upload-Metadata``; more is refused, since the index holds it."""

_NUMBER = re.compile(r"[0-9]{1,19}\Z", re.ASCII)
_LARGEST = 2**63 - 1
_KEY = re.compile(r"[!-+\--~]+\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Metadata(msgspec.Struct, frozen=True):
    """``Upload-Metadata``: the pairs we understand, and the text as it is echoed."""

    text: str
    filename: str | None
    digest: Digest | None


class ClaimedChecksum(msgspec.Struct, frozen=True):
    """``Upload-Checksum``: which algorithm, and what the bytes of this request should hash to."""

    algorithm: str
    expected: bytes


def parse_number(header: str, text: str) -> int:
    """Read a non-negative integer that the index can hold."""
    if _NUMBER.match(text) is None or int(text) > _LARGEST:
        raise Invalid(header, "must be a non-negative integer below 2^63, in digits")
    return int(text)


def parse_offset(text: str | None) -> int:
    if text is None:
        raise Invalid("Upload-Offset", "is missing")
    return parse_number("Upload-Offset", text)


def parse_length(length: str | None, deferred: str | None) -> int | None:
    """The length that a creation declares; None where it is to be told later."""
    if length is not None and deferred is not None:
        raise Invalid("Upload-Length", "and Upload-Defer-Length exclude each other")
    if length is not None:
        return parse_number("Upload-Length", length)
    if deferred is None:
        raise Invalid("Upload-Length", "is missing; send it, or 'Upload-Defer-Length: 1'")
    if deferred != "1":
        raise Invalid("Upload-Defer-Length", "can only be 1")
    return None


def parse_metadata(lines: Sequence[str]) -> Metadata:
    """Read ``key base64,key base64``; a header sent in several lines is one list.

    Unknown keys are kept for the echo. ``digest`` and ``filename`` must be what they claim to be.
    """
    text = ",".join(line.strip() for line in lines if line.strip())
    if len(text) > METADATA_BYTES:
        raise Invalid("Upload-Metadata", f"is longer than {METADATA_BYTES} bytes")
    pairs: dict[str, str] = {}
    values: dict[str, bytes] = {}
    for pair in text.split(",") if text else ():
        key, _, encoded = pair.strip().partition(" ")
        if _KEY.match(key) is None:
            raise Invalid("Upload-Metadata", "has a key that is empty or not printable ASCII")
        if key in pairs:
            raise Invalid("Upload-Metadata", f"names {key!r} twice")
        value = _unbase64(encoded.strip())
        if value is None:
            raise Invalid("Upload-Metadata", f"has a value for {key!r} that is not base64")
        pairs[key] = encoded.strip()
        values[key] = value
    return Metadata(
        text=",".join(f"{key} {encoded}" if encoded else key for key, encoded in pairs.items()),
        filename=_filename(values.get("filename")),
        digest=_digest(values.get("digest")),
    )


def parse_checksum(text: str | None, sizes: Mapping[str, int]) -> ClaimedChecksum | None:
    """Read ``algorithm base64``; `sizes` says which algorithms exist and how long their hash is."""
    if text is None:
        return None
    algorithm, _, encoded = text.strip().partition(" ")
    if algorithm not in sizes:
        raise Invalid("Upload-Checksum", f"must use one of {', '.join(sizes)}")
    expected = _unbase64(encoded.strip())
    if expected is None or len(expected) != sizes[algorithm]:
        raise Invalid("Upload-Checksum", f"is not the base64 of a {algorithm} hash")
    return ClaimedChecksum(algorithm, expected)


def is_upload_content(content_type: str | None) -> bool:
    """Whether a body is announced as bytes of an upload; parameters after ``;`` do not matter."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == (
        CONTENT_TYPE
    )


def http_date(microseconds: int) -> str:
    """The date of ``Upload-Expires``; rounded down, so that we never promise too much."""
    return formatdate(microseconds // 1_000_000, usegmt=True)


def repr_digest(digest: Digest) -> str:
    """``Repr-Digest`` of RFC 9530."""
    return f"sha-256=:{base64.b64encode(digest.raw).decode('ascii')}:"


def listed(words: Iterable[str]) -> str:
    return ",".join(words)


def _digest(value: bytes | None) -> Digest | None:
    if value is None:
        return None
    text = value.decode("ascii", "replace")
    try:
        return Digest.parse(text) if ":" in text else Digest.from_hex(text)
    except InvalidDigest as error:
        raise Invalid("Upload-Metadata", "has a digest that is not sha256:<64 hex>") from error


def _filename(value: bytes | None) -> str | None:
    """A label for people that never becomes a path: only what breaks a line or a log is refused."""
    if value is None:
        return None
    try:
        name = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("Upload-Metadata", "has a filename that is not UTF-8") from error
    if _CONTROL.search(name):
        raise Invalid("Upload-Metadata", "has a filename with control characters")
    return name


def _unbase64(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
