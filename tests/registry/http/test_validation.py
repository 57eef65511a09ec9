"""Every bad field is named at once, whatever its type, and nothing else is."""

from __future__ import annotations

import datetime
import enum
import time
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from registry.http.bodies import MOST_DEPTH
from registry.http.validation import MOST_PROBLEMS, problems_of


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Cat(msgspec.Struct, tag="cat", tag_field="kind", forbid_unknown_fields=True):
    lives: Annotated[int, Meta(ge=1, le=9)]


class Dog(msgspec.Struct, tag="dog", tag_field="kind", forbid_unknown_fields=True):
    tricks: list[str] = []


class File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    path: Annotated[str, Meta(min_length=1, max_length=20)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{4}$")]


class Pair(msgspec.Struct, array_like=True):
    left: int
    right: str


class Even(msgspec.Struct):
    number: int = 0

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("is odd")


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    under: list[Tree] = []


class Everything(msgspec.Struct, forbid_unknown_fields=True):
    files: Annotated[list[File], Meta(max_length=3)] = []
    count: Annotated[int, Meta(ge=0, lt=10)] = 0
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    risk: Literal["low", "medium", "high"] | UnsetType = UNSET
    level: Level = Level.LOW
    pet: Cat | Dog | None = None
    notes: dict[Annotated[str, Meta(max_length=5)], Annotated[int, Meta(ge=0)]] = {}
    by_number: dict[int, bool] = {}
    when: Annotated[datetime.datetime, Meta(tz=True)] | None = None
    naive: datetime.datetime | None = None
    day: datetime.date | None = None
    id: uuid.UUID | None = None
    price: Decimal | None = None
    raw: bytes = b""
    exact: tuple[int, str] | None = None
    pair: Pair | None = None
    even: Even = msgspec.field(default_factory=Even)
    tree: Tree | None = None
    free: Any = None
    mixed: int | list[str] | bool | None = None
    ratio: int | Annotated[float, Meta(gt=0)] = 1
    step: Annotated[int, Meta(multiple_of=5)] = 0
    said: Annotated[int, Meta(ge=0, description="documented")] = 0
    heard: list[Annotated[str, Meta(max_length=2, description="documented")]] = []
    told: Annotated[
        Annotated[int, Meta(le=9, description="documented")] | None, Meta(examples=[7])
    ] = None


def fields(value: Any, kind: Any = Everything) -> list[str]:
    return [problem.field for problem in problems_of(value, kind)[0]]


def the_reason(value: Any) -> str:
    (problem,), _ = problems_of(value, Everything)
    return problem.reason


BROKEN: dict[str, tuple[Any, str]] = {
    "files": ([{"path": "", "digest": "abcd"}], "files[0].path"),
    "count": (10, "count"),
    "share": ("much", "share"),
    "risk": ("hgh", "risk"),
    "level": ("middling", "level"),
    "pet": ({"kind": "cat", "lives": 0}, "pet.lives"),
    "notes": ({"much too long": 1}, 'notes["much too long"]'),
    "by_number": ({"seven": True}, "by_number.seven"),
    "when": ("2026-11-20T12:00:00", "when"),
    "naive": ("yesterday", "naive"),
    "day": ("2026-13-01", "day"),
    "id": ("no", "id"),
    "price": ("free", "price"),
    "raw": ("&", "raw"),
    "exact": ([1], "exact"),
    "pair": ([1, 2], "pair[1]"),
    "even": ({"number": 1}, "even"),
    "tree": ({"name": "a", "under": [{"name": "b", "under": [{}]}]}, "tree.under[0].under[0].name"),
    "mixed": ({}, "mixed"),
    "ratio": (-0.5, "ratio"),
    "step": (7, "step"),
    "said": (-1, "said"),
    "heard": (["a", "much"], "heard[1]"),
    "told": (10, "told"),
    "unheard": (1, "unheard"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_field_of_each_type_is_named_with_its_path(name: str) -> None:
    value, path = BROKEN[name]

    assert fields({name: value}) == [path]


@given(st.sets(st.sampled_from(sorted(BROKEN))))
def test_all_bad_fields_are_named_at_once(names: set[str]) -> None:
    """Whichever are broken together, those are named, each once, and no other."""
    value = {"said": 3, "heard": ["a"], **{name: BROKEN[name][0] for name in names}}

    assert sorted(fields(value)) == sorted(BROKEN[name][1] for name in names)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"count": 11}, "expected a whole number from 0 below 10, not 11"),
        ({"count": 10**40}, "expected a whole number from 0 below 10, not a number beyond all"),
        ({"count": "3"}, "not a text of 1 characters"),
        ({"share": 2}, "expected a number from 0 to 1, not 2"),
        ({"risk": "hgh"}, "expected one of high, low, medium; did you mean high?"),
        ({"risk": 7}, "expected one of high, low, medium, not 7"),
        ({"files": [{"path": "a", "digest": "x"}]}, "matching ^[0-9a-f]{4}$"),
        (
            {"files": [{"path": "a", "digest": "abcd"}] * 4},
            "a list of at most 3 entries",
        ),
        ({"files": [{"digest": "abcd"}]}, "is required: a text of 1 to 20 characters"),
        ({"files": [{"path": "a", "digset": 1, "digest": "abcd"}]}, "did you mean digest?"),
        ({"pet": {"kind": "cow"}}, "expected one of cat, dog"),
        ({"pet": {}}, "is required"),
        ({"when": "noon"}, "an RFC 3339 time such as 2026-11-20T12:30:00Z"),
        ({"even": {"number": 3}}, "is odd"),
        ({"exact": [1, "a", 2]}, "a list of 2 entries"),
    ],
)
def test_a_reason_says_what_would_be_accepted(value: Any, words: str) -> None:
    assert words in the_reason(value)


