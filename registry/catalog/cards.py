"""Rows of model cards, the README that a tree may have, and how far its moves were followed.

The place up to which moves of `main` were followed is kept with the store's state. Ids of events
are given out anew once the last of them were purged, so whoever purges some calls `keep_place`.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import msgspec
from sqlalchemy import Text, bindparam, delete, func, select
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from registry.catalog.schema import alias_events, model_cards, tree_files
from registry.domain.models import Card
from registry.domain.trees import TreeFile
from store.digest import Digest
from store.index.state import get_state, put_state
from store.index.transactions import Statement, Tx

README: Final = "README.md"

_SPELLINGS: Final = msgspec.json.encode(
    ["".join(letters) for letters in product(*((c.upper(), c.lower()) for c in README))]
).decode()
"""Every way to write it in case: looked up one by one, instead of reading through a whole tree."""

_PLACE: Final = "cards_followed"

_FIND = Statement(
    lambda: select(
        model_cards.c.source,
        model_cards.c.digest,
        model_cards.c.text,
        model_cards.c.updated_at,
        model_cards.c.updated_by,
    ).where(model_cards.c.model == bindparam("model"))
)
_SUMMARY = Statement(
    lambda: select(model_cards.c.source, model_cards.c.digest).where(
        model_cards.c.model == bindparam("model")
    )
)
_insert = insert(model_cards).values({c.name: bindparam(c.name) for c in model_cards.c})
_PUT = Statement(
    lambda: _insert.on_conflict_do_update(
        index_elements=["model"],
        set_={c.name: _insert.excluded[c.name] for c in model_cards.c if c.name != "model"},
    )
)
_DELETE = Statement(lambda: delete(model_cards).where(model_cards.c.model == bindparam("model_")))
_spellings = func.json_each(bindparam("spellings", type_=Text)).table_valued("value", name="spelt")
_README = Statement(
    lambda: (
        select(tree_files.c.path, tree_files.c.digest, tree_files.c.size)
        .where(
            tree_files.c.tree == bindparam("tree"),
            tree_files.c.path.in_(select(_spellings.c.value)),
        )
        .order_by((tree_files.c.path == bindparam("usual")).desc(), tree_files.c.path)
        .limit(1)
    )
)
_MOVES = Statement(
    lambda: (
        select(alias_events.c.id, alias_events.c.model, alias_events.c.folded)
        .where(alias_events.c.id > bindparam("after"))
        .order_by(alias_events.c.id)
        .limit(bindparam("limit"))
    )
)
_LAST = Statement(lambda: select(func.coalesce(func.max(alias_events.c.id), literal("0"))))


async def find_card(tx: Tx, model_id: str) -> Card | None:
    row = await tx.one(_FIND, model=model_id)
    if row is None:
        return None
    source, digest, text, at, by = row
    return Card(source=source, digest=Digest(digest.hex()), text=text, updated_at=at, updated_by=by)


async def card_summary(tx: Tx, model_id: str) -> tuple[str, Digest] | None:
    """Where a card came from and its digest, without the text."""
    row = await tx.one(_SUMMARY, model=model_id)
    return None if row is None else (row[0], Digest(row[1].hex()))


async def put_card(tx: Tx, model_id: str, card: Card) -> None:
    await tx.run(
        _PUT,
        model=model_id,
        source=card.source,
        digest=card.digest.raw,
        text=card.text,
        updated_at=card.updated_at,
        updated_by=card.updated_by,
    )


async def delete_card(tx: Tx, model_id: str) -> None:
    await tx.run(_DELETE, model_=model_id)


async def find_readme(tx: Tx, tree: Digest) -> TreeFile | None:
    """The README at the root of a tree in any case, the usual spelling before others."""
    row = await tx.one(_README, tree=tree.raw, spellings=_SPELLINGS, usual=README)
    return None if row is None else TreeFile(row[0], Digest(row[1].hex()), row[2])


class Moves(msgspec.Struct, frozen=True):
    """Some moves of aliases, from behind one place to another: models whose `main` was moved."""

    start: int
    stop: int
    models: list[str]


async def moves_to_follow(tx: Tx, limit: int) -> Moves:
    """The next so many moves that nobody followed yet."""
    start = int(await get_state(tx, _PLACE) or 0)
    rows = await tx.all(_MOVES, after=start, limit=limit)
    moved = dict.fromkeys(row[1] for row in rows if row[2] == "main")
    return Moves(start, rows[-1][0] if rows else start, list(moved))


async def followed_to(tx: Tx, start: int, stop: int) -> None:
    """Everything between two places was followed, unless the place has changed meanwhile."""
    if int(await get_state(tx, _PLACE) or 0) == start:
        await put_state(tx, _PLACE, str(stop))


async def keep_place(tx: Tx) -> None:
    """Events were removed: those to come must not lie before the place."""
    row = await tx.one(_LAST)
    assert row is not None, "an aggregate"
    if int(await get_state(tx, _PLACE) or 0) > row[0]:
        await put_state(tx, _PLACE, str(row[0]))
