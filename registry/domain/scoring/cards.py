"""Read what a card holds: headings with text under them, prose, code, tables of numbers, metadata.

Markdown is read line by line, once, so that what a card costs grows with its length and with
nothing else. That is less than CommonMark: code that is only indented and headings inside quotes
are prose here. A heading counts where text, a table or code stands under it; comments and the
placeholder of the Hub's template do not.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from registry.domain.scoring import front_matter
from registry.domain.scoring.evidence import MOST_NAMED, Card, shown
from registry.domain.scoring.topics import topics_of

_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE_LINK: Final = re.compile(
    r"https?://(?:www\.)?(?:github\.com|gitlab\.com|bitbucket\.org|codeberg\.org|git\.sr\.ht)"
    r"/[\w.~-]+/[\w.-]+"
)
_LICENCE_LINE: Final = re.compile(r"\W{0,8}licen[cs]e\W{1,8}(\S.{0,80})$", re.IGNORECASE)
_LICENCE_HEADING: Final = re.compile(r"\W*licen[cs](?:e|es|ing)\W*$", re.IGNORECASE)
_PLACEHOLDERS: Final = ("[more information needed]", "more information needed", "todo", "tbd")
_DRESSING: Final = " \t*_`~≈<>%|$"
_LINE_CHARACTERS: Final = 200
"""A licence is said in a short line."""

_FIRST_WIDE: Final = "\u2e80"
"""From here on scripts are written without spaces; two characters are taken for a word."""


def decode_card(content: bytes, *, origin: str, is_cut: bool = False) -> Card:
    """What the beginning of a card holds; one that is not in UTF-8 is there and says nothing."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(content, final=not is_cut)
    except UnicodeDecodeError:
        return Card(
            origin=shown(origin),
            read_bytes=len(content),
            is_cut=is_cut,
            problem="the card is not in UTF-8",
        )
    return read_card(text, origin=origin, read_bytes=len(content), is_cut=is_cut)


def read_card(text: str, *, origin: str, read_bytes: int, is_cut: bool = False) -> Card:
    """What a card holds. The text may be anything at all."""
    front, body = front_matter.split(text.removeprefix("\ufeff"))
    said, problem = _metadata(front)
    scan = _Scan()
    for line in body.splitlines():
        scan.take(line)
    scan.end()
    licences = front_matter.texts(said.get("license")) or front_matter.texts(said.get("licence"))
    return Card(
        origin=shown(origin),
        read_bytes=read_bytes,
        is_cut=is_cut,
        words=scan.words,
        headings=scan.headings,
        topics=frozenset(scan.topics),
        code_blocks=scan.code_blocks,
        number_tables=scan.number_tables,
        code_links=len(scan.code_links),
        licences=_shortened(licences or tuple(scan.licences)),
        datasets=_shortened(front_matter.texts(said.get("datasets"))),
        base_models=_shortened(front_matter.texts(said.get("base_model"))),
        claimed_results=_claimed(said.get("model-index")),
        problem=problem,
    )


def _metadata(front: str | None) -> tuple[dict[str, front_matter.Value], str]:
    if front is None:
        return {}, ""
    try:
        return front_matter.parse(front), ""
    except front_matter.Unreadable as error:
        return {}, shown(f"the front matter {error}")