def test_what_is_accepted_stands_beside_the_reason() -> None:
    (problem,), _ = problems_of({"risk": "x"}, Everything)

    assert problem.accepted == "one of high, low, medium"


def test_a_text_that_was_refused_is_not_repeated() -> None:
    """A secret pasted into the wrong field must not come back in an error or a log."""
    assert "hunter2" not in the_reason({"count": "hunter2"})
    assert "hunter2" not in the_reason({"risk": "hunter2"})


def test_the_whole_value_may_be_wrong() -> None:
    assert fields([]) == [""]
    assert fields("x") == [""]


def test_unknown_names_of_any_shape_have_a_path() -> None:
    assert fields({'a"b': 1, "": 1, "x" * 500: 1}) == ['["a\\"b"]', '[""]', f'["{"x" * 80}"]']


def test_no_more_problems_are_told_than_somebody_reads() -> None:
    found, is_cut = problems_of({"notes": {str(n): -1 for n in range(1000)}}, Everything)

    assert len(found) == MOST_PROBLEMS
    assert is_cut


def test_a_walk_through_a_large_value_ends() -> None:
    """It happens on the event loop, for whatever a stranger sends."""
    value = {"free": [1] * 500_000, "notes": {str(n): 1 for n in range(500_000)}, "count": -1}

    began = time.process_time()
    found, is_cut = problems_of(value, Everything)

    assert time.process_time() - began < 2
    assert [problem.field for problem in found] == ["count"]
    assert is_cut


def test_deep_values_are_no_crash() -> None:
    value: dict[str, Any] = {}
    for _ in range(MOST_DEPTH):
        value = {"name": "a", "under": [value]}

    assert fields(value, Tree)[0].endswith(".name")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["low", "high", "cat", "abcd", "2026-11-20T12:00:00Z", "2026-11-20", "YWI=", "1.5", "7"]
    ),
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=6), st.sampled_from(["kind", "lives", "path", "name", "1"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)
NEARLY = st.dictionaries(
    st.one_of(st.sampled_from([field.name for field in msgspec.structs.fields(Everything)])),
    st.one_of(ANY_JSON, st.sampled_from([value for value, _ in BROKEN.values()])),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=400, deadline=None)
@given(st.one_of(NEARLY, ANY_JSON))
def test_the_walk_and_msgspec_agree(value: Any) -> None:
    """What msgspec refuses has a problem of its own in every bad field; what it takes has none."""
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=Everything)
    except msgspec.ValidationError:
        refused = True
    else:
        refused = False

    assert bool(fields(value)) == refused


@settings(max_examples=200, deadline=None)
@given(NEARLY)
def test_without_its_bad_fields_a_value_is_accepted(value: dict[str, Any]) -> None:
    """So nothing was forgotten: one round of corrections is enough."""
    bad = {field.partition(".")[0].partition("[")[0] for field in fields(value)}
    rest = {name: member for name, member in value.items() if name not in bad}

    msgspec.json.decode(msgspec.json.encode(rest), type=Everything)
