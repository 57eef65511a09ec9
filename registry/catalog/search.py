"""What searching finds: a document of words and one of trigrams for each model that lives.

Who changes a name, a description, a tag or a card calls `reindex` in the same transaction, so that
a search finds what is there and nothing else; a deleted model has no documents.

Texts are folded like names before they are written and so are questions, so case, composed
characters and their compatibility with each other are decided in one place. Of a card only the
beginning is searched: writing it again costs as much as is searched, in a transaction.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select
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

_SAYS = Statement(
    lambda: select(models.c.folded, models.c.description, models.c.deleted_at.is_(None)).where(
        models.c.id == bindparam("model")
    )
)
_TAGS = Statement(
    lambda: (
        select(tags.c.folded)
        .join(model_tags, model_tags.c.tag == tags.c.id)
        .where(model_tags.c.model == bindparam("model"))
        .order_by(model_tags.c.key)
    )
)
_CARD = Statement(
    lambda: select(
        func.substr(model_cards.c.text, literal("1"), literal(str(CARD_CHARACTERS)))
    ).where(model_cards.c.model == bindparam("model"))
)
_FIND = Statement(
    lambda: select(search_documents.c.document).where(
        search_documents.c.model == bindparam("model")
    )
)
_NUMBER = Statement(
    lambda: (
        insert(search_documents)
        .values(model=bindparam("model"))
        .returning(search_documents.c.document)
    )
)
_FORGET = Statement(
    lambda: delete(search_documents).where(search_documents.c.document == bindparam("document_"))
)
_DELETE_WORDS = Statement(
    lambda: delete(model_words).where(model_words.c.rowid == bindparam("rowid_"))
)
_DELETE_GRAMS = Statement(
    lambda: delete(model_grams).where(model_grams.c.rowid == bindparam("rowid_"))
)
_INSERT_WORDS = Statement(
    lambda: insert(model_words).values({c.name: bindparam(c.name) for c in model_words.c})
)
_INSERT_GRAMS = Statement(
    lambda: insert(model_grams).values({c.name: bindparam(c.name) for c in model_grams.c})
)


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
