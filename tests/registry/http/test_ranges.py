"""One range out of a header, and what the standard lets a server ignore."""

from __future__ import annotations

import pytest

from registry.http.ranges import UNSATISFIABLE, content_range, parse_range, unsatisfied_range
from store.blobs import ByteRange

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-5000", 900, 1000),
        ("Bytes = 1-2 ", 1, 3),
        ("bytes=000000000000000000000000000001-2", 1, 3),
        ("bytes=1-99999999999999999999999999999999999", 1, 1000),
        ("bytes=-" + "9" * 5000, 0, 1000),
    ],
)
def test_a_single_range_is_cut_to_the_blob(header: str, start: int, stop: int) -> None:
    assert parse_range(header, SIZE) == ByteRange(start, stop)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1-2-3",
        "bytes=1.5-2",
        "bytes=+1-2",
        "bytes=0-1,5-6",
        "bytes=0-1, 5-6",
        "bytes=\uff11-2",
        "lines=1-2",
        "bytes=1 - 2",
    ],
)
def test_what_is_no_single_range_means_the_whole_blob(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(
    "header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_that_touches_no_byte_is_refused(header: str) -> None:
    assert parse_range(header, SIZE) is UNSATISFIABLE


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_an_empty_blob_has_no_range(header: str) -> None:
    assert parse_range(header, 0) is UNSATISFIABLE


def test_content_range_counts_the_last_byte() -> None:
    assert content_range(ByteRange(10, 20), SIZE) == "bytes 10-19/1000"
    assert unsatisfied_range(SIZE) == "bytes */1000"
