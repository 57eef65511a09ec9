"""Finding the parents that an archive tells of: the same bytes, here, where the importer sees them.

A parent that is not here stays told of by a URI, which names model, version and tree.
"""

from __future__ import annotations

from urllib.parse import quote

from registry.domain.exports import EdgeDocument, ParentDocument
from registry.domain.names import ModelName, parse_model_name
from registry.domain.principals import Principal
from registry.domain.references import ById, ByNumber, ModelId
from registry.errors import Denied, Invalid, NotFound
from registry.services.lineage import NamedUri, NamedVersion, Parent
from registry.services.resolve import DraftFiles, follow, require_model
from store.index.transactions import Tx


async def parent_told(
    tx: Tx, principal: Principal, edge: EdgeDocument, *, former: str, now: ModelId
) -> Parent:
    """The parent of an edge; `former` is the name that the imported model had, `now` what it is."""
    if edge.parent is None:
        assert edge.uri is not None, "the documents were checked"
        return NamedUri(edge.uri, edge.kind or "external")
    told = edge.parent
    found = None
    if told.model == former:
        found = await _living(tx, principal, now, told)
    if found is None:
        found = await _elsewhere(tx, principal, told)
    return found or NamedUri(_uri(told), "dataset" if told.kind == "dataset" else "external")


async def _elsewhere(tx: Tx, principal: Principal, told: ParentDocument) -> NamedVersion | None:
    try:
        name = parse_model_name(told.model)
    except Invalid:
        return None  # a name that is reserved here and was not there
    return await _living(tx, principal, name, told)


async def _living(
    tx: Tx, principal: Principal, model: ModelId | ModelName, told: ParentDocument
) -> NamedVersion | None:
    """The version that is meant, if it is here, holds the same and may be seen."""
    try:
        found = await require_model(tx, principal, model)
        place = await follow(tx, found, ByNumber(told.number))
    except (NotFound, Denied):
        return None
    if isinstance(place, DraftFiles) or place.version is None or str(place.digest) != told.tree:
        return None
    return NamedVersion(ModelId(found.id), ById(place.version.id))


def _uri(told: ParentDocument) -> str:
    named = quote(told.label or str(told.number))
    return f"urn:digestry:elsewhere:{quote(told.model, safe='/')}:{named}:{told.tree}"
