"""Reviewedness: whether somebody other than the author looked at the version, and what they said.

That changes need the eyes of others is common practice (OpenSSF Scorecard's Code-Review asks for it
too); two approvals for the whole value, and the share of approvals, are ours.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome

ENOUGH_APPROVALS = 2


def reviewedness(evidence: Evidence) -> Outcome:
    """The share of approvals among verdicts, half of it for a single approval."""
    reviews = evidence.reviews
    said = {
        "approvals": reviews.approvals,
        "rejections": reviews.rejections,
        "reviews": reviews.total,
        "uncounted": reviews.uncounted,
    }
    verdicts = reviews.approvals + reviews.rejections
    if not verdicts:
        reason = "nobody has approved or rejected it"
        if reviews.uncounted:
            reason = "no review counts: reviewer and author cannot be told apart in open mode"
        return Outcome(None, said, reason)
    share = reviews.approvals / verdicts
    return Outcome(share * min(1.0, reviews.approvals / ENOUGH_APPROVALS), said)
