"""How a version is asked for, and in which order the ways are tried.

``@alias``, number, label, alias, ``sha256:`` tree, 40-hex revision, ``ver_`` id. The forms barely
overlap: a label is never digits only, never 40 hexadecimal digits and never starts with ``ver_``,
so parsing decides everything except label against alias, which is looked up in that order.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import msgspec

from registry.domain.ids import MODEL, VERSION, is_id
from registry.domain.names import ModelName, fold, parse_alias, parse_label, parse_model_name
from registry.errors import Invalid
from store.digest import Digest, InvalidDigest

_NUMBER: Final = re.compile(r"[0-9]{1,18}\Z")
_REVISION: Final = re.compile(r"[0-9a-f]{40}\Z")


class ByAlias(msgspec.Struct, frozen=True):
    """``@champion``: an alias and nothing else."""

    name: str
    folded: str


class ByNumber(msgspec.Struct, frozen=True):
    number: int


class ByName(msgspec.Struct, frozen=True):
    """``1.4.0`` or ``champion``: a label if there is one, else an alias."""

    name: str
    folded: str


class ByTree(msgspec.Struct, frozen=True):
    """The newest live version with exactly these files."""

    tree: Digest


class ByRevision(msgspec.Struct, frozen=True):
    revision: str


class ById(msgspec.Struct, frozen=True):
    id: str


VersionReference: TypeAlias = ByAlias | ByNumber | ByName | ByTree | ByRevision | ById


class ModelId(msgspec.Struct, frozen=True):
    """``mdl_…``: a model that must exist already."""

    id: str


ModelReference: TypeAlias = ModelName | ModelId


def parse_model(text: str, *, field: str = "model") -> ModelReference:
    """Read a model's name or id; raises `Invalid`, code ``model_name_invalid``."""
    return ModelId(text) if is_id(text, MODEL) else parse_model_name(text, field=field)


def parse_reference(text: str, *, field: str = "version") -> VersionReference:
    """Read any way of asking; raises `Invalid`, code ``version_reference_invalid``."""
    try:
        return _parse(text)
    except (Invalid, InvalidDigest) as error:
        reason = error.reason if isinstance(error, Invalid) else str(error)
        raise Invalid(field, reason, code="version_reference_invalid") from error


def _parse(text: str) -> VersionReference:
    if text.startswith("@"):
        alias = parse_alias(text[1:])
        return ByAlias(alias, fold(alias))
    if _NUMBER.match(text) is not None:
        return ByNumber(int(text))
    if text.startswith("sha256:"):
        return ByTree(Digest.parse(text))
    if _REVISION.match(text) is not None:
        return ByRevision(text)
    if is_id(text, VERSION):
        return ById(text)
    label = parse_label(text)
    return ByName(label, fold(label))
