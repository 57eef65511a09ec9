"""From what somebody wants of a version to its files in order, before anything is written.

Which blobs are there for the caller and how large they are, what a base adds, in which order the
files are and what they hash to: all of it grows with the number of files, so it happens outside the
transaction that registers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from registry.catalog.trees import tree_files_after
from registry.catalog.usable import Claimant, usable_sizes
from registry.domain.ids import FOLDER, MODEL, new_id
from registry.domain.models import Model
from registry.domain.names import ModelName
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.trees import EMPTY_TREE, TreeFile, TreeHasher, sorted_files
from registry.errors import Conflict, ContentMissing, Invalid, NotFound
from registry.services.lineage import EdgeWish
from registry.services.publish import UNSTATED, Ids, Stated
from registry.services.resolve import DraftFiles, follow
from registry.services.tags import TagWish
from registry.services.writable import model_to_write
from store.digest import Digest
from store.index.transactions import Tx
from store.opening import Store

FEW_FILES: Final = 64
"""Up to so many files cost less on the event loop than a hop to a thread and back."""

_PAGE_FILES: Final = 10_000


class NamedFile(msgspec.Struct, frozen=True, gc=False):
    """A path and the stored blob that it shall hold; None takes the path out of the base."""

    path: str
    digest: Digest | None


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A version, or a draft, as somebody wants it."""

    label: str | None = None
    files: Sequence[NamedFile] = ()
    base: VersionReference | None = None
    stated: Stated = UNSTATED
    is_draft: bool = False


class Arrived(msgspec.Struct, frozen=True):
    """Files that came with the request itself; their blobs are leased to `holder` and not owned."""

    files: Sequence[TreeFile] = ()
    holder: str = ""


NOTHING_ARRIVED: Final = Arrived()


class Content(msgspec.Struct, frozen=True):
    """Files in order, and what they make."""

    files: list[TreeFile]
    tree: Digest
    size_bytes: int


class Prepared(msgspec.Struct, frozen=True):
    """A registration with everything that its transaction needs, ids included."""

    reference: ModelReference
    wish: Registration
    content: Content
    claimant: Claimant
    model_id: str
    folder_id: str
    """Empty where no draft is wished for."""
    ids: Ids
    tags: tuple[TagWish, ...]
    lineage: tuple[EdgeWish, ...] = ()


async def prepare(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wish: Registration,
    *,
    most_files: int,
    arrived: Arrived = NOTHING_ARRIVED,
) -> Prepared:
    """Everything about a registration that needs no writing."""
    require_coherent(wish, arrived)
    claimant = Claimant(principal.visibility, arrived.holder)
    wanted = {file.digest for file in wish.files if file.digest is not None}

    async def unit(tx: Tx) -> tuple[list[TreeFile], dict[Digest, int]]:
        found = await model_to_write(tx, principal, model)
        base = []
        if wish.base is not None:
            base = await _base_files(tx, found, model, wish.base, most_files)
        return base, await usable_sizes(tx, claimant, wanted)

    base, sizes = list[TreeFile](), dict[Digest, int]()
    is_small = wish.base is None and len(wish.files) + len(arrived.files) <= FEW_FILES
    if wanted or wish.base is not None:
        base, sizes = await (store.index.look if is_small else store.index.read)(unit)
    missing = sorted(wanted - sizes.keys())
    if missing:
        raise ContentMissing("version", _name(wish, model), missing)
    if is_small:
        content = _compose(wish, base, sizes, arrived.files, most_files)
    else:
        content = await asyncio.to_thread(_compose, wish, base, sizes, arrived.files, most_files)
    return _prepared(store, model, wish, content, claimant)


def prepare_alone(
    store: Store, principal: Principal, model: ModelReference, wish: Registration
) -> Prepared:
    """`prepare` of a wish that names nothing that is stored."""
    require_coherent(wish)
    claimant = Claimant(principal.visibility, "")
    return _prepared(store, model, wish, _compose(wish, (), {}, (), 0), claimant)


