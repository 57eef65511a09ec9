"""Ramp-up time: how soon somebody who does not know the model can use it.

The question is that of course projects on trustworthy model registries; that a card answers it is
Mitchell et al. 2019. Which parts count how much is ours.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome, summed
from registry.domain.scoring.topics import RAMP_UP

ENOUGH_WORDS = 300
ENOUGH_EXAMPLES = 2


def ramp_up_time(evidence: Evidence) -> Outcome:
    """Of the card: topics a beginner needs 0.4, examples of code 0.3, length 0.2; settings 0.1."""
    card = evidence.card
    if card is None:
        return Outcome(None, {}, "there is no card: no README.md at the root, none was put")
    found = sorted(card.topics.intersection(RAMP_UP))
    value, parts = summed(
        {
            "topics": (0.4, len(found) / len(RAMP_UP)),
            "code_examples": (0.3, card.code_blocks / ENOUGH_EXAMPLES),
            "length": (0.2, card.words / ENOUGH_WORDS),
            "settings": (0.1, evidence.files.configs + evidence.files.dependency_files),
        }
    )
    said = {
        "card": card.origin,
        "read_bytes": card.read_bytes,
        "is_cut": card.is_cut,
        "problem": card.problem or None,
        "words": card.words,
        "code_blocks": card.code_blocks,
        "topics": found,
        "missing_topics": [topic for topic in RAMP_UP if topic not in found],
        "setting_files": evidence.files.configs + evidence.files.dependency_files,
        "parts": parts,
    }
    return Outcome(value, said)
