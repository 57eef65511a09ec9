"""Tree score: how far what the version came from can be trusted.

The mean of the parents' overall scores, as in course projects on trustworthy model registries.
Only parents are asked: what they came from is in their own tree scores already, so a walk needs no
depth. A parent without scores, a deleted one, one that whoever rates may not see and one that is
not in this registry are left out, and said.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import MOST_NAMED, Evidence, Outcome


def tree_score(evidence: Evidence) -> Outcome:
    """The mean of the parents' overall scores."""
    lineage = evidence.lineage
    living = [parent for parent in lineage.parents if not parent.is_deleted]
    rated = [parent.overall for parent in living if parent.overall is not None]
    said = {
        "parents": [
            {
                "name": parent.name,
                "version": parent.version,
                "model": parent.model,
                "overall": None if parent.overall is None else round(parent.overall, 4),
                "is_deleted": parent.is_deleted,
            }
            for parent in lineage.parents[:MOST_NAMED]
        ],
        "rated_parents": len(rated),
        "unrated_parents": len(living) - len(rated),
        "deleted_parents": len(lineage.parents) - len(living),
        "restricted_parents": lineage.restricted,
        "parents_elsewhere": lineage.elsewhere,
        "is_cut": lineage.is_cut,
    }
    if rated:
        return Outcome(sum(rated) / len(rated), said)
    if lineage.parents or lineage.restricted:
        return Outcome(None, said, "no parent that counts has been rated")
    return Outcome(None, said, "it has no parent in this registry")
