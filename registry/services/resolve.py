"""From what a caller wrote to the files it means: model, then version, draft, alias or tree.

Looking up ignores case, as names are unique that way; only writing insists on the spelling. What is
deleted is not found. Everything here is key look-ups, so it runs on the event loop.
"""

from __future__ import annotations

import msgspec

from registry.catalog.aliases import find_alias
from registry.catalog.folders import find_draft
from registry.catalog.models import find_model, find_model_by_id
from registry.catalog.redirects import find_redirect
from registry.catalog.trees import find_tree
from registry.catalog.versions import (
    find_revision_tree,
    find_version_by_id,
    find_version_by_label,
    find_version_by_number,
    find_version_by_revision,
    find_version_by_tree,
)
from registry.domain.models import Draft, Model, Version
from registry.domain.names import ModelName
from registry.domain.principals import Principal, place_of
from registry.domain.references import (
    ByAlias,
    ById,
    ByName,
    ByNumber,
    ByRevision,
    ByTree,
    ModelId,
    ModelReference,
    VersionReference,
)
from registry.errors import Denied, NotFound
from store.digest import Digest
from store.index.transactions import Tx
from store.opening import Store


class Tree(msgspec.Struct, frozen=True):
    """Files that never change, and the live version whose files they are, if one is."""

    model: Model
    digest: Digest
    files: int
    size_bytes: int
    revision: str
    version: Version | None
    is_movable: bool
    """Whether the reference may lead elsewhere tomorrow: it was an alias."""

    @property
    def name(self) -> str:
        """What to call the version in a file name."""
        return self.revision[:12] if self.version is None else self.version.name


class DraftFiles(msgspec.Struct, frozen=True):
    """Files that may still change."""

    model: Model
    draft: Draft

    @property
    def name(self) -> str:
        return self.draft.label


async def resolve_version(
    store: Store, principal: Principal, model: ModelReference, reference: VersionReference
) -> Tree | DraftFiles:
    """What a reference leads to; raises `NotFound`."""

    async def unit(tx: Tx) -> Tree | DraftFiles:
        found = await require_model(tx, principal, model)
        return await follow(tx, found, reference)

    return await store.index.look(unit)


async def require_model(
    tx: Tx, principal: Principal, reference: ModelReference, *, word: str | None = None
) -> Model:
    """The living model, if the principal may see it and do there what it is about to do.

    That is `word`, or where it is not said the permission of the route it came by. Raises
    `NotFound` for a hidden one, and `Denied` where a visible one may not be dealt with so.
    """
    if isinstance(reference, ModelId):
        model, name = await find_model_by_id(tx, reference.id), reference.id
    else:
        model, name = await find_named(tx, reference), reference.text
    if model is None or not principal.visibility.shows(model):
        raise NotFound("model", name, code="model_not_found")
    require_word(principal, model, principal.word if word is None else word)
    return model


def require_word(principal: Principal, model: Model, word: str) -> None:
    """Raise `Denied` unless the principal may do that to a model it sees; no word asks nothing."""
    if word and word != "public" and not principal.may(word, place_of(model)):
        raise Denied(word, model.name)


async def find_named(tx: Tx, name: ModelName) -> Model | None:
    """The living model with this name, or the one that had it before it was renamed."""
    model = await find_model(tx, name.folded)
    if model is None and (redirect := await find_redirect(tx, name.folded)) is not None:
        model = await find_model_by_id(tx, redirect.model_id)
    return model


async def follow(tx: Tx, model: Model, reference: VersionReference) -> Tree | DraftFiles:
    """What a reference means in a model; raises `NotFound`."""
    match reference:
        case ByNumber(number=number):
            found = await find_version_by_number(tx, model.id, number)
            return _live(model, found, str(number))
        case ByName(name=name, folded=folded):
            return await _follow_name(tx, model, name, folded)
        case ByAlias(name=name, folded=folded):
            return await _follow_alias(tx, model, "@" + name, folded)
        case ByTree(tree=tree):
            return _live(model, await find_version_by_tree(tx, model.id, tree), str(tree))
        case ByRevision(revision=revision):
            return await _follow_revision(tx, model, revision, is_movable=False)
        case ById(id=id):
            return _live(model, await find_version_by_id(tx, model.id, id), id)


async def _follow_name(tx: Tx, model: Model, name: str, folded: str) -> Tree | DraftFiles:
    version = await find_version_by_label(tx, model.id, folded)
    if version is not None and version.deleted_at is None:
        return _live(model, version, name)
    draft = await find_draft(tx, model.id, folded)
    if draft is not None:
        return DraftFiles(model, draft)
    return await _follow_alias(tx, model, name, folded)


async def _follow_alias(tx: Tx, model: Model, name: str, folded: str) -> Tree:
    alias = await find_alias(tx, model.id, folded)
    if alias is None:
        raise _missing(model, name)
    return await _follow_revision(tx, model, alias.revision, is_movable=True)


async def _follow_revision(tx: Tx, model: Model, revision: str, *, is_movable: bool) -> Tree:
    version = await find_version_by_revision(tx, revision)
    if version is not None and version.model_id == model.id and version.deleted_at is None:
        return msgspec.structs.replace(_live(model, version, revision), is_movable=is_movable)
    tree = await find_revision_tree(tx, model.id, revision)
    totals = None if tree is None or version is not None else await find_tree(tx, tree)
    if tree is None or totals is None:
        raise _missing(model, revision)
    return Tree(model, tree, *totals, revision, None, is_movable)


def _live(model: Model, version: Version | None, name: str) -> Tree:
    if version is None or version.deleted_at is not None:
        raise _missing(model, name)
    return Tree(
        model, version.tree, version.files, version.size_bytes, version.revision, version, False
    )


def _missing(model: Model, name: str) -> NotFound:
    return NotFound("version", f"{name} of {model.name}", code="version_not_found")
