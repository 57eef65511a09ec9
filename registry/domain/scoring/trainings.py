"""What a run tells of how it can be made again, from what is kept of it as JSON."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from registry.domain.scoring.evidence import Run

MOST_VALUES: Final = 20_000

_SEED: Final = re.compile(r"(?:^|[^a-z])(?:seed|random_?state)s?(?:$|[^a-z])", re.IGNORECASE)


def read_run(
    id: str,
    *,
    status: str,
    dataset: str,
    dataset_version: str,
    hyperparameters: str,
    environment: str,
    has_metrics: bool,
) -> Run:
    """The facts of a run; both texts are JSON objects."""
    settings = msgspec.json.decode(hyperparameters)
    around = msgspec.json.decode(environment)
    return Run(
        id=id,
        has_succeeded=status == "succeeded",
        hyperparameters=len(settings),
        environment=len(around),
        has_seed=_names_seed(settings) or _names_seed(around),
        has_dataset=bool(dataset),
        has_dataset_version=bool(dataset and dataset_version),
        has_metrics=has_metrics,
    )


def _names_seed(value: Any) -> bool:
    """Whether anything in it stands under the name of a seed, and is not null."""
    left = [value]
    for _ in range(MOST_VALUES):
        if not left:
            return False
        found = left.pop()
        if isinstance(found, dict):
            if any(inner is not None and _SEED.search(name) for name, inner in found.items()):
                return True
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)
    return False
