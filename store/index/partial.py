"""Conditions of partial indexes, for each database that knows them.

To name a database's own option of an index loads that database's part of the library, with all its
drivers. PostgreSQL's are 24 modules, which each start would pay for; so an index keeps its
condition beside it, and gets the option when its table is made there.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Table, event

_KEY: Final = "only"


def only(condition: ColumnElement[bool]) -> dict[str, Any]:
    """For an `Index`: it holds only the rows for which `condition` is true."""
    return {"sqlite_where": condition, "info": {_KEY: condition}}


@event.listens_for(Table, "before_create")
def _say_to_postgresql(table: Table, connection: Any, **_: Any) -> None:
    if connection.dialect.name == "postgresql":
        for index in table.indexes:
            if _KEY in index.info:
                index.dialect_kwargs["postgresql_where"] = index.info[_KEY]
