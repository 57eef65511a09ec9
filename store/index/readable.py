"""Whether a reader may have a blob: somebody claims it whose claims are open to them.

A reader has the claims of some owners, all claims of some levels, and those of the closed levels
that lie in some realms. What these are is the business of whoever claims.

**How many others claim a blob must neither slow a reader down nor show.** Every way in is a seek in
an index for each word of the reader: a blob that twenty thousand hidden owners claim costs exactly
what one costs that is not there. Look at the claims first, then at the blob, so that this holds of
the whole question.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary, Text, bindparam, exists, func, or_, select
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from store.digest import Digest
from store.index.reader import Reader
from store.index.schema import refs
from store.index.transactions import Statement, Tx


def readable(digest: ColumnElement[bytes]) -> ColumnElement[bool]:
    """Whether a blob is claimed by somebody whose claims the bound `Reader` may have."""
    is_it = refs.c.digest == digest
    is_closed = refs.c.level.in_(_words("reader_closed"))
    return or_(
        exists().where(is_it, refs.c.level.in_(_words("reader_open"))),
        exists().where(is_it, refs.c.owner.in_(_words("reader_owners"))),
        exists().where(is_it, is_closed, refs.c.realm.in_(_words("reader_realms"))),
    )


def _words(name: str) -> Select[Any]:
    listed = func.json_each(bindparam(name, type_=Text)).table_valued("value", name=name)
    return select(listed.c.value)


_IS_READABLE = Statement(
    select(literal("1")).where(readable(bindparam("digest", type_=LargeBinary)))
)


async def is_readable(tx: Tx, digest: Digest, reader: Reader) -> bool:
    """Whether a reader may have the blob, if it is there at all."""
    return await tx.one(_IS_READABLE, digest=digest.raw, **reader.bound()) is not None
