"""Compare what namespaces are said to take with what they take, and mend it beside all else.

The comparison is one transaction of a reader, so it keeps nobody from writing. What was wrong is
added to rows that others go on changing, by short transactions; then it is compared again, because
a row that was too low stops at zero when things go, and what was missing is another number then.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Final

from registry.catalog.usage import Usage, miscounted, set_right
from store.index.transactions import Index
from store.scrub import Finding

AT_ONCE: Final = 100
"""How many rows are mended in one transaction."""

ROUNDS: Final = 3


async def recount_usage(index: Index, *, repair: bool) -> list[Finding]:
    """What is wrong in the usage of namespaces; with `repair` it is right afterwards."""
    wrong = first = await index.read(miscounted)
    if repair:
        for _ in range(ROUNDS):
            if not wrong:
                break
            rest = iter(wrong.items())
            while some := dict(islice(rest, AT_ONCE)):
                await index.run(partial(set_right, wrong=some))
            wrong = await index.read(miscounted)
    return [_finding(id, *pair, _action(id, wrong, repair)) for id, pair in sorted(first.items())]


def _action(id: str, left: dict[str, tuple[Usage, Usage]], repair: bool) -> str:
    return "counted anew" if repair and id not in left else "none"


def _finding(id: str, kept: Usage, true: Usage, action: str) -> Finding:
    problem = (
        f"usage: {kept.bytes} bytes and {kept.versions} versions are counted, "
        f"{true.bytes} and {true.versions} are there"
    )
    return Finding(id, problem, action)
