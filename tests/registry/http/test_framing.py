"""Bytes of a body are told from their framing, wherever it is cut, and never laxer than aiohttp."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from unittest import mock

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from registry.http import framing
from registry.http.framing import Chunked, Plain, joined

HEAD = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = {
    b"0\r\n\r\n": b"",
    b"5\r\nhello\r\n0\r\n\r\n": b"hello",
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n": b"hello world",
    b"00A\r\n0123456789\r\na\r\n\r\n456789\r\n\r\n00\r\n\r\n": b"0123456789\r\n456789\r\n",
    b'3;a;b=c;d="e;\\"\r"\r\nabc\r\n0\r\n\r\n'.replace(b'\r"', b'"'): b"abc",
    b"1\r\nx\r\n0;last\r\nExpires: never\r\nX-Empty:\r\n\r\n": b"x",
}
BAD = [
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhello\r\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n",
    b"5; a\r\nhello\r\n0\r\n\r\n",
    b'5;a="b\r\nhello\r\n0\r\n\r\n',
    b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    "\u0665\r\nhello\r\n0\r\n\r\n".encode(),
    b"\r\nhello\r\n0\r\n\r\n",
    b"g\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"1FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\ntransfer-encoding: chunked\r\n\r\n",
    b"0\r\nHost: a\r\nHost: b\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\n: b\r\n\r\n",
    b"0\r\nA: b\n\r\n",
    b"0\r\nA: b\r\n\n",
    b"0\r\nA: \x01\r\n\r\n",
    b"0\r\nno field\r\n\r\n",
    b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
]
STRICTER = [
    b"5;" + b"a" * framing.LINE_BYTES + b"\r\nhello\r\n0\r\n\r\n",
    b"0" * framing.LINE_BYTES,
    b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    b"0\r\n" + b"A: b\r\n" * (framing.TRAILER_FIELDS + 1) + b"\r\n",
    b"0\r\nA: " + b"b" * framing.TRAILER_BYTES,
    b"0\r\nHost: a\r\n\r\n",
]


def read(chunked: Chunked, pieces: list[bytes]) -> bytes:
    """The body in so many pieces, as far as it goes."""
    body = b""
    for piece in pieces:
        body += b"".join(piece[start:stop] for start, stop in chunked.spans(memoryview(piece)))
    return body


def by_aiohttp(sent: bytes) -> tuple[bytes, bool] | None:
    """The body as aiohttp reads it and whether it has ended; None if it is refused."""
    protocol = BaseProtocol(asyncio.new_event_loop())
    protocol._loop.close()
    protocol.transport = mock.Mock()
    protocol._parser = parser = HttpRequestParser(protocol, protocol._loop, 1 << 16)
    ((_, content),), _, _ = parser.feed_data(HEAD)
    try:
        parser.feed_data(sent)
    except HttpProcessingError:
        return None
    if content.exception() is not None:
        return None
    return content.read_nowait(), content.is_eof()


@pytest.mark.parametrize("sent", GOOD, ids=range(len(GOOD)))
def test_a_body_is_read_whatever_the_cuts(sent: bytes) -> None:
    """At every single place, and byte by byte; what follows the body is not taken for it."""
    cuts = [[sent[:at], sent[at:] + b"GET / HTTP/1.1\r\n"] for at in range(len(sent) + 1)]
    for pieces in [*cuts, [sent[at : at + 1] for at in range(len(sent))]]:
        chunked = Chunked()

        assert read(chunked, pieces) == GOOD[sent]
        assert chunked.is_done
        assert not chunked.broken
        assert chunked.body_bytes == len(GOOD[sent])
        assert chunked.least_bytes == 0
    assert by_aiohttp(sent) == (GOOD[sent], True)


@pytest.mark.parametrize("sent", [*BAD, *STRICTER], ids=range(len(BAD) + len(STRICTER)))
def test_what_is_no_framing_breaks_it_whatever_the_cuts(sent: bytes) -> None:
    for step in (1, 2, 3, len(sent)):
        chunked = Chunked()
        body = read(chunked, [sent[at : at + step] for at in range(0, len(sent), step)])

        assert chunked.broken
        assert not chunked.is_done
        assert body in (b"", b"hello")


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
def test_the_bad_examples_are_bad_to_aiohttp_too(sent: bytes) -> None:
    """So they show that nothing is let through that aiohttp would stop."""
    assert by_aiohttp(sent) is None


_PARTS = (
    rb'\r\n \n \r 0 1 a F 00 ; = " \\ \t x \x00 \xff : ;a=b '
    rb"A:b\r\n 0\r\n 1\r\nx\r\n 0\r\n\r\n"
)
_LINES = st.sampled_from(
    [part.decode("unicode_escape").encode("latin-1") for part in _PARTS.split()]
)


@given(st.lists(_LINES, max_size=12))
def test_nothing_is_accepted_that_aiohttp_refuses(parts: list[bytes]) -> None:
    """And what both accept is the same body to both."""
    sent = b"".join(parts)
    chunked = Chunked()
    body, taken = b"", 0
    while taken < len(sent) and not chunked.is_done:
        body += read(chunked, [sent[taken : taken + 1]])
        taken += 1
    theirs = by_aiohttp(sent[:taken])
    if theirs is None:
        assert chunked.broken or not chunked.is_done
    elif not chunked.broken:
        assert theirs == (body, chunked.is_done)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 9)))
def test_chunks_and_cuts_of_any_size_give_the_body(chunks: list[bytes], cuts: list[int]) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(sent[at : at + cut])
        at += cut
    chunked = Chunked()

    assert read(chunked, [*pieces, sent[at:]]) == b"".join(chunks)
    assert chunked.is_done


def test_it_can_begin_inside_a_chunk_and_behind_its_last_byte() -> None:
    assert read(Chunked(3), [b"abc\r\n1\r\nd\r\n0\r\n\r\n"]) == b"abcd"
    assert read(Chunked(is_fresh=False), [b"\r\n1\r\nd\r\n0\r\n\r\n"]) == b"d"
    assert read(broken := Chunked(is_fresh=False), [b"1\r\nd\r\n0\r\n\r\n"]) == b""
    assert broken.broken


def test_it_never_waits_for_more_than_will_come() -> None:
    """Whoever waits for `least_bytes` at once gets them: the shortest end is as long as that."""
    sent = b"5\r\nhello\r\n0\r\n\r\n"
    for at in range(len(sent)):
        chunked = Chunked()
        read(chunked, [sent[:at]])

        assert 1 <= chunked.least_bytes <= len(sent) - at


def test_a_body_of_declared_length_is_all_body() -> None:
    plain = Plain(5)

    assert plain.room(100) == 5
    assert plain.spans(memoryview(b"hel")) == [(0, 3)]
    assert (plain.left, plain.least_bytes, plain.is_done) == (2, 2, False)
    assert plain.spans(memoryview(b"lo")) == [(0, 2)]
    assert plain.is_done


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=20), st.integers(1, 12))
def test_joining_keeps_every_byte_in_order(gaps: list[tuple[int, int]], small: int) -> None:
    """And leaves no small piece but the first, and none that adjoins the one before."""
    data = bytearray(range(256))
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    expected = b"".join(data[start:stop] for start, stop in spans)

    with mock.patch.object(framing, "JOINED_BYTES", small):
        found = joined(memoryview(data), spans)

    assert b"".join(data[start:stop] for start, stop in found) == expected
    assert all(stop - start >= small for start, stop in found[1:])
    assert all(last != start for (_, last), (start, _) in pairwise(found))
