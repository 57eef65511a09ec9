"""API tokens of users and service accounts: made, listed and revoked.

The secret is told once, by the call that makes the token. A token never does more than its user,
and one with scopes does only what they name. Whoever acts by a limited token makes only tokens that
are limited at least as much, and none that lives longer: a leaked token *must not* become a wider
one.

Everybody makes tokens for themselves, administrators for service accounts too; not for other
people, because what is done by a token is done in its user's name. The secret of local commands is
the exception: whoever has it owns the data directory.
"""

from __future__ import annotations

from typing import Final

import msgspec

from registry.auth.tokens import hash_of, new_token, prefix_of
from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.tokens import (
    find_token_by_id,
    insert_token,
    revoke_token,
    tokens_before,
    tokens_held,
)
from registry.catalog.users import find_user_by_id
from registry.domain.accounts import MOST_TOKENS, Token, User
from registry.domain.ids import TOKEN, is_id, new_id
from registry.domain.names import fold
from registry.domain.permissions import PERMISSIONS
from registry.domain.principals import Principal
from registry.domain.roles import ALL_WORDS
from registry.domain.times import rfc3339
from registry.errors import Conflict, Denied, Invalid, NotFound
from registry.services.authority import require_account, require_held
from registry.services.change import change
from registry.services.users import require_user
from store.index.transactions import Tx
from store.opening import Store

NEWEST: Final = "~"
"""Where a list of tokens or sessions begins: behind every id."""


class TokenWish(msgspec.Struct, frozen=True, kw_only=True):
    """A token to make; `user` is a name or an id, None: whoever asks."""

    name: str
    scopes: tuple[str, ...] | None = None
    expires_at: int | None = None
    user: str | None = None


class OwnedToken(msgspec.Struct, frozen=True):
    """A token, and whose it is."""

    token: Token
    username: str


class MadeToken(msgspec.Struct, frozen=True):
    """A new token with its secret, which nobody is told again."""

    owned: OwnedToken
    secret: str

    def __repr__(self) -> str:
        return f"MadeToken({self.owned!r})"


async def create_token(store: Store, principal: Principal, wish: TokenWish) -> MadeToken:
    """Make a token."""
    scopes = _scopes(principal, wish.scopes)
    if wish.expires_at is not None and wish.expires_at <= store.clock():
        raise Invalid("expires_at", "lies in the past")
    id, secret = new_id(TOKEN, store.clock()), new_token()

    async def unit(tx: Tx) -> MadeToken:
        user = await _owner(tx, principal, wish.user)
        expires_at = await _end(tx, principal, wish.expires_at)
        if await tokens_held(tx, user.id) >= MOST_TOKENS:
            raise Conflict(
                "user",
                user.username,
                f"has {MOST_TOKENS} tokens already; revoke some",
                code="too_many_tokens",
            )
        token = Token(
            id=id,
            user=user.id,
            name=wish.name,
            prefix=prefix_of(secret),
            secret_hash=hash_of(secret),
            scopes=scopes,
            expires_at=expires_at,
            created_at=tx.now,
            created_by=principal.id,
        )
        await insert_token(tx, token)
        await record(tx, principal, _entry("create", token, user.username))
        return MadeToken(OwnedToken(token, user.username), secret)

    return await change(store, principal, unit)


