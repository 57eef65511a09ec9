"""Bodies in parts, cut anywhere, as clients send them and as they must not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import MultipartWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import BodyMalformed
from registry.http.multipart import HEADER_BYTES, OUTSIDE_BYTES, parameters_of, parts_of

PLAIN = (
    b"--b\r\n"
    b'Content-Disposition: form-data; name="metadata"\r\n\r\n'
    b'{"a": 1}\r\n'
    b"--b\r\n"
    b'content-disposition: form-data; name="file"; filename="d/w.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
    b"\x00\r\n--\r\n--a\r\n\xff\r\n"
    b"--b--\r\n"
)


async def cut(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(body: bytes, boundary: bytes = b"b", size: int = 7) -> list[tuple[str, bytes]]:
    found = []
    async for part in parts_of(cut(body, size), boundary):
        content = b"".join([piece async for piece in part.content])
        found.append((part.filename or part.name or "", content))
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 10_000])
async def test_parts_are_the_same_however_they_are_cut(size: int) -> None:
    assert await read(PLAIN, size=size) == [
        ("metadata", b'{"a": 1}'),
        ("d/w.bin", b"\x00\r\n--\r\n--a\r\n\xff"),
    ]


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(
        st.binary(max_size=200) | st.just(b"\r\n--\r\n--") | st.just(b""), max_size=5
    ),
    size=st.integers(1, 40),
)
async def test_what_aiohttp_writes_is_read_back(contents: list[bytes], size: int) -> None:
    with MultipartWriter("form-data", boundary="xyz-123") as writer:
        for position, content in enumerate(contents):
            part = writer.append(content, {"Content-Type": "application/octet-stream"})
            part.set_content_disposition("form-data", name="f", filename=f"n{position}")
    body = await _written(writer)

    assert await read(body, b"xyz-123", size) == [
        (f"n{position}", content) for position, content in enumerate(contents)
    ]


async def _written(writer: MultipartWriter) -> bytes:
    class Sink:
        def __init__(self) -> None:
            self.content = b""

        async def write(self, piece: bytes) -> None:
            self.content += piece

    sink = Sink()
    await writer.write(sink)  # type: ignore[arg-type]  # only `write` is used
    return sink.content


async def test_what_stands_outside_is_ignored_within_bounds() -> None:
    assert await read(b"hello\r\n" + PLAIN + b"\r\nbye") == await read(PLAIN)
    for body in (b"x" * OUTSIDE_BYTES * 2 + b"\r\n" + PLAIN, PLAIN + b"x" * OUTSIDE_BYTES * 2):
        with pytest.raises(BodyMalformed):
            await read(body, size=4096)


async def test_empty_parts_and_padded_marks_are_read() -> None:
    body = b"--b \t\r\n\r\n\r\n--b\r\n\r\n--b\r\nA: 1\r\n\r\n--b--"

    assert await read(body, size=1) == [("", b""), ("", b""), ("", b"")]


async def test_content_that_is_not_wanted_is_passed_over() -> None:
    names = [part.filename or part.name async for part in parts_of(cut(PLAIN, 5), b"b")]

    assert names == ["metadata", "d/w.bin"]


@pytest.mark.parametrize("end", range(1, len(PLAIN) - 3))
async def test_a_body_that_is_cut_off_is_never_taken_for_a_whole_one(end: int) -> None:
    with pytest.raises(BodyMalformed):
        await read(PLAIN[:end])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--b\r\nA: 1\r\na: 2\r\n\r\nx\r\n--b--",
        b"--b\r\nA: \xff\r\n\r\nx\r\n--b--",
        b"--b\r\nA: 1\n B: 2\r\n\r\nx\r\n--b--",
        b"--bc\r\n\r\nx\r\n--bc--",
        b"--b\r\nA: " + b"x" * (HEADER_BYTES + 1) + b"\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"A" * (HEADER_BYTES + 100),
        b"--b\r\n\r\nx\r\n--bx\r\n\r\n--b--",
    ],
)
async def test_what_is_no_multipart_body_is_malformed(body: bytes) -> None:
    with pytest.raises(BodyMalformed):
        await read(body, size=1000)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('form-data; name="a"; filename="b c"', {"name": "a", "filename": "b c"}),
        ("form-data; name=a;filename=b", {"name": "a", "filename": "b"}),
        (r'form-data; filename="a\"b\\c"', {"filename": 'a"b\\c'}),
        ('form-data; filename="gr\u00fcn"', {"filename": "gr\u00fcn"}),
        ("form-data", {}),
        ('form-data; name="a', {}),
        ('x; NAME="a"; name="b"', {"name": "a"}),
    ],
)
def test_parameters_are_read_as_clients_write_them(header: str, found: dict[str, str]) -> None:
    assert parameters_of(header) == found
