"""Many rows in one statement: a list that SQLite walks, and fixed pieces of one long value.

Digests lie behind each other in one value, and a JSON list beside it says how many they are and a
fact for each: its size, its path, or a list of both. The statement runs in one step, which takes a
quarter of what a step for each row takes, and lets go of the interpreter's lock once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, LargeBinary, Select, Text, bindparam, func, select
from sqlalchemy import literal_column as literal

from store.digest import Digest

DIGEST_BYTES: Final = 32

MANY: Final = func.json_each(bindparam("facts", type_=Text)).table_valued(
    "key", "value", name="many"
)
"""One row for each: where it stands, and its fact."""

DIGESTS: Final = bindparam("digests", type_=LargeBinary)


def piece_of(whole: ColumnElement[bytes], length_bytes: int = DIGEST_BYTES) -> ColumnElement[bytes]:
    """The piece of a long value that belongs to a row of `MANY`."""
    length: ColumnElement[int] = literal(str(length_bytes))
    start = MANY.c.key * length + literal("1")
    return func.substr(whole, start, length, type_=LargeBinary)


def for_each(*columns: ColumnElement[Any]) -> Select[Any]:
    """A row for each, to be inserted by a statement that says what a conflict means."""
    # Without a condition SQLite takes the ON of what follows for that of a join.
    return select(*columns).select_from(MANY).where(literal("true"))


def packed(digests: Sequence[Digest], facts: Sequence[object] | None = None) -> dict[str, Any]:
    """The values of `DIGESTS` and `MANY`; without `facts` the fact of each is 0."""
    return {
        "digests": b"".join([digest.raw for digest in digests]),
        "facts": msgspec.json.encode(facts or [0] * len(digests)).decode(),
    }
