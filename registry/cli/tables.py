"""Tables for people: fitted to a terminal, plain lines with tabs where the output goes elsewhere.

Every cell is made safe for the terminal it is shown on. Cells of several lines become one.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from registry.cli.exits import printable


def show(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> None:
    """Print a table; `right` names the columns of numbers."""
    safe = [[printable(cell) for cell in row] for row in rows]
    heads = [printable(column) for column in columns]
    if sys.stdout.isatty():
        _draw(heads, safe, right)
        return
    for row in [heads, *safe]:
        print("\t".join(row))


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> None:
    """Fit the table to the width of the terminal; long cells are folded, not cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    for row in rows:
        # As `Text`, because square brackets in a cell are not ours to interpret.
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
