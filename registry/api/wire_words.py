"""The words in which values of models, teams and tags are typed, with what each accepts."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

Kind: TypeAlias = Literal["model", "dataset", "generic"]
Visible: TypeAlias = Literal["public", "internal", "private"]
Risk: TypeAlias = Literal["low", "medium", "high", "critical"]

NO_NUL: Final = r"^[^\x00]*$"
"""SQLite's own functions end a text at its first NUL."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=400)]
Word: TypeAlias = Annotated[str, Meta(max_length=96, pattern=NO_NUL)]
Line: TypeAlias = Annotated[str, Meta(max_length=200, pattern=NO_NUL)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096, pattern=NO_NUL)]
LongText: TypeAlias = Annotated[str, Meta(max_length=16384, pattern=NO_NUL)]
Quota: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
Tags: TypeAlias = Annotated[
    dict[str, str], Meta(max_length=200, description="Values by key; empty: the key alone.")
]


def about(words: str) -> Meta:
    """What a field means, for the documentation."""
    return Meta(description=words)
