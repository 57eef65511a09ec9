"""Who acts, what they may do where, and what of the registry that lets them see.

Every service takes a `Principal`; every read takes a `Visibility`.

A principal acts by a request, and the request's route declares one permission word. The guard of
the route puts it into `Principal.word`, after making sure that it is held somewhere; the service
that finds the model asks `Principal.may`, because only there it is known which one is meant.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from registry.domain.ids import NAMESPACE
from registry.domain.roles import ALL_RIGHTS, LEVELS, NO_RIGHTS, Place, Rights
from store.index.reader import Reader

Kind: TypeAlias = Literal["local", "user", "service", "anonymous", "system"]


class Visible(Protocol):
    """A model as far as seeing it goes."""

    @property
    def id(self) -> str: ...
    @property
    def namespace_id(self) -> str: ...
    @property
    def visibility(self) -> str: ...


class Visibility(msgspec.Struct, frozen=True, cache_hash=True, dict=True):
    """What may be read: a model by its id, its namespace's id or its level; a blob by an owner.

    `owners` holds ids of principals, models and namespaces, which differ by their prefixes.
    A blob that nobody owns is never readable.
    """

    everything: bool
    owners: frozenset[str] = frozenset()
    levels: frozenset[str] = frozenset()

    def shows(self, model: Visible) -> bool:
        """Whether a model, and with it what belongs to it, may be seen."""
        return self.everything or self.opens(place_of(model))

    def opens(self, place: Place) -> bool:
        """Whether what lies there may be seen: in a model, or else in a namespace."""
        return (
            self.everything
            or place.level in self.levels
            or place.namespace in self.owners
            or place.model in self.owners
        )

    @cached_property
    def seen(self) -> str | None:
        """Ids and levels as one JSON list, for statements; None where there is no restriction.

        No level is an id, so that one list serves; `registry.catalog.visible` asks it.
        """
        return None if self.everything else _listed(self.owners | self.levels)

    @cached_property
    def reader(self) -> Reader | None:
        """Which claims on blobs this opens; None without a restriction."""
        if self.everything:
            return None
        realms = {one for one in self.owners if one.startswith(NAMESPACE)}
        return Reader(
            owners=_listed(self.owners - realms),
            realms=_listed(realms),
            open_levels=_listed(self.levels),
            closed_levels=_listed(set(LEVELS) - self.levels),
        )


def _listed(words: Collection[str]) -> str:
    return msgspec.json.encode(sorted(words)).decode()


EVERYTHING: Final = Visibility(everything=True)


class Principal(msgspec.Struct, frozen=True):
    """Whoever acts. The id is what the index keeps; the name is what people read.

    `request_id` is the request they act by and `word` the permission of its route, both empty where
    there is none. `sight` is what follows from `rights` for reading (`visibility_of`).
    """

    id: str
    name: str
    request_id: str = ""
    kind: Kind = "user"
    rights: Rights = NO_RIGHTS
    sight: Visibility | None = None
    word: str = ""
    session: str = ""
    """The token or session it came by, for the audit log; empty where there is none."""
    override: str = ""
    """Why promotion guards shall not hold for this request; empty where nobody said so."""

    @property
    def visibility(self) -> Visibility:
        """What this principal may read."""
        if self.sight is not None:
            return self.sight
        return Visibility(everything=False, owners=frozenset((self.id,)))

    @property
    def stranger(self) -> str | None:
        """For `store.ingest`: who must not learn by the time what is stored; None: it may know."""
        return None if self.visibility.everything else self.id

    @property
    def is_anonymous(self) -> bool:
        return self.kind == "anonymous"

    def may(self, word: str, place: Place) -> bool:
        """Whether it may do that there."""
        return word in self.rights.at(place)

    def places(self, word: str) -> str | None:
        """Namespaces and models where it may do that: a JSON list of ids; None for everywhere."""
        if self.may_everywhere(word):
            return None
        limit = self.rights.limit
        if limit is not None and word not in limit:
            return _listed(())
        held = {**self.rights.namespaces, **self.rights.models}
        return _listed([id for id, words in held.items() if word in words])

    def may_everywhere(self, word: str) -> bool:
        """Whether it may do that to what belongs to no namespace."""
        return word in self.rights.everywhere


LOCAL: Final = Principal("usr_local", "local", kind="local", rights=ALL_RIGHTS, sight=EVERYTHING)
"""The one principal of the open mode, and whoever shows the secret of local commands."""

RECOVERED: Final = Principal("usr_recovered", "recovered", kind="system")
"""Owns the blobs that ``fsck`` found without a row; nobody acts as it."""

HOUSEKEEPING: Final = Principal("usr_housekeeping", "housekeeping", kind="system")
"""The server itself, where it changes things because their time has come."""


def place_of(model: Visible) -> Place:
    """Where a model is, for `Principal.may`."""
    return Place(namespace=model.namespace_id, model=model.id, level=model.visibility)


def visibility_of(id: str, rights: Rights) -> Visibility:
    """What follows from rights for reading."""
    word = "model.read"
    if word in rights.everywhere:
        return EVERYTHING
    if rights.limit is not None and word not in rights.limit:
        return Visibility(everything=False, owners=frozenset((id,)))
    readable = [
        *(at for at, words in rights.namespaces.items() if word in words),
        *(at for at, words in rights.models.items() if word in words),
    ]
    return Visibility(False, frozenset((id, *readable)), rights.levels)
