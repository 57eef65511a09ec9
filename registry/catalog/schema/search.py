"""What searching reads: for each model one document of words and one of trigrams.

SQLite keeps them in virtual tables of FTS5 without the text itself; `search_documents` gives a
model the number by which they know it. Who changes a name, a description, a tag or a card writes
the model's documents anew in the same transaction (`registry.catalog.search`).

The virtual tables are described as plain tables of another list, so that statements can be built on
them while migrations and `create_all` leave them to the DDL here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
)

from registry.catalog.schema.base import after_making, metadata

search_documents = Table(
    "search_documents",
    metadata,
    Column("document", Integer, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False, unique=True),
)

_virtual = MetaData()

model_words = Table(
    "model_words",
    _virtual,
    Column("rowid", Integer, primary_key=True),
    Column("name", Text),
    Column("tags", Text),
    Column("description", Text),
    Column("card", Text),
)
model_grams = Table(
    "model_grams",
    _virtual,
    Column("rowid", Integer, primary_key=True),
    Column("name", Text),
    Column("tags", Text),
    Column("description", Text),
)

VIRTUAL: Final = (
    "CREATE VIRTUAL TABLE model_words USING fts5(name, tags, description, card, "
    "tokenize='unicode61 remove_diacritics 2', content='', contentless_delete=1)",
    "CREATE VIRTUAL TABLE model_grams USING fts5(name, tags, description, "
    "tokenize='trigram', content='', contentless_delete=1, detail='full')",
)
"""What makes the virtual tables; the migration that brought them has its own copy."""

for _statement in VIRTUAL:
    after_making(search_documents, _statement, dialect="sqlite")
