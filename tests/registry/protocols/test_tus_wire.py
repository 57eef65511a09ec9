"""The headers of tus as pure functions: what is read, what is refused, what is written."""

from __future__ import annotations

import base64
import hashlib

import pytest

from registry.errors import Invalid
from registry.protocols.tus import wire
from store.digest import EMPTY, Digest

SIZES = {"sha1": 20, "sha256": 32}
MODEL = Digest.of(b"a model")


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), (str(2**63 - 1), 2**63 - 1)])
def test_numbers_are_read(text: str, number: int) -> None:
    assert wire.parse_number("Upload-Length", text) == number


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", " 1", "1 ", "1_0", "1.0", "0x1", "٣", "1e3", "1,1", str(2**63), "9" * 40],
)
def test_what_is_not_plain_digits_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        wire.parse_number("Upload-Length", text)

    assert refused.value.field == "Upload-Length"


@pytest.mark.parametrize(
    ("length", "deferred", "expected"), [("0", None, 0), ("12", None, 12), (None, "1", None)]
)
def test_a_creation_declares_its_length_or_defers_it(
    length: str | None, deferred: str | None, expected: int | None
) -> None:
    assert wire.parse_length(length, deferred) == expected


@pytest.mark.parametrize(
    ("length", "deferred"), [(None, None), ("1", "1"), (None, "0"), (None, ""), ("x", None)]
)
def test_a_creation_with_an_unclear_length_is_refused(
    length: str | None, deferred: str | None
) -> None:
    with pytest.raises(Invalid):
        wire.parse_length(length, deferred)


def test_a_missing_offset_is_refused() -> None:
    with pytest.raises(Invalid, match="Upload-Offset"):
        wire.parse_offset(None)


@pytest.mark.parametrize("lines", [[], [""], ["  "]])
def test_no_metadata_is_fine(lines: list[str]) -> None:
    assert wire.parse_metadata(lines) == wire.Metadata(text="", filename=None, digest=None)


def test_metadata_is_understood_and_unknown_keys_are_kept() -> None:
    header = (
        f"filename {b64('modèle.bin')}, digest {b64(str(MODEL))},is_confidential,note {b64('x')}"
    )

    metadata = wire.parse_metadata([header])

    assert metadata.filename == "modèle.bin"
    assert metadata.digest == MODEL
    assert metadata.text == header.replace(", ", ",")


def test_metadata_in_several_header_lines_is_one_list() -> None:
    metadata = wire.parse_metadata([f"a {b64('1')}", f"b {b64('2')}"])

    assert metadata.text == f"a {b64('1')},b {b64('2')}"


def test_a_bare_hexadecimal_digest_means_sha256() -> None:
    assert wire.parse_metadata([f"digest {b64(MODEL.hex)}"]).digest == MODEL


@pytest.mark.parametrize(
    "header",
    [
        ",",
        "a YQ==,",
        "a YQ==,,b YQ==",
        "a YQ==,a Yg==",
        "a b c",
        "a Y",
        "a YQ",
        "a =YQ=",
        "a YQ==YQ==",
        "a Y$==",
        "\u00e9 YQ==",
        "a\x7f YQ==",
        "filename " + b64(b"\xff\xfe"),
        "filename " + b64("a\nb"),
        "filename " + b64("a\x00b"),
        "digest " + b64("sha256:abc"),
        "digest " + b64("md5:" + "0" * 32),
        "digest " + b64("SHA256:" + EMPTY.hex),
        "digest " + b64("sha256:" + EMPTY.hex.upper()),
        "digest " + b64("sha256:" + EMPTY.hex + "\n"),
        "digest",
        "digest " + b64(b"\xff"),
        "a " + b64("x" * wire.METADATA_BYTES),
    ],
)
def test_bad_metadata_is_refused(header: str) -> None:
    with pytest.raises(Invalid) as refused:
        wire.parse_metadata([header])

    assert refused.value.field == "Upload-Metadata"


def test_a_checksum_is_read() -> None:
    expected = hashlib.sha1(b"piece").digest()

    assert wire.parse_checksum(f"sha1 {b64(expected)}", SIZES) == wire.ClaimedChecksum(
        "sha1", expected
    )
    assert wire.parse_checksum(None, SIZES) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha1",
        "sha1 ",
        "sha1 !!!!",
        f"sha1 {b64(b'short')}",
        f"sha256 {b64(hashlib.sha1(b'x').digest())}",
        f"crc32 {b64(b'1234')}",
        f"SHA1 {b64(hashlib.sha1(b'x').digest())}",
        f"sha1 {hashlib.sha1(b'x').hexdigest()}",
    ],
)
def test_a_bad_checksum_is_refused(header: str) -> None:
    with pytest.raises(Invalid) as refused:
        wire.parse_checksum(header, SIZES)

    assert refused.value.field == "Upload-Checksum"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/offset+octet-stream", True),
        ("Application/Offset+Octet-Stream; charset=x", True),
        ("application/octet-stream", False),
        ("", False),
        (None, False),
    ],
)
def test_only_one_content_type_is_upload_content(content_type: str | None, expected: bool) -> None:
    assert wire.is_upload_content(content_type) is expected


def test_dates_are_written_for_http_and_rounded_down() -> None:
    assert wire.http_date(784_111_777_999_999) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_digest_is_written_as_rfc_9530_wants_it() -> None:
    assert wire.repr_digest(EMPTY) == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
