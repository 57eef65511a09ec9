"""Quotas while many files of one request arrive: refused as soon as it is certain they do not fit.

What a file is shows only when all of it is here, and what a namespace holds already costs nothing.
So a file is refused before its bytes, or among them, where it is larger than anything that it could
be the same as; and the request where what is new in it so far does not fit. The transaction that
counts them in asks once more and has the last word.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from registry.catalog.namespaces import find_namespace
from registry.catalog.usage import Standing, find_standing, namespace_holds
from registry.domain.models import Model
from registry.domain.names import ModelName, fold
from registry.domain.references import ModelId, ModelReference
from registry.domain.trees import TreeFile
from registry.services.quotas import require_room
from store.digest import Digest
from store.index.transactions import Index, Tx

ASKED_AT_ONCE: Final = 128
ASKED_BYTES: Final = 64 << 20


class QuotaWatch:
    """The room of a namespace as the files of one request come in."""

    def __init__(self, index: Index, namespace_id: str, standing: Standing) -> None:
        self._index = index
        self._namespace = namespace_id
        self._standing = standing
        self._new_bytes = 0
        self._asked = 0
        self._files = 0
        self._bytes = 0
        self._seen: set[Digest] = set()

    async def watched(
        self, content: AsyncGenerator[bytes, None], size_bytes: int | None
    ) -> AsyncGenerator[bytes, None]:
        """Pass a file on as long as it may fit."""
        self._require(size_bytes or 0)
        received = 0
        async for piece in content:
            received += len(piece)
            self._require(received)
            yield piece

    def is_due(self, files: int, size_bytes: int) -> bool:
        """Whether `count` is due: many of so many files and bytes so far were not asked for."""
        due = files - self._files >= ASKED_AT_ONCE or size_bytes - self._bytes >= ASKED_BYTES
        if due:
            self._files, self._bytes = files, size_bytes
        return due

    async def count(self, files: Sequence[TreeFile]) -> None:
        """Count what of all files so far is new in the namespace."""
        fresh = files[self._asked :]
        self._asked = len(files)
        sizes = {file.digest: file.size_bytes for file in fresh if file.digest not in self._seen}
        self._seen.update(sizes)
        unit = partial(_new_bytes, namespace_id=self._namespace, sizes=sizes)
        self._new_bytes += await self._index.read(unit)
        require_room(self._standing, more_bytes=self._new_bytes)

    def _require(self, size_bytes: int) -> None:
        # Whatever it could be the same as is no larger than all there is.
        if size_bytes > max(self._standing.usage.bytes, self._new_bytes):
            require_room(self._standing, more_bytes=self._new_bytes + size_bytes)


async def watch_quota(
    tx: Tx, index: Index, model: Model | None, reference: ModelReference, *, versions: int
) -> QuotaWatch | None:
    """Refuse so many new versions if they do not fit; a watch, or None where bytes are not limited.

    Of a model that is there, or else of the one that the reference would make.
    """
    if model is not None:
        id = model.namespace_id
    elif isinstance(reference, ModelId):
        return None
    else:
        found = await find_namespace(tx, fold(reference.namespace))
        if found is None:
            return None
        id = found.id
    standing = await find_standing(tx, id)
    require_room(standing, versions=versions)
    return None if standing.most_bytes is None else QuotaWatch(index, id, standing)


async def admit_blobs(
    index: Index, name: ModelName, sizes: Mapping[Digest, int], *, versions: int
) -> None:
    """Refuse blobs that are all known beforehand, and so many versions, if they do not fit."""
    unit = partial(watch_quota, index=index, model=None, reference=name, versions=versions)
    watch = await index.look(unit)
    if watch is not None:
        files = [TreeFile("", digest, size) for digest, size in sizes.items()]
        await watch.count(files)


async def _new_bytes(tx: Tx, *, namespace_id: str, sizes: Mapping[Digest, int]) -> int:
    held = await _held(tx, namespace_id, sizes)
    return sum(size for digest, size in sizes.items() if digest not in held)


async def _held(tx: Tx, namespace_id: str, digests: Iterable[Digest]) -> set[Digest]:
    return {digest for digest in digests if await namespace_holds(tx, namespace_id, digest)}
