"""Size: on which hardware the weights fit into memory.

The four targets are those of course projects on trustworthy model registries. Their memory, and
that a model shall leave half of it free, are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from registry.domain.scoring.evidence import Evidence, Outcome

GIB: Final = 1 << 30

TARGETS: Final[Mapping[str, int]] = {
    "raspberry_pi": 2 * GIB,
    "jetson_nano": 4 * GIB,
    "desktop_pc": 16 * GIB,
    "aws_server": 64 * GIB,
}
"""Bytes of memory by target."""


def fit(weights: int, memory: int) -> float:
    """1 up to half of the memory, evenly down to 0 where all of it is needed."""
    return min(1.0, max(0.0, 2.0 - 2.0 * weights / memory))


def size(evidence: Evidence) -> Outcome:
    """How well the weights fit each target, and the mean of that."""
    weights, basis = _weights(evidence)
    if weights is None:
        return Outcome(None, {"files": evidence.files.total}, "no size is known of the model")
    targets = {name: round(fit(weights, memory), 4) for name, memory in TARGETS.items()}
    said = {
        "weight_bytes": weights,
        "basis": basis,
        "formats": dict(evidence.files.weight_bytes),
        "is_cut": evidence.files.is_cut,
        "targets": targets,
    }
    return Outcome(sum(targets.values()) / len(targets), said)


def _weights(evidence: Evidence) -> tuple[int | None, str]:
    """Bytes that must be loaded: of one format, the largest, since others repeat it."""
    files = evidence.files
    if evidence.is_elsewhere:
        return evidence.source_bytes, "declared of the source"
    if files.weight_bytes:
        return max(files.weight_bytes.values()), "files of the largest format of weights"
    if files.total:
        return files.size_bytes, "all files, as none is known to be weights"
    return None, ""
