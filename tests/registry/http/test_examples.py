"""Examples fit the schemas they are made from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from registry.http.examples import REF, example_of

NAMED = {"digest": "sha256:abc", "size": 7, "status": "live"}


class Leaf(msgspec.Struct):
    digest: str
    size: int | None
    status: Literal["dead", "live"]
    share: Annotated[float, Meta(ge=2)]
    few: Annotated[int, Meta(le=-3)]
    word: Annotated[str, Meta(min_length=6)]
    short: Annotated[str, Meta(max_length=2)]
    told: Annotated[str, Meta(examples=["as told"])]
    pairs: list[tuple[int, str]]
    notes: dict[str, int]
    anything: Any


class Node(msgspec.Struct):
    leaf: Leaf
    under: list[Node] = []
    beside: Node | None = None


@pytest.mark.parametrize("kind", [Leaf, Node, list[Leaf], dict[str, Node]])
def test_an_example_is_accepted_by_its_type(kind: Any) -> None:
    (schema,), components = msgspec.json.schema_components([kind], ref_template=REF + "{name}")

    example = example_of(schema, components, NAMED)

    assert example
    msgspec.convert(example, kind)


def test_known_names_have_known_values() -> None:
    (schema,), components = msgspec.json.schema_components([Leaf], ref_template=REF + "{name}")

    example = example_of(schema, components, NAMED)

    assert {name: example[name] for name in NAMED} == NAMED
    assert example["told"] == "as told"
