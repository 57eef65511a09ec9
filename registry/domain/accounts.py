"""Users and what they sign in with: tokens, sessions, memberships, grants.

Times are microseconds since the epoch in UTC. What would help whoever sees it to sign in (hashes of
passwords and tokens) is left out of every ``repr``.

A **service account** is a user that has no password and acts by tokens alone; `owner` is who
answers for it. Whoever is deleted stays as a row, because authorship does.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from registry.domain.roles import WORDS, Words, registry_words

UserKind: TypeAlias = Literal["user", "service"]
SubjectKind: TypeAlias = Literal["user", "team", "everyone"]
ResourceKind: TypeAlias = Literal["model", "namespace", "registry"]
SessionMethod: TypeAlias = Literal["password", "oidc"]

MOST_TOKENS: Final = 1000
"""Tokens of one user that hold at once."""

MOST_SCOPES: Final = 32


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or a service account."""

    id: str
    kind: str
    username: str
    folded: str
    email: str | None = None
    description: str = ""
    password_hash: str | None = None
    password_set_at: int | None = None
    is_admin: bool = False
    is_active: bool = True
    owner: str | None = None
    issuer: str | None = None
    subject: str | None = None
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    deleted_at: int | None = None
    deleted_by: str | None = None

    def __repr__(self) -> str:
        return f"User({self.id}, {self.username!r})"

    @property
    def acts(self) -> bool:
        """Whether it may do anything at all."""
        return self.is_active and self.deleted_at is None

    @property
    def is_acting_admin(self) -> bool:
        return self.is_admin and self.acts


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a team; `role` is what they may do in namespaces that the team owns."""

    team: str
    user: str
    role: str
    created_at: int
    created_by: str


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A role for a subject on a resource.

    `subject` is the id of a user or team, empty for everyone; `resource` the id of a model, a
    folded pattern of namespaces, empty for the registry.
    """

    id: str
    subject_kind: str
    subject: str
    resource_kind: str
    resource: str
    role: str
    created_at: int
    created_by: str

    @property
    def words(self) -> Words:
        """What it lets its subject do there."""
        return registry_words(self.role) if self.resource_kind == "registry" else WORDS[self.role]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its secret; `scopes` None is whatever its user may do."""

    id: str
    user: str
    name: str
    prefix: str
    secret_hash: bytes
    scopes: tuple[str, ...] | None = None
    expires_at: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None
    revoked_by: str | None = None
    created_at: int
    created_by: str

    def __repr__(self) -> str:
        return f"Token({self.id}, {self.prefix}…)"

    def state(self, now: int) -> Literal["active", "expired", "revoked"]:
        """Whether it opens anything at that time."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in of a user, and where it came from."""

    id: str
    user: str
    method: str
    address: str
    user_agent: str
    created_at: int
    expires_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None

    def holds(self, now: int) -> bool:
        return self.revoked_at is None and self.expires_at > now
