"""The shapes in which users, tokens, sessions, members and grants travel as JSON.

Secrets come in under ``password``, ``…_token`` and the like, and go out once, where they are made.
Structs that hold one show nothing of it in their ``repr``.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.wire_runs import Moment
from registry.api.wire_words import Name, Text
from registry.auth.passwords import MOST_CHARACTERS
from registry.catalog.grants import NamedGrant
from registry.catalog.memberships import Member, TeamOfUser
from registry.domain.accounts import MOST_SCOPES, Session, User
from registry.domain.roles import Role
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339
from registry.services.tokens import MadeToken, OwnedToken

UserKind: TypeAlias = Literal["user", "service"]
SubjectKind: TypeAlias = Literal["user", "team", "everyone"]
ResourceKind: TypeAlias = Literal["model", "namespace", "registry"]
Email: TypeAlias = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=320,
        pattern=r"^[^\x00\s@]+@[^\x00\s@]+$",
        examples=["someone@example.org"],
    ),
]
Password: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]
Issuer: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^[^\x00]*$")]
Subject: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Title: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


def _about(words: str) -> Meta:
    return Meta(description=words)


class UserCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user to make, or with ``kind`` ``service`` a service account, which has no password.

    Without a password a user signs in through the provider of identities, if at all: ``issuer`` and
    ``subject`` are what it calls them. ``owner`` answers for a service account.
    """

    username: Name
    kind: UserKind = "user"
    email: Email | None = None
    description: Text = ""
    password: Password | None = None
    is_admin: bool = False
    active: bool = True
    owner: Name | None = None
    issuer: Issuer | None = None
    subject: Subject | None = None

    def __repr__(self) -> str:
        return f"UserCreate({self.username!r})"


class UserUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is absent stays. ``active`` false takes the power to act."""

    username: Name | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    description: Text | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    owner: Name | UnsetType | None = UNSET
    issuer: Issuer | UnsetType | None = UNSET
    subject: Subject | UnsetType | None = UNSET


class UsersQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which users are listed."""

    kind: Annotated[UserKind | None, _about("People, or service accounts.")] = None
    deleted: Annotated[bool, _about("Deleted users instead, in order of their ids.")] = False


class UserAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A user or service account; a deleted one keeps its id and frees its name."""

    id: str
    kind: UserKind
    username: str
    email: str | None
    description: str
    is_admin: bool
    active: bool
    owner: str | None
    issuer: str | None
    subject: str | None
    has_password: bool
    password_set_at: str | None
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


class PasswordBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The password that a user shall have."""

    password: Password

    def __repr__(self) -> str:
        return "PasswordBody(…)"


class RevokedAnswer(msgspec.Struct, frozen=True):
    """How many tokens and sessions were ended."""

    tokens: int
    sessions: int


def user_answer(user: User) -> UserAnswer:
    return UserAnswer(
        id=user.id,
        kind=user.kind,  # type: ignore[arg-type]  # the table allows these words only
        username=user.username,
        email=user.email,
        description=user.description,
        is_admin=user.is_admin,
        active=user.is_active,
        owner=user.owner,
        issuer=user.issuer,
        subject=user.subject,
        has_password=user.password_hash is not None,
        password_set_at=_time(user.password_set_at),
        created_at=rfc3339(user.created_at),
        created_by=user.created_by,
        updated_at=rfc3339(user.updated_at),
        deleted_at=_time(user.deleted_at),
        deleted_by=user.deleted_by,
    )


class TokenCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to make. ``scopes`` are permissions, null for all that its user may do.

    ``user`` is whose it shall be, the caller's if absent; administrators make those of service
    accounts.
    """

    name: Title
    scopes: Annotated[list[str], Meta(min_length=1, max_length=MOST_SCOPES)] | None = None
    expires_at: Moment | None = None
    user: Name | None = None


class TokensQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens are listed."""

    user: Annotated[Name | None, _about("Of this user, by name or id; the caller's if absent.")] = (
        None
    )
    ended: Annotated[bool, _about("Revoked and expired ones too.")] = False


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its secret; ``prefix`` is how it begins."""

    id: str
    name: str
    prefix: str
    user: str
    username: str
    scopes: list[str] | None
    state: Literal["active", "expired", "revoked"]
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    revoked_by: str | None
    created_at: str
    created_by: str


class TokenMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new token. ``secret`` is told here and never again."""

    token: TokenAnswer
    secret: str

    def __repr__(self) -> str:
        return f"TokenMade({self.token.id})"


