"""All lines of work of the company, parents before what came from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registry.demo.datasets import DATASETS
from registry.demo.kinds import Release, Work
from registry.demo.numbers import NUMBERS
from registry.demo.reading import READING
from registry.demo.seeing import SEEING

WORKS: Final[tuple[Work, ...]] = (*DATASETS, *READING, *SEEING, *NUMBERS)


def releases() -> Iterator[tuple[Work, Release]]:
    """All releases in the order in which they were published."""
    for work in WORKS:
        for release in work.releases:
            yield work, release
