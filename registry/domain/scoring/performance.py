"""Performance claims: whether it is said how well the model does, and whether anything backs it.

That results belong into the documentation, with the data they were measured on, is Mitchell et al.
2019 (metrics, evaluation data, quantitative analyses) and the reproducibility checklist of Pineau
et al. 2021. The weights are ours. Whether a claim is true is not judged: nothing is run.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome, summed
from registry.domain.scoring.topics import EVALUATION

HELD_OUT = {"test": 1.0, "production": 1.0, "validation": 0.6, "train": 0.2}
"""How much a recorded metric says, by the split that it was measured on."""


def performance_claims(evidence: Evidence) -> Outcome:
    """Said in the card 0.3, as data 0.1; recorded on held-out data 0.4; logged by a run 0.2."""
    card, measured = evidence.card, evidence.measured
    splits = {split: count for split, count in measured.splits.items() if count}
    logged = sum(run.has_metrics and run.has_succeeded for run in evidence.runs)
    claims = 0 if card is None else card.claimed_results
    tables = 0 if card is None else card.number_tables
    has_section = card is not None and EVALUATION in card.topics
    said = {
        "card": None if card is None else card.origin,
        "evaluation_section": has_section,
        "number_tables": tables,
        "model_index_results": claims,
        "recorded_metrics": splits,
        "said_of_the_version": measured.said,
        "runs_with_metrics": logged,
    }
    if card is None and not splits and not measured.said and not evidence.runs:
        return Outcome(None, said, "there is neither a card nor a metric nor a run")
    in_words = 1.0 if tables or claims else 0.5 * has_section
    value, parts = summed(
        {
            "stated": (0.3, in_words),
            "as_data": (0.1, bool(claims or measured.said)),
            "recorded": (0.4, max((HELD_OUT.get(split, 0.0) for split in splits), default=0.0)),
            "logged": (0.2, bool(logged)),
        }
    )
    return Outcome(value, {**said, "parts": parts})
