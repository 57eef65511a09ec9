"""Does a download run at the speed of a plain web server's sendfile on the same inode?

Decides how blobs leave: sendfile or copies, the size of a slice between turns of the event loop,
and whether verifying what is served may stay on by default. `first` is the first download after
the server started, when nothing has been verified since boot; `again` the ones after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.clients import check_download, download
from bench.data import MIB
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import Goal, Summary
from bench.shared_inode import Stored, store_everywhere

_REPEATS = 3


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Stored:
    return store_everywhere(bench, contenders)


def measure(bench: Bench, contender: Contender, stored: Stored) -> Measured:
    size = stored.body.size_bytes
    target = contender.target(stored.body.sha256)
    with bench.again(contender, stored.directories[contender.name]) as server:
        server.mark()
        seconds = download(server.port, target, size)
        yield (
            "first",
            {"mib_per_s": size / MIB / seconds, **costs(server.usage(), moved_bytes=size)},
        )
        check_download(server.port, target, stored.body.sha256)
        server.mark()
        again = Summary.of([download(server.port, target, size) for _ in range(_REPEATS)])
        figures = {"mib_per_s": size / MIB / again.median}
        yield "again", figures | costs(server.usage(), moved_bytes=size * _REPEATS)


SCENARIO = Scenario(
    name="download",
    title="GET of one large blob, same inode, warm page cache",
    prepare=prepare,
    measure=measure,
    goals=(
        Goal(case="again", figure="mib_per_s", against="nginx", at_least=1.0),
        Goal(case="again", figure="mib_per_s", against="docker-registry", at_least=1.0),
    ),
)