def _shortened(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(shown(name) for name in names[:MOST_NAMED])


def _claimed(index: front_matter.Value | None) -> int:
    """How many metrics of a ``model-index`` have a value."""
    models = index if isinstance(index, list) else [index]
    results = [result for model in models for result in _members(model, "results")]
    metrics = [metric for result in results for metric in _members(result, "metrics")]
    return sum(
        bool(front_matter.texts(metric.get("value")))
        for metric in metrics
        if isinstance(metric, dict)
    )


def _members(value: front_matter.Value | None, name: str) -> list[front_matter.Value]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


class _Scan:
    """What the lines so far held."""

    def __init__(self) -> None:
        self.words = 0
        self.headings = 0
        self.topics: set[str] = set()
        self.code_blocks = 0
        self.number_tables = 0
        self.code_links: set[str] = set()
        self.licences: list[str] = []
        self._open: list[tuple[int, frozenset[str]]] = []
        """Headings around this line: level, and topics that wait for text."""
        self._fence = ""
        self._has_code = False
        self._before = ""
        self._in_comment = False
        self._table = _Table()
        self._awaits_licence = False

    def take(self, line: str) -> None:
        if self._fence:
            self._inside_code(line)
        elif self._in_comment or line.lstrip().startswith("<!--"):
            self._in_comment = "-->" not in line
        elif (fence := _FENCE.match(line)) is not None:
            self._fence, self._has_code = fence[1], False
            self._before = ""
        elif (heading := _HEADING.match(line)) is not None:
            self._heading(len(heading[1]), (heading[2] or "").strip(" \t#"))
        elif self._before and (underline := _UNDERLINE.match(line)) is not None:
            self._heading(1 if underline[1][0] == "=" else 2, self._before)
        else:
            self._text(line)

    def end(self) -> None:
        """A block of code that nobody closed ends with the text."""
        if self._fence:
            self._close_code()
        self.number_tables += self._table.take("")

    def _inside_code(self, line: str) -> None:
        stripped = line.strip()
        if stripped.startswith(self._fence) and not stripped.strip(self._fence[0]):
            self._close_code()
        elif stripped:
            self._has_code = True

    def _close_code(self) -> None:
        self.code_blocks += self._has_code
        self._fence = ""
        if self._has_code:
            self._mark()

    def _heading(self, level: int, title: str) -> None:
        self.headings += 1
        self._before = ""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        self._open.append((level, topics_of(title)))
        self._awaits_licence = _LICENCE_HEADING.match(title[:_LINE_CHARACTERS]) is not None

    def _text(self, line: str) -> None:
        self.number_tables += self._table.take(line)
        stripped = line.strip()
        if not stripped or stripped.lower().strip("*_. ") in _PLACEHOLDERS:
            self._before = ""
            return
        self._before = "" if self._table.is_open else stripped[:_LINE_CHARACTERS]
        self._mark()
        if len(self.code_links) < MOST_NAMED:
            self.code_links.update(_CODE_LINK.findall(line))
        if not self._table.is_open:
            wide = sum(character >= _FIRST_WIDE for character in line)
            self.words += sum(map(_is_word, stripped.split())) + wide // 2
        if len(stripped) <= _LINE_CHARACTERS and len(self.licences) < MOST_NAMED:
            self._licence(stripped)

    def _licence(self, line: str) -> None:
        said = _LICENCE_LINE.match(line)
        if said is not None:
            self.licences.append(said[1].strip(_DRESSING))
        elif self._awaits_licence:
            self.licences.append(line.strip(_DRESSING))
        self._awaits_licence = False

    def _mark(self) -> None:
        """There is something under every heading around this line."""
        for place, (level, topics) in enumerate(self._open):
            if topics:
                self.topics |= topics
                self._open[place] = (level, frozenset())


class _Table:
    """Whether these lines are a table, and whether one that ends has numbers in it."""

    def __init__(self) -> None:
        self.is_open = False
        self._has_head = False
        self._has_numbers = False

    def take(self, line: str) -> int:
        """1 if a table with numbers ends before this line."""
        if "|" not in line:
            found = int(self.is_open and self._has_numbers)
            self.is_open = self._has_head = self._has_numbers = False
            return found
        if self.is_open:
            self._has_numbers = self._has_numbers or any(map(_is_number, line.split("|")))
        elif self._has_head and "-" in line and not line.strip(" \t|:-"):
            self.is_open = True
        self._has_head = True
        return 0


def _is_word(token: str) -> bool:
    return any(map(str.isalnum, token))


def _is_number(cell: str) -> bool:
    plain = cell.partition("±")[0].strip(_DRESSING).replace(",", "")
    if not plain or len(plain) > 32 or not any(character.isdigit() for character in plain):
        return False
    try:
        float(plain)
    except ValueError:
        return False
    return True
