"""Bus factor: how many people could leave before the work stands still.

After Avelino et al., "A novel approach for estimating truck factors", ICPC 2016
(arXiv:1604.06766): whoever made most is taken away, again and again, until more than half of the
work has nobody left. There the work is files with their authors; here it is contributions to the
model (versions, runs, edges of lineage, a card that was put), each with one maker. The scale from
that number to a value is ours.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import MOST_NAMED, Evidence, Outcome

ENOUGH = 4
"""From this bus factor on the value is 1; a bus factor of 1 is 0."""


def truck_factor(counts: list[int]) -> int:
    """The fewest makers that together made more than half."""
    left, total = sum(counts), sum(counts)
    for gone, count in enumerate(sorted(counts, reverse=True), start=1):
        left -= count
        if 2 * left < total:
            return gone
    return len(counts)


def bus_factor(evidence: Evidence) -> Outcome:
    """0 if one person made more than half of everything, 1 from four on, evenly between."""
    contributors = evidence.contributors
    counts = contributors.by_principal
    said = {
        "contributions": sum(counts.values()),
        "contributors": len(counts),
        "anonymous_contributions": contributors.anonymous,
        "is_cut": contributors.is_cut,
    }
    if not counts:
        reason = "nobody contributed"
        if contributors.anonymous:
            reason = "all contributions were made in open mode, which cannot tell people apart"
        return Outcome(None, said, reason)
    factor = truck_factor(list(counts.values()))
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_NAMED]
    value = min(1.0, (factor - 1) / (ENOUGH - 1))
    return Outcome(value, {**said, "bus_factor": factor, "most": dict(most)})
