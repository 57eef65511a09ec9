"""Who is in the company, and what it thinks of its own work. Names with a slash are models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from registry.demo.kinds import Team

NAMESPACES: Final[Mapping[str, str]] = {
    "support": "What customers write to us, and what we learn from it.",
    "language": "Models that read and write.",
    "vision": "Models that see.",
    "tabular": "Models of customers, payments and risk.",
    "forecasting": "Models of what will be needed.",
    "ranking": "Models that put things in order.",
    "speech": "Models that listen.",
}

TEAMS: Final = (
    Team("research", "product", "4100", "new methods, and models that others build on"),
    Team("support-automation", "operations", "4210", "reads what customers write"),
    Team("store-vision", "operations", "4220", "cameras in stores and in the factory"),
    Team("risk", "finance", "4300", "payments, credit and churn"),
    Team("planning", "supply", "4400", "stock and energy"),
    Team("platform", "engineering", "4500", "runs what the others make"),
)

RATED: Final = (
    ("language/ticket-router", "1.2.0"),
    ("language/ticket-router-small", "1.0.0"),
    ("language/reply-drafter", "1.0.0"),
    ("vision/shelf-detector", "2.1.0"),
    ("tabular/fraud", "3.1.0"),
    ("forecasting/demand", "5.1.0"),
    ("speech/transcriber", "1.0.0"),
    ("support/tickets", "2026.3"),
)

REVIEWS: Final = (
    ("tabular/fraud", "3.1.0", "approve", "Thresholds checked on the disputes of the summer."),
    ("language/ticket-router", "1.1.0", "reject", "Returns are sent to billing."),
    ("language/ticket-router", "1.2.0", "approve", "Returns are right again; latency as before."),
    ("speech/transcriber", "1.0.0", "comment", "Names of streets are often wrong."),
)
