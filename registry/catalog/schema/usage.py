"""What each namespace takes: one kept row, changed by triggers in the very statements that count.

Bytes are those of the blobs that models of the namespace refer to, each once; the first reference
to a blob adds it, the last one that goes takes it away, whichever statement that is: publishing,
releasing, purging, renaming a model into another namespace. A trigger is what no door can forget,
and costs a set of ten thousand files no statement. `registry.catalog.usage.miscounted` compares
with the truth.

Versions are those that are not purged, deleted ones included: they can be restored. A new one is
counted by `registry.catalog.versions.insert_version`, the one statement that makes any: with a
trigger SQLite would copy each of the fifteen pages that its row changes before it does.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Table, Text

from registry.catalog.schema.base import after_making, metadata
from registry.catalog.schema.models import models, namespaces
from registry.catalog.schema.versions import versions

namespace_usage = Table(
    "namespace_usage",
    metadata,
    Column("namespace", Text, ForeignKey(namespaces.c.id), primary_key=True),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("versions", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("bytes >= 0", name="usage_bytes"),
    CheckConstraint("versions >= 0", name="usage_versions"),
    sqlite_with_rowid=False,
)
# Triggers name both tables, which must be there first.
namespace_usage.add_is_dependent_on(models)
namespace_usage.add_is_dependent_on(versions)

_LEVELS: Final = "('private', 'internal', 'public')"


def _held_else(row: str) -> str:
    """Whether another reference of the realm names the same blob: three seeks of refs_by_access."""
    return (
        f"EXISTS (SELECT 1 FROM refs AS r WHERE r.digest = {row}.digest AND r.level IN {_LEVELS} "
        f"AND r.realm = {row}.realm AND NOT (r.owner = {row}.owner AND r.kind = {row}.kind))"
    )


def _count_bytes(row: str, sign: str) -> str:
    size = f"coalesce((SELECT size FROM blobs WHERE digest = {row}.digest), 0)"
    return (
        f"UPDATE namespace_usage SET bytes = max(0, bytes {sign} {size}) "
        f"WHERE namespace = {row}.realm AND NOT {_held_else(row)};"
    )


def _count_versions(model: str, sign: str, many: str) -> str:
    return (
        f"UPDATE namespace_usage SET versions = max(0, versions {sign} {many}) "
        f"WHERE namespace = {model};"
    )


_OF_NEW: Final = "(SELECT namespace FROM models WHERE id = NEW.model)"
_OF_OLD: Final = "(SELECT namespace FROM models WHERE id = OLD.model)"
_OF_MODEL: Final = "(SELECT count(*) FROM versions WHERE model = NEW.id AND purged_at IS NULL)"

TRIGGERS: Final = (
    "CREATE TRIGGER usage_begins AFTER INSERT ON namespaces "
    "BEGIN INSERT INTO namespace_usage (namespace) VALUES (NEW.id); END",
    "CREATE TRIGGER usage_ends BEFORE DELETE ON namespaces "
    "BEGIN DELETE FROM namespace_usage WHERE namespace = OLD.id; END",
    "CREATE TRIGGER usage_claims AFTER INSERT ON refs WHEN NEW.realm IS NOT NULL "
    f"BEGIN {_count_bytes('NEW', '+')} END",
    "CREATE TRIGGER usage_releases AFTER DELETE ON refs WHEN OLD.realm IS NOT NULL "
    f"BEGIN {_count_bytes('OLD', '-')} END",
    "CREATE TRIGGER usage_moves AFTER UPDATE OF realm ON refs WHEN OLD.realm IS NOT NEW.realm "
    f"BEGIN {_count_bytes('OLD', '-')} {_count_bytes('NEW', '+')} END",
    "CREATE TRIGGER usage_forgets AFTER DELETE ON versions WHEN OLD.purged_at IS NULL "
    f"BEGIN {_count_versions(_OF_OLD, '-', '1')} END",
    "CREATE TRIGGER usage_purges AFTER UPDATE OF purged_at ON versions "
    "WHEN (OLD.purged_at IS NULL) <> (NEW.purged_at IS NULL) "
    f"BEGIN {_count_versions(_OF_NEW, '+', 'iif(NEW.purged_at IS NULL, 1, -1)')} END",
    "CREATE TRIGGER usage_renames AFTER UPDATE OF namespace ON models "
    "WHEN OLD.namespace <> NEW.namespace "
    f"BEGIN {_count_versions('OLD.namespace', '-', _OF_MODEL)} "
    f"{_count_versions('NEW.namespace', '+', _OF_MODEL)} END",
)

after_making(namespace_usage, "INSERT INTO namespace_usage (namespace) SELECT id FROM namespaces")
for _trigger in TRIGGERS:
    after_making(namespace_usage, _trigger, dialect="sqlite")
