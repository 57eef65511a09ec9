"""Does a question cost more where a million versions are than where a thousand are?

Decides indexes and the wording of statements. Two servers run side by side, on a large index and a
small one that are alike but for their size (`bench.catalog`), and get the same questions in turn,
one connection each, so what the machine does happens to both. A page has `PAGE` entries at either
size, since what is asked for has that many. Registering is measured last: it changes the index.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec

from bench import catalog, shapes
from bench.clients import Connection
from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Contender
from bench.records import Goal
from bench.shapes import Shape
from registry.api.wire_models import ModelsQuery
from registry.api.wire_versions import VersionsQuery
from registry.catalog.migrations import CHAINS
from registry.http.cursors import cursor
from store.index.upgrade import composed
from store.layout import INDEX_FILE

SMALL: Final = Shape(100, 1_000)
PAGE: Final = 10
_STORED: Final = 8
_WARM_PAIRS: Final = 5
_LEAST_PAIRS: Final = 20
_JSON: Final = {"Content-Type": "application/json"}


class Ask(msgspec.Struct, frozen=True):
    """One question to a server."""

    target: str
    method: str = "GET"
    content: bytes | None = None
    expect: int = 200


Asker = Callable[[Shape, random.Random, int], Ask]
"""Makes a question from a shape, random numbers, and a number that never repeats."""


class Filled(msgspec.Struct, frozen=True):
    """Where an index of a shape lies."""

    shape: Shape
    directory: Path


def prepare(bench: Bench, contenders: Sequence[Contender]) -> tuple[Filled, Filled] | None:
    if not contenders:
        return None
    large = Shape(bench.settings.models, bench.settings.versions)
    small = Shape(min(SMALL.models, large.models), min(SMALL.versions, large.versions))
    return _filled(bench, contenders[0], large), _filled(bench, contenders[0], small)


def _filled(bench: Bench, contender: Contender, shape: Shape) -> Filled:
    """An index of this shape that the rounds may change, filled or copied from the kept one."""
    directory = bench.new_directory()
    kept = _kept(bench.settings.keep, shape)
    if kept is None:
        _fill(bench, contender, shape, directory)
        return Filled(shape, directory)
    if not kept.exists():
        filling = kept.with_suffix(".filling")
        shutil.rmtree(filling, ignore_errors=True)
        filling.mkdir(parents=True)
        _fill(bench, contender, shape, filling)
        filling.rename(kept)
    shutil.copytree(kept, directory, dirs_exist_ok=True)
    return Filled(shape, directory)


def _kept(root: Path | None, shape: Shape) -> Path | None:
    """Where the index of this shape is kept: one that other tables or another filling made is not.

    A server that starts with another would upgrade it, and that is not what is measured.
    """
    if root is None:
        return None
    made_by = hashlib.sha256(inspect.getsource(catalog).encode())
    made_by.update(inspect.getsource(shapes).encode())
    filling = f"{composed(CHAINS)}-{made_by.hexdigest()[:8]}"
    return root / f"catalog-{shape.models}-{shape.versions}-{filling}"


def _fill(bench: Bench, contender: Contender, shape: Shape, directory: Path) -> None:
    stored = bench.data.small_digests(4096, _STORED)
    template = bench.data.small_template(4096).encode()
    with bench.again(contender, directory) as server, Connection(server.port) as connection:
        for number, sha256 in enumerate(stored):
            contender.upload_small(connection, sha256, template + b"%016d" % number)
    [database] = directory.rglob(INDEX_FILE)
    catalog.fill(database, shape, [(sha256, 4096) for sha256 in stored])


def measure(bench: Bench, contender: Contender, filled: tuple[Filled, Filled]) -> Measured:
    unique = itertools.count(time.time_ns())
    with ExitStack() as stack:
        sides = []
        for each in filled:
            server = stack.enter_context(bench.again(contender, each.directory))
            sides.append((each.shape, stack.enter_context(Connection(server.port))))
        seconds = bench.settings.pair_seconds or bench.settings.rate_seconds / 2
        for case, asker in CASES.items():
            if bench.settings.case not in case:
                continue
            yield case, _race(sides, asker, unique, seconds)


def _race(
    sides: Sequence[tuple[Shape, Connection]],
    asker: Asker,
    unique: itertools.count[int],
    seconds: float,
) -> Figures:
    """Ask both sides in turn, each going first every other time; the large side is the first."""
    rng = random.Random(0)
    times: list[list[float]] = [[], []]
    deadline = time.perf_counter() + seconds
    for pair in itertools.count(-_WARM_PAIRS):
        if pair >= _LEAST_PAIRS and time.perf_counter() > deadline:
            break
        for side in (0, 1) if pair % 2 else (1, 0):
            shape, connection = sides[side]
            ask = asker(shape, rng, next(unique))
            headers = None if ask.content is None else _JSON
            started = time.perf_counter()
            connection.ask(ask.method, ask.target, headers, ask.content, expect=(ask.expect,))
            if pair >= 0:
                times[side].append((time.perf_counter() - started) * 1000)
    large, small = (_quantiles(each) for each in times)
    return {
        "p50_ms": large[0],
        "p99_ms": large[1],
        "small_p50_ms": small[0],
        "small_p99_ms": small[1],
        "p50_of_small": large[0] / small[0],
        "p99_of_small": large[1] / small[1],
    }


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    found = statistics.quantiles(values, n=100, method="inclusive")
    return found[49], found[98]


# The questions.


def _models(**query: object) -> Ask:
    return Ask("/api/v1/models?" + urlencode({"limit": PAGE, **query}))


def _versions(**query: object) -> Ask:
    return Ask("/api/v1/versions?" + urlencode({"limit": PAGE, **query}))


def _search(words: str) -> Ask:
    return Ask("/api/v1/search?" + urlencode({"limit": PAGE, "q": words}))


def _path(model: int) -> str:
    return "/api/v1/models/" + shapes.model_name(model).replace("/", "~")


def _any(shape: Shape, rng: random.Random) -> int:
    return rng.randrange(shape.models)


def _number(shape: Shape, rng: random.Random, model: int) -> int:
    return rng.randrange(shape.versions_of(model)) + 1


def _version(by: str) -> Asker:
    def ask(shape: Shape, rng: random.Random, _: int) -> Ask:
        model = _any(shape, rng)
        number = _number(shape, rng, model)
        if by == "id":
            return Ask(f"/api/v1/versions/{shapes.version_id(shape, model, number)}")
        named = {"number": str(number), "label": shapes.label(number), "alias": "@champion"}
        return Ask(f"{_path(model)}/versions/{named[by]}")

    return ask


def _of_model(rest: str) -> Asker:
    return lambda shape, rng, _: Ask(_path(_any(shape, rng)) + rest)


def _summary(shape: Shape, rng: random.Random, _: int) -> Ask:
    return Ask(_path(_any(shape, rng)).replace("/models/", "/analytics/models/"))


def _scores(shape: Shape, rng: random.Random, _: int) -> Ask:
    model = _any(shape, rng)
    return Ask(f"{_path(model)}/versions/{_number(shape, rng, model)}/scores")


def _models_from_halfway(shape: Shape, rng: random.Random, _: int) -> Ask:
    """A page of the newest models behind one that is in the newer half."""
    model = shape.models // 2 + rng.randrange(shape.models - shape.models // 2)
    at, id = shapes.made(shape, model, 1), shapes.model_id(model)
    return _models(order="created", after=cursor(ModelsQuery(order="created"), at, id))


def _versions_from_halfway(shape: Shape, rng: random.Random, _: int) -> Ask:
    model = _any(shape, rng)
    number = shape.versions_of(model) // 2 + 1
    at, id = shapes.made(shape, model, number), shapes.version_id(shape, model, number)
    after = cursor(VersionsQuery(status="registered"), float(at), id)
    return _versions(status="registered", after=after)


def _register(shape: Shape, rng: random.Random, unique: int) -> Ask:
    body = {
        "label": f"bench-{unique}",
        "source": {"uri": f"s3://elsewhere/{unique}", "size": 1000},
        "framework": "pytorch",
        "metadata": {"commit": f"{unique:x}"},
    }
    target = f"{_path(_any(shape, rng))}/versions"
    return Ask(target, "POST", msgspec.json.encode(body), 201)


def _make_model(shape: Shape, rng: random.Random, unique: int) -> Ask:
    """A model whose name sorts among the others, as a user's does, and not before them all."""
    body = {
        "name": shapes.new_name(rng.randrange(shape.models), unique),
        "description": "made by the bench",
        "team": shapes.team_name(rng.randrange(shape.teams)),
        "tags": {"domain": "law"},
    }
    return Ask("/api/v1/models", "POST", msgspec.json.encode(body), 201)


