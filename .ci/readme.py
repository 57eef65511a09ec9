"""Print the shell commands of one marked block of the README, so that CI runs what people read.

A block is marked by a line ``<!-- NAME -->`` before its fence. In a block with prompts only the
lines after ``$ `` are commands; the others show what they print.
"""

import re
import sys
from pathlib import Path


def commands(readme: str, name: str) -> list[str]:
    marked = re.search(rf"<!-- {re.escape(name)} -->\n+```\w*\n(.*?)```", readme, re.DOTALL)
    if marked is None:
        raise SystemExit(f"the README has no block marked {name!r}")
    lines = marked[1].splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return prompted or lines


if __name__ == "__main__":
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    print("\n".join(commands(text, sys.argv[1])))
