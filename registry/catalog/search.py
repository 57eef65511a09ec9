"""What searching finds: a document of words and one of trigrams for each model that lives.

Who changes a name, a description, a tag or a card calls `reindex` in the same transaction, so that
a search finds what is there and nothing else; a deleted model has no documents.

Texts are folded like names before they are written and so are questions, so case, composed
characters and their compatibility with each other are decided in one place. Of a card only the
beginning is searched: writing it again costs as much as is searched, in a transaction.
"""

from __future__ import annotations

from typing import Any, Final

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


_RANKED = {
    # bm25 counts a word in the name, the tags, the description and the card.
    False: Statement(
        text(
            "SELECT d.model, bm25(model_words, 10.0, 5.0, 3.0, 1.0) FROM model_words "
            "JOIN search_documents AS d ON d.document = model_words.rowid "
            "WHERE model_words MATCH :match ORDER BY model_words.rowid DESC LIMIT :most"
        )
    ),
    True: Statement(
        text(
            "SELECT d.model, bm25(model_words, 10.0, 5.0, 3.0, 1.0) FROM model_words "
            "JOIN search_documents AS d ON d.document = model_words.rowid "
            "WHERE model_words MATCH :match AND d.model IN (SELECT value FROM json_each(:owners)) "
            "ORDER BY model_words.rowid DESC LIMIT :most"
        )
    ),
}
"""Whether what may be seen is restricted, and the question then."""


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


async def candidates(tx: Tx, match: str, owners: str | None) -> list[tuple[str, float]]:
    """Ids of models that `match` finds, each with its rank, the best (smallest) first.

    At most `MOST_CANDIDATES` are ranked: those with every word in the name, then any. `owners` is
    JSON of the ids that may be seen, None for all.
    """
    bound: dict[str, Any] = {"most": MOST_CANDIDATES}
    if owners is not None:
        bound["owners"] = owners
    found: dict[str, float] = {}
    for question in (f"name : ({match})", match):
        rows = await tx.all(_RANKED[owners is not None], match=question, **bound)
        for model, rank in rows[: MOST_CANDIDATES - len(found)]:
            found.setdefault(model, rank)
    return sorted(found.items(), key=lambda item: (item[1], item[0]))