CASES: Final[dict[str, Asker]] = {
    "get: model by name": _of_model(""),
    "get: model by id": lambda shape, rng, _: Ask(
        f"/api/v1/models/{shapes.model_id(_any(shape, rng))}"
    ),
    "get: model with its versions": _of_model("?include=versions"),
    "get: version by number": _version("number"),
    "get: version by label": _version("label"),
    "get: version by alias": _version("alias"),
    "get: version by id": _version("id"),
    "latest: alias": _of_model("/versions/latest"),
    "latest: SemVer": _of_model("/versions/latest?by=semver"),
    "latest: by creation, of a status": _of_model("/versions?latest_by=created&status=registered"),
    "list: models by name": lambda *_: _models(),
    "list: models, from halfway": _models_from_halfway,
    "list: versions, newest": lambda *_: _versions(),
    "list: versions of a status, from halfway": _versions_from_halfway,
    "list: versions of a model": _of_model("/versions"),
    "list: versions of a model in a range": _of_model("/versions?range=%5E0.2"),
    "list: tags": lambda *_: Ask(f"/api/v1/tags?limit={PAGE}"),
    "filter: models of a team": lambda shape, rng, _: _models(
        team=shapes.team_name(rng.randrange(shape.teams))
    ),
    "filter: models of a task": lambda shape, rng, _: _models(task=rng.choice(shapes.TASKS)),
    "filter: models of subject, activity and visibility": lambda shape, rng, _: _models(
        subject=rng.choice(shapes.SUBJECTS), active="true", visibility="private"
    ),
    "filter: models with a common tag": lambda shape, rng, _: _models(
        tag=f"domain={rng.choice(shapes.SUBJECTS)}"
    ),
    "filter: models with a rare tag": lambda shape, rng, _: _models(
        tag=f"project={shapes.project(_any(shape, rng)):06d}"
    ),
    "filter: versions in production": lambda *_: _versions(status="production"),
    "filter: versions of status and region": lambda shape, rng, _: _versions(
        status="registered", region=rng.choice(shapes.REGIONS)
    ),
    "filter: versions by score": lambda shape, rng, _: _versions(
        min_eval_score=rng.randrange(50, 90) / 100
    ),
    "filter: versions by cost and framework": lambda shape, rng, _: _versions(
        max_cost_per_1k=90, framework=rng.choice(shapes.FRAMEWORKS)
    ),
    "count: models of a task": lambda shape, rng, _: _models(
        task=rng.choice(shapes.TASKS), total="true"
    ),
    "count: versions in production": lambda *_: _versions(status="production", total="true"),
    "search: rare word": lambda shape, rng, _: _search(shapes.rare_word(_any(shape, rng))),
    "search: common word": lambda *_: _search(shapes.COMMON_WORD),
    "search: rare substring": lambda shape, rng, _: _models(
        q=shapes.rare_word(_any(shape, rng))[2:]
    ),
    "search: common substring": lambda *_: _models(q=shapes.COMMON_WORD[1:7]),
    "sum up: model": _summary,
    "sum up: scores of a version": _scores,
    "register: version": _register,
    "register: model": _make_model,
}

_REPORTED: Final = ("count: models of a task", "count: versions in production")
"""They count up to 10,000 rows where there are so many, so they cannot cost the same."""

SCENARIO = Scenario(
    name="catalog",
    title="the same questions to an index of a thousand versions and to a large one",
    prepare=prepare,
    measure=measure,
    speaks=("digestry",),
    rounds=3,
    is_slow=True,
    goals=tuple(
        Goal(case=case, figure="p99_of_small", at_most=None if case in _REPORTED else 3)
        for case in CASES
    ),
)