def token_answer(owned: OwnedToken, now: int) -> TokenAnswer:
    token = owned.token
    return TokenAnswer(
        id=token.id,
        name=token.name,
        prefix=token.prefix,
        user=token.user,
        username=owned.username,
        scopes=None if token.scopes is None else list(token.scopes),
        state=token.state(now),
        expires_at=_time(token.expires_at),
        last_used_at=_time(token.last_used_at),
        revoked_at=_time(token.revoked_at),
        revoked_by=token.revoked_by,
        created_at=rfc3339(token.created_at),
        created_by=token.created_by,
    )


def token_made(made: MadeToken, now: int) -> TokenMade:
    return TokenMade(token=token_answer(made.owned, now), secret=made.secret)


class SessionsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose sessions are listed."""

    user: Annotated[Name | None, _about("Of this user, by name or id; the caller's if absent.")] = (
        None
    )


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that holds; ``current`` is the one that this very request came by."""

    id: str
    user: str
    method: Literal["password", "oidc"]
    address: str
    user_agent: str
    current: bool
    created_at: str
    expires_at: str
    last_used_at: str | None


def session_answer(session: Session, current: str) -> SessionAnswer:
    return SessionAnswer(
        id=session.id,
        user=session.user,
        method=session.method,  # type: ignore[arg-type]  # the table allows these words only
        address=session.address,
        user_agent=session.user_agent,
        current=session.id == current,
        created_at=rfc3339(session.created_at),
        expires_at=rfc3339(session.expires_at),
        last_used_at=_time(session.last_used_at),
    )


class MemberPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member may do in the namespaces that the team owns."""

    role: Role = "writer"


class MemberAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a team."""

    user: str
    username: str
    kind: UserKind
    active: bool
    role: Role
    created_at: str
    created_by: str


def member_answer(member: Member) -> MemberAnswer:
    one = member.membership
    return MemberAnswer(
        user=one.user,
        username=member.username,
        kind=member.kind,  # type: ignore[arg-type]  # the table allows these words only
        active=member.is_active,
        role=one.role,  # type: ignore[arg-type]  # so in the table
        created_at=rfc3339(one.created_at),
        created_by=one.created_by,
    )


class MyTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A team that the caller is in."""

    id: str
    name: str
    role: Role


def my_team(found: TeamOfUser) -> MyTeam:
    one = found.membership
    return MyTeam(id=one.team, name=found.team_name, role=one.role)  # type: ignore[arg-type]  # so in the table


class GrantTo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is given a role: a user or a team by ``name`` or id, or everyone who is signed in."""

    kind: SubjectKind
    name: Name | None = None


class GrantOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On what: a model by ``name`` or id, namespaces by a pattern in ``name``, the registry."""

    kind: ResourceKind
    name: Name | None = None


class GrantCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role to give; the one that its subject had on the resource is replaced."""

    subject: GrantTo
    resource: GrantOn
    role: Role


class GrantsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which grants are listed, among those on what the caller administers."""

    user: Annotated[Name | None, _about("To the user with this name or id.")] = None
    team: Annotated[Name | None, _about("To the team with this name or id.")] = None
    model: Annotated[Name | None, _about("On the model with this name or id.")] = None
    namespace: Annotated[Name | None, _about("On exactly this pattern of namespaces.")] = None


class GrantParty(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a role; ``id`` and ``name`` are empty for everyone."""

    kind: SubjectKind
    id: str
    name: str


class GrantPlace(msgspec.Struct, frozen=True, kw_only=True):
    """On what; ``id`` is that of a model, ``name`` its name or a pattern of namespaces."""

    kind: ResourceKind
    id: str
    name: str


class GrantAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A role that a subject has on a resource."""

    id: str
    subject: GrantParty
    resource: GrantPlace
    role: Role
    created_at: str
    created_by: str


def grant_answer(named: NamedGrant) -> GrantAnswer:
    grant = named.grant
    is_model = grant.resource_kind == "model"
    return GrantAnswer(
        id=grant.id,
        subject=GrantParty(
            kind=grant.subject_kind,  # type: ignore[arg-type]  # the table allows these words only
            id=grant.subject,
            name=named.subject_name,
        ),
        resource=GrantPlace(
            kind=grant.resource_kind,  # type: ignore[arg-type]  # so in the table
            id=grant.resource if is_model else "",
            name=named.resource_name,
        ),
        role=grant.role,  # type: ignore[arg-type]  # so in the table
        created_at=rfc3339(grant.created_at),
        created_by=grant.created_by,
    )


def _time(moment: int | None) -> str | None:
    return None if moment is None else rfc3339(moment)
