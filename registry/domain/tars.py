"""The tar format, as far as trees need it: headers written one way, headers read with suspicion.

**Out.** POSIX ustar, files only, mode 0644, owner and group 0, time 0, no names of people: equal
trees are equal archives, byte for byte. A path that ustar cannot hold (not ASCII, or too long for
its two fields) and a size from 8 GiB on travel in a pax header before the file's own.

**In.** ustar, pax and GNU archives; regular files and directories only. Everything else is refused
by its name, because a registry that silently dropped it would hand back something else than it was
given. Headers that extend the next one are read within a limit.
"""

from __future__ import annotations

from typing import Final
from zlib import adler32

import msgspec

from registry.errors import Invalid

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
"""What an archive ends with."""

_LARGEST_OCTAL: Final = 8**11 - 1
_LARGEST_SIZE: Final = 2**62

FILE: Final = "file"
DIRECTORY: Final = "directory"
PAX: Final = "pax"
PAX_GLOBAL: Final = "pax global"
LONG_NAME: Final = "long name"
LONG_LINK: Final = "long link"

EXTENSIONS: Final = frozenset((PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK))
"""Kinds of entries that say something about the entry after them."""

_KINDS: Final = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"5": DIRECTORY,
    b"x": PAX,
    b"g": PAX_GLOBAL,
    b"L": LONG_NAME,
    b"K": LONG_LINK,
}


class Refusal(msgspec.Struct, frozen=True):
    """Why entries of one kind are not taken."""

    code: str
    reason: str


_LINK: Final = "link; use `tar -h --hard-dereference` to pack what it leads to"
_DEVICE: Final = "; only files and directories are taken"
_REFUSED: Final = {
    b"1": Refusal(code="tar_link", reason=f"is a hard {_LINK}"),
    b"2": Refusal(code="tar_link", reason=f"is a symbolic {_LINK}"),
    b"3": Refusal(code="tar_device", reason=f"is a character device{_DEVICE}"),
    b"4": Refusal(code="tar_device", reason=f"is a block device{_DEVICE}"),
    b"6": Refusal(code="tar_device", reason=f"is a named pipe{_DEVICE}"),
    b"S": Refusal(code="tar_sparse", reason="is a sparse file; pack it without `tar -S`"),
}
_SPARSE: Final = "GNU.sparse."


class Header(msgspec.Struct, frozen=True):
    """One header block, read as it stands."""

    kind: str
    name: bytes
    size_bytes: int


class Extension(msgspec.Struct, frozen=True):
    """What a pax header says of the entry after it, as far as we care."""

    path: bytes | None = None
    size_bytes: int | None = None


def entry_size(path: str, size_bytes: int) -> int:
    """How many bytes `header_of`, the content and its padding make."""
    extra = 0
    if _needs_pax(path, size_bytes):
        extra = BLOCK + padded(len(_pax_records(path, size_bytes)))
    return extra + BLOCK + padded(size_bytes)


def padded(size_bytes: int) -> int:
    """A size rounded up to whole blocks."""
    return (size_bytes + BLOCK - 1) // BLOCK * BLOCK


def header_of(path: str, size_bytes: int) -> bytes:
    """Everything that comes before the content of a file."""
    if not _needs_pax(path, size_bytes):
        prefix, name = _split(path)
        return _ustar(name, prefix, size_bytes, b"0")
    records = _pax_records(path, size_bytes)
    # The names that a reader without pax falls back to; they need not be unique.
    short = path.rpartition("/")[2].encode("ascii", "replace")[:80]
    return (
        _ustar(b"PaxHeaders/" + short, b"", len(records), b"x")
        + records.ljust(padded(len(records)), b"\0")
        + _ustar(short, b"", min(size_bytes, _LARGEST_OCTAL), b"0")
    )


def _needs_pax(path: str, size_bytes: int) -> bool:
    return size_bytes > _LARGEST_OCTAL or not path.isascii() or not _fits(path)


def _fits(path: str) -> bool:
    return len(path) <= 100 or bool(_split(path)[1])


def _split(path: str) -> tuple[bytes, bytes]:
    """Prefix and name of a ustar header; the name is empty if no slash lies right."""
    raw = path.encode("ascii")
    if len(raw) <= 100:
        return b"", raw
    slash = raw.find(b"/", len(raw) - 101)
    if slash <= 0 or slash > 155:
        return b"", b""
    return raw[:slash], raw[slash + 1 :]


def _pax_records(path: str, size_bytes: int) -> bytes:
    records = _pax_record("path", path)
    if size_bytes > _LARGEST_OCTAL:
        records += _pax_record("size", str(size_bytes))
    return records


