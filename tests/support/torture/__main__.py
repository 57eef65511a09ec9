"""``python -m tests.support.torture FOLDER --points 1000``: as long as it takes, to be continued.

A folder that an earlier run left is gone on with: its points count. At its end it prints a table,
and everything about the first failure, if there was one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support.torture.rounds import torture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=1000, help="how many kills in all")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so long")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    tally = torture(given.folder, points=given.points, seconds=given.seconds, seed=given.seed)
    print(tally.table())
    return 1 if tally.failure else 0


if __name__ == "__main__":
    sys.exit(main())