def _prepared(
    store: Store, model: ModelReference, wish: Registration, content: Content, claimant: Claimant
) -> Prepared:
    now = store.clock()
    return Prepared(
        model,
        wish,
        content,
        claimant,
        new_id(MODEL, now),
        new_id(FOLDER, now) if wish.is_draft else "",
        Ids.fresh(now),
        tuple(TagWish.fresh(now, key, value) for key, value in wish.stated.tags),
        tuple(EdgeWish.of(now, said) for said in wish.stated.lineage),
    )


def require_coherent(wish: Registration, arrived: Arrived = NOTHING_ARRIVED) -> None:
    """Refuse what contradicts itself, before anything is looked up or received."""
    stated = wish.stated
    if stated.source is not None and (wish.files or arrived.files or wish.base is not None):
        raise Invalid(
            "source", "stands for bytes kept elsewhere; files and base cannot be beside it"
        )
    if not wish.is_draft:
        return
    if wish.label is None:
        raise Invalid("label", "is what a draft is called by; it needs one")
    said = [*stated.facts.given(), *(["source"] if stated.source is not None else [])]
    said += [name for name in ("status", "tags", "lineage") if getattr(stated, name)]
    if said:
        raise Invalid(
            said[0],
            "cannot be said of a draft; say it when it is published",
            problems=[
                (name, "cannot be said of a draft; say it when it is published") for name in said
            ],
        )


def _name(wish: Registration, model: ModelReference) -> str:
    called = model.text if isinstance(model, ModelName) else model.id
    return f"{wish.label or 'without a label'} of {called}"


async def _base_files(
    tx: Tx,
    model: Model | None,
    reference: ModelReference,
    base: VersionReference,
    most_files: int,
) -> list[TreeFile]:
    if model is None:
        assert isinstance(reference, ModelName), "an id that names no model was refused"
        raise NotFound("model", reference.text, code="model_not_found")
    place = await follow(tx, model, base)
    if isinstance(place, DraftFiles):
        raise Conflict(
            "draft",
            f"{place.name} of {model.name}",
            "may still change; a base is a version",
            code="base_is_draft",
        )
    if place.files > most_files:
        raise too_many(most_files)
    files: list[TreeFile] = []
    while len(files) < place.files:
        after = files[-1].path if files else ""
        files += await tree_files_after(tx, place.digest, after, _PAGE_FILES)
    return files


def _compose(
    wish: Registration,
    base: Iterable[TreeFile],
    sizes: Mapping[Digest, int],
    arrived: Sequence[TreeFile],
    most_files: int,
) -> Content:
    """Lay what is named over the base; blocking, because there may be many files."""
    found = {file.path: file for file in base}
    seen: set[str] = set()
    for named in wish.files:
        require_once(named.path, seen)
        if named.digest is not None:
            found[named.path] = TreeFile(named.path, named.digest, sizes[named.digest])
        elif found.pop(named.path, None) is None:
            raise Invalid("files", f"{named.path!r} is not in the base", code="path_not_in_base")
    for file in arrived:
        require_once(file.path, seen)
        found[file.path] = file
    if len(found) > most_files:
        raise too_many(most_files)
    if not found and wish.stated.source is None:
        raise Invalid("files", "is empty, and no source is given", code="version_empty")
    if not found:
        return Content([], EMPTY_TREE, 0)
    files = sorted_files(found.values())
    hasher = TreeHasher()
    for file in files:
        hasher.update(file.path, file.digest.hex, file.size_bytes)
    return Content(files, hasher.finish(), hasher.size_bytes)


def require_once(path: str, seen: set[str]) -> None:
    if path in seen:
        raise Invalid("files", f"{path!r} appears twice", code="path_twice")
    seen.add(path)


def too_many(most_files: int) -> Invalid:
    return Invalid(
        "files",
        f"are more than {most_files}",
        code="too_many_files",
        details={"limit": "limits.version_files", "allowed": most_files},
    )
