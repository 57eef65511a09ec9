"""What a question finds among the documents of words (`registry.catalog.search`), a page at a time.

**Up to a thousand matches are ranked** by bm25, where a word in the name counts ten times one in
the card, one in a tag five times, one in the description three times.

**More are told in tiers**: those with all words in the name; with all in name and tags; in name,
tags and description; then the rest. In each the last described come first. Ranking means to go
through all documents of each word and to score what is ranked; a tier ends where the page is full,
and no match is left out.

**Who may not see every model** is told in tiers, however few there are: bm25 weighs a word by how
many documents have it, those of hidden models too, so ranks would tell of them.

A rank tells which of both it was: bm25 gives negative numbers, tiers count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import text

from registry.catalog.visible import few_seen
from registry.domain.questions import Question
from store.index.transactions import Statement, Tx

MOST_RANKED: Final = 1_000
"""So many models are ranked: ranking all of a common word would cost more than it tells."""

Place: TypeAlias = tuple[float, int]
"""A place among what was found: a rank, the smaller the better, and a document."""

_BEST: Final[Place] = (float("-inf"), 0)
_NEWEST: Final = (1 << 63) - 1
_TIERS: Final = ("name", "name tags", "name tags description", "")


class Matches(msgspec.Struct, frozen=True):
    """Ids of models with their places, the best first; `count` is of all, or `MOST_RANKED`."""

    models: list[tuple[str, Place]]
    count: int


_SEEN: Final = """ AND EXISTS (
    SELECT 1 FROM search_documents AS d WHERE d.document = model_words.rowid
    AND EXISTS (SELECT 1 FROM models AS m WHERE m.id = d.model AND (
        m.id IN (SELECT value FROM json_each(:seen))
        OR m.namespace IN (SELECT value FROM json_each(:seen))
        OR m.visibility IN (SELECT value FROM json_each(:seen))))
)"""

_FEW: Final = """ AND model_words.rowid IN (
    SELECT d.document FROM search_documents AS d
    WHERE d.model IN (SELECT value FROM json_each(:few))
)"""
"""Where few models are seen, they are looked at, however many others have the words."""

_COUNT: Final = """
SELECT count(*) FROM (SELECT 1 FROM model_words WHERE model_words MATCH :match{seen} LIMIT :most)
"""

_NEXT: Final = """
SELECT 1 FROM model_words WHERE model_words MATCH :match{seen} LIMIT 1 OFFSET :passed
"""

_RANKED: Final = """
WITH found AS MATERIALIZED (
    SELECT rowid AS document, bm25(model_words, 10.0, 5.0, 3.0, 1.0) AS rank
    FROM model_words WHERE model_words MATCH :match{seen}
    ORDER BY rowid DESC LIMIT :most
), page AS (
    SELECT document, rank FROM found WHERE (rank, document) > (:rank, :document)
    ORDER BY rank, document LIMIT :limit
)
SELECT count, d.model, page.rank, page.document
FROM (SELECT count(*) AS count FROM found)
LEFT JOIN page ON true
LEFT JOIN search_documents AS d ON d.document = page.document
ORDER BY page.rank, page.document
"""

_TIER: Final = """
SELECT d.model, d.document FROM model_words
JOIN search_documents AS d ON d.document = model_words.rowid
WHERE model_words MATCH :match AND model_words.rowid < :before{seen}
ORDER BY model_words.rowid DESC LIMIT :limit
"""


class _Statements(msgspec.Struct, frozen=True):
    count: Statement
    next: Statement
    ranked: Statement
    tier: Statement


def _statements(seen: str) -> _Statements:
    texts = (_COUNT, _NEXT, _RANKED, _TIER)
    return _Statements(*(Statement(text(sql.format(seen=seen))) for sql in texts))


_STATEMENTS: Final = {"": _statements(""), "few": _statements(_FEW), "seen": _statements(_SEEN)}
"""The statements by what is bound to restrict them."""


async def matches(
    tx: Tx, question: Question, seen: str | None, place: Place | None, limit: int
) -> Matches:
    """What is found behind a place; `seen` is of `registry.catalog.visible`, None for all."""
    if seen is not None:
        few = await few_seen(tx, seen)
        restricted = _Search(tx, question, {"seen": seen} if few is None else {"few": few})
        found = await restricted.in_tiers(place or (0, _NEWEST), limit)
        return Matches(found.models, await restricted.count(MOST_RANKED))
    search = _Search(tx, question, {})
    if place is None:
        place = (0, _NEWEST) if await search.has_more_than(MOST_RANKED) else _BEST
    return await (search.ranked(place, limit) if place[0] < 0 else search.in_tiers(place, limit))


class _Search:
    """A question and who asks it, in a transaction."""

    def __init__(self, tx: Tx, question: Question, seen: dict[str, str]) -> None:
        self._tx = tx
        self._question = question
        self._statements = _STATEMENTS["".join(seen)]
        self._seen: dict[str, Any] = seen

    async def count(self, most: int) -> int:
        match = self._question.match()
        row = await self._tx.one(self._statements.count, match=match, most=most, **self._seen)
        assert row is not None, "a count"
        return int(row[0])

    async def has_more_than(self, count: int, *, within: str = "") -> bool:
        match = self._question.match(within=within)
        row = await self._tx.one(self._statements.next, match=match, passed=count, **self._seen)
        return row is not None

    async def ranked(self, place: Place, limit: int) -> Matches:
        rows = await self._tx.all(
            self._statements.ranked,
            match=self._question.match(),
            most=MOST_RANKED,
            rank=place[0],
            document=place[1],
            limit=limit,
            **self._seen,
        )
        found = [(model, (rank, document)) for _, model, rank, document in rows if model]
        return Matches(found, rows[0][0])

    async def in_tiers(self, place: Place, limit: int) -> Matches:
        found = list[tuple[str, Place]]()
        # Mostly nothing is near; to know it costs a third of asking for it tier by tier.
        is_near = await self.has_more_than(0, within=_TIERS[1])
        for tier, match in self._tiers(0 if is_near else 2):
            if tier < place[0] or len(found) == limit:
                continue
            rows = await self._tx.all(
                self._statements.tier,
                match=match,
                before=place[1] if tier == place[0] else _NEWEST,
                limit=limit - len(found),
                **self._seen,
            )
            found += [(model, (tier, document)) for model, document in rows]
        return Matches(found, MOST_RANKED)

    def _tiers(self, first: int) -> Iterator[tuple[int, str]]:
        """Each tier with the question whose matches it has beyond the tiers before."""
        before = ""
        for tier, columns in enumerate(_TIERS[first:], first):
            yield tier, self._question.match(within=columns, beyond=before)
            before = columns
