"""Many rows in one statement: a list that SQLite walks, and fixed pieces of one long value.

Digests lie behind each other in one value, and a JSON list beside it says how many they are and a
number for each, its size say. The statement runs in one step, which takes a quarter of what a step
for each row takes, and lets go of the interpreter's lock once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, LargeBinary, Select, Text, bindparam, func, select
from sqlalchemy import literal_column as literal

from store.digest import Digest

PIECE_BYTES: Final = 32

MANY: Final = func.json_each(bindparam("numbers", type_=Text)).table_valued(
    "key", "value", name="many"
)
"""One row for each: where it stands, and its number."""

DIGESTS: Final = bindparam("digests", type_=LargeBinary)


def piece_of(whole: ColumnElement[bytes]) -> ColumnElement[bytes]:
    """The piece of a long value that belongs to a row of `MANY`."""
    start = MANY.c.key * literal(str(PIECE_BYTES)) + literal("1")
    return func.substr(whole, start, literal(str(PIECE_BYTES)), type_=LargeBinary)


def for_each(*columns: ColumnElement[Any]) -> Select[Any]:
    """A row for each, to be inserted by a statement that says what a conflict means."""
    # Without a condition SQLite takes the ON of what follows for that of a join.
    return select(*columns).select_from(MANY).where(literal("true"))


def packed(digests: Sequence[Digest], numbers: Sequence[int] | None = None) -> dict[str, Any]:
    """The values of `DIGESTS` and `MANY`."""
    return {
        "digests": b"".join(digest.raw for digest in digests),
        "numbers": msgspec.json.encode(numbers or [0] * len(digests)).decode(),
    }
