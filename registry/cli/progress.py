"""A progress bar on the error stream, for people only: where it is not a terminal nothing is shown.

The library that draws is loaded when there is something to draw, so a quick command stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from registry.domain.operations import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from registry.cli.offices import Watch


@contextmanager
def shown(title: str) -> Iterator[Watch]:
    """A function to call with each `Progress`; its last picture is cleared at the end."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    with ExitStack() as stack:
        yield _Drawing(title, stack).draw


def _nothing(progress: Progress | None) -> None:
    """Show nothing."""


class _Drawing:
    def __init__(self, title: str, stack: ExitStack) -> None:
        self._title = title
        self._stack = stack
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def draw(self, progress: Progress | None) -> None:
        if progress is None:
            return
        if self._bars is None or self._task is None:
            self._bars = self._stack.enter_context(_bars(progress.unit))
            self._task = self._bars.add_task(self._title, total=None)
        title = f"{self._title}: {progress.stage}" if progress.stage else self._title
        self._bars.update(
            self._task, description=title, completed=progress.done, total=progress.total or None
        )


def _bars(unit: str) -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    counted = (
        (DownloadColumn(binary_units=True), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), TextColumn(unit))
    )
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counted,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
