"""What searching finds: a document of words and one of trigrams for each model that lives.

Who changes a name, a description, a tag or a card calls `reindex` in the same transaction, so that
a search finds what is there and nothing else; a deleted model has no documents.

Texts are folded like names before they are written and so are questions, so case, composed
characters and their compatibility with each other are decided in one place. Of a card only the
beginning is searched: writing it again costs as much as is searched, in a transaction.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, text
from sqlalchemy import literal_column as literal

from registry.catalog.schema import (
    model_cards,
    model_grams,
    model_tags,
    model_words,
    models,
    search_documents,
    tags,
)
from registry.domain.names import fold
from store.index.transactions import Statement, Tx

CARD_CHARACTERS: Final = 65_536
"""How much of a card is searched."""

MOST_CANDIDATES: Final = 1_000
"""So many models are ranked: ranking all of a common word would cost more than it tells."""

_SAYS = Statement(
    select(models.c.folded, models.c.description, models.c.deleted_at.is_(None)).where(
        models.c.id == bindparam("model")
    )
)
_TAGS = Statement(
    select(tags.c.folded)
    .join(model_tags, model_tags.c.tag == tags.c.id)
    .where(model_tags.c.model == bindparam("model"))
    .order_by(model_tags.c.key)
)
_CARD = Statement(
    select(func.substr(model_cards.c.text, literal("1"), literal(str(CARD_CHARACTERS)))).where(
        model_cards.c.model == bindparam("model")
    )
)
_FIND = Statement(
    select(search_documents.c.document).where(search_documents.c.model == bindparam("model"))
)
_NUMBER = Statement(
    insert(search_documents).values(model=bindparam("model")).returning(search_documents.c.document)
)
_FORGET = Statement(
    delete(search_documents).where(search_documents.c.document == bindparam("document_"))
)
_DELETE_WORDS = Statement(delete(model_words).where(model_words.c.rowid == bindparam("rowid_")))
_DELETE_GRAMS = Statement(delete(model_grams).where(model_grams.c.rowid == bindparam("rowid_")))
_INSERT_WORDS = Statement(
    insert(model_words).values({c.name: bindparam(c.name) for c in model_words.c})
)
_INSERT_GRAMS = Statement(
    insert(model_grams).values({c.name: bindparam(c.name) for c in model_grams.c})
)


_CANDIDATES: Final = """
SELECT rowid AS document, bm25(model_words, 10.0, 5.0, 3.0, 1.0) AS rank
FROM model_words WHERE model_words MATCH :{match}{seen}
ORDER BY rowid DESC LIMIT :most
"""
"""bm25 counts a word in the name, the tags, the description and the card."""

_SEEN: Final = """ AND EXISTS (
    SELECT 1 FROM search_documents AS d WHERE d.document = model_words.rowid
    AND d.model IN (SELECT value FROM json_each(:owners))
)"""

_RANKED_PAGE: Final = """
WITH named AS MATERIALIZED ({named}), anywhere AS ({anywhere}), found AS MATERIALIZED (
    SELECT document, rank FROM named
    UNION ALL
    SELECT document, rank FROM anywhere WHERE document NOT IN (SELECT document FROM named)
    LIMIT :most
), page AS (
    SELECT document, rank FROM found WHERE (rank, document) > (:rank, :document)
    ORDER BY rank, document LIMIT :limit
)
SELECT count, d.model, page.rank, page.document
FROM (SELECT count(*) AS count FROM found)
LEFT JOIN page ON true
LEFT JOIN search_documents AS d ON d.document = page.document
ORDER BY page.rank, page.document
"""


def _ranked(seen: str) -> Statement:
    named = _CANDIDATES.format(match="named", seen=seen)
    anywhere = _CANDIDATES.format(match="match", seen=seen)
    return Statement(text(_RANKED_PAGE.format(named=named, anywhere=anywhere)))


_RANKED: Final = {False: _ranked(""), True: _ranked(_SEEN)}
"""Whether what may be seen is restricted, and the question then."""


Place: TypeAlias = tuple[float, int]
"""A place among what was found: its rank, the smaller the better, and its document."""

BEGINNING: Final[Place] = (float("-inf"), 0)


class Ranked(msgspec.Struct, frozen=True):
    """Ids of models with their places, the best first, and how many were ranked in all."""

    models: list[tuple[str, Place]]
    count: int


async def reindex(tx: Tx, model_id: str) -> None:
    """Write a model's documents anew, or remove them if it does not live."""
    says = await tx.one(_SAYS, model=model_id)
    await forget(tx, model_id)
    if says is None or not says[2]:
        return
    row = await tx.one(_NUMBER, model=model_id)
    assert row is not None, "an insert that returns"
    card = await tx.one(_CARD, model=model_id)
    found = {
        "name": says[0],
        "tags": "\n".join([row[0] for row in await tx.all(_TAGS, model=model_id)]),
        "description": fold(says[1]),
    }
    await tx.run(_INSERT_GRAMS, rowid=row[0], **found)
    await tx.run(_INSERT_WORDS, rowid=row[0], card="" if card is None else fold(card[0]), **found)


async def forget(tx: Tx, model_id: str) -> None:
    """Remove a model's documents."""
    row = await tx.one(_FIND, model=model_id)
    if row is not None:
        await tx.run(_DELETE_WORDS, rowid_=row[0])
        await tx.run(_DELETE_GRAMS, rowid_=row[0])
        await tx.run(_FORGET, document_=row[0])


async def ranked(tx: Tx, match: str, owners: str | None, place: Place, limit: int) -> Ranked:
    """What `match` finds behind a place; `owners`: JSON of the ids that may be seen, None for all.

    At most `MOST_CANDIDATES` are ranked: the newest with every word in the name, then the newest
    with them anywhere. Two with the same rank are in the order in which they were last described.
    """
    bound: dict[str, Any] = {} if owners is None else {"owners": owners}
    rows = await tx.all(
        _RANKED[owners is not None],
        named=f"name : ({match})",
        match=match,
        most=MOST_CANDIDATES,
        rank=place[0],
        document=place[1],
        limit=limit,
        **bound,
    )
    found = [(model, (rank, document)) for _, model, rank, document in rows if model is not None]
    return Ranked(found, rows[0][0])
