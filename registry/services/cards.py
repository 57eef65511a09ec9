"""Model cards: what a model says about itself.

The card is the README at `main` (``README.md`` in any case, at the root). Where there is none, a
card can be put; a README that comes later takes its place.

**A stored copy** serves reading and search. It follows after the move of `main` has committed,
because reading bytes has no place in a transaction: the leader reads the history of aliases, which
is the log of all moves, and remembers how far (`follow_cards`), so a crash loses nothing. Whoever
reads a card before that brings the copy up to date, so nobody ever reads an old one.

A README beyond `MOST_BYTES` or not in UTF-8 is no card, and reading says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.cards import (
    Moves,
    card_summary,
    delete_card,
    find_card,
    find_readme,
    followed_to,
    moves_to_follow,
    put_card,
)
from registry.catalog.models import find_model_by_id
from registry.catalog.search import reindex
from registry.domain.models import Card, Model
from registry.domain.principals import HOUSEKEEPING, Principal
from registry.domain.references import ByAlias, ModelReference
from registry.domain.trees import TreeFile
from registry.errors import Conflict, Invalid, NotFound
from registry.services.change import change
from registry.services.files import readable_row
from registry.services.resolve import DraftFiles, follow, require_model
from store.digest import Digest
from store.errors import Corrupt, Unavailable
from store.index.blobs import BlobRow
from store.index.transactions import Tx
from store.opening import Store

MOST_BYTES: Final = 1 << 20
"""How long a card may be."""

FOLLOWED_AT_ONCE: Final = 500
TRIES: Final = 5

_MAIN: Final = ByAlias("main", "main")

Condition: TypeAlias = Callable[[Digest | None], None]
"""Gets the digest of the card that is there, None for none; raises `PreconditionFailed`."""


class FoundCard(msgspec.Struct, frozen=True):
    """A card, and the file that it is if it is one."""

    model: Model
    card: Card
    readme: TreeFile | None


class _State(msgspec.Struct, frozen=True):
    """What there is of a card: the README at `main`, and where the copy came from."""

    readme: TreeFile | None
    copy: tuple[str, Digest] | None

    @property
    def is_current(self) -> bool:
        """Whether the copy is what it shall be; an unreadable README has none."""
        if self.readme is None:
            return self.copy is None or self.copy[0] == "put"
        if self.readme.size_bytes > MOST_BYTES:
            return self.copy is None
        return self.copy == ("readme", self.readme.digest)


async def get_card(store: Store, principal: Principal, reference: ModelReference) -> FoundCard:
    """The card as it is now; raises `NotFound` where there is none that can be shown."""

    async def unit(tx: Tx) -> tuple[Model, _State, Card | None]:
        model = await require_model(tx, principal, reference)
        return model, await _state(tx, model), await find_card(tx, model.id)

    for _ in range(TRIES):
        model, state, card = await store.index.look(unit)
        if state.is_current and card is not None:
            return FoundCard(model, card, state.readme)
        if state.is_current and state.readme is None:
            raise NotFound("card", f"of {model.name}", code="card_not_found")
        problem = await refresh_card(store, model.id)
        if problem is not None:
            raise problem
    raise Unavailable("a card whose model moves all the time")


async def refresh_card(store: Store, model_id: str) -> NotFound | None:
    """Bring the copy up to date; returns why the README that is there is no card, if so."""
    found = await store.index.look(lambda tx: _look(tx, model_id))
    if found is None or _is_followed(found):
        return None if found is None else _too_large(found[0], found[1].readme)
    model, state, row = found
    text, problem = None, _too_large(model, state.readme)
    if row is not None and state.readme is not None:
        async with await store.reading.open(row) as blob:
            content = await blob.read(0, row.size_bytes)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            problem = _unreadable(model, state.readme, "is not UTF-8", code="card_not_text")
    await store.index.run(lambda tx: _keep(tx, model, state.readme, text))
    return problem


_Found: TypeAlias = tuple[Model, "_State", BlobRow | None]


async def _look(tx: Tx, model_id: str) -> _Found | None:
    """A model with what its card was made of and should be, and the README's row if it is one."""
    model = await find_model_by_id(tx, model_id)
    if model is None:
        return None
    state = await _state(tx, model)
    is_wanted = state.readme is not None and state.readme.size_bytes <= MOST_BYTES
    row = await readable_row(tx, state.readme) if is_wanted and state.readme else None
    return model, state, row


def _is_followed(found: _Found) -> bool:
    _, state, row = found
    return state.is_current and row is None


