"""Names people choose: of models, and of the labels and aliases that point at versions.

A model's name is one or more segments joined by ``/``; the first one is its namespace, and a name
of one segment lies in ``default``, so ``bert`` and ``default/bert`` are one model. Each segment is
printable Unicode in normal form C without ``/ : @ ~ \\ % # ?``, at most 96 characters; the whole is
at most 200. Where a slash cannot go it is written ``~``.

Names are unique under case folding: `ModelName.folded` is the key, `ModelName.text` what was
written.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import msgspec

from registry.domain.ids import PREFIXES, VERSION
from registry.errors import Invalid

SEGMENT_CHARACTERS: Final = 96
NAME_CHARACTERS: Final = 200
LABEL_CHARACTERS: Final = 128

DEFAULT_NAMESPACE: Final = "default"

RESERVED_FIRST_SEGMENTS: Final = frozenset(
    (
        "_",
        "api",
        "assets",
        "blobs",
        "datasets",
        "default",
        "docs",
        "favicon.ico",
        "generic",
        "healthz",
        "lfs",
        "login",
        "logout",
        "metrics",
        "models",
        "new",
        "oauth",
        "openapi.json",
        "readyz",
        "redoc",
        "robots.txt",
        "settings",
        "spaces",
        "static",
        "uploads",
        "v2",
        "xet",
    )
)
"""First segments that routes need at the server's root, where the foreign doors put model names."""

RESERVED_ALIASES: Final = frozenset(("latest", "main"))
"""Aliases that publishing moves; no version may be labelled so."""

RESERVED_USERNAMES: Final = frozenset(
    ("anonymous", "everyone", "housekeeping", "local", "me", "recovered", "system")
)

_FORBIDDEN: Final = frozenset("/:@~\\%#?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")
_HEX40: Final = re.compile(r"[0-9a-fA-F]{40}\Z")


class ModelName(msgspec.Struct, frozen=True):
    """A parsed name; build it with `parse_model_name`."""

    text: str
    folded: str

    def __str__(self) -> str:
        return self.text

    @property
    def namespace(self) -> str:
        """The slug of the namespace it lies in, as written here."""
        first, slash, _ = self.text.partition("/")
        return first if slash else DEFAULT_NAMESPACE

    @property
    def segment(self) -> str:
        """The name as one URL segment, not yet percent-encoded."""
        return self.text.replace("/", "~")


def fold(text: str) -> str:
    """The form under which names are compared: case folded, in normal form C."""
    if text.isascii():
        return text.lower()  # the same, and long descriptions are folded by the thousand
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def parse_model_name(text: str, *, field: str = "model") -> ModelName:
    """Read a name written with ``/`` or ``~``; raises `Invalid`, code ``model_name_invalid``."""
    name = unicodedata.normalize("NFC", text).replace("~", "/")
    segments = name.split("/")
    if len(segments) == 2 and fold(segments[0]) == DEFAULT_NAMESPACE:
        segments = segments[1:]
    name = "/".join(segments)
    reason = _why_not_model(name, segments)
    if reason is not None:
        shown = repr(text if len(text) <= 120 else text[:117] + "...")
        raise Invalid(field, f"{shown} {reason}", code="model_name_invalid")
    return ModelName(name, fold(name))


def parse_namespace(text: str, *, field: str = "namespace") -> str:
    """Check the slug of a namespace, which is the first segment of names; raises `Invalid`."""
    slug = unicodedata.normalize("NFC", text)
    reason = _why_not_segment(slug) or _why_not_first(slug)
    if reason is not None:
        shown = repr(text if len(text) <= 120 else text[:117] + "...")
        raise Invalid(field, f"{shown} {reason}", code="namespace_invalid")
    return slug


def parse_team_name(text: str, *, field: str = "team") -> str:
    """Check the name of a team, which follows the grammar of a segment; raises `Invalid`."""
    name = unicodedata.normalize("NFC", text)
    reason = _why_not_segment(name)
    if reason is None and fold(name)[:4] in PREFIXES:
        reason = f"starts with {name[:4]!r}, which is reserved for identifiers"
    if reason is not None:
        shown = repr(text if len(text) <= 120 else text[:117] + "...")
        raise Invalid(field, f"{shown} {reason}", code="team_invalid")
    return name


def parse_username(text: str, *, field: str = "username") -> str:
    """Check the name of a user, who may make the namespace of that name; raises `Invalid`.

    It is a namespace's slug without spaces; names that the server gives to itself are refused.
    """
    name = unicodedata.normalize("NFC", text)
    reason = _why_not_segment(name) or _why_not_first(name)
    if reason is None and any(character.isspace() for character in name):
        reason = "contains a space"
    if reason is None and fold(name) in RESERVED_USERNAMES:
        reason = "is a name that the server uses itself"
    if reason is not None:
        shown = repr(text if len(text) <= 120 else text[:117] + "...")
        raise Invalid(field, f"{shown} {reason}", code="username_invalid")
    return name


def _why_not_model(name: str, segments: list[str]) -> str | None:
    if len(name) > NAME_CHARACTERS:
        return f"is longer than {NAME_CHARACTERS} characters"
    for segment in segments:
        reason = _why_not_segment(segment)
        if reason is not None:
            return reason
    if fold(segments[0]) == DEFAULT_NAMESPACE and len(segments) > 1:
        return None
    return _why_not_first(segments[0])


def _why_not_first(segment: str) -> str | None:
    first = fold(segment)
    if first in RESERVED_FIRST_SEGMENTS:
        return f"starts with {segment!r}, which is reserved"
    if first[:4] in PREFIXES:
        return f"starts with {segment[:4]!r}, which is reserved for identifiers"
    return None


def _why_not_segment(segment: str) -> str | None:
    if not segment:
        return "has an empty segment"
    if len(segment) > SEGMENT_CHARACTERS:
        return f"has a segment longer than {SEGMENT_CHARACTERS} characters"
    if segment in (".", ".."):
        return f"has the segment {segment!r}"
    if segment != segment.strip():
        return "has a segment that begins or ends with a space"
    if segment.isprintable() and _FORBIDDEN.isdisjoint(segment):
        return None
    for character in segment:
        if character in _FORBIDDEN or not character.isprintable():
            return f"contains {character!r} (U+{ord(character):04X})"
    return None


def parse_label(text: str, *, field: str = "label") -> str:
    """Check the label of a version; raises `Invalid`, code ``label_invalid``."""
    reason = _why_not_label(text)
    if reason is not None:
        raise Invalid(field, f"{text[:160]!r} {reason}", code="label_invalid")
    return text


def parse_alias(text: str, *, field: str = "alias") -> str:
    """Check the name of an alias, which follows the same grammar as a label."""
    reason = _why_not_label(text)
    if reason is not None:
        raise Invalid(field, f"{text[:160]!r} {reason}", code="alias_invalid")
    return text


def _why_not_label(text: str) -> str | None:
    if len(text) > LABEL_CHARACTERS:
        return f"is longer than {LABEL_CHARACTERS} characters"
    if _LABEL.match(text) is None:
        return (
            "is not a letter, digit or '_' followed by letters, digits and '._+-'"
            if text
            else "is empty"
        )
    if text.isdecimal():
        return "has digits only, which is how version numbers are written"
    if _HEX40.match(text) is not None:
        return "is 40 hexadecimal digits, which is how revisions are written"
    if text.lower().endswith(".tar"):
        return "ends with .tar, which is how archives are asked for"
    if text.lower().startswith(VERSION):
        return f"starts with {VERSION!r}, which is reserved for identifiers"
    return None
