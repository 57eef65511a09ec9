"""The first administrator: made where nobody may administer a registry that asks who you are.

The token goes into ``<data>/admin-token``, which only the owner of the data directory may read, and
nowhere else: neither a log nor a terminal shows it. The file is written durably *before* the
transaction that makes the token hold, so that a crash in between leaves a file that opens nothing
and the next start makes another, never an administrator whose token nobody has. Whoever signed in
with it may delete the file, and make a token for each use.

The user has no password. Where an administrator is there, nothing happens, even if nobody has a
token any more: whoever may write into the data directory gets in by the local commands.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from registry.auth.tokens import hash_of, new_token, prefix_of
from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.tokens import insert_token
from registry.catalog.users import find_user, insert_user
from registry.config import ADMIN_TOKEN_FILE
from registry.domain.accounts import Token, User
from registry.domain.ids import TOKEN, USER, new_id
from registry.domain.principals import HOUSEKEEPING
from store.durable import Disk
from store.index.transactions import Tx
from store.opening import Store

USERNAME: Final = "admin"
MOST_NAMES: Final = 100


async def ensure_administrator(store: Store) -> Path | None:
    """Make an administrator if nobody is one; return the file with the token if one was made.

    For a store with a data directory, before the first request is answered.
    """
    root = store.settings.root
    if root is None or await store.index.look(identity.is_administered):
        return None
    token, now = new_token(), store.clock()
    path = root / ADMIN_TOKEN_FILE
    await asyncio.to_thread(_write, root, token)
    user_id, token_id = new_id(USER, now), new_id(TOKEN, now)

    async def unit(tx: Tx) -> bool:
        if await identity.is_administered(tx):
            return False
        name = await _free_name(tx)
        user = User(
            id=user_id,
            kind="user",
            username=name,
            folded=name,
            description="The first administrator.",
            is_admin=True,
            created_at=tx.now,
            created_by=HOUSEKEEPING.id,
            updated_at=tx.now,
        )
        shown = Token(
            id=token_id,
            user=user_id,
            name="first token",
            prefix=prefix_of(token),
            secret_hash=hash_of(token),
            created_at=tx.now,
            created_by=HOUSEKEEPING.id,
        )
        await insert_user(tx, user)
        await insert_token(tx, shown)
        await identity.touch(tx)
        for kind, id, called, said in (
            ("user", user_id, name, {"username": name, "is_admin": True}),
            ("token", token_id, shown.name, {"user": user_id, "prefix": shown.prefix}),
        ):
            entry = Entry(action="create", kind=kind, id=id, name=called, after=said)
            await record(tx, HOUSEKEEPING, entry)
        return True

    return path if await store.index.run(unit) else None


async def _free_name(tx: Tx) -> str:
    """A username that nobody has: administrators may have been disabled, and keep theirs."""
    for number in range(1, MOST_NAMES):
        name = USERNAME if number == 1 else f"{USERNAME}-{number}"
        if await find_user(tx, name) is None:
            return name
    raise RuntimeError("every name of an administrator is taken")


def _write(root: Path, token: str) -> None:
    Disk().write_file(str(root / ADMIN_TOKEN_FILE), f"{token}\n".encode(), mode=0o600)
