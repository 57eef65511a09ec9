"""What somebody types into a search box, read without ever being wrong.

Words must all be there, in any case and place: in the name, the tags, the description or the card.
``"several words"`` are found as they stand, ``-word`` must not be there, ``pre*`` is how a word
begins. Everything else is a letter or a separator: what has no letter or digit in it is passed
over, and a question of which nothing is left, or that only says what must not be there, finds
nothing.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from registry.domain.names import fold

MOST_TERMS: Final = 16
"""Words and phrases of one question that are looked for; further ones are passed over."""

_TERM: Final = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


class Question(msgspec.Struct, frozen=True):
    """Words and phrases in the language of FTS5, each quoted; at least one is wanted."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    def match(self, *, within: str = "", beyond: str = "") -> str:
        """The whole as one expression: `within` some columns, and not all `wanted` in others.

        Words that are not wanted must be in no column at all.
        """
        wanted = self._wanted(within)
        unwanted = [*self.unwanted, self._wanted(beyond)] if beyond else self.unwanted
        return f"({wanted}) NOT ({' OR '.join(unwanted)})" if unwanted else wanted

    def _wanted(self, columns: str) -> str:
        words = " AND ".join(self.wanted)
        return f"({{{columns}}} : ({words}))" if columns else words


def parse_question(text: str) -> Question | None:
    """Read what was typed; there is nothing that it refuses. None for what finds nothing."""
    wanted, unwanted = list[str](), list[str]()
    for minus, phrase, word in _TERM.findall(fold(text)):
        term = _term(phrase or word)
        if term is not None and len(wanted) + len(unwanted) < MOST_TERMS:
            (unwanted if minus else wanted).append(term)
    return Question(tuple(wanted), tuple(unwanted)) if wanted else None


def _term(text: str) -> str | None:
    """One quoted term, with its star outside the quotes; None if no letter or digit is in it."""
    is_prefix = text.endswith("*")
    letters = "".join(c if c.isalnum() or c.isspace() else " " for c in text).split()
    if not letters:
        return None
    quoted = '"' + " ".join(letters) + '"'
    return quoted + " *" if is_prefix else quoted
