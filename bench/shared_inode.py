"""One stored blob on one inode that every contender serves.

Where the pages of a file lie changed results threefold, so downloads are compared on the same
inode: Digestry stores the blob, the others get hard links to its file. Without Digestry the
generated body itself is linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.clients import Connection
from bench.data import Body
from bench.harness import Bench
from bench.peers import Contender, Digestry


class Stored(msgspec.Struct, frozen=True):
    body: Body
    directories: dict[str, Path]
    """By name of the contender: where it finds the blob when started there."""


def store_everywhere(bench: Bench, contenders: Sequence[Contender]) -> Stored:
    body = bench.data.file(bench.settings.size_bytes)
    directories = {each.name: bench.new_directory() for each in contenders}
    source = body.path
    for contender in contenders:
        if isinstance(contender, Digestry):
            with (
                bench.again(contender, directories[contender.name]) as server,
                Connection(server.port) as connection,
            ):
                contender.upload(connection, body)
            source = contender.stored(directories[contender.name], body.sha256)
    for contender in contenders:
        if not isinstance(contender, Digestry):
            contender.plant(directories[contender.name], body.sha256, source)
    return Stored(body, directories)