async def _keep(tx: Tx, model: Model, readme: TreeFile | None, text: str | None) -> None:
    """Keep what was read, unless `main` has moved on meanwhile; then it is read again later."""
    living = await find_model_by_id(tx, model.id)
    if living is None or (await _state(tx, living)).readme != readme:
        return
    before = await card_summary(tx, model.id)
    if text is None or readme is None:
        if before is None or (readme is None and before[0] == "put"):
            return
        await delete_card(tx, model.id)
    elif before == ("readme", readme.digest):
        return
    else:
        card = Card(
            source="readme",
            digest=readme.digest,
            text=text,
            updated_at=tx.now,
            updated_by=HOUSEKEEPING.id,
        )
        await put_card(tx, model.id, card)
    await reindex(tx, model.id)


async def put_model_card(
    store: Store,
    principal: Principal,
    reference: ModelReference,
    content: bytes,
    condition: Condition,
) -> tuple[FoundCard, bool]:
    """Put a card where no README is one; says whether there was none before."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Invalid("body", f"is not UTF-8: {error.reason}", code="card_not_text") from error
    digest = Digest(hashlib.sha256(content).hexdigest())

    async def unit(tx: Tx) -> tuple[FoundCard, bool]:
        model, before = await _card_to_change(tx, principal, reference, condition)
        if before is not None and before.digest == digest:
            return FoundCard(model, before, None), False
        card = Card(
            source="put", digest=digest, text=text, updated_at=tx.now, updated_by=principal.id
        )
        await put_card(tx, model.id, card)
        await reindex(tx, model.id)
        action = "create" if before is None else "update"
        await record(tx, principal, _entry(action, model, before, card))
        return FoundCard(model, card, None), before is None

    return await change(store, principal, unit)


async def remove_card(
    store: Store, principal: Principal, reference: ModelReference, condition: Condition
) -> None:
    """Remove a card that was put; raises `NotFound`, and `Conflict` for a README."""

    async def unit(tx: Tx) -> None:
        model, before = await _card_to_change(tx, principal, reference, condition)
        if before is None:
            raise NotFound("card", f"of {model.name}", code="card_not_found")
        await delete_card(tx, model.id)
        await reindex(tx, model.id)
        await record(tx, principal, _entry("delete", model, before, None))

    await change(store, principal, unit)


async def _card_to_change(
    tx: Tx, principal: Principal, reference: ModelReference, condition: Condition
) -> tuple[Model, Card | None]:
    """The model and the card that was put; raises `Conflict` where the README is the card."""
    model = await require_model(tx, principal, reference)
    state = await _state(tx, model)
    if state.readme is not None:
        raise Conflict(
            "card",
            f"of {model.name}",
            f"is {state.readme.path} at main; publish another one",
            code="card_is_readme",
            details={"path": state.readme.path, "digest": str(state.readme.digest)},
        )
    card = await find_card(tx, model.id)
    if card is not None and card.source != "put":
        card = None  # what a README left that is at main no more
    condition(None if card is None else card.digest)
    return model, card


async def follow_cards(store: Store) -> int:
    """Bring the copies up to date of all models whose `main` moved since; how many there were."""

    async def look(tx: Tx) -> tuple[Moves, list[str]]:
        """Away from the event loop: most models have no README, and nothing need be done."""
        moves = await moves_to_follow(tx, FOLLOWED_AT_ONCE)
        looked = [(id, await _look(tx, id)) for id in moves.models]
        return moves, [id for id, found in looked if found and not _is_followed(found)]

    moves, behind = await store.index.read(look)
    for model in behind:
        try:
            await refresh_card(store, model)
        except Corrupt:
            continue  # whoever reads the file is told; its next move is another one to follow
    if moves.stop != moves.start:
        await store.index.run(lambda tx: followed_to(tx, moves.start, moves.stop))
    return len(moves.models)


async def _state(tx: Tx, model: Model) -> _State:
    return _State(await _readme(tx, model), await card_summary(tx, model.id))


async def _readme(tx: Tx, model: Model) -> TreeFile | None:
    try:
        place = await follow(tx, model, _MAIN)
    except NotFound:
        return None
    assert not isinstance(place, DraftFiles), "an alias never leads to a draft"
    return await find_readme(tx, place.digest)


def _too_large(model: Model, readme: TreeFile | None) -> NotFound | None:
    if readme is None or readme.size_bytes <= MOST_BYTES:
        return None
    reason = f"has {readme.size_bytes} bytes; at most {MOST_BYTES} are shown"
    return _unreadable(model, readme, reason, code="card_too_large")


def _unreadable(model: Model, readme: TreeFile, reason: str, *, code: str) -> NotFound:
    return NotFound("card", f"of {model.name}: {readme.path} at main {reason}", code=code)


def _entry(action: str, model: Model, before: Card | None, after: Card | None) -> Entry:
    return Entry(
        action=action,
        kind="card",
        id=model.id,
        name=model.name,
        model=model.id,
        before=None if before is None else {"digest": str(before.digest), "text": before.text},
        after=None if after is None else {"digest": str(after.digest), "text": after.text},
    )
