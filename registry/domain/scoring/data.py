"""Dataset and code, and dataset quality: what the model was made from, and how well that is told.

Availability of data and code is of the checklist of Pineau et al. 2021. The quality of a data set
is taken to be that of its documentation, by the seven groups of questions of Gebru et al. 2021,
"Datasheets for Datasets". The weights are ours. Data itself is never read.
"""

from __future__ import annotations

from typing import Any

from registry.domain.scoring.evidence import (
    MOST_NAMED,
    Card,
    Dataset,
    Evidence,
    Outcome,
    summed,
)
from registry.domain.scoring.licences import is_known
from registry.domain.scoring.topics import DATASHEET, TRAINING_DATA

SECOND_HAND = 0.5
"""Of the value, where only the model's own card tells of its data."""


def dataset_and_code(evidence: Evidence) -> Outcome:
    """Data named 0.2, linked 0.2, of a fixed version 0.1; code 0.3, its needs 0.1, examples 0.1."""
    card, files, datasets = evidence.card, evidence.files, evidence.lineage.datasets
    here = sum(one.version is not None for one in datasets)
    in_card = () if card is None else card.datasets
    has_section = card is not None and TRAINING_DATA in card.topics
    named_by_runs = sum(run.has_dataset for run in evidence.runs)
    code = files.scripts + files.notebooks
    said = {
        "datasets": [_named(one) for one in datasets[:MOST_NAMED]],
        "datasets_in_lineage": evidence.lineage.dataset_count,
        "datasets_in_card": list(in_card),
        "data_section": has_section,
        "runs_naming_data": named_by_runs,
        "code_files": code,
        "code_links": 0 if card is None else card.code_links,
        "dependency_files": files.dependency_files,
        "code_examples": 0 if card is None else card.code_blocks,
    }
    if card is None and not files.total and not datasets and not evidence.runs:
        return Outcome(None, said, "there is neither a card nor a file, a run or a data set")
    is_fixed = here or any(run.has_dataset_version for run in evidence.runs)
    value, parts = summed(
        {
            "data_named": (
                0.2,
                bool(datasets or in_card or named_by_runs) or 0.5 * has_section,
            ),
            "data_linked": (0.2, 1.0 if here else 0.5 * bool(datasets)),
            "data_fixed": (0.1, bool(is_fixed)),
            "code": (0.3, 1.0 if code else 0.5 * bool(said["code_links"])),
            "dependencies": (0.1, files.dependency_files + files.lock_files),
            "examples": (0.1, 0 if card is None else card.code_blocks),
        }
    )
    return Outcome(value, {**said, "parts": parts})


def dataset_quality(evidence: Evidence) -> Outcome:
    """Of a data set's card: groups of a data sheet 0.7, a known licence 0.2, length 0.1.

    For a version of a data set that is its own card. For a model it is the mean over the data sets
    in its lineage that are kept here; without any its own card counts, at half the value.
    """
    if evidence.kind == "dataset":
        if evidence.card is None:
            return Outcome(None, {}, "the data set has no card")
        value, told = documented(evidence.card)
        return Outcome(value, {"card": told})
    here = [one for one in evidence.lineage.datasets if one.is_read and not one.is_deleted]
    if here:
        return _of_lineage(here)
    card = evidence.card
    if card is None or not (card.datasets or TRAINING_DATA in card.topics):
        return Outcome(None, {"datasets": []}, "no data set is told of")
    value, told = documented(card)
    return Outcome(SECOND_HAND * value, {"second_hand": True, "card": told})


def documented(card: Card | None) -> tuple[float, dict[str, Any]]:
    """How well a card documents a data set."""
    if card is None:
        return 0.0, {"origin": None}
    groups = sorted(card.topics.intersection(DATASHEET))
    value, parts = summed(
        {
            "datasheet": (0.7, len(groups) / len(DATASHEET)),
            "licence": (0.2, any(map(is_known, card.licences))),
            "length": (0.1, card.words / 200),
        }
    )
    said = {
        "origin": card.origin,
        "words": card.words,
        "groups": groups,
        "missing_groups": [group for group in DATASHEET if group not in groups],
        "licences": list(card.licences),
        "parts": parts,
    }
    return value, said


def _of_lineage(datasets: list[Dataset]) -> Outcome:
    values, told = [], []
    for one in datasets:
        value, card = documented(one.card)
        values.append(value)
        told.append({**_named(one), "value": round(value, 4), "card": card})
    return Outcome(sum(values) / len(values), {"datasets": told})


def _named(one: Dataset) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "model": one.model,
        "is_deleted": one.is_deleted,
    }
