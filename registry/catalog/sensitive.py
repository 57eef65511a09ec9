"""Which sensitive models have a blob, of those that a reader may have it from.

A blob has no name of its own, so whose download it is shows only in who claims it. The ways in are
those of `store.index.readable`, for its reason: claims that are hidden must not cost anything.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from registry.domain.principals import Visibility
from store.digest import Digest
from store.index.transactions import Statement, Tx

MOST: Final = 20
"""So many models are told of one download."""

_OPEN: Final = """
SELECT claim.owner AS owner FROM json_each(:reader_open) AS level
CROSS JOIN refs AS claim INDEXED BY refs_by_access
ON claim.digest = :digest AND claim.level = level.value
UNION SELECT claim.owner FROM json_each(:reader_owners) AS owner
CROSS JOIN refs AS claim ON claim.digest = :digest AND claim.owner = owner.value
UNION SELECT claim.owner FROM json_each(:reader_closed) AS level
CROSS JOIN json_each(:reader_realms) AS realm
CROSS JOIN refs AS claim INDEXED BY refs_by_access
ON claim.digest = :digest AND claim.level = level.value AND claim.realm = realm.value"""

_ALL: Final = "SELECT DISTINCT owner FROM refs WHERE digest = :digest"


_MODELS: Final = """SELECT model.id, model.name FROM ({owners}) AS claim
CROSS JOIN models AS model ON model.id = claim.owner
WHERE model.compliance_required = 1 OR model.risk_level IN ('high', 'critical')
LIMIT {most}"""


def _asking(owners: str) -> Statement:
    return Statement(text(_MODELS.format(owners=owners, most=MOST)))


_OF_SEEN: Final = _asking(_OPEN)
_OF_ANY: Final = _asking(_ALL)


async def sensitive_models(tx: Tx, digest: Digest, visibility: Visibility) -> list[tuple[str, str]]:
    """Ids and names of them; the same rule as `registry.domain.models.Model.is_sensitive`."""
    if visibility.reader is None:
        rows = await tx.all(_OF_ANY, digest=digest.raw)
    else:
        rows = await tx.all(_OF_SEEN, digest=digest.raw, **visibility.reader.bound())
    return [(str(row[0]), str(row[1])) for row in rows]
