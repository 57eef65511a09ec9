"""Read the YAML in front of a card as plain texts, lists and mappings.

Only events of the parser are used: nothing is constructed, tags mean nothing, and an anchor that is
referred to is refused, because a few lines of them can stand for more than fits into memory. The
metadata itself is that of the Hugging Face Hub's cards
(https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

Value: TypeAlias = "str | list[Value] | dict[str, Value]"

MOST_CHARACTERS: Final = 32 << 10
MOST_DEPTH: Final = 16
MOST_VALUES: Final = 10_000

_MARK: Final = "---"
_ENDS: Final = ("---", "...")
_NOTHING: Final = ("", "~", "null", "Null", "NULL", "none", "None")


class Unreadable(ValueError):
    """The front matter is not what it must be; the sentence says why."""


def split(text: str) -> tuple[str | None, str]:
    """The front matter of a text, None if it has none, and what comes after it."""
    if not text.startswith((_MARK + "\n", _MARK + "\r\n")):
        return None, text
    start = at = text.index("\n") + 1
    while at < len(text) and at - start <= MOST_CHARACTERS:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if text[at:end].rstrip() in _ENDS:
            return text[start:at], text[end + 1 :]
        at = end + 1
    return None, text


def parse(text: str) -> dict[str, Value]:
    """The mapping that front matter is; raises `Unreadable`."""
    import yaml  # 20 ms that a server which rates nothing need not spend

    loader = getattr(yaml, "CLoader", yaml.Loader)
    try:
        value = _built(yaml.parse(text, Loader=loader), yaml)
    except yaml.YAMLError as error:
        raise Unreadable(f"is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        raise Unreadable("is no mapping")
    return value


def texts(value: Value | None) -> tuple[str, ...]:
    """A text or a list of texts, without those that stand for nothing."""
    found: Sequence[Value | None] = value if isinstance(value, list) else [value]
    return tuple(
        one.strip() for one in found if isinstance(one, str) and one.strip() not in _NOTHING
    )


def _built(events: Iterator[Any], yaml: Any) -> Value | None:
    """Put the events of one document together, without recursion."""
    root: Value | None = None
    stack: list[_Open] = []
    count = 0
    for event in events:
        match event:
            case yaml.AliasEvent():
                raise Unreadable("refers to an anchor, which is not followed")
            case yaml.ScalarEvent():
                value: Value = event.value
            case yaml.MappingStartEvent():
                value = {}
            case yaml.SequenceStartEvent():
                value = []
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                stack.pop()
                continue
            case yaml.DocumentEndEvent():
                return root
            case _:
                continue
        count += 1
        if count > MOST_VALUES or len(stack) > MOST_DEPTH:
            raise Unreadable("is nested too deep or too long")
        if stack:
            stack[-1].take(value)
        else:
            root = value
        if not isinstance(value, str):
            stack.append(_Open(value))
    return root


class _Open:
    """A list or a mapping that is not yet at its end."""

    __slots__ = ("_into", "_key")

    def __init__(self, into: list[Value] | dict[str, Value]) -> None:
        self._into = into
        self._key: str | None = None

    def take(self, value: Value) -> None:
        if isinstance(self._into, list):
            self._into.append(value)
        elif self._key is None:
            if not isinstance(value, str):
                raise Unreadable("has a key that is no text")
            self._key = value
        else:
            self._into[self._key] = value
            self._key = None
