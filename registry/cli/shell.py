"""``digestry db shell``: SQL typed at the index, for looking, and with ``--write`` for repair.

Without ``--write`` the file is opened read-only and each statement is a short read, so a server on
the directory is not disturbed. With it the directory's lock is held, so there is no server whose
caches and housekeeping a change could surprise.

Statements end with a semicolon. Lines that begin with a dot are ours: ``.tables``, ``.schema``,
``.help``, ``.quit``. Where the input is not a terminal, statements are read to its end and the
first error ends the command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from registry.cli.exits import CLEAN, FAILED, CommandError, complain, printable
from registry.cli.output import many, say, say_json
from registry.cli.tables import show
from store.errors import StoreError
from store.index import driver
from store.index.driver import sqlite

SHOWN_ROWS: Final = 1000
"""Rows of one answer that are printed for people; with ``--json`` there is no limit."""

_HELP: Final = (
    ".tables            the tables",
    ".schema [TABLE]    how they were made",
    ".quit              end; so does Ctrl-D",
    "anything else is SQL and ends with a semicolon",
)


def run(index: Path, *, write: bool, statement: str | None, as_json: bool) -> int:
    """Answer one statement, or all that are typed or piped in."""
    with closing(_open(index, write)) as connection:
        shell = Shell(connection, as_json=as_json)
        if statement is not None:
            shell.answer(statement)
            return CLEAN
        if sys.stdin.isatty():
            return _talk(shell, write)
        for text in statements(sys.stdin.readline):
            shell.answer(text)
        return CLEAN


def statements(read_line: Callable[[], str]) -> Iterator[str]:
    """Complete statements and dot commands out of lines; what is left at the end counts too."""
    pending = ""
    while line := read_line():
        if not pending.strip() and line.startswith("."):
            yield line.strip()
            continue
        pending += line
        whole, pending = _cut(pending)
        yield from whole
    if pending.strip():
        yield pending.strip()


def _cut(text: str) -> tuple[list[str], str]:
    """The complete statements at the beginning of a text, and what follows them."""
    whole, begin, at = [], 0, text.find(";")
    while at >= 0:
        if sqlite.complete_statement(text[begin : at + 1]):
            whole.append(text[begin : at + 1].strip())
            begin = at + 1
        at = text.find(";", at + 1)
    return whole, text[begin:] if text[begin:].strip() else ""


class Shell:
    """Answers one statement or dot command at a time; raises `CommandError` with SQLite's words."""

    def __init__(self, connection: sqlite.Connection, *, as_json: bool) -> None:
        self._connection = connection
        self._as_json = as_json

    def answer(self, text: str) -> None:
        if text.startswith("."):
            self._command(text)
            return
        # A statement half read would keep its snapshot and stop the log from restarting.
        with closing(self._connection.cursor()) as cursor:
            try:
                cursor.execute(text)
                columns = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchall() if self._as_json else cursor.fetchmany(SHOWN_ROWS + 1)
            except (sqlite.Error, sqlite.Warning) as error:
                raise CommandError(str(error), FAILED) from error
            except UnicodeError as error:
                raise CommandError(f"the statement cannot be sent: {error}", FAILED) from error
            self._print(columns, rows, cursor.rowcount)

    def _print(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], changed: int) -> None:
        if self._as_json:
            say_json({"columns": columns, "rows": [[_plain(cell) for cell in row] for row in rows]})
        elif columns:
            show(columns, [[_text(cell) for cell in row] for row in rows[:SHOWN_ROWS]])
            if len(rows) > SHOWN_ROWS:
                say(f"... only the first {SHOWN_ROWS} rows are shown")
        elif changed >= 0:
            say(f"{many(changed, 'row')} changed")

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if name == ".tables":
            self.answer("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        elif name == ".schema":
            self._schema(rest.strip())
        elif name == ".help":
            for line in _HELP:
                say(line)
        else:
            raise CommandError(f"{name} is not known; .help lists what is")

    def _schema(self, table: str) -> None:
        found = self._connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND ? IN ('', tbl_name) "
            "ORDER BY tbl_name, type DESC",
            (table,),
        ).fetchall()
        if not found:
            raise CommandError(f"there is no table {table}")
        for (sql,) in found:
            print("\n".join(printable(line) for line in f"{sql};".splitlines()))


def _talk(shell: Shell, write: bool) -> int:
    """Ask and answer until the end of input; errors and Ctrl-C end one statement only."""
    with suppress(ImportError):  # no line editing where Python was built without it
        import readline  # noqa: F401  # importing it gives `input` history and editing

    mode = "changes are kept at once" if write else "read-only"
    say(f"the index, {mode}; .help for help")
    prompt = "digestry> "

    def read_line() -> str:
        nonlocal prompt
        try:
            line = input(prompt)
        except EOFError:
            print()
            return ""
        prompt = "     ...> " if line.strip() else prompt
        return f"{line}\n"

    asked = statements(read_line)
    while True:
        try:
            text = next(asked, None)
            prompt = "digestry> "
            if text is None or text in (".quit", ".exit"):
                return CLEAN
            shell.answer(text)
        except CommandError as error:
            complain(error)
        except KeyboardInterrupt:
            print()
            asked, prompt = statements(read_line), "digestry> "


def _open(index: Path, write: bool) -> sqlite.Connection:
    if not index.is_file():
        raise CommandError(f"there is no index at {index}")
    try:
        if write:
            connection = driver.connect(index, busy_seconds=10)
        else:
            connection = sqlite.connect(
                f"{index.as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None
            )
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except (StoreError, sqlite.Error) as error:
        raise CommandError(f"cannot open {index}: {error}") from error
    connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    # Being called now and then is what lets Ctrl-C end a long statement.
    connection.set_progress_handler(lambda: False, 20_000)
    return connection


def _text(cell: object) -> str:
    if cell is None:
        return "NULL"
    return f"x'{cell.hex()}'" if isinstance(cell, bytes) else str(cell)


def _plain(cell: object) -> object:
    return f"x'{cell.hex()}'" if isinstance(cell, bytes) else cell
