"""Keys and values of tags.

A key is printable text without ``=``, at most 96 characters; a value is printable text of at most
200, or empty, which makes the tag a key alone. Tags are compared folded like names: the model has
each key once, whatever its spelling.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from registry.domain.names import fold
from registry.errors import Invalid

KEY_CHARACTERS: Final = 96
VALUE_CHARACTERS: Final = 200
MOST_TAGS: Final = 200
"""How many tags one model or version may have."""


def parse_key(text: str, *, field: str = "key") -> str:
    """Check a key; raises `Invalid`, code ``tag_invalid``."""
    key = unicodedata.normalize("NFC", text)
    if not key:
        raise _invalid(field, "is empty")
    if "=" in key:
        raise _invalid(field, "contains '=', which stands between key and value")
    if len(key) > KEY_CHARACTERS or len(fold(key)) > KEY_CHARACTERS:
        raise _invalid(field, f"is longer than {KEY_CHARACTERS} characters")
    return _printable(key, field)


def parse_value(text: str, *, field: str = "value") -> str:
    """Check a value; raises `Invalid`, code ``tag_invalid``."""
    value = unicodedata.normalize("NFC", text)
    if len(value) > VALUE_CHARACTERS:
        raise _invalid(field, f"is longer than {VALUE_CHARACTERS} characters")
    return _printable(value, field)


def folded_tag(key: str, value: str) -> str:
    """Under which a tag is unique and found: ``key=value``, the key alone with its ``=`` too."""
    return f"{fold(key)}={fold(value)}"


def parse_tag(text: str, *, field: str = "tag") -> tuple[str, str | None]:
    """Read ``key=value`` or ``key``, whose value is None: any; raises `Invalid`."""
    key, equals, value = text.partition("=")
    return parse_key(key, field=field), parse_value(value, field=field) if equals else None


def _printable(text: str, field: str) -> str:
    if text != text.strip():
        raise _invalid(field, "begins or ends with a space")
    if not text.isprintable():
        wrong = next(character for character in text if not character.isprintable())
        raise _invalid(field, f"contains U+{ord(wrong):04X}, which is not printable")
    return text


def _invalid(field: str, reason: str) -> Invalid:
    return Invalid(field, reason, code="tag_invalid")
