"""What people say of a version beside its files: described, measured, rated, and changed later.

Free JSON is kept as text in one spelling, so that equal things are equal texts. Numbers are finite:
JSON has no other ones, and the words that stand for them elsewhere (``"NaN"``, ``"Infinity"``,
``"-Infinity"``) are refused in parameters and metrics, where somebody would compute with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.domain.models import Version, VersionDetails
from registry.errors import Invalid

JSON_BYTES: Final = 1 << 20
"""How long each of the free JSON objects may be, written without spaces."""

FRAMEWORKS: Final = ("pytorch", "tensorflow", "sklearn", "xgboost", "jax", "onnx", "huggingface")
"""What most people mean; any other text is taken too."""

_NOT_NUMBERS: Final = frozenset(("nan", "infinity", "-infinity", "+infinity", "inf", "-inf"))
_MOST_PROBLEMS: Final = 100

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is said in one request; UNSET where nothing is, None where something is taken back."""

    framework: str | UnsetType = UNSET
    framework_version: str | UnsetType = UNSET
    python_version: str | UnsetType = UNSET
    region: str | UnsetType = UNSET
    eval_score: float | UnsetType | None = UNSET
    cost_per_1k: float | UnsetType | None = UNSET
    slo_target: str | UnsetType = UNSET
    slo_met: bool | UnsetType | None = UNSET
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    standardisation_parameters: dict[str, Any] | UnsetType = UNSET
    performance_metrics: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """What was said, by name."""
        said = msgspec.structs.asdict(self)
        return {name: value for name, value in said.items() if value is not UNSET}


NOTHING: Final = Facts()

OBJECTS: Final[Mapping[str, str]] = {
    "parameters": "parameters",
    "standardisation_parameters": "standardisation",
    "performance_metrics": "performance",
    "metadata": "metadata",
}
"""The free JSON objects: as people call them, and the field of `VersionDetails`."""

ROW_FIELDS: Final = (
    "framework",
    "framework_version",
    "python_version",
    "region",
    "eval_score",
    "cost_per_1k",
    "slo_target",
    "slo_met",
)
"""Facts that are in the version itself; the others are in its details."""

_CHECKED: Final = ("parameters", "standardisation_parameters", "performance_metrics")


def facts_of(version: Version, details: VersionDetails) -> dict[str, Any]:
    """Everything that is said of a version now, by name."""
    said: dict[str, Any] = {name: getattr(version, name) for name in ROW_FIELDS}
    said["description"] = details.description
    for name, field in OBJECTS.items():
        said[name] = msgspec.json.decode(getattr(details, field))
    return said


def with_facts(
    version: Version, details: VersionDetails, said: Mapping[str, Any]
) -> tuple[Version, VersionDetails]:
    """The version with what is given said of it instead; raises `Invalid` for too much."""
    row = {name: said[name] for name in ROW_FIELDS if name in said}
    long = {field: _text(name, said[name]) for name, field in OBJECTS.items() if name in said}
    if "description" in said:
        long["description"] = said["description"]
    return msgspec.structs.replace(version, **row), msgspec.structs.replace(details, **long)


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged member by member, null removes one, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def says_the_same(current: Mapping[str, Any], facts: Facts) -> bool:
    """Whether a request says of a version what is said of it already."""
    return all(_encode(current[name]) == _encode(value) for name, value in facts.given().items())


def require_numbers(facts: Mapping[str, Any]) -> None:
    """Refuse words that stand for no number; raises `Invalid` with each of them."""
    problems = [
        (where, "is a word for a number that JSON does not have", "a finite number or another text")
        for name in _CHECKED
        for where in _not_numbers(name, facts.get(name))
    ]
    if problems:
        raise Invalid(problems[0][0], problems[0][1], problems=problems[:_MOST_PROBLEMS])


def _not_numbers(where: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.lower() in _NOT_NUMBERS:
            yield where
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _not_numbers(f"{where}.{name[:80]}", member)
    elif isinstance(value, list):
        for position, member in enumerate(value):
            yield from _not_numbers(f"{where}[{position}]", member)


def _text(name: str, value: Mapping[str, Any]) -> str:
    encoded = _encode(value)
    if len(encoded) > JSON_BYTES:
        raise Invalid(name, f"is {len(encoded)} bytes of JSON; at most {JSON_BYTES} are kept")
    return encoded.decode()


def patched(current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What differs once a merge-patch is applied; null takes back what was said."""
    found: dict[str, Any] = {}
    for name, value in patch.items():
        if name in OBJECTS:
            after: Any = {} if value is None else merged(current[name], value)
        elif value is None and isinstance(current[name], str):
            after = ""
        else:
            after = value
        if _encode(after) != _encode(current[name]):
            found[name] = after
    return found
