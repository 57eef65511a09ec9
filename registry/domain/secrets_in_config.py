"""Configuration of environments and bindings: free JSON that holds no secret, only references.

**The rule.** A name promises a secret as in the audit log (`registry.domain.masking`): ``api_key``,
``hfToken``, ``DB_PASSWORD``. Everything under it, however deep, is refused, except null and what is
a reference. A name is that of a **reference** if its last word is ``ref``, ``refs``, ``reference``,
``references`` or ``from``; such a name promises no secret, and text under it says where one is::

    {"api_key": {"secret_ref": "vault:kv/openai#key"}}        accepted
    {"api_key_ref": "vault:kv/openai#key"}                    accepted
    {"api_key": {"valueFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}}  accepted
    {"api_key": "sk-123"}                                     refused
    {"auth_from": {"password": "hunter2"}}                    refused

Inside a reference the bare name ``key`` says which entry of a secret is meant. An object that has
``value`` beside ``key`` or ``name`` is a pair, as environment variables are written: there the
text of ``key`` or ``name`` is the name that decides about ``value``.

Like the test of names this is a net, not a proof: who writes a password under an innocent name, or
as the text of a reference, is not caught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from registry.domain.masking import names_secret, words_of
from registry.errors import Invalid, SecretInConfig

CONFIG_BYTES: Final = 64 << 10
"""How long a configuration may be, written without spaces."""

CONFIG_DEPTH: Final = 16
"""How many objects and lists may lie in each other, the outermost counted."""

_REFERENCES: Final = frozenset(("ref", "refs", "reference", "references", "from"))
_NAME_CHARACTERS: Final = 80
_MOST_PROBLEMS: Final = 100
_ACCEPTED: Final = 'a reference to a secret, such as {"secret_ref": "where it is kept"}'

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def config_text(config: Mapping[str, Any], *, field: str = "config") -> str:
    """A configuration as it is kept: JSON in one spelling.

    Raises `SecretInConfig` with every place of a secret, and `Invalid` for one too large or deep.
    """
    if _depth_passes(config, CONFIG_DEPTH):
        raise Invalid(field, f"is deeper than {CONFIG_DEPTH} levels of objects and lists")
    encoded = _encode(config)
    if len(encoded) > CONFIG_BYTES:
        raise Invalid(field, f"is {len(encoded)} bytes of JSON; at most {CONFIG_BYTES} are kept")
    problems = [
        (where, "stands under the name of a secret", _ACCEPTED)
        for where in islice(secrets_in(config, where=field), _MOST_PROBLEMS)
    ]
    if problems:
        raise SecretInConfig(problems)
    return encoded.decode()


def names_reference(name: str) -> bool:
    """Whether what stands under this name says where a secret is."""
    words = words_of(name)
    return bool(words) and words[-1] in _REFERENCES


def secrets_in(value: Any, *, where: str) -> Iterator[str]:
    """The paths of values under the names of secrets, `where` in front."""
    if isinstance(value, dict):
        decides = _name_of_pair(value)
        for name, inner in value.items():
            if decides is not None and name == "key" and isinstance(inner, str):
                continue  # it is a name itself
            judged = decides if decides is not None and name == "value" else name
            yield from _member(judged, inner, f"{where}.{name[:_NAME_CHARACTERS]}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from secrets_in(inner, where=f"{where}[{position}]")


def _name_of_pair(value: dict[str, Any]) -> str | None:
    if "value" not in value:
        return None
    return next(
        (name for said in ("key", "name") if isinstance(name := value.get(said), str)), None
    )


def _member(name: str, value: Any, where: str) -> Iterator[str]:
    if names_reference(name):
        yield from _in_reference(value, where)
    elif names_secret(name):
        yield from _in_secret(value, where)
    else:
        yield from secrets_in(value, where=where)


def _in_secret(value: Any, where: str) -> Iterator[str]:
    """Everything but null and references is refused here."""
    if isinstance(value, dict):
        for name, inner in value.items():
            judge = _in_reference if names_reference(name) else _in_secret
            yield from judge(inner, f"{where}.{name[:_NAME_CHARACTERS]}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _in_secret(inner, f"{where}[{position}]")
    elif value is not None:
        yield where


def _in_reference(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            is_plain = name == "key" or names_reference(name) or not names_secret(name)
            judge = _in_reference if is_plain else _in_secret
            yield from judge(inner, f"{where}.{name[:_NAME_CHARACTERS]}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _in_reference(inner, f"{where}[{position}]")


def _depth_passes(value: Any, most: int) -> bool:
    if isinstance(value, dict):
        return most == 0 or any(_depth_passes(inner, most - 1) for inner in value.values())
    if isinstance(value, list):
        return most == 0 or any(_depth_passes(inner, most - 1) for inner in value)
    return False
