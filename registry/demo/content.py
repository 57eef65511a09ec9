"""Which files a release holds: weights, configuration, data, a card, code.

What did not change from one release to the next is the same file, and models that were tuned from
one encoder hold that encoder: a registry that stores each file once shows what it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from registry.demo.files import COMMON, chance, document, quantised, table, tokenizer, weights
from registry.demo.kinds import Release, Work

ROWS: Final = 120
"""Of one part of a data set; each release adds a part."""

_BODIES: Final[Mapping[str, Mapping[str, Sequence[int]]]] = {
    "text": {"embeddings.weight": (400, 24), "layers.0.weight": (24, 24), "layers.0.bias": (24,)},
    "vision": {"stem.weight": (16, 3, 3, 3), "blocks.0.weight": (32, 16, 3, 3)},
    "tabular": {"trees.thresholds": (64, 15), "trees.leaves": (64, 16)},
    "forecasting": {"encoder.weight": (48, 48), "encoder.bias": (48,)},
    "ranking": {"query.weight": (64, 32), "item.weight": (64, 32)},
    "speech": {"filters.weight": (80, 40), "layers.0.weight": (48, 48)},
}
_HEAD: Final[Mapping[str, Sequence[int]]] = {"head.weight": (16, 24), "head.bias": (16,)}


def files_of(work: Work, release: Release) -> dict[str, bytes]:
    """Every file of a release, by its path."""
    if work.kind == "dataset":
        found = _rows_of(work, release)
    else:
        found = {**COMMON, **_weights_of(work, release), "config.json": _config(work, release)}
        if work.family in ("text", "speech"):
            found["tokenizer.json"] = tokenizer("company")
    found["README.md"] = _card(work, release)
    return found


def draft_of(work: Work) -> dict[str, bytes]:
    """What is there of the next release so far."""
    coming = Release(label=work.draft, change="not finished")
    return {
        "config.json": _config(work, coming),
        "NOTES.md": b"# To do\n\nEvaluate, then publish.\n",
    }


def _rows_of(work: Work, release: Release) -> dict[str, bytes]:
    parts = work.releases.index(release) + 1
    found = {
        f"data/part-{part:04d}.csv": table(work.name, part, work.columns, ROWS)
        for part in range(parts)
    }
    found["schema.json"] = document({"columns": list(work.columns), "delimiter": ","})
    return found


def _weights_of(work: Work, release: Release) -> dict[str, bytes]:
    shapes = _BODIES[work.family]
    if work.is_int8:
        return {"model.safetensors": quantised(work.name, {**shapes, **_HEAD})}
    return {
        "body.safetensors": weights(_body(work, release), shapes),
        "head.safetensors": weights(f"{work.name} {release.label}", _HEAD),
    }


def _body(work: Work, release: Release) -> str:
    """Whose body it has: that of what it was tuned from, where it was tuned."""
    for relation, parent in release.parents:
        if relation == "fine-tuned" and ":" in parent and "/" in parent.partition(":")[0]:
            return parent.replace(":", " ")
    if work.family in ("tabular", "forecasting", "ranking"):
        return work.name  # the body stays, the head is learned anew
    return f"{work.name} {release.label}"


def _config(work: Work, release: Release) -> bytes:
    numbers = chance(work.name, release.label, "config")
    return document(
        {
            "model": work.name,
            "release": release.label,
            "task": work.task,
            "framework": f"{work.framework} {work.framework_version}",
            "threshold": round(0.4 + numbers.random() / 5, 3),
            "labels": 16,
        }
    )


def _card(work: Work, release: Release) -> bytes:
    kind = "data set" if work.kind == "dataset" else "model"
    lines = ["---", "license: mit", "tags:", *(f"- {key}" for key in sorted(work.tags))]
    if work.data:
        lines += ["datasets:", f"- {work.data.partition(':')[0]}"]
    lines += [
        *("---", f"# {work.name} {release.label}", "", work.about, ""),
        *("## Intended use", "", f"This {kind} {work.use_case}.", ""),
    ]
    lines += _of_data(work, release) if work.kind == "dataset" else _of_model(work, release)
    lines += ["## License", "", "See LICENSE." if work.kind == "model" else "MIT.", ""]
    return "\n".join(lines).encode()


def _of_model(work: Work, release: Release) -> list[str]:
    source = work.data.partition(":")[0] or "tables that stay where they are"
    score = "" if release.score is None else f"| test | {work.metric} | {release.score:.3f} |"
    return [
        *("## Training data", "", f"Trained on {source}. What is new: {release.change}.", ""),
        *("## How to use", "", "```python", "from safetensors.numpy import load_file", ""),
        *("head = load_file('head.safetensors')", "```", ""),
        *("## Evaluation", "", "| split | metric | value |", "| --- | --- | --- |", score, ""),
        *("## Limitations", "", f"Made for {work.subject}; elsewhere it guesses.", ""),
    ]


def _of_data(work: Work, release: Release) -> list[str]:
    return [
        *("## Composition", "", f"Rows of {', '.join(work.columns)}; {release.change}.", ""),
        *("## Collection process", "", "Collected by our own systems in the course of work.", ""),
        *("## Preprocessing", "", "Names, numbers and addresses were removed.", ""),
        *("## Maintenance", "", f"Kept by {work.team}; a release a quarter.", ""),
    ]
