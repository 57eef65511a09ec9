"""When each model was trained last: a kept column, changed by triggers in the very statements.

That is the later of two moments: the start of its newest run that succeeded, and the making of its
newest version; of those deleted neither counts. What comes raises it; what goes has it looked up
anew, if it was the one. A trigger is what no door can forget; only a new version, for which it
would be dear, raises it where it takes its number (`registry.catalog.models.next_number`).
"""

from __future__ import annotations

from typing import Final

from registry.catalog.schema.base import after_making
from registry.catalog.schema.runs import runs


def trained_last(model: str) -> str:
    """When a model was trained last, found by searching two indexes; NULL if never."""
    return (
        "nullif(max("
        f"coalesce((SELECT r.started_at FROM runs AS r WHERE r.model = {model} AND "
        "r.status = 'succeeded' AND coalesce(r.deleted_at, 0) = 0 "
        "ORDER BY r.started_at DESC LIMIT 1), -1), "
        f"coalesce((SELECT v.created_at FROM versions AS v WHERE v.model = {model} AND "
        "v.deleted_at IS NULL ORDER BY v.created_at DESC LIMIT 1), -1)), -1)"
    )


def _raise(at: str) -> str:
    return (
        f"UPDATE models SET trained_at = {at} "
        f"WHERE id = NEW.model AND coalesce(trained_at, -1) < {at};"
    )


def _look_anew(at: str) -> str:
    return (
        f"UPDATE models SET trained_at = {trained_last('OLD.model')} "
        f"WHERE id = OLD.model AND trained_at = {at};"
    )


def _counts(row: str) -> str:
    return f"{row}.model IS NOT NULL AND {row}.status = 'succeeded' AND {row}.deleted_at IS NULL"


_OTHERWISE: Final = (
    "(OLD.model IS NOT NEW.model OR OLD.status <> NEW.status OR OLD.started_at <> NEW.started_at "
    "OR OLD.deleted_at IS NOT NEW.deleted_at)"
)

TRIGGERS: Final = (
    f"CREATE TRIGGER trained_by_run AFTER INSERT ON runs WHEN {_counts('NEW')} "
    f"BEGIN {_raise('NEW.started_at')} END",
    "CREATE TRIGGER trained_by_run_no_more AFTER UPDATE OF model, status, started_at, deleted_at "
    f"ON runs WHEN {_OTHERWISE} AND {_counts('OLD')} BEGIN {_look_anew('OLD.started_at')} END",
    "CREATE TRIGGER trained_by_run_now AFTER UPDATE OF model, status, started_at, deleted_at "
    f"ON runs WHEN {_OTHERWISE} AND {_counts('NEW')} BEGIN {_raise('NEW.started_at')} END",
    f"CREATE TRIGGER trained_by_run_gone AFTER DELETE ON runs WHEN {_counts('OLD')} "
    f"BEGIN {_look_anew('OLD.started_at')} END",
    "CREATE TRIGGER trained_by_version_no_more AFTER UPDATE OF deleted_at ON versions "
    "WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL "
    f"BEGIN {_look_anew('OLD.created_at')} END",
    "CREATE TRIGGER trained_by_version_again AFTER UPDATE OF deleted_at ON versions "
    "WHEN OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL "
    f"BEGIN {_raise('NEW.created_at')} END",
    "CREATE TRIGGER trained_by_version_gone AFTER DELETE ON versions WHEN OLD.deleted_at IS NULL "
    f"BEGIN {_look_anew('OLD.created_at')} END",
)
"""Whichever of two runs first, the outcome is the same: one looks, the other raises."""

# Runs come last of the three tables: they refer to the others.
for _trigger in TRIGGERS:
    after_making(runs, _trigger, dialect="sqlite")
