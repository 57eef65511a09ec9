"""What a label says about order, and which version `latest` and `main` point at.

The rule, as somebody who releases models could sign it: *latest is the newest version, except that
an older release line never overtakes a newer one, and a pre-release counts only while there is
nothing but pre-releases. What retention retired is never latest.* Newest means the highest number.

Order is that of SemVer 2.0.0. A label is a SemVer label if it is exactly such a version, with an
optional ``v`` before it, as people write tags; the spelling is kept. Every other label is fine too
and takes no part in the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

Standing: TypeAlias = Literal["plain", "release", "prerelease"]
"""How a version takes part in choosing `latest`: by number alone, by precedence, or hardly."""

_NUMERIC: Final = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER: Final = rf"(?:{_NUMERIC}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER: Final = re.compile(
    rf"v?({_NUMERIC})\.({_NUMERIC})\.({_NUMERIC})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


class Precedence(msgspec.Struct, frozen=True):
    """Where a label stands; `key` sorts as text the way SemVer sorts, None outside that order."""

    standing: Standing
    key: str | None


PLAIN: Final = Precedence("plain", None)


def precedence(label: str | None) -> Precedence:
    """Read a label; build metadata does not count, as the standard says."""
    match = None if label is None else _SEMVER.match(label)
    if match is None:
        return PLAIN
    core = int(match[1]), int(match[2]), int(match[3])
    return Precedence(
        "release" if match[4] is None else "prerelease", precedence_key(core, match[4])
    )


def precedence_key(core: tuple[int, int, int], prerelease: str | None) -> str:
    """Text that sorts as SemVer does; an empty pre-release comes before all of these numbers."""
    numbers = "".join(_sortable(str(number)) for number in core)
    if prerelease is None:
        # '~' sorts after every key of a pre-release of the same core.
        return numbers + "~"
    return numbers + "!".join(_identifier(part) for part in prerelease.split(".") if part)


def _sortable(digits: str) -> str:
    """Digits so written that comparing text compares numbers: how many there are, then they."""
    return f"{len(digits):03d}{digits}"


def _identifier(text: str) -> str:
    # Numbers come before words; '!' between identifiers sorts before whatever continues a word.
    return "0" + _sortable(text) if text.isdecimal() else "1" + text


class Candidate(msgspec.Struct, frozen=True):
    """A live version, as far as choosing `latest` goes."""

    number: int
    precedence: Precedence
    is_retired: bool = False


def choose_latest(live: Iterable[Candidate]) -> int | None:
    """The number `latest` points at, given all live versions; None if none is eligible.

    Retired versions do not count at all, neither as candidates nor for what else is eligible. Of
    the others only three can matter: the newest plain one, the newest among the releases of highest
    precedence, and the newest pre-release. Given just those the answer is the same, which is how
    the catalog asks without reading every version.
    """
    candidates = [one for one in live if not one.is_retired]
    releases = [one for one in candidates if one.precedence.standing == "release"]
    highest = max((one.precedence.key or "" for one in releases), default=None)
    eligible = [
        one.number
        for one in candidates
        if one.precedence.standing == "plain"
        or (one.precedence.standing == "release" and one.precedence.key == highest)
    ]
    if not eligible:
        eligible = [one.number for one in candidates]
    return max(eligible, default=None)
