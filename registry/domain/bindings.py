"""Provider bindings: who serves a version, where, and on what terms."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlsplit

import msgspec

from registry.domain.masking import names_secret
from registry.errors import Invalid, SecretInConfig

BindingStatus: TypeAlias = Literal["active", "inactive", "degraded"]

BINDING_STATUSES: Final[tuple[BindingStatus, ...]] = get_args(BindingStatus)

KNOWN_PROVIDERS: Final = (
    "anthropic",
    "azure",
    "bedrock",
    "cohere",
    "huggingface",
    "mistral",
    "openai",
    "self-hosted",
    "vertex-ai",
)
"""How the usual ones are written here, so that everybody writes them alike; any other will do."""

PROVIDER_PATTERN: Final = "^[a-z0-9]+([._-][a-z0-9]+)*$"
PROVIDER_CHARACTERS: Final = 96
PROVIDER_MODEL_CHARACTERS: Final = 400
REGION_CHARACTERS: Final = 96
ENDPOINT_CHARACTERS: Final = 4096

_SCHEMES: Final = ("https", "http", "grpcs", "grpc")


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """A version at a provider. Provider, its model id and region say what is called."""

    id: str
    model_id: str
    version_id: str
    provider: str
    provider_model_id: str = ""
    region: str = ""
    endpoint: str = ""
    """Empty: the provider's own."""
    config: str = "{}"
    """A JSON object without secrets."""
    status: BindingStatus = "active"
    cost_per_1k: float | None = None
    """What is agreed, in USD for a thousand tokens."""
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1

    @property
    def name(self) -> str:
        """What people call it: provider, its model id and region, as far as they are said."""
        return "/".join(filter(None, (self.provider, self.provider_model_id, self.region)))

    @property
    def place(self) -> tuple[str, str, str]:
        """What is unique within a version."""
        return self.provider, self.provider_model_id, self.region


def plain_text(text: str, *, field: str) -> str:
    """Text that can be printed and has no space around it; raises `Invalid`."""
    if text != text.strip():
        raise Invalid(field, "begins or ends with a space")
    if not text.isprintable():
        raise Invalid(field, "holds characters that cannot be printed")
    return text


def parse_endpoint(text: str, *, field: str = "endpoint") -> str:
    """Check an address, empty for the provider's own; raises `Invalid` and `SecretInConfig`."""
    if not text:
        return text
    if not text.isprintable() or " " in text:
        raise Invalid(field, "holds spaces or characters that cannot be printed")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(field, f"is no URL: {error}") from error
    if parts.scheme not in _SCHEMES:
        raise Invalid(field, f"does not begin with one of {', '.join(_SCHEMES)} and ://")
    if not host:
        raise Invalid(field, "names no host")
    if "@" in parts.netloc:
        raise _secret(field, "has credentials before the host")
    for part in (parts.query, parts.fragment):
        for name, value in parse_qsl(part, keep_blank_values=True):
            if value and names_secret(name):
                raise _secret(field, f"has {name[:80]!r} among its parameters")
    return text


def _secret(field: str, reason: str) -> SecretInConfig:
    return SecretInConfig([(field, reason, "an address alone; the gateway adds what it must know")])