def _pax_record(key: str, value: str) -> bytes:
    """``<length> <key>=<value>`` and a newline, where the length counts itself."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(name: bytes, prefix: bytes, size_bytes: int, kind: bytes) -> bytes:
    block = bytearray(
        name.ljust(100, b"\0")
        + b"0000644\0" * 1
        + b"0000000\0" * 2
        + b"%011o\0" % size_bytes
        + b"00000000000\0"
        + b" " * 8
        + kind
        + bytes(100)
        + b"ustar\x0000"
        + bytes(64)
        + b"0000000\0" * 2
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


# Reading.


def parse_header(block: bytes) -> Header:
    """Read one header block; raises `Invalid` for what is not one, or of a kind that is refused."""
    _check_sum(block)
    name = _text(block[0:100])
    if block[257:263] == b"ustar\0":
        prefix = _text(block[345:500])
        name = prefix + b"/" + name if prefix else name
    kind_byte = block[156:157]
    kind = _KINDS.get(kind_byte)
    if kind is None:
        refusal = _REFUSED.get(kind_byte)
        if refusal is not None:
            raise refused(shown(name), refusal.reason, code=refusal.code)
        raise refused(
            shown(name), f"is of the unknown kind {kind_byte!r}", code="tar_entry_unsupported"
        )
    size = _number(block[124:136])
    if kind_byte == b"\0" and name.endswith(b"/"):
        kind = DIRECTORY  # as archives were written before directories had a kind
    return Header(kind, name, size)


def _check_sum(block: bytes) -> None:
    # Of so few bytes the low half of Adler-32 is their sum, and it takes a tenth of `sum`.
    halves = (adler32(block[:256], 0) & 0xFFFF) + (adler32(block[256:], 0) & 0xFFFF)
    plain = halves - sum(block[148:156]) + 8 * 32
    try:
        stated = int(block[148:156].strip(b"\0 ") or b"-", 8)
    except ValueError:
        stated = -1
    if stated != plain and stated != _signed_sum(block):
        raise malformed("a header has a wrong checksum; is this a tar archive?")


def _signed_sum(block: bytes) -> int:
    """Some old writers summed signed characters."""
    rest = block[:148] + block[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in rest) + 8 * 32


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Octal digits, or from the first bit on a binary number, as GNU writes large ones."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        if field[0] == 0xFF or value > _LARGEST_SIZE:
            raise malformed("a header has an impossible size")
        return value
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise malformed("a header has a size that is no number")
    return int(digits, 8)


def parse_pax(content: bytes, *, is_global: bool) -> Extension:
    """Read the records of a pax header; raises `Invalid`.

    A global one may not rename or resize what follows: no writer does, and it would hit all files.
    """
    path: bytes | None = None
    size: int | None = None
    position = 0
    while position < len(content):
        key, value, position = _pax_at(content, position)
        if key.startswith(_SPARSE):
            raise refused("an entry", _REFUSED[b"S"].reason, code="tar_sparse")
        if key in ("path", "size") and is_global:
            raise malformed(f"a global header sets {key}")
        if key == "path":
            path = value
        elif key == "size":
            if not value.isdigit() or len(value) > 19 or int(value) > _LARGEST_SIZE:
                raise malformed("a pax header has a size that is no number")
            size = int(value)
    return Extension(path, size)


def _pax_at(content: bytes, position: int) -> tuple[str, bytes, int]:
    space = content.find(b" ", position, position + 20)
    digits = content[position:space] if space > 0 else b""
    length = int(digits) if digits.isdigit() else 0
    end = position + length
    if length < 5 or end > len(content) or content[end - 1 : end] != b"\n":
        raise malformed("a pax header is broken")
    key, equals, value = content[space + 1 : end - 1].partition(b"=")
    if not equals:
        raise malformed("a pax header has a record without a value")
    return key.decode("utf-8", "replace"), value, end


def long_name(content: bytes) -> bytes:
    """The name in a GNU long-name entry."""
    return content.partition(b"\0")[0]


def path_of(name: bytes) -> str:
    """The path an entry's name means: UTF-8, without the ``./`` that ``tar -C dir .`` writes."""
    try:
        path = name.decode()
    except UnicodeDecodeError as error:
        raise refused(
            shown(name), "has a name that is not UTF-8", code="tar_path_invalid"
        ) from error
    while path.startswith("./"):
        path = path[2:].lstrip("/") if path != "./" else ""
    return path


def shown(name: bytes) -> str:
    """A name for a message, cut and escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 120 else text[:117] + "...")


def refused(name: str, reason: str, *, code: str) -> Invalid:
    """An entry that is not taken, by name."""
    return Invalid("archive", f"{name} {reason}", code=code)


def malformed(reason: str) -> Invalid:
    """Bytes that are no tar archive, or no longer one."""
    return Invalid("archive", reason, code="tar_malformed")


def compression_of(start: bytes) -> str | None:
    """The media type of a compressed stream that begins like this; None if it is none we know."""
    for magic, media in (
        (b"\x1f\x8b", "application/gzip"),
        (b"BZh", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
        (b"PK\x03\x04", "application/zip"),
    ):
        if start.startswith(magic):
            return media
    return None