def _scopes(principal: Principal, wanted: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The words of a new token, each once; raises `Denied` for more than the caller's own."""
    limit = principal.rights.limit
    if wanted is None:
        if limit is not None:
            raise Denied(
                "grant",
                "token",
                sentence="a token with scopes makes only tokens with scopes",
                code="more_than_held",
            )
        return None
    words = frozenset(wanted)
    unknown = sorted(words - ALL_WORDS)
    if unknown or not words:
        accepted = ", ".join(sorted(PERMISSIONS - {"public"}))
        problem = f"{unknown[0]!r} is no permission" if unknown else "is empty"
        raise Invalid("scopes", problem, problems=[("scopes", problem, f"some of {accepted}")])
    if limit is not None:
        require_held(principal, words, limit, "token")
    return tuple(sorted(words))


async def _owner(tx: Tx, principal: Principal, reference: str | None) -> User:
    """Whose the new token shall be; raises `Denied` where that is not the caller's to say."""
    if reference is None:
        return await require_user(tx, require_account(principal))
    if not principal.may_everywhere("admin"):
        mine = await require_user(tx, require_account(principal))
        if not is_meant(mine, reference):
            raise Denied("admin", "tokens of others")
        return mine
    user = await require_user(tx, reference)
    if user.kind == "service" or user.id == principal.id or principal.kind == "local":
        return user
    raise Denied(
        "create",
        user.username,
        sentence=f"{user.username} is a person; only they make their tokens",
        code="token_of_a_person",
    )


async def _end(tx: Tx, principal: Principal, wanted: int | None) -> int | None:
    """When a new token ends: not after the token that makes it, and with it if nothing is said.

    Raises `Denied`.
    """
    if not is_id(principal.session, TOKEN):
        return wanted
    own = await find_token_by_id(tx, principal.session)
    if own is None or own.expires_at is None:
        return wanted
    if wanted is not None and wanted > own.expires_at:
        raise Denied(
            "grant",
            "token",
            sentence=(
                "a token that expires makes no token that outlives it; "
                f"this one ends at {rfc3339(own.expires_at)}"
            ),
            code="more_than_held",
        )
    return own.expires_at if wanted is None else wanted


async def get_token(store: Store, principal: Principal, id: str) -> OwnedToken:
    """One's own token, or anybody's for administrators; raises `NotFound`."""
    return await store.index.look(lambda tx: _require(tx, principal, id))


async def list_tokens(
    store: Store,
    principal: Principal,
    *,
    user: str | None = None,
    before: str = NEWEST,
    limit: int = 100,
    only_active: bool = True,
) -> list[OwnedToken]:
    """A page of tokens of one user, the latest made first; another's are for administrators."""

    async def unit(tx: Tx) -> list[OwnedToken]:
        found = await whose(tx, principal, user)
        page = await tokens_before(tx, found.id, before, limit, only_holding=only_active)
        return [OwnedToken(token, found.username) for token in page]

    return await store.index.read(unit)


async def whose(tx: Tx, principal: Principal, reference: str | None) -> User:
    """The caller, or for an administrator the user that is meant; raises `Denied`."""
    if reference is None:
        return await require_user(tx, require_account(principal))
    if principal.may_everywhere("admin"):
        return await require_user(tx, reference)
    mine = await require_user(tx, require_account(principal))
    if not is_meant(mine, reference):
        raise Denied("admin", "tokens and sessions of others")
    return mine


def is_meant(user: User, reference: str) -> bool:
    """Whether a name or an id means this user."""
    return reference == user.id or fold(reference) == user.folded


async def end_token(store: Store, principal: Principal, id: str) -> None:
    """Revoke a token; what is revoked already stays so without a trace."""

    async def unit(tx: Tx) -> None:
        owned = await _require(tx, principal, id)
        if await revoke_token(tx, id, principal.id):
            await identity.touch(tx)
            await record(tx, principal, _entry("revoke", owned.token, owned.username))

    await change(store, principal, unit)


async def _require(tx: Tx, principal: Principal, id: str) -> OwnedToken:
    if principal.is_anonymous:
        require_account(principal)
    token = await find_token_by_id(tx, id) if is_id(id, TOKEN) else None
    if token is not None and (token.user == principal.id or principal.may_everywhere("admin")):
        user = await find_user_by_id(tx, token.user)
        assert user is not None, "the row stays, as its tokens do"
        return OwnedToken(token, user.username)
    raise NotFound("token", id, code="token_not_found")


def _entry(action: str, token: Token, username: str) -> Entry:
    told = {
        "user": token.user,
        "username": username,
        "name": token.name,
        "prefix": token.prefix,
        "scopes": token.scopes,
        "expires_at": token.expires_at,
    }
    return Entry(
        action=action,
        kind="token",
        id=token.id,
        name=token.name,
        before=told if action == "revoke" else None,
        after=told if action == "create" else None,
    )
