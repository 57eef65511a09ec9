"""What somebody must hold to give it to others: nobody gives more than they have.

A token that is limited by scopes holds less than its user, so it cannot give away what its scopes
leave out, however much its user may do.
"""

from __future__ import annotations

from registry.domain.principals import Principal
from registry.domain.roles import ALL_WORDS, Words
from registry.errors import Denied, Unauthenticated


def require_everywhere(principal: Principal, word: str, name: str) -> None:
    """Raise `Denied` unless it holds that word on the whole registry; no word asks nothing."""
    if word and not principal.may_everywhere(word):
        raise Denied(word, name)


def require_everything(principal: Principal, name: str) -> None:
    """Raise `Denied` unless nothing is kept from it: it may become anybody it makes."""
    require_held(principal, ALL_WORDS, principal.rights.everywhere, name)


def require_everything_of_itself(principal: Principal, name: str) -> None:
    """Raise `Denied` for whoever acts by less than the whole of their account: by scopes."""
    if principal.rights.limit is not None:
        raise Denied(
            "change",
            name,
            sentence=f"a token with scopes does not change {name}",
            code="more_than_held",
        )


def require_held(principal: Principal, given: Words, held: Words, name: str) -> None:
    """Raise `Denied`, code ``more_than_held``, where `given` is more than what it holds there."""
    missing = sorted(given - held)
    if missing:
        raise Denied(
            "grant",
            name,
            sentence=f"{principal.name} does not hold {', '.join(missing)} there, and nobody can "
            "give more than they hold",
            code="more_than_held",
        )


def require_account(principal: Principal) -> str:
    """The id of the user or service account that acts; raises `Unauthenticated`, or `Denied`.

    The open mode's ``local`` is neither: it has no tokens, sessions or password.
    """
    if principal.is_anonymous:
        raise Unauthenticated
    if principal.kind not in ("user", "service"):
        raise Denied(
            "account",
            principal.name,
            sentence=f"{principal.name} is no user and has no tokens, sessions or password; "
            "say whose are meant",
            code="no_account",
        )
    return principal.id
