"""What one process does with versions: each publisher has a model of its own.

In the namespace ``kept`` nothing but the publisher takes versions away; in ``retained`` retention
does, and the publisher only publishes and moves an alias.
"""

from __future__ import annotations

import random
from typing import Final

from registry.domain.principals import LOCAL
from registry.domain.references import parse_model, parse_reference
from registry.errors import ContentMissing
from registry.services.aliases import Move, point_alias
from registry.services.composing import NamedFile, Registration
from registry.services.namespaces import NamespaceWish, create_namespace
from registry.services.register import register_version
from registry.services.removal import delete_version, purge_version, restore_version
from registry.services.retention import PolicyTerms, create_policy
from store.index import claims
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob
from tests.support.torture.facts import Fact, Log, body, content_of
from tests.support.torture.workers import Names

KEPT: Final = "kept"
RETAINED: Final = "retained"
KEEP_LAST: Final = 2
ALIAS: Final = "stable"


async def prepare(store: Store) -> None:
    """The policy, which is there before anything is published."""
    await create_namespace(store, LOCAL, NamespaceWish(slug=RETAINED))
    terms = PolicyTerms(keep_last=KEEP_LAST, retire_after_days=0, purge_after_days=1)
    await create_policy(store, LOCAL, terms, namespace=RETAINED)


async def _pin(tx: Tx, stored: StoredBlob) -> bool:
    return await claims.keep_ref(tx, stored.digest, LOCAL.id, claims.PIN)


class Publisher:
    """One model's work, one thing after the other."""

    def __init__(
        self, store: Store, log: Log, name: str, chance: random.Random, *, namespace: str
    ) -> None:
        self._store = store
        self._log = log
        self._chance = chance
        self._names = Names(name, chance)
        self.model = f"{namespace}/{name}"
        self._reference = parse_model(self.model)
        self._count = 0
        self._live: list[str] = []
        self._deleted: list[str] = []
        self._aliased = ""
        more = [] if namespace == RETAINED else [self._delete, self._restore, self._purge]
        self._works = [self._publish, self._publish, self._point, *more]

    def note(self, kind: str, label: str, names: str = "") -> None:
        self._log.note(Fact(kind, names, self.model, label))

    async def run(self) -> None:
        while True:
            await self._chance.choice(self._works)()

    async def _publish(self) -> None:
        self._count += 1
        label = f"{self._count}.0.0"
        names = [self._names.next() for _ in range(self._chance.randrange(1, 4))]
        files = []
        for number, name in enumerate(names):
            stored, _ = await self._store.ingest.receive(body(content_of(name)), _pin)
            files.append(NamedFile(f"f{number}", stored.digest))
        wish = Registration(label=label, files=files)
        try:
            await register_version(self._store, LOCAL, self._reference, wish, most_files=100)
        except ContentMissing:
            return  # another publisher's commit released the pin, and the blob was collected
        self.note("published", label, " ".join(names))
        self._live.append(label)

    async def _point(self) -> None:
        if not self._live:
            return
        # One that retention cannot have taken yet.
        label = self._live[-1]
        self.note("pointing", label)
        await point_alias(self._store, LOCAL, self._reference, ALIAS, Move(parse_reference(label)))
        self.note("points", label)
        self._aliased = label

    async def _delete(self) -> None:
        free = [label for label in self._live if label != self._aliased]
        if not free:
            return
        label = self._chance.choice(free)
        self.note("deleting", label)
        await delete_version(self._store, LOCAL, self._reference, parse_reference(label))
        self.note("deleted", label)
        self._live.remove(label)
        self._deleted.append(label)

    async def _restore(self) -> None:
        if not self._deleted:
            return
        label = self._deleted.pop(self._chance.randrange(len(self._deleted)))
        self.note("restoring", label)
        await restore_version(self._store, LOCAL, self._reference, parse_reference(label))
        self.note("restored", label)
        self._live.append(label)

    async def _purge(self) -> None:
        if not self._deleted:
            return
        label = self._deleted.pop(self._chance.randrange(len(self._deleted)))
        self.note("purging", label)
        await purge_version(self._store, LOCAL, self._reference, parse_reference(label))
        self.note("purged", label)
