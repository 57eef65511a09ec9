"""Licence: whether the model has one that is known, and how freely it lets it be used.

Identified by SPDX names and by text, see `registry.domain.scoring.licences`. The order of freedom
and the deduction for a licence that is only named are ours.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome
from registry.domain.scoring.licences import FREEDOM, is_known, strictest

ONLY_NAMED = 0.9
"""Of the value, where the card names a licence and no file of the version has its text."""


def licence(evidence: Evidence) -> Outcome:
    """The freedom of the strictest licence found; nine tenths of it where its text is missing."""
    named = () if evidence.card is None else evidence.card.licences
    files = evidence.licence_files
    said = {
        "named_in_card": list(named),
        "files": [{"path": file.path, "licence": file.licence} for file in files],
    }
    if not named and not files:
        return Outcome(None, said, "no licence is named and there is no licence file")
    texts = [file.licence for file in files if file.licence is not None]
    # What is known says what the rest means: a card's "other" beside a text, or the reverse.
    names = [name for name in named if is_known(name)]
    found, kind = strictest([*names, *texts] or [*named, ""])
    has_text = bool(texts) or (bool(files) and bool(names))
    value = FREEDOM[kind] * (1.0 if has_text else ONLY_NAMED)
    return Outcome(value, {**said, "licence": found or None, "kind": kind, "has_text": has_text})
