"""Metrics of trust as pure functions: what each says of which evidence, and what holds for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.scoring.bus_factor import truck_factor
from registry.domain.scoring.evidence import (
    Card,
    Contributors,
    Dataset,
    Evidence,
    Files,
    LicenceFile,
    Lineage,
    Measured,
    Parent,
    Reviews,
    Run,
)
from registry.domain.scoring.licences import FREEDOM, KINDS
from registry.domain.scoring.metrics import METRICS, compute, masked, overall
from registry.domain.scoring.size import GIB, TARGETS
from registry.domain.scoring.topics import DATASHEET, EVALUATION, RAMP_UP, TRAINING_DATA

TOPICS = (*RAMP_UP, *DATASHEET, EVALUATION, TRAINING_DATA)
NAMES = [name for names in KINDS.values() for name in names]
SPLITS = ("train", "validation", "test", "production")

small = st.integers(0, 3)
cards = st.builds(
    Card,
    origin=st.just("README.md"),
    read_bytes=st.integers(0, 1000),
    words=st.integers(0, 500),
    topics=st.frozensets(st.sampled_from(TOPICS)),
    code_blocks=small,
    number_tables=small,
    code_links=small,
    licences=st.lists(st.sampled_from([*NAMES, "nobody's"]), max_size=3).map(tuple),
    datasets=st.lists(st.just("squad"), max_size=2).map(tuple),
    claimed_results=small,
)
counts = dict.fromkeys(
    (
        *("pickles", "scripts", "notebooks", "tests", "configs", "dependency_files"),
        *("lock_files", "check_files", "pipeline_files"),
    ),
    small,
)
files = st.builds(
    Files,
    total=st.integers(0, 20),
    size_bytes=st.integers(0, 100 * GIB),
    weight_bytes=st.dictionaries(
        st.sampled_from(("safetensors", "bin", "gguf")), st.integers(0, 100 * GIB), max_size=3
    ),
    pinned_requirements=st.booleans(),
    **counts,
)
runs = st.lists(
    st.builds(
        Run,
        id=st.sampled_from(("run_a", "run_b")),
        has_succeeded=st.booleans(),
        hyperparameters=small,
        environment=small,
        has_seed=st.booleans(),
        has_dataset=st.booleans(),
        has_dataset_version=st.booleans(),
        has_metrics=st.booleans(),
    ),
    max_size=3,
).map(tuple)
datasets = st.one_of(
    st.builds(Dataset, name=st.just("hf:squad")),
    st.builds(
        Dataset,
        name=st.just("squad/1"),
        version=st.just("ver_a"),
        model=st.just("mdl_a"),
        card=st.none() | cards,
        is_read=st.booleans(),
        is_deleted=st.booleans(),
    ),
)
parents = st.builds(
    Parent,
    name=st.just("bert/1"),
    version=st.just("ver_b"),
    model=st.just("mdl_b"),
    overall=st.none() | st.floats(0, 1),
    is_deleted=st.booleans(),
)
lineages = st.builds(
    Lineage,
    parents=st.lists(parents, max_size=4).map(tuple),
    datasets=st.lists(datasets, max_size=3).map(tuple),
    elsewhere=small,
    restricted=small,
)
evidences = st.builds(
    Evidence,
    kind=st.sampled_from(("model", "dataset", "generic")),
    source_bytes=st.none() | st.integers(0, 100 * GIB),
    is_elsewhere=st.booleans(),
    card=st.none() | cards,
    licence_files=st.lists(
        st.builds(LicenceFile, path=st.just("LICENSE"), licence=st.none() | st.sampled_from(NAMES)),
        max_size=2,
    ).map(tuple),
    files=files,
    runs=runs,
    measured=st.builds(
        Measured,
        splits=st.dictionaries(st.sampled_from(SPLITS), small),
        said=small,
        parameters=small,
    ),
    lineage=lineages,
    reviews=st.builds(Reviews, approvals=small, rejections=small, total=small, uncounted=small),
    contributors=st.builds(
        Contributors,
        by_principal=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5)),
        anonymous=small,
    ),
)

replace: Callable[..., Any] = msgspec.structs.replace


def value(name: str, evidence: Evidence) -> float | None:
    return compute(METRICS[name], evidence).value


def with_card(evidence: Evidence, **better: Any) -> Evidence:
    """The evidence with a card that has more of something than it had."""
    card = evidence.card or Card(origin="README.md", read_bytes=0)
    return replace(evidence, card=replace(card, **better))


# What holds for all


@settings(max_examples=80, deadline=None)
@given(evidences)
def test_every_value_lies_from_0_to_1_or_has_a_reason(evidence: Evidence) -> None:
    for metric in METRICS.values():
        found = compute(metric, evidence)

        assert found.value is None or 0 <= found.value <= 1
        assert (found.value is None) == bool(found.reason)
        assert len(msgspec.json.encode(found.evidence)) < 16_384


@pytest.mark.parametrize("kind", ["model", "dataset", "generic"])
def test_nothing_to_look_at_is_no_value(kind: str) -> None:
    empty = Evidence(kind=kind)

    assert {name: value(name, empty) for name in METRICS} == dict.fromkeys(METRICS)


EMPTY_PARTS = {
    "card": {"card": None},
    "licence_files": {"licence_files": ()},
    "files": {"files": Files()},
    "runs": {"runs": ()},
    "measured": {"measured": Measured()},
    "reviews": {"reviews": Reviews()},
    "contributors": {"contributors": Contributors()},
}


@settings(max_examples=30, deadline=None)
@given(evidences)
def test_a_metric_looks_at_no_part_that_it_does_not_name(evidence: Evidence) -> None:
    for metric in METRICS.values():
        emptied = evidence
        for part, empty in EMPTY_PARTS.items():
            if part not in metric.parts:
                emptied = replace(emptied, **empty)
        lineage = evidence.lineage
        if "datasets" not in metric.parts:
            lineage = replace(lineage, datasets=(), dataset_count=0)
        if "parents" not in metric.parts:
            lineage = replace(lineage, parents=(), elsewhere=0, restricted=0)

        assert compute(metric, replace(emptied, lineage=lineage)) == compute(metric, evidence)


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("model", set()),
        (
            "dataset",
            {"performance_claims", "size", "dataset_and_code", "reproducibility"},
        ),
        (
            "generic",
            {
                *("performance_claims", "size", "dataset_and_code", "dataset_quality"),
                "reproducibility",
            },
        ),
    ],
)
def test_a_metric_that_makes_no_sense_for_a_kind_says_so(kind: str, without: set[str]) -> None:
    evidence = replace(full(), kind=kind)
    found = {name: compute(metric, evidence) for name, metric in METRICS.items()}

    assert {name for name, one in found.items() if one.value is None} == without
    for name in without:
        assert found[name].reason == f"makes no sense for a {kind}"


def full() -> Evidence:
    """Evidence of which no metric could ask more."""
    card = Card(
        origin="README.md",
        read_bytes=10,
        words=500,
        topics=frozenset(TOPICS),
        code_blocks=2,
        number_tables=1,
        code_links=1,
        licences=("mit",),
        datasets=("squad",),
        claimed_results=1,
    )
    run = Run(
        id="run_a",
        has_succeeded=True,
        hyperparameters=1,
        environment=1,
        has_seed=True,
        has_dataset=True,
        has_dataset_version=True,
        has_metrics=True,
    )
    dataset = Dataset(name="squad/1", version="ver_a", model="mdl_a", card=card, is_read=True)
    return Evidence(
        card=card,
        licence_files=(LicenceFile("LICENSE", "mit"),),
        files=Files(
            total=10,
            weight_bytes={"safetensors": 1},
            scripts=1,
            tests=1,
            configs=1,
            dependency_files=1,
            lock_files=1,
            check_files=1,
            pipeline_files=1,
        ),
        runs=(run,),
        measured=Measured(splits={"test": 1}, said=1, parameters=1),
        lineage=Lineage(
            parents=(Parent(name="p", version="ver_p", model="mdl_p", overall=1.0),),
            datasets=(dataset,),
            dataset_count=1,
        ),
        reviews=Reviews(approvals=2, total=2),
        contributors=Contributors(by_principal=dict.fromkeys("abcdefgh", 1)),
    )


@pytest.mark.parametrize("name", METRICS)
def test_the_best_evidence_is_worth_1(name: str) -> None:
    assert value(name, full()) == 1.0


# Better evidence never lowers a value

Better = Callable[[Evidence], Evidence]


def a_fit_run(evidence: Evidence) -> Evidence:
    return replace(evidence, runs=(*evidence.runs, full().runs[0]))


def more_files(name: str) -> Better:
    def better(evidence: Evidence) -> Evidence:
        count = getattr(evidence.files, name) + 1
        return replace(evidence, files=replace(evidence.files, **{name: count}))

    return better


def more_in_card(name: str, more: Callable[[Any], Any]) -> Better:
    def better(evidence: Evidence) -> Evidence:
        card = evidence.card or Card(origin="README.md", read_bytes=0)
        return with_card(evidence, **{name: more(getattr(card, name))})

    return better


def an_approval(evidence: Evidence) -> Evidence:
    reviews = evidence.reviews
    return replace(evidence, reviews=replace(reviews, approvals=reviews.approvals + 1))


def somebody_new(evidence: Evidence) -> Evidence:
    makers = {**evidence.contributors.by_principal, "somebody new": 1}
    return replace(evidence, contributors=replace(evidence.contributors, by_principal=makers))


def measured_on(split: str) -> Better:
    def better(evidence: Evidence) -> Evidence:
        splits = {**evidence.measured.splits, split: 5}
        return replace(evidence, measured=replace(evidence.measured, splits=splits))

    return better


def smaller(evidence: Evidence) -> Evidence:
    sizes = {name: size // 2 for name, size in evidence.files.weight_bytes.items()}
    declared = evidence.source_bytes
    kept = replace(evidence.files, weight_bytes=sizes, size_bytes=evidence.files.size_bytes // 2)
    return replace(evidence, files=kept, source_bytes=None if declared is None else declared // 2)


def a_licence_text(evidence: Evidence) -> Evidence:
    """The text of the freest licence, beside what is there."""
    return replace(evidence, licence_files=(*evidence.licence_files, LicenceFile("COPYING", "mit")))


def a_perfect_parent(evidence: Evidence) -> Evidence:
    lineage = evidence.lineage
    return replace(
        evidence, lineage=replace(lineage, parents=(*lineage.parents, *full().lineage.parents))
    )


def a_dataset(evidence: Evidence) -> Evidence:
    lineage = evidence.lineage
    return replace(
        evidence, lineage=replace(lineage, datasets=(*lineage.datasets, *full().lineage.datasets))
    )


def pinned(evidence: Evidence) -> Evidence:
    return replace(evidence, files=replace(evidence.files, pinned_requirements=True))


def every_topic(evidence: Evidence) -> Evidence:
    return with_card(evidence, topics=frozenset(TOPICS))


BETTER: list[tuple[str, Better]] = [
    ("ramp_up_time", more_in_card("words", lambda words: words + 50)),
    ("ramp_up_time", more_in_card("code_blocks", lambda count: count + 1)),
    ("ramp_up_time", every_topic),
    ("ramp_up_time", more_files("configs")),
    ("bus_factor", somebody_new),
    ("performance_claims", every_topic),
    ("performance_claims", more_in_card("number_tables", lambda count: count + 1)),
    ("performance_claims", more_in_card("claimed_results", lambda count: count + 1)),
    ("performance_claims", a_fit_run),
    *[("performance_claims", measured_on(split)) for split in SPLITS],
    ("licence", a_licence_text),
    ("size", smaller),
    ("dataset_and_code", a_dataset),
    ("dataset_and_code", a_fit_run),
    ("dataset_and_code", every_topic),
    ("dataset_and_code", more_files("scripts")),
    ("dataset_and_code", more_files("dependency_files")),
    ("dataset_and_code", more_in_card("code_blocks", lambda count: count + 1)),
    ("dataset_and_code", more_in_card("code_links", lambda count: count + 1)),
    ("dataset_quality", every_topic),
    ("dataset_quality", more_in_card("words", lambda words: words + 50)),
    *[
        ("code_quality", more_files(name))
        for name in ("tests", "scripts", "dependency_files", "lock_files", "check_files")
    ],
    ("code_quality", more_files("pipeline_files")),
    ("code_quality", pinned),
    ("reproducibility", a_fit_run),
    ("reproducibility", a_dataset),
    ("reproducibility", pinned),
    ("reproducibility", more_files("notebooks")),
    ("reproducibility", measured_on("train")),
    ("reviewedness", an_approval),
    ("tree_score", a_perfect_parent),
]


@pytest.mark.parametrize(("name", "better"), BETTER)
@settings(max_examples=20, deadline=None)
@given(evidence=evidences)
def test_better_evidence_never_lowers_a_value(
    name: str, better: Better, evidence: Evidence
) -> None:
    before, after = value(name, evidence), value(name, better(evidence))

    assert before is None or (after is not None and after >= before)


# Each metric


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({}, 0.0),
        ({"words": 150}, 0.1),
        ({"words": 10_000}, 0.2),
        ({"code_blocks": 1}, 0.15),
        ({"code_blocks": 9}, 0.3),
        ({"topics": frozenset({"usage", "limitations", "maintenance"})}, 0.16),
    ],
)
def test_ramp_up_time(card: dict[str, Any], expected: float) -> None:
    assert value("ramp_up_time", with_card(Evidence(), **card)) == expected


@pytest.mark.parametrize(
    ("made", "factor", "expected"),
    [
        ([1], 1, 0.0),
        ([9, 1, 1], 1, 0.0),
        ([1, 1], 2, 1 / 3),
        ([2, 1, 1], 2, 1 / 3),
        ([1, 1, 1, 1], 3, 2 / 3),
        ([1] * 6, 4, 1.0),
        ([1] * 100, 51, 1.0),
    ],
)
def test_bus_factor(made: list[int], factor: int, expected: float) -> None:
    makers = {f"usr_{place}": count for place, count in enumerate(made)}
    evidence = Evidence(contributors=Contributors(by_principal=makers))

    assert truck_factor(made) == factor
    assert value("bus_factor", evidence) == pytest.approx(expected, abs=1e-6)


def test_in_open_mode_there_is_no_evidence_of_a_bus_factor() -> None:
    found = compute(METRICS["bus_factor"], Evidence(contributors=Contributors(anonymous=7)))

    assert found.value is None
    assert "open mode" in found.reason
    assert found.evidence["anonymous_contributions"] == 7


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({"splits": {"train": 1}}, 0.08),
        ({"splits": {"validation": 1, "train": 9}}, 0.24),
        ({"splits": {"test": 1}}, 0.4),
        ({"splits": {"production": 1}}, 0.4),
        ({"said": 1}, 0.1),
    ],
)
def test_performance_claims_that_are_recorded(measured: dict[str, Any], expected: float) -> None:
    assert value("performance_claims", Evidence(measured=Measured(**measured))) == expected


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({}, 0.0),
        ({"topics": frozenset({EVALUATION})}, 0.15),
        ({"number_tables": 1}, 0.3),
        ({"claimed_results": 2}, 0.4),
    ],
)
def test_performance_claims_of_a_card(card: dict[str, Any], expected: float) -> None:
    assert value("performance_claims", with_card(Evidence(), **card)) == expected


@pytest.mark.parametrize(("succeeded", "expected"), [(True, 0.2), (False, 0.0)])
def test_a_run_backs_claims_if_it_succeeded(succeeded: bool, expected: float) -> None:
    run = Run(id="run_a", has_succeeded=succeeded, has_metrics=True)

    assert value("performance_claims", Evidence(runs=(run,))) == expected


@pytest.mark.parametrize(
    ("named", "texts", "expected"),
    [
        (("mit",), (), 0.9),
        (("mit",), ("mit",), 1.0),
        (("mit",), (None,), 1.0),
        ((), ("apache-2.0",), 1.0),
        ((), (None,), 0.09),
        (("other",), (), 0.09),
        (("other",), ("apache-2.0",), 1.0),
        (("other", "mit"), (), 0.9),
        (("mit", "gpl-3.0"), (), 0.54),
        (("mit",), ("cc-by-nc-4.0",), 0.2),
        (("MIT OR GPL-3.0-only",), (), 0.9),
        (("agpl-3.0",), ("agpl-3.0",), 0.5),
    ],
)
def test_licence(named: tuple[str, ...], texts: tuple[str | None, ...], expected: float) -> None:
    evidence = with_card(Evidence(), licences=named)
    files = tuple(LicenceFile("LICENSE", text) for text in texts)

    assert value("licence", replace(evidence, licence_files=files)) == expected


def test_a_card_without_a_licence_is_no_evidence_of_one() -> None:
    assert value("licence", with_card(Evidence(), words=100)) is None


def test_freer_licences_are_worth_more() -> None:
    assert list(FREEDOM.values()) == sorted(FREEDOM.values(), reverse=True)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (0, (1.0, 1.0, 1.0, 1.0)),
        (1 * GIB, (1.0, 1.0, 1.0, 1.0)),
        (3 * GIB // 2, (0.5, 1.0, 1.0, 1.0)),
        (2 * GIB, (0.0, 1.0, 1.0, 1.0)),
        (3 * GIB, (0.0, 0.5, 1.0, 1.0)),
        (16 * GIB, (0.0, 0.0, 0.0, 1.0)),
        (64 * GIB, (0.0, 0.0, 0.0, 0.0)),
        (1000 * GIB, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_size_per_target(weights: int, expected: tuple[float, ...]) -> None:
    evidence = Evidence(files=Files(total=1, weight_bytes={"safetensors": weights}))
    found = compute(METRICS["size"], evidence)

    assert found.evidence["targets"] == dict(zip(TARGETS, expected, strict=True))
    assert found.value == sum(expected) / 4


@pytest.mark.parametrize(
    ("evidence", "weights"),
    [
        (Evidence(files=Files(total=1, weight_bytes={"bin": 10, "safetensors": 12})), 12),
        (Evidence(files=Files(total=3, size_bytes=99)), 99),
        (Evidence(is_elsewhere=True, source_bytes=5), 5),
    ],
)
def test_size_counts_one_format_or_all_files_or_what_was_declared(
    evidence: Evidence, weights: int
) -> None:
    assert compute(METRICS["size"], evidence).evidence["weight_bytes"] == weights


@pytest.mark.parametrize("evidence", [Evidence(), Evidence(is_elsewhere=True)])
def test_a_size_that_nobody_declared_is_not_known(evidence: Evidence) -> None:
    assert value("size", evidence) is None


HERE = Dataset(name="squad/1", version="ver_a", model="mdl_a", is_read=True)
ELSEWHERE = Dataset(name="hf:squad")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(lineage=Lineage(datasets=(HERE,))), 0.5),
        (Evidence(lineage=Lineage(datasets=(ELSEWHERE,))), 0.3),
        (with_card(Evidence(), datasets=("squad",)), 0.2),
        (with_card(Evidence(), topics=frozenset({TRAINING_DATA})), 0.1),
        (Evidence(runs=(Run(id="r", has_dataset=True),)), 0.2),
        (Evidence(runs=(Run(id="r", has_dataset=True, has_dataset_version=True),)), 0.3),
        (Evidence(files=Files(total=1)), 0.0),
        (Evidence(files=Files(total=1, notebooks=1)), 0.3),
        (with_card(Evidence(), code_links=1), 0.15),
        (Evidence(files=Files(total=1, lock_files=1)), 0.1),
    ],
)
def test_dataset_and_code(evidence: Evidence, expected: float) -> None:
    assert value("dataset_and_code", evidence) == expected


DOCUMENTED = Card(
    origin="README.md",
    read_bytes=1,
    words=100,
    topics=frozenset({"motivation", "composition", "usage"}),
    licences=("cc-by-4.0",),
)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(kind="dataset", card=DOCUMENTED), 0.45),
        (Evidence(kind="dataset"), None),
        (Evidence(card=DOCUMENTED), None),
        (Evidence(card=replace(DOCUMENTED, datasets=("squad",))), 0.225),
        (Evidence(lineage=Lineage(datasets=(replace(HERE, card=DOCUMENTED),))), 0.45),
        (Evidence(lineage=Lineage(datasets=(replace(HERE, card=DOCUMENTED), HERE))), 0.225),
        (Evidence(lineage=Lineage(datasets=(ELSEWHERE,))), None),
        (Evidence(lineage=Lineage(datasets=(replace(HERE, is_deleted=True),))), None),
    ],
)
def test_dataset_quality(evidence: Evidence, expected: float | None) -> None:
    assert value("dataset_quality", evidence) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, None),
        ({"weight_bytes": {"safetensors": 1}}, None),
        ({"pickles": 1}, 0.0),
        ({"notebooks": 1}, 0.1),
        ({"scripts": 1}, 0.2),
        ({"scripts": 1, "pickles": 1}, 0.1),
        ({"scripts": 1, "tests": 1}, 0.45),
        ({"scripts": 1, "dependency_files": 1, "pinned_requirements": True}, 0.5),
    ],
)
def test_code_quality(found: dict[str, Any], expected: float | None) -> None:
    assert value("code_quality", Evidence(files=Files(total=1, **found))) == expected


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({}, 0.0),
        ({"hyperparameters": 3}, 0.2),
        ({"environment": 1, "has_seed": True}, 0.3),
        ({"has_dataset": True, "has_dataset_version": True, "has_metrics": True}, 0.3),
    ],
)
def test_reproducibility_of_a_run(run: dict[str, Any], expected: float) -> None:
    assert value("reproducibility", Evidence(runs=(Run(id="run_a", **run),))) == expected


def test_the_run_that_tells_most_counts_and_is_named() -> None:
    silent, telling = Run(id="run_z"), Run(id="run_a", has_seed=True)
    found = compute(METRICS["reproducibility"], Evidence(runs=(silent, telling)))

    assert (found.value, found.evidence["best_run"]) == (0.15, "run_a")


def test_parameters_of_the_version_are_half_of_hyperparameters() -> None:
    assert value("reproducibility", Evidence(measured=Measured(parameters=1))) == 0.1


@pytest.mark.parametrize(
    ("approvals", "rejections", "expected"),
    [
        (0, 0, None),
        (1, 0, 0.5),
        (2, 0, 1.0),
        (9, 0, 1.0),
        (0, 1, 0.0),
        (1, 1, 0.25),
        (3, 1, 0.75),
    ],
)
def test_reviewedness(approvals: int, rejections: int, expected: float | None) -> None:
    reviews = Reviews(approvals=approvals, rejections=rejections)

    assert value("reviewedness", Evidence(reviews=reviews)) == expected


def test_reviews_that_count_nothing_are_named_as_the_reason() -> None:
    found = compute(METRICS["reviewedness"], Evidence(reviews=Reviews(total=2, uncounted=2)))

    assert found.value is None
    assert "open mode" in found.reason


def parent(score: float | None, *, is_deleted: bool = False) -> Parent:
    return Parent(name="p/1", version="v", model="m", overall=score, is_deleted=is_deleted)


@pytest.mark.parametrize(
    ("parents", "expected", "unrated", "deleted"),
    [
        ([], None, 0, 0),
        ([parent(None)], None, 1, 0),
        ([parent(0.5)], 0.5, 0, 0),
        ([parent(0.5), parent(1.0)], 0.75, 0, 0),
        ([parent(0.5), parent(None)], 0.5, 1, 0),
        ([parent(0.5), parent(0.1, is_deleted=True)], 0.5, 0, 1),
    ],
)
def test_tree_score(
    parents: list[Parent], expected: float | None, unrated: int, deleted: int
) -> None:
    lineage = Lineage(parents=tuple(parents))
    found = compute(METRICS["tree_score"], Evidence(lineage=lineage))

    assert found.value == expected
    assert found.evidence["unrated_parents"] == unrated
    assert found.evidence["deleted_parents"] == deleted


# Overall


def test_the_weights_are_shares_of_one() -> None:
    assert sum(metric.weight for metric in METRICS.values()) == pytest.approx(1)


def test_overall_is_the_weighted_mean_of_what_has_a_value() -> None:
    found = overall({"licence": 1.0, "size": 0.4, "bus_factor": None})

    assert found.value == pytest.approx((0.1 * 1.0 + 0.05 * 0.4) / 0.15, abs=1e-6)
    assert found.coverage == 0.15
    assert found.without_evidence == ("bus_factor",)
    assert len(found.not_rated) == 8


def test_overall_of_nothing_is_nothing() -> None:
    assert overall({}).value is None
    assert overall(dict.fromkeys(METRICS)).value is None
    assert overall(dict.fromkeys(METRICS)).without_evidence == tuple(METRICS)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(METRICS)), st.none() | st.floats(0, 1)))
def test_overall_lies_between_the_least_and_the_greatest(
    values: dict[str, float | None],
) -> None:
    found = overall(values)
    known = [one for one in values.values() if one is not None]

    assert (found.value is None) == (not known)
    if found.value is not None:
        assert min(known) - 1e-6 <= found.value <= max(known) + 1e-6


def test_what_may_not_be_seen_is_masked() -> None:
    seen, hidden = {"model": "mdl_a", "name": "a"}, {"model": "mdl_b", "name": "b"}
    evidence = {"parents": [seen, hidden], "datasets": [hidden], "rated_parents": 2}

    assert masked(evidence, lambda model: model == "mdl_a") == {
        "parents": [seen, {"restricted": True}],
        "datasets": [{"restricted": True}],
        "rated_parents": 2,
    }
