"""What headings of a card speak of: the topics that documentation is expected to cover.

Model cards: Mitchell et al., "Model Cards for Model Reporting", 2019 (arXiv:1810.03993). Data
sheets: Gebru et al., "Datasheets for Datasets", 2021 (arXiv:1803.09010). The words by which a
heading is recognised are ours; other languages than English are not recognised, and said so in
``registry/SCORES.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

RAMP_UP: Final = ("description", "intended_use", "usage", "installation", "limitations")
"""What somebody new to a model needs first."""

EVALUATION: Final = "evaluation"
TRAINING_DATA: Final = "training_data"

DATASHEET: Final = (
    "motivation",
    "composition",
    "collection",
    "preprocessing",
    "uses",
    "distribution",
    "maintenance",
)
"""The seven groups of questions of a data sheet."""

_WORDS: Final[Mapping[str, str]] = {
    "description": "description|overview|introduction|summary|about|model details|model card for",
    "intended_use": "intended use|intended uses|use cases?|direct use|out of scope|applications?",
    "usage": "usage|how to|how do i|get started|getting started|quick ?start|examples?|inference"
    "|tutorial|run(?:ning)? the model|use the model",
    "installation": "install|installation|installing|requirements|dependencies|setup|set up"
    "|prerequisites",
    "limitations": "limitations?|bias|risks?|caveats?|ethical|known issues|warnings?",
    EVALUATION: "evaluation|results?|performance|benchmarks?|metrics|quantitative analys[ei]s"
    "|accuracy",
    TRAINING_DATA: "training data|train data|data ?sets?|training details|data sources?"
    "|evaluation data|testing data",
    "motivation": "motivation|purpose|curation rationale|data ?set (?:description|summary)|why",
    "composition": "composition|data ?set structure|data (?:fields|instances|splits|format)"
    "|instances|features|schema|contents?|statistics|languages",
    "collection": "collection|data sources?|source data|acquisition|sampling|annotations?"
    "|annotators|data ?set creation|how it was collected|provenance",
    "preprocessing": "pre ?processing|cleaning|label(?:l?ing)|normali[sz]ation|filtering"
    "|tokeni[sz]ation|de ?duplication|processing",
    "uses": "uses?|usage|tasks|out of scope|considerations for using",
    "distribution": "distribution|licen[cs]ing|licen[cs]es?|access|availability|download"
    "|terms of use|citation",
    "maintenance": "maintenance|maintainers?|updates?|contact|versions?|versioning|change ?log"
    "|errat(?:um|a)|data ?set curators?|contributions?",
}
_PATTERNS: Final = {topic: rf"(?:^| )(?:{words})(?: |$)" for topic, words in _WORDS.items()}
_NOT_WORDS: Final = re.compile(r"[^a-z0-9]+")
_HEADING_CHARACTERS: Final = 200


def topics_of(heading: str) -> frozenset[str]:
    """The topics that a heading names; one heading may name several."""
    plain = _NOT_WORDS.sub(" ", heading[:_HEADING_CHARACTERS].lower()).strip()
    return frozenset(topic for topic, pattern in _PATTERNS.items() if re.search(pattern, plain))
