"""Environments: where versions are deployed to. They are global and belong to nobody.

An environment takes deployments while it is active and lives. Its name follows the grammar of one
segment of a model's name, and is unique under case folding among those that live.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.ids import ENVIRONMENT, is_id
from registry.domain.names import fold, parse_team_name
from registry.errors import Invalid

EnvironmentType: TypeAlias = Literal["development", "staging", "production", "sandbox"]

ENVIRONMENT_TYPES: Final[tuple[EnvironmentType, ...]] = get_args(EnvironmentType)

_DNS_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A place to deploy to. `config` is JSON text without secrets."""

    id: str
    name: str
    folded: str
    type: str
    region: str = ""
    kubernetes_namespace: str = ""
    description: str = ""
    config: str = "{}"
    is_active: bool = True
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    deleted_at: int | None = None
    deleted_by: str | None = None


class EnvironmentName(msgspec.Struct, frozen=True):
    text: str

    @property
    def folded(self) -> str:
        return fold(self.text)


class EnvironmentId(msgspec.Struct, frozen=True):
    text: str


EnvironmentReference: TypeAlias = EnvironmentName | EnvironmentId


def parse_environment(text: str) -> EnvironmentReference:
    """Read ``env_…`` or a name. No text is refused: a name that cannot be is one of nothing."""
    if is_id(text, ENVIRONMENT):
        return EnvironmentId(text)
    return EnvironmentName(unicodedata.normalize("NFC", text))


def parse_environment_name(text: str, *, field: str = "name") -> str:
    """Check the name of a new environment; raises `Invalid`, code ``environment_name_invalid``."""
    try:
        return parse_team_name(text, field=field)
    except Invalid as error:
        raise Invalid(field, error.reason, code="environment_name_invalid") from error


def parse_kubernetes_namespace(text: str, *, field: str = "kubernetes_namespace") -> str:
    """Check a label of RFC 1123, which names of namespaces are; empty where there is none."""
    if text and _DNS_LABEL.match(text) is None:
        raise Invalid(
            field,
            f"{text[:80]!r} is no RFC 1123 label: at most 63 small letters, digits and '-', "
            "a letter or digit at both ends",
        )
    return text
