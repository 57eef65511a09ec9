"""Which names promise a secret, and values of which those under such names are replaced.

A name is read as words: ``hf_token``, ``apiKey``, ``AWS-SECRET-ACCESS-KEY`` and ``access_tokens``
are found, ``tokenizer``, ``monkey`` and ``max_tokens`` are not. It is a net, not a proof: a secret
under an innocent name passes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

MASK: Final = "(masked)"

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ANYWHERE: Final = frozenset(
    (
        "accesskey",
        "accesstoken",
        "apikey",
        "authorization",
        "authtoken",
        "credential",
        "credentials",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "privatekey",
        "secret",
        "secretkey",
        "secrets",
    )
)
_LAST: Final = frozenset(("key", "token"))
"""Words that a name must end with: ``key_size`` and ``token_count`` hold none."""

_LAST_OF_MANY: Final = frozenset(("keys", "tokens"))
_OF_ACCESS: Final = frozenset(("access", "api", "auth", "bearer", "private", "refresh"))
"""Words before those: ``stop_tokens`` and ``primary_keys`` hold none."""


def words_of(name: str) -> list[str]:
    """The words that a name is made of, in small letters: ``hfToken`` is ``hf`` and ``token``."""
    return [word.lower() for word in _WORDS.findall(name)]


def names_secret(name: str) -> bool:
    """Whether what stands under this name is taken for a secret."""
    return _known(name) if len(name) <= _MOST_KNOWN else _tells_secret(name)


def _tells_secret(name: str) -> bool:
    words = words_of(name)
    if not words:
        return False
    if words[-1] in _LAST or not _ANYWHERE.isdisjoint(words):
        return True
    return words[-1] in _LAST_OF_MANY and not _OF_ACCESS.isdisjoint(words[-2:-1])


_MOST_KNOWN: Final = 40
"""Characters of a name that is remembered: our own fields are shorter, and few."""

_known: Final = lru_cache(1024)(_tells_secret)


def masked(value: Any) -> Any:
    """A copy of JSON-like `value` in which everything under the name of a secret is `MASK`.

    An object with ``key`` and ``value`` is a pair, as tags and settings are written: there ``key``
    is a name, and decides about ``value``.
    """
    if isinstance(value, dict):
        if isinstance(key := value.get("key"), str) and "value" in value:
            return _masked_pair(value, is_secret=names_secret(key))
        return {name: _masked_member(name, inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


def _masked_member(name: object, value: Any) -> Any:
    if value is not None and isinstance(name, str) and names_secret(name):
        return MASK
    return masked(value)


def _masked_pair(pair: dict[Any, Any], *, is_secret: bool) -> dict[Any, Any]:
    found = {
        name: inner if name == "key" else _masked_member(name, inner)
        for name, inner in pair.items()
    }
    if is_secret and found["value"] is not None:
        found["value"] = MASK
    return found
