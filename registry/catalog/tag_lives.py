"""What tags count when a model dies or lives again.

A tag's row counts living models and living versions of living models (`registry.catalog.tags`). A
model whose versions have very many tags stops counting in steps after it was deleted, so that
nobody waits for it: up to which version it counts no more is a row of the store's state, and until
the last of them tags count too many. Nothing else changes what the versions of a deleted model
have, but a purge, which goes on with these steps first.

Restoring such a model counts again in steps as well, and until the last of them tags count too few.
Its versions change meanwhile: what happens to one whose turn has not come changes no count, because
it will be counted as it then is. Whoever deletes the model again has the rest counted first.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import BigInteger, bindparam, func, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import BindParameter

from registry.catalog.schema import model_tags, tags, version_tags, versions
from registry.catalog.tags import BEHIND, NAMELESS, rename_in_tags
from store.index.state import first_state, get_state, put_state
from store.index.transactions import Statement, Tx

MOST_AT_ONCE: Final = 5_000
"""Versions with more tags together stop counting in steps."""

VERSIONS_AT_ONCE: Final = 25
"""In one step; each has 200 tags at most."""

_STATE: Final = "uncounted_tags:"
_BEFORE_ALL: Final = -1
_BEHIND_ALL: Final = 2**62

_MORE: Final[BindParameter[int]] = bindparam("more", type_=BigInteger())
_OF_MODEL = versions.c.model == bindparam("model_")
_COUNT_MODEL = Statement(
    lambda: (
        update(tags)
        .where(
            tags.c.id.in_(select(model_tags.c.tag).where(model_tags.c.model == bindparam("model_")))
        )
        .values(models=tags.c.models + _MORE)
    )
)
_tagged = versions.join(version_tags, version_tags.c.version == versions.c.id)
_uses = (
    select(version_tags.c.tag, func.count().label("many"))
    .select_from(_tagged)
    .where(
        _OF_MODEL,
        versions.c.number > bindparam("above"),
        versions.c.number <= bindparam("upto"),
        versions.c.deleted_at.is_(None),
    )
    .group_by(version_tags.c.tag)
    .subquery("uses")
)
_COUNT_VERSIONS = Statement(
    lambda: (
        update(tags)
        .where(tags.c.id == _uses.c.tag)
        .values(versions=tags.c.versions + _MORE * _uses.c.many)
    )
)
_HAS_MORE = Statement(
    lambda: (
        select(literal("1"))
        .select_from(_tagged)
        .where(_OF_MODEL)
        .limit(1)
        .offset(bindparam("passed"))
    )
)
_next_versions = (
    select(versions.c.number)
    .where(_OF_MODEL, versions.c.number > bindparam("above"))
    .order_by(versions.c.number)
    .limit(bindparam("limit"))
    .subquery("next_versions")
)
_LAST_OF_STEP = Statement(lambda: select(func.max(_next_versions.c.number)))


async def end_in_tags(tx: Tx, model_id: str) -> None:
    """Count a model that is being deleted no more, nor its versions; its tags stay."""
    behind = await _behind(tx, model_id)
    if behind is not None:
        await _count_versions(tx, model_id, *behind, 1)
        await put_state(tx, BEHIND + model_id, None)
    await rename_in_tags(tx, model_id, NAMELESS)
    await tx.run(_COUNT_MODEL, model_=model_id, more=-1)
    if await tx.one(_HAS_MORE, model_=model_id, passed=MOST_AT_ONCE) is None:
        await _count_versions(tx, model_id, _BEFORE_ALL, _BEHIND_ALL, -1)
    else:
        await put_state(tx, _STATE + model_id, str(_BEFORE_ALL))


async def begin_in_tags(tx: Tx, model_id: str, name: str) -> None:
    """Count a model that is being restored again, under this folded name, and its versions."""
    await rename_in_tags(tx, model_id, name)
    await tx.run(_COUNT_MODEL, model_=model_id, more=1)
    uncounted = await get_state(tx, _STATE + model_id)
    if uncounted is not None:
        await put_state(tx, _STATE + model_id, None)
    upto = _BEHIND_ALL if uncounted is None else int(uncounted)
    if await tx.one(_HAS_MORE, model_=model_id, passed=MOST_AT_ONCE) is None:
        await _count_versions(tx, model_id, _BEFORE_ALL, upto, 1)
        return
    # Versions that are made from now on are counted at once.
    row = await tx.one(_LAST_OF_STEP, model_=model_id, above=_BEFORE_ALL, limit=_BEHIND_ALL)
    assert row is not None, "an aggregate"
    await _put_behind(tx, model_id, _BEFORE_ALL, min(upto, row[0]))


async def _behind(tx: Tx, model_id: str) -> tuple[int, int] | None:
    """Versions of a living model that are not counted yet: above which, up to which."""
    found = await get_state(tx, BEHIND + model_id)
    return None if found is None else msgspec.json.decode(found, type=tuple[int, int])


async def _put_behind(tx: Tx, model_id: str, above: int, upto: int) -> None:
    left = msgspec.json.encode((above, upto)).decode() if above < upto else None
    await put_state(tx, BEHIND + model_id, left)


async def first_behind(tx: Tx) -> str | None:
    """A restored model some of whose versions do not count yet."""
    found = await first_state(tx, BEHIND)
    return None if found is None else found[0]


async def count_some(tx: Tx, model_id: str) -> bool:
    """Let some more versions of a restored model count again; says whether there were any."""
    behind = await _behind(tx, model_id)
    if behind is None:
        return False
    above, upto = behind
    row = await tx.one(_LAST_OF_STEP, model_=model_id, above=above, limit=VERSIONS_AT_ONCE)
    assert row is not None, "an aggregate"
    last = upto if row[0] is None else min(row[0], upto)
    await _count_versions(tx, model_id, above, last, 1)
    await _put_behind(tx, model_id, last, upto)
    return True


async def first_uncounted(tx: Tx) -> str | None:
    """A deleted model some of whose versions count still."""
    found = await first_state(tx, _STATE)
    return None if found is None else found[0]


async def uncount_some(tx: Tx, model_id: str) -> bool:
    """Let some more versions of a deleted model count no more; says whether there were any."""
    done = await get_state(tx, _STATE + model_id)
    if done is None:
        return False
    above = int(done)
    row = await tx.one(_LAST_OF_STEP, model_=model_id, above=above, limit=VERSIONS_AT_ONCE)
    assert row is not None, "an aggregate"
    await _count_versions(tx, model_id, above, row[0] or above, -1)
    await put_state(tx, _STATE + model_id, None if row[0] is None else str(row[0]))
    return True


async def _count_versions(tx: Tx, model_id: str, above: int, upto: int, more: int) -> None:
    await tx.run(_COUNT_VERSIONS, model_=model_id, above=above, upto=upto, more=more)
