"""System calls and copied bytes of a request: how a trace is read, and that what rose is told."""

from __future__ import annotations

import msgspec
import pytest

from bench import system_calls
from bench.system_calls import LARGE_BYTES, RECORDED, Counted, Counts, risen

WAS = Counts({"python": "3.11.7"}, {"GET": Counted(2.1, 5000), "PUT": Counted(40, 50_000)})

TRACE = """\
7 recvfrom(9, "before the first mark", 99, 0, NULL, NULL) = 21
7 recvfrom(9, "GET /mark-0 HTTP/1.1\\r\\n"..., 65536, 0, NULL, NULL) = 60
7 recvfrom(9, "GET /blobs/x HTTP/1.1\\r"..., 65536, 0, NULL, NULL) = 100
8 openat(AT_FDCWD, "x", O_RDONLY|O_CLOEXEC) = 11
8 pread64(11,  <unfinished ...>
7 epoll_wait(4, [], 2, 0) = 0
7 sendto(6, "\\0", 1, 0, NULL, 0) = 1
8 <... pread64 resumed>"xxx"..., 4096, 0) = 4096
7 recvfrom(9, 0x7f, 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
7 sendfile(9, 11, [0] => [4096], 4096) = 4096
7 recvfrom(9, "GET /mark-1 HTTP/1.1\\r\\n"..., 65536, 0, NULL, NULL) = 60
7 write(1, "between two batches", 19) = 19
7 recvfrom(9, "GET /mark-2 HTTP/1.1\\r\\n"..., 65536, 0, NULL, NULL) = 60
7 recvfrom(9, "GET /mark-3 HTTP/1.1\\r\\n"..., 65536, 0, NULL, NULL) = 60
"""


def test_calls_and_bytes_are_those_between_two_marks() -> None:
    assert system_calls._batches(TRACE.splitlines()) == [(5, 100 + 4096), (0, 0)]


@pytest.mark.parametrize(
    ("path", "counted", "told"),
    [
        ("GET", Counted(2.8, 6000), []),
        ("GET", Counted(2.9, 6000), ["GET: 2.9 system calls instead of 2.1"]),
        ("GET", Counted(2.1, 6100), ["GET: 6,100 bytes copied instead of 5,000"]),
        ("GET", Counted(None, 5000), []),
        ("PUT", Counted(48, 60_000), []),
        ("PUT", Counted(49, 60_000), ["PUT: 49 system calls instead of 40"]),
        ("PUT", Counted(40, 61_000), ["PUT: 61,000 bytes copied instead of 50,000"]),
    ],
)
def test_one_call_more_is_told_and_a_fifth_of_many(
    path: str, counted: Counted, told: list[str]
) -> None:
    assert risen(WAS, msgspec.structs.replace(WAS, paths=WAS.paths | {path: counted})) == told


def test_what_is_missing_on_either_side_is_told() -> None:
    more = msgspec.structs.replace(WAS, paths=WAS.paths | {"HEAD": Counted(1, 1)})

    assert risen(WAS, more) == ["HEAD: not recorded"]
    assert risen(more, WAS) == ["HEAD: recorded and not counted"]


def test_what_the_kernel_sends_itself_is_not_copied() -> None:
    """The recorded counts say what the paths of large bodies promise."""
    recorded = msgspec.json.decode(RECORDED.read_bytes(), type=Counts).paths

    assert recorded["GET a blob of 9 MiB"].copied_bytes < 4096
    assert recorded["PUT a blob of 9 MiB"].copied_bytes < 2.1 * LARGE_BYTES
