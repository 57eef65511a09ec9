"""Fills an index with any number of models and versions, seeded, without asking the server.

The server makes the schema and stores a few blobs; rows go straight into its tables, through the
project's own description of them, as publishing would have written them: revisions, versions, what
is said of them, aliases with their history, the claims that keep the blobs, the documents that
searches read, one sealed entry of the audit log for each version. (The seal is no true one: nobody
verifies this log.) Indexes are made once the rows are there, which is what makes it bulk.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite as dialect

from bench.shapes import (
    ACTOR,
    BASE_TIME,
    CARD_EVERY,
    FRAMEWORKS,
    REGIONS,
    RISKS,
    SEED,
    STATUSES,
    SUBJECTS,
    TASKS,
    TEAM_MODELS,
    Shape,
    card,
    description,
    label,
    made,
    mixed,
    model_id,
    model_name,
    project,
    revision_id,
    row_id,
    team_name,
    turn,
    version_id,
)
from registry.catalog import schema
from registry.catalog.schema.training import trained_last
from registry.domain.names import fold
from registry.domain.trees import TreeFile, tree_digest
from registry.domain.versions import precedence
from store.digest import Digest
from store.index.driver import sqlite
from store.index.schema import refs, store_state

TREES = 64
_BIG = ("models", "versions", "version_details", "revisions", "aliases", "alias_events", "audit")


def fill(database: Path, shape: Shape, stored: Sequence[tuple[str, int]]) -> None:
    """Write the rows of a whole catalog into the index of a server that does not run.

    `stored` are the SHA-256 and size of a few blobs it has.
    """
    connection = sqlite.connect(str(database), isolation_level=None)
    try:
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("BEGIN")
        remade = _drop_indexes(connection)
        trees = _trees(stored)
        for rows in (_content(trees), _names(shape), _models(shape), _versions(shape, trees)):
            for table, found in rows:
                _write(connection, table, found)
        for statement in remade:
            connection.execute(statement)
        _keep_totals(connection)
        _merge_documents(connection)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _keep_totals(connection: Any) -> None:
    """What whoever makes a version writes beside it, for all of them."""
    connection.execute(
        "UPDATE namespace_usage SET versions = (SELECT count(*) FROM versions AS v "
        "JOIN models AS m ON m.id = v.model "
        "WHERE m.namespace = namespace_usage.namespace AND v.purged_at IS NULL)"
    )
    connection.execute(f"UPDATE models SET trained_at = {trained_last('models.id')}")


def _merge_documents(connection: Any) -> None:
    """Merge what searches read as far as the leader would; it would work beside the questions."""
    for table in ("model_words", "model_grams"):
        connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('automerge', 0)")
        merged = 2
        while merged >= 2:
            before = connection.total_changes
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('merge', 1000)")
            merged = connection.total_changes - before


class _Tree(msgspec.Struct, frozen=True):
    files: list[TreeFile]
    digest: Digest

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


_Rows = Iterator[tuple[Table, Iterable[dict[str, Any]]]]


def _write(connection: Any, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    found = iter(rows)
    first = next(found, None)
    if first is None:
        return
    statement = insert(table).compile(dialect=dialect.dialect(), column_keys=list(first))
    names = statement.positiontup or []

    def bound() -> Iterator[tuple[Any, ...]]:
        yield tuple(first[name] for name in names)
        for row in found:
            yield tuple(row[name] for name in names)

    connection.executemany(str(statement), bound())


def _drop_indexes(connection: Any) -> list[str]:
    """Drop the indexes of the large tables; returns what makes them again."""
    marks = ", ".join("?" for _ in _BIG)
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        f"AND tbl_name IN ({marks})",
        _BIG,
    ).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


def _trees(stored: Sequence[tuple[str, int]]) -> list[_Tree]:
    rng = random.Random(SEED)
    found = dict[Digest, _Tree]()
    while len(found) < TREES:
        files = sorted(rng.choices(range(len(stored)), k=3))
        named = [
            TreeFile(f"part-{rng.randrange(100):02d}-{place}.bin", Digest(stored[file][0]), size)
            for place, file in enumerate(files)
            for size in (stored[file][1],)
        ]
        named.sort(key=lambda file: file.path.encode())
        found[tree_digest(named)] = _Tree(named, tree_digest(named))
    return list(found.values())


def _content(trees: Sequence[_Tree]) -> _Rows:
    yield (
        schema.trees,
        (
            {
                "digest": tree.digest.raw,
                "files": len(tree.files),
                "size": tree.size_bytes,
                "created_at": BASE_TIME,
            }
            for tree in trees
        ),
    )
    yield (
        schema.tree_files,
        (
            {
                "tree": tree.digest.raw,
                "path": file.path,
                "digest": file.digest.raw,
                "size": file.size_bytes,
            }
            for tree in trees
            for file in tree.files
        ),
    )


def _names(shape: Shape) -> _Rows:
    said = {"created_at": BASE_TIME, "created_by": ACTOR, "updated_at": BASE_TIME}
    yield (
        schema.namespaces,
        (
            {
                "id": row_id("nsp_", 1 + number),
                "slug": f"family-{number:03d}",
                "folded": f"family-{number:03d}",
                "owner_kind": "user",
                "owner": ACTOR,
                "visibility": "private",
                "description": "",
                **said,
            }
            for number in sorted({model * 7919 % 1000 for model in range(shape.models)})
        ),
    )
    yield (
        schema.teams,
        (
            {
                "id": row_id("tea_", number),
                "name": team_name(number),
                "folded": team_name(number),
                "department": f"department {number % 10}",
                "cost_center": "",
                "description": "",
                "active": 1,
                **said,
            }
            for number in range(shape.teams)
        ),
    )
    named = [f"domain={subject}" for subject in SUBJECTS]
    named += [f"project={number:06d}" for number in range(shape.projects)]
    tagged = Counter(tag for model in range(shape.models) for _, tag in _tags_of(model))
    yield (
        schema.tags,
        (
            {
                "id": row_id("tag_", number),
                "key": text.partition("=")[0],
                "value": text.partition("=")[2],
                "folded": text,
                "description": "",
                "models": tagged[number],
                **said,
            }
            for number, text in enumerate(named)
        ),
    )


def _models(shape: Shape) -> _Rows:
    yield schema.models, (_model(shape, model) for model in range(shape.models))
    yield (
        schema.model_tags,
        (
            {
                "model": model_id(model),
                "key": key,
                "tag": row_id("tag_", tag),
                "name": fold(model_name(model)),
                "created_at": made(shape, model, 1),
                "created_by": ACTOR,
            }
            for model in range(shape.models)
            for key, tag in _tags_of(model)
        ),
    )
    carded = range(0, shape.models, CARD_EVERY)
    yield (
        schema.model_cards,
        (
            {
                "model": model_id(model),
                "source": "put",
                "digest": Digest.of(card(model).encode()).raw,
                "text": card(model),
                "updated_at": made(shape, model, 1),
                "updated_by": ACTOR,
            }
            for model in carded
        ),
    )
    yield (
        schema.search_documents,
        ({"document": model + 1, "model": model_id(model)} for model in range(shape.models)),
    )
    yield schema.model_grams, (_document(model) for model in range(shape.models))
    yield (
        schema.model_words,
        (
            _document(model) | {"card": "" if model % CARD_EVERY else fold(card(model))}
            for model in range(shape.models)
        ),
    )


def _tags_of(model: int) -> tuple[tuple[str, int], ...]:
    """Each key with the number of its tag."""
    return ("domain", model % len(SUBJECTS)), ("project", len(SUBJECTS) + project(model))


def _model(shape: Shape, model: int) -> dict[str, Any]:
    count, at = shape.versions_of(model), made(shape, model, 1)
    return {
        "id": model_id(model),
        "name": model_name(model),
        "folded": fold(model_name(model)),
        "kind": "model",
        "visibility": "private",
        "last_number": count,
        "created_at": at,
        "created_by": ACTOR,
        "updated_at": at,
        "namespace": _namespace_of(model),
        "description": description(model),
        "task_type": TASKS[model % len(TASKS)],
        "subject_domain": SUBJECTS[model // 5 % len(SUBJECTS)],
        "team": row_id("tea_", model // TEAM_MODELS),
        "risk_level": RISKS[model // 3 % len(RISKS)],
        "active": int(model % 20 != 0),
        "version_count": count,
    }


def _document(model: int) -> dict[str, Any]:
    return {
        "rowid": model + 1,
        "name": fold(model_name(model)),
        "tags": f"domain={SUBJECTS[model % len(SUBJECTS)]}\nproject={project(model):06d}",
        "description": fold(description(model)),
    }


def _versions(shape: Shape, trees: Sequence[_Tree]) -> _Rows:
    yield schema.revisions, (_revision(shape, trees, *turn) for turn in _turns(shape))
    yield schema.versions, (_version(shape, trees, *turn) for turn in _turns(shape))
    yield (
        schema.version_details,
        (
            {
                "version": version_id(shape, model, number),
                "description": "",
                "parameters": f'{{"layers":{number}}}',
                "standardisation": "{}",
                "performance": '{"accuracy":0.9}',
                "metadata": f'{{"commit":"{revision_id(model, number)}"}}',
            }
            for model, number in _turns(shape)
        ),
    )
    yield schema.aliases, _aliases(shape)
    yield schema.alias_events, _alias_events(shape)
    # Else housekeeping would go through all these moves, looking for new cards.
    followed = sum(1 for _ in _alias_events(shape))
    yield store_state, [{"key": "cards_followed", "value": str(followed)}]
    yield schema.audit, (_entry(shape, trees, *turn) for turn in _turns(shape))
    yield (
        schema.audit_seals,
        [
            {
                "number": 1,
                "first": 1,
                "last": shape.versions,
                "entries": shape.versions,
                "previous": bytes(32),
                "seal": bytes(range(32)),
                "created_at": BASE_TIME,
            }
        ],
    )
    yield refs, _claims(shape, trees)


def _turns(shape: Shape) -> Iterator[tuple[int, int]]:
    """Model and number of every version in the order in which they are made: models in turn."""
    for number in range(1, shape.versions_of(0) + 1):
        for model in range(shape.models):
            if number <= shape.versions_of(model):
                yield model, number


def _revision(shape: Shape, trees: Sequence[_Tree], model: int, number: int) -> dict[str, Any]:
    return {
        "id": revision_id(model, number),
        "model": model_id(model),
        "tree": _tree_of(trees, model, number).digest.raw,
        "parents": "" if number == 1 else revision_id(model, number - 1),
        "author": ACTOR,
        "message": "",
        "created_at": made(shape, model, number),
    }


def _version(shape: Shape, trees: Sequence[_Tree], model: int, number: int) -> dict[str, Any]:
    tree, place = _tree_of(trees, model, number), precedence(label(number))
    spread = mixed(model, number)
    at = made(shape, model, number)
    return {
        "id": version_id(shape, model, number),
        "model": model_id(model),
        "number": number,
        "label": label(number),
        "folded": label(number),
        "standing": place.standing,
        "precedence": place.key,
        "revision": revision_id(model, number),
        "tree": tree.digest.raw,
        "files": len(tree.files),
        "size": tree.size_bytes,
        "created_at": at,
        "created_by": ACTOR,
        "updated_at": at,
        "status": STATUSES[spread % len(STATUSES)],
        "framework": FRAMEWORKS[spread // 10 % len(FRAMEWORKS)],
        "python_version": "3.11",
        "region": REGIONS[spread // 100 % len(REGIONS)],
        "eval_score": spread // 1000 % 10_000 / 10_000,
        "cost_per_1k": spread // 7 % 100_000 / 1000,
        "slo_met": spread // 11 % 2,
    }


def _aliases(shape: Shape) -> Iterator[dict[str, Any]]:
    for model in range(shape.models):
        last = shape.versions_of(model)
        for name, number in (("latest", last), ("main", last), ("champion", 1)):
            if number <= last and last:
                yield {
                    "model": model_id(model),
                    "folded": name,
                    "name": name,
                    "revision": revision_id(model, number),
                    "held": int(name == "champion"),
                    "moved_at": made(shape, model, number),
                    "moved_by": ACTOR,
                }


def _alias_events(shape: Shape) -> Iterator[dict[str, Any]]:
    for model, number in _turns(shape):
        for name in ("latest", "main", "champion") if number == 1 else ("latest", "main"):
            yield {
                "model": model_id(model),
                "folded": name,
                "name": name,
                "from_revision": None if number == 1 else revision_id(model, number - 1),
                "to_revision": revision_id(model, number),
                "actor": ACTOR,
                "reason": "published",
                "created_at": made(shape, model, number),
            }


def _entry(shape: Shape, trees: Sequence[_Tree], model: int, number: int) -> dict[str, Any]:
    tree = _tree_of(trees, model, number)
    after = {
        "number": number,
        "label": label(number),
        "tree": str(tree.digest),
        "revision": revision_id(model, number),
        "files": len(tree.files),
        "size": tree.size_bytes,
    }
    return {
        "created_at": made(shape, model, number),
        "actor": ACTOR,
        "actor_name": "local",
        "request": f"{turn(shape, model, number):024x}",
        "action": "publish",
        "kind": "version",
        "entity": version_id(shape, model, number),
        "name": label(number),
        "model": model_id(model),
        "before": None,
        "after": msgspec.json.encode(after).decode(),
        "reason": "",
    }


def _claims(shape: Shape, trees: Sequence[_Tree]) -> Iterator[dict[str, Any]]:
    for model in range(shape.models):
        counts = dict[bytes, int]()
        for number in range(1, shape.versions_of(model) + 1):
            for file in _tree_of(trees, model, number).files:
                counts[file.digest.raw] = counts.get(file.digest.raw, 0) + 1
        for digest, count in counts.items():
            yield {
                "digest": digest,
                "owner": model_id(model),
                "kind": "tree",
                "count": count,
                "created_at": BASE_TIME,
                "realm": _namespace_of(model),
                "level": "private",
            }


def _namespace_of(model: int) -> str:
    return row_id("nsp_", 1 + model * 7919 % 1000)


def _tree_of(trees: Sequence[_Tree], model: int, number: int) -> _Tree:
    return trees[mixed(model, number) // 13 % len(trees)]
