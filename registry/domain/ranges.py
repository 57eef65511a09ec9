r"""Ranges of SemVer versions as npm writes them, and where they lie in the order of labels.

::

    1.2.3  =1.2.3           that one
    >1.2  >=1.2  <2  <=2    compared; what is left out counts as anything
    1.x  1.2.*  *           anything in the place of x, X or *
    ~1.2.3                  1.2.3 and its patches
    ^1.2.3                  up to the next change of the leftmost number that is not 0
    1.2 - 2.3               from one to the other, both included
    a b                     both a and b
    a || b                  either

A pre-release is in a range only if one of the comparators that meet there is a pre-release of the
same three numbers: ``^1.2`` never finds ``1.3.0-beta``, ``>=1.3.0-alpha`` does. These are npm's
rules, whose tables the tests repeat.

A range becomes `Span`\s of the keys of `registry.domain.versions`, so that an index finds what is
in it without looking at what is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from registry.domain.versions import precedence_key
from registry.errors import Invalid

MOST_CHARACTERS: Final = 256
MOST_ALTERNATIVES: Final = 16

_NUMBER: Final = r"(0|[1-9][0-9]*|[xX*])"
_PARTIAL: Final = (
    rf"v?{_NUMBER}(?:\.{_NUMBER}(?:\.{_NUMBER}"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?)?)?"
)
_SIMPLE: Final = re.compile(rf"(\^|~>?|>=|<=|>|<|=)?\s*{_PARTIAL}(?=\s|\Z)")
_HYPHEN: Final = re.compile(rf"\s*{_PARTIAL}\s+-\s+{_PARTIAL}\s*\Z")
_LEADING_ZERO: Final = re.compile(r"(?:\A|\.)0[0-9]+(?:\.|\Z)")

_LOWEST: Final = ""
_HIGHEST: Final = "~"
"""After every key: keys begin with a digit."""
_AFTER: Final = " "
"""Added to a key makes what lies right behind it: all characters of keys are greater."""

Core: TypeAlias = tuple[int, int, int]


class Span(msgspec.Struct, frozen=True, order=True):
    """Keys from `start` on and before `stop`, of releases or of pre-releases."""

    start: str
    stop: str


class Range(msgspec.Struct, frozen=True):
    """What a range means: disjoint spans, lowest first."""

    releases: tuple[Span, ...]
    prereleases: tuple[Span, ...]


class _Partial(msgspec.Struct, frozen=True):
    """A version of which the end may be left open: `numbers` holds those that are given."""

    numbers: tuple[int, ...]
    prerelease: str | None

    @property
    def core(self) -> Core:
        major, minor, patch = (*self.numbers, 0, 0, 0)[:3]
        return major, minor, patch

    @property
    def is_open(self) -> bool:
        return len(self.numbers) < 3

    def beyond(self) -> str:
        """Where everything that this stands for is over."""
        if not self.numbers:
            return _HIGHEST
        *kept, last = self.numbers
        return _floor(_Partial((*kept, last + 1), None).core)


class _Set(msgspec.Struct):
    """What all comparators of one alternative leave, and whose pre-releases may be in it."""

    start: str = _LOWEST
    stop: str = _HIGHEST
    tuples: set[Core] = msgspec.field(default_factory=set)

    def bound(self, start: str = _LOWEST, stop: str = _HIGHEST) -> None:
        self.start, self.stop = max(self.start, start), min(self.stop, stop)

    def meet(self, partial: _Partial) -> None:
        if partial.prerelease is not None:
            self.tuples.add(partial.core)


def parse_range(text: str, *, field: str = "range") -> Range:
    """Read a range; raises `Invalid`, code ``range_invalid``."""
    if len(text) > MOST_CHARACTERS:
        raise _refused(field, f"is longer than {MOST_CHARACTERS} characters")
    alternatives = text.split("||")
    if len(alternatives) > MOST_ALTERNATIVES:
        raise _refused(field, f"has more than {MOST_ALTERNATIVES} alternatives")
    sets = [_parse_set(alternative, field) for alternative in alternatives]
    return Range(
        _disjoint(Span(one.start, one.stop) for one in sets),
        _disjoint(span for one in sets for span in _prereleases(one)),
    )


def _parse_set(text: str, field: str) -> _Set:
    found = _Set()
    hyphen = _HYPHEN.match(text)
    if hyphen is not None:
        low, high = _partial(hyphen.groups()[:4], field), _partial(hyphen.groups()[4:], field)
        _compare(found, ">=", low)
        _compare(found, "<=", high)
        return found
    position = 0
    while rest := text[position:].strip():
        position = len(text) - len(text[position:].lstrip())
        match = _SIMPLE.match(text, position)
        if match is None:
            raise _refused(field, f"cannot be read at {rest[:40]!r}")
        _compare(found, match[1] or "=", _partial(match.groups()[1:], field))
        position = match.end()
    return found


def _partial(groups: tuple[str | None, ...], field: str) -> _Partial:
    numbers: list[int] = []
    for text in groups[:3]:
        if text is None or text in "xX*":
            break
        numbers.append(int(text))
    prerelease = groups[3]
    if prerelease is not None and (
        len(numbers) < 3 or _LEADING_ZERO.search(prerelease) is not None
    ):
        raise _refused(field, f"has a pre-release {prerelease[:40]!r} that no version can have")
    return _Partial(tuple(numbers), prerelease)


def _compare(found: _Set, operator: str, partial: _Partial) -> None:
    """Narrow a set by one comparator."""
    found.meet(partial)
    key = _key(partial)
    match operator:
        case "=" if partial.is_open:
            found.bound(_floor(partial.core), partial.beyond())
        case "=":
            found.bound(key, key + _AFTER)
        case ">=":
            found.bound(start=_floor(partial.core) if partial.is_open else key)
        case ">":
            found.bound(start=partial.beyond() if partial.is_open else key + _AFTER)
        case "<":
            found.bound(stop=_floor(partial.core) if partial.is_open else key)
        case "<=":
            found.bound(stop=partial.beyond() if partial.is_open else key + _AFTER)
        case "^":
            found.bound(_floor(partial.core) if partial.is_open else key, _caret(partial))
        case _:
            kept = _Partial(partial.numbers[:2], None)
            found.bound(_floor(partial.core) if partial.is_open else key, kept.beyond())


def _caret(partial: _Partial) -> str:
    """Where the leftmost number changes that is not 0, or the last one that is given."""
    numbers = partial.numbers
    for length, number in enumerate(numbers, 1):
        if number or length == len(numbers):
            return _Partial(numbers[:length], None).beyond()
    return _HIGHEST


def _key(partial: _Partial) -> str:
    return precedence_key(partial.core, partial.prerelease)


def _floor(core: Core) -> str:
    """Before every version of these three numbers, pre-releases included."""
    return precedence_key(core, "")


def _prereleases(one: _Set) -> Iterator[Span]:
    for core in one.tuples:
        start = max(one.start, _floor(core))
        stop = min(one.stop, precedence_key(core, None))
        yield Span(start, stop)


def _disjoint(spans: Iterable[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in sorted(spans):
        if span.start >= span.stop:
            continue
        if joined and span.start <= joined[-1].stop:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return tuple(joined)


def _refused(field: str, reason: str) -> Invalid:
    accepted = "a range of versions such as ^1.2, ~1.2.3, >=1 <3, 1.x, 1.2 - 2, or several with ||"
    return Invalid(field, reason, code="range_invalid", problems=[(field, reason, accepted)])
