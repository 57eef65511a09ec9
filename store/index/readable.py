"""Whether a reader may have a blob: somebody claims it whose claims are open to them.

A reader has the claims of some owners, all claims of some levels, and those of the closed levels
that lie in some realms. What these are is the business of whoever claims.

**How many others claim a blob must neither slow a reader down nor show.** Every way in is a seek in
an index for each word of the reader: a blob that twenty thousand hidden owners claim costs exactly
what one costs that is not there. Left to itself the planner goes through all claims on a blob and
looks for their words among the reader's, so it is told the order of each join. Look at the claims
first, then at the blob, so that this holds of the whole question.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import TextClause, text

from store.digest import Digest
from store.index.reader import Reader
from store.index.transactions import Statement, Tx

_READABLE: Final = """(
EXISTS (SELECT 1 FROM json_each(:reader_open) AS level
    CROSS JOIN refs AS claim INDEXED BY refs_by_access
    ON claim.digest = {digest} AND claim.level = level.value)
OR EXISTS (SELECT 1 FROM json_each(:reader_owners) AS owner
    CROSS JOIN refs AS claim ON claim.digest = {digest} AND claim.owner = owner.value)
OR EXISTS (SELECT 1 FROM json_each(:reader_closed) AS level
    CROSS JOIN json_each(:reader_realms) AS realm
    CROSS JOIN refs AS claim INDEXED BY refs_by_access
    ON claim.digest = {digest} AND claim.level = level.value AND claim.realm = realm.value)
)"""


def readable(digest: str) -> TextClause:
    """Whether a blob is claimed by somebody whose claims the bound `Reader` may have.

    `digest` is SQL: a column or an expression of the statement around it.
    """
    return text(_READABLE.format(digest=digest))


_IS_READABLE = Statement(lambda: text(f"SELECT 1 WHERE {_READABLE.format(digest=':digest')}"))


async def is_readable(tx: Tx, digest: Digest, reader: Reader) -> bool:
    """Whether a reader may have the blob, if it is there at all."""
    return await tx.one(_IS_READABLE, digest=digest.raw, **reader.bound()) is not None
