"""From what a caller wrote to the files it means: model, then version, draft, alias or tree.

Looking up ignores case, as names are unique that way; only writing insists on the spelling. What is
deleted is not found. Everything here is key look-ups, so it runs on the event loop.
"""

from __future__ import annotations

import msgspec

from registry.catalog.aliases import find_alias
from registry.catalog.folders import find_draft
from registry.catalog.models import (
    find_any_model,
    find_model,
    find_model_by_id,
    find_some_model,
)
from registry.catalog.namespaces import find_namespace_by_id
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
from registry.domain.ids import NAMESPACE
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
from registry.domain.roles import Place
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
        if not principal.visibility.everything:
            await _look_as_long(tx, principal, reference, model)
        raise NotFound("model", name, code="model_not_found")
    require_word(principal, model, word)
    return model


def require_word(principal: Principal, model: Model, word: str | None = None) -> None:
    """Raise `Denied` unless the principal may do that to a model it sees.

    Without a word that is what its route declares, and nothing where there is no route.
    """
    asked = principal.word if word is None else word
    if asked not in principal.rights.everywhere:
        _require_at(principal, place_of(model), model.name, asked)


def _require_at(principal: Principal, place: Place, name: str, word: str) -> None:
    if word and word != "public" and not principal.may(word, place):
        raise Denied(word, name)


async def require_owner(
    tx: Tx,
    principal: Principal,
    owner: str | None,
    missing: NotFound,
    *,
    word: str | None = None,
) -> None:
    """Let somebody deal with what belongs to `owner`: a model in any state, or a namespace.

    Raises `missing` unless it is seen, and `Denied` unless the word is held there. None is the
    owner of what is not there: some model is read for it, so that it takes about as long. Whoever
    made it owns what belongs to neither; nobody else sees that.
    """
    asked = principal.word if word is None else word
    if owner is not None and principal.visibility.everything and _holds(principal, asked):
        return
    if owner is None:
        await find_some_model(tx)
        raise missing
    found = await _place_of_owner(tx, owner)
    if owner == principal.id:
        return
    if found is None or not principal.visibility.opens(found[0]):
        raise missing
    _require_at(principal, *found, asked)


def _holds(principal: Principal, word: str) -> bool:
    return not word or word == "public" or principal.may_everywhere(word)


async def _place_of_owner(tx: Tx, owner: str) -> tuple[Place, str] | None:
    """Where what an owner has lies, and what to call it."""
    if owner.startswith(NAMESPACE):
        namespace = await find_namespace_by_id(tx, owner)
        if namespace is None:
            return None
        return Place(namespace.id, level=namespace.visibility), namespace.slug
    model = await find_any_model(tx, owner)
    return None if model is None else (place_of(model), model.name)


async def find_named(tx: Tx, name: ModelName) -> Model | None:
    """The living model with this name, or the one that had it before it was renamed."""
    model = await find_model(tx, name.folded)
    if model is None and (redirect := await find_redirect(tx, name.folded)) is not None:
        model = await find_model_by_id(tx, redirect.model_id)
    return model


async def _look_as_long(
    tx: Tx, principal: Principal, reference: ModelReference, hidden: Model | None
) -> None:
    """Do what finding a hidden model takes where there is none, and the other way round.

    Each name that is not found takes all steps of `find_named`, and reads one model and judges it:
    another one, where none has the name. Reading a row takes ten microseconds longer than finding
    none, which a thousand questions would tell.
    """
    if hidden is None:
        other = await find_some_model(tx)
        if other is not None:
            principal.visibility.shows(other)
    elif isinstance(reference, ModelId):
        await find_model_by_id(tx, "")
    elif hidden.folded == reference.folded:
        await find_redirect(tx, reference.folded)
        await find_model_by_id(tx, "")


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
