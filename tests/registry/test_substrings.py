"""A substring finds the same models in the same order, whichever way they are looked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

from registry.catalog import model_lists, substrings
from registry.domain.names import fold
from registry.domain.principals import LOCAL
from registry.services.model_lists import ModelsAsked, list_models
from tests.support.builders import Registry, running_registry
from tests.support.serving import opened

PARTS = ("an", "na", "AN", "ß", "ss", "é", "Straße", "-", " ", "x", "İ", "0")
QUESTIONS = (
    "ana",
    "nan",
    "ANA",
    "ass",
    "aß",
    "é-a",
    "straße",
    "STRASSE",
    "0 x",
    "ananan",
    "anan an",
    'na"an-nanana',
    "sstraßean",
    "anananananan",
    "ananananananan",
    "zzz",
    "nnn",
    "=an",
)


def words(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choices(PARTS, k=rng.randrange(least, most)))


async def made(registry: Registry) -> list[dict[str, Any]]:
    """Sixty models with text that overlaps much; some of them are of no use."""
    rng = random.Random(3)
    said: list[dict[str, Any]] = [
        {
            "name": f"{rng.choice('mnk')}{words(rng, 1, 4)}{number}".replace(" ", ""),
            "description": words(rng, 0, 8),
            "active": rng.random() < 0.7,
            "task_type": rng.choice(("one", "two")),
            "tags": {key: words(rng, 1, 3).strip() for key in ("lang", "an")},
        }
        for number in range(60)
    ]
    answer = await registry.send("POST", "/api/v1/models/batch", json={"models": said})
    assert answer.status == 201, answer.body
    found: list[dict[str, Any]] = answer.json["models"]
    return found


def plainly(said: list[dict[str, Any]], asked: ModelsAsked) -> list[str]:
    """What a look at everything finds, in order."""
    text = fold(asked.text)
    found = []
    for model in said:
        tags = [fold(f"{tag['key']}={tag['value']}") for tag in model["tags"]]
        texts = [fold(model["name"]), fold(model["description"]), *tags]
        is_wanted = asked.active in (None, model["active"]) and asked.task_type in (
            None,
            model["task_type"],
        )
        if is_wanted and any(text in one for one in texts):
            found.append(model)
    if asked.order == "name":
        found.sort(key=lambda model: fold(model["name"]))
    else:
        found.sort(key=lambda model: (model["created_at"], model["id"]), reverse=True)
    return [model["name"] for model in found]


async def paged(registry: Registry, asked: ModelsAsked, limit: int) -> list[str]:
    found, place = [], None
    while True:
        page = await list_models(
            registry.store, LOCAL, asked, place=place, limit=limit, is_counted=True
        )
        assert len(page.items) == limit or page.place is None
        found += [full.model.name for full in page.items]
        if page.place is None:
            assert page.total == len(found)
            return found
        place = page.place


WAYS = {
    "as it comes": {},
    "looked up": {"RARE": 1000},
    "looked at, then skipping": {"RARE": 2, "FEW": 2, "MOST_ROWS": 9},
    "looked at, then looked up": {"RARE": 2, "MOST_ROWS": 12, "ROWS_FOR_A_PACE": 5},
    "looked at to the end": {"RARE": 0, "MOST_ROWS": 1000, "ROWS_FOR_A_PACE": 1000},
    "never looked at": {"RARE": 0, "FEW": 0, "MOST_ROWS": 0},
}


async def test_pages_and_totals_are_those_of_a_look_at_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filters = ((None, None), (True, "two"))
    questions = list(product(QUESTIONS, filters, ("name", "created")))
    async with running_registry(None) as registry:
        said = await made(registry)
        for way, values in WAYS.items():
            for name, value in {"FIRST_ROWS": 2, **values}.items():
                module = model_lists if hasattr(model_lists, name) else substrings
                monkeypatch.setattr(module, name, value)
            tried = 0
            for text, (active, task), order in questions:
                asked = ModelsAsked(text=text, active=active, task_type=task, order=order)  # type: ignore[arg-type]  # the loop's words
                expected = plainly(said, asked)
                tried += len(expected) > 8
                for limit in (3, 100):
                    found = await paged(registry, asked, limit)
                    assert found == expected, (way, asked, limit)
            assert tried > 5
            monkeypatch.undo()


async def looked_at(has: Callable[[int], bool], limit: int) -> tuple[int, int]:
    """How many rows of a list were looked at, and how many matches found, before the look ended."""
    look = substrings.Look("zzz", limit)
    rows = 0
    async with opened(None) as store:
        while not look.is_full and (size := look.next_size):
            places = range(rows, rows + size)
            texts = [substrings.Text(f"mdl_{at}", "zzz" if has(at) else "", "", 0) for at in places]
            await store.index.read(partial(look.at, models=texts))
            rows += size
    return rows, len(look.found)


async def test_a_look_for_what_is_not_there_ends() -> None:
    rows, found = await looked_at(lambda _: False, limit=11)

    assert (rows, found) == (substrings.MOST_ROWS, 0)


async def test_a_look_ends_where_its_pace_fills_no_page() -> None:
    rows, found = await looked_at(lambda at: at % 500 == 0, limit=11)

    assert substrings.ROWS_FOR_A_PACE <= rows <= 3 * substrings.ROWS_FOR_A_PACE
    assert found < 3


async def test_others_in_front_of_the_first_match_are_no_part_of_the_pace() -> None:
    """Hundreds of models of another family stand before those with the substring."""
    _, found = await looked_at(lambda at: at > 300 and at % 100 == 0, limit=11)

    assert found == 11
