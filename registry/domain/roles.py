"""Roles, the permission words they stand for, and what a principal holds where.

A **grant** gives a role to a user, a team or everyone who is signed in, on a model, on the
namespaces that a pattern matches, or on the whole registry. Grants add up; nothing takes away. The
owner of a namespace is its admin; the members of a team that owns one have there what their
membership says. A model's own visibility makes readers besides: ``public`` everybody who may ask at
all, ``internal`` everybody who is signed in, ``private`` nobody.

The table of roles is that of the design (section 13). ``ops`` and ``admin`` are about the registry
itself, so only its admins hold them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.permissions import PERMISSIONS, Permission

Role: TypeAlias = Literal["reader", "writer", "maintainer", "admin"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Every role, each holding all words of those before it."""

Words: TypeAlias = frozenset[str]
"""Permission words."""

_READER: Final[frozenset[Permission]] = frozenset(("content.read", "model.read"))
_WRITER: Final[frozenset[Permission]] = _READER | {
    "content.write",
    "model.create",
    "model.write",
    "version.publish",
    "run.write",
    "observe",
}
_MAINTAINER: Final[frozenset[Permission]] = _WRITER | {"alias.move", "deploy"}
_ADMIN: Final[frozenset[Permission]] = _MAINTAINER | {"namespace.admin", "audit.read"}

WORDS: Final[Mapping[str, Words]] = {
    "reader": _READER,
    "writer": _WRITER,
    "maintainer": _MAINTAINER,
    "admin": _ADMIN,
}
"""What a role may do on a model, or in a namespace."""

ALL_WORDS: Final[Words] = PERMISSIONS - {"public"}
"""What an admin of the registry may do."""

NO_WORDS: Final[Words] = frozenset()


def registry_words(role: str) -> Words:
    """What a role may do when it is granted on the registry."""
    return ALL_WORDS if role == "admin" else WORDS[role]


def matches(pattern: str, slug: str) -> bool:
    """Whether a namespace's folded slug fits a grant's folded pattern, where ``*`` is anything."""
    return fnmatch.fnmatchcase(slug, pattern.replace("[", "[[]").replace("?", "[?]"))


LEVELS: Final = ("public", "internal", "private")
"""The visibilities that a model can have, the most open first."""


class Place(msgspec.Struct, frozen=True):
    """Where something happens: in a model, or with an empty `model` in a namespace."""

    namespace: str
    model: str = ""
    level: str = ""
    """The visibility of the model, or of the namespace itself."""


class Rights(msgspec.Struct, frozen=True, eq=False, dict=True):
    """What somebody holds, worked out from grants, memberships and ownership.

    `levels` are the visibilities whose models need no grant to be read. `namespaces` and `models`
    map ids to words; `patterns` are (folded pattern, words), for namespaces that are not there yet.
    `limit` is what a token's scopes leave of everything; None leaves all.
    """

    registry: Words = NO_WORDS
    levels: frozenset[str] = frozenset()
    namespaces: Mapping[str, Words] = msgspec.field(default_factory=dict)
    models: Mapping[str, Words] = msgspec.field(default_factory=dict)
    patterns: tuple[tuple[str, Words], ...] = ()
    own: frozenset[str] = frozenset()
    """Folded slugs of namespaces that it may make, and then owns: a person's name."""
    limit: Words | None = None

    def at(self, place: Place) -> Words:
        """What may be done there."""
        words = self.registry
        if place.namespace in self.namespaces:
            words |= self.namespaces[place.namespace]
        if place.model in self.models:
            words |= self.models[place.model]
        if place.level in self.levels:
            words |= WORDS["reader"]
        return self._limited(words)

    def beginning(self, folded_slug: str) -> Words:
        """What may be done in a namespace of this slug that is not there yet."""
        words = self.registry
        for pattern, given in self.patterns:
            if matches(pattern, folded_slug):
                words |= given
        if folded_slug in self.own:
            words |= WORDS["admin"]
        return self._limited(words)

    @cached_property
    def everywhere(self) -> Words:
        """What may be done with what belongs to no namespace, and with all that does."""
        return self._limited(self.registry)

    @cached_property
    def somewhere(self) -> Words:
        """What may be done in at least one place; who lacks a word here need not be let in."""
        words = self.registry.union(*self.namespaces.values(), *self.models.values())
        words = words.union(*(given for _, given in self.patterns))
        if self.levels:
            words |= WORDS["reader"]
        if self.own:
            words |= WORDS["admin"]
        return self._limited(words)

    def _limited(self, words: Words) -> Words:
        return words if self.limit is None else words & self.limit


ALL_RIGHTS: Final = Rights(registry=ALL_WORDS)
NO_RIGHTS: Final = Rights()
