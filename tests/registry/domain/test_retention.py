"""What retention decides: never what is protected, and never more for protecting more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.retention import (
    DAY,
    MOST_KEPT,
    ModelFacts,
    Named,
    Policy,
    VersionFacts,
    decide,
    sentence,
)
from registry.domain.statuses import STATUSES

NOW = 1000 * DAY
USED = Named(1, "one")

POLICY = Policy(
    id="pol_1",
    scope="model",
    keep_last=1,
    retire_after_days=10,
    purge_after_days=20,
    protect_descendants=False,
    protect_statuses=(),
    created_at=0,
    created_by="usr_local",
    updated_at=0,
)
OLD = VersionFacts(id="ver_1", number=1, created_at=0)
RETIRED = msgspec.structs.replace(OLD, retired_at=1)
MODEL = ModelFacts(newest=(2,))


def changed(struct: Any, **more: Any) -> Any:
    return msgspec.structs.replace(struct, **more)


def verdict(version: Any = OLD, *, policy: Any = POLICY, model: Any = MODEL) -> str:
    """The action and the names of the rules."""
    [judged] = decide(policy, model, [version], NOW)
    return " ".join([judged.action, *(rule.name for rule in judged.rules)])


def test_what_nothing_protects_is_retired_and_later_purged() -> None:
    assert verdict() == "retire surplus"
    assert verdict(RETIRED) == "purge expired"


def test_nothing_happens_without_a_policy_or_under_one_that_is_not_active() -> None:
    for version in (OLD, RETIRED):
        assert verdict(version, policy=None) == "keep no_policy"
        assert verdict(version, policy=changed(POLICY, is_active=False)) == "keep inactive"


@pytest.mark.parametrize(
    ("rule", "version", "model", "policy"),
    [
        ("hold", {}, {"has_legal_hold": True}, {}),
        ("alias", {"aliases": USED}, {}, {}),
        ("deployment", {"deployments": USED}, {}, {}),
        ("rollback", {"rollbacks": USED}, {}, {}),
        ("binding", {"bindings": USED}, {}, {}),
        ("draft", {"is_base_of_draft": True}, {}, {}),
        ("newest", {}, {"newest": (1,)}, {}),
        ("descendant", {"descendants": USED}, {}, {"protect_descendants": True}),
        ("release", {"is_release": True, "label": "1.0.0"}, {}, {"protect_releases": True}),
        ("status", {"status": "production"}, {}, {"protect_statuses": ("production",)}),
        ("tag", {"tags": frozenset(("golden=",))}, {}, {"protect_tags": ("golden",)}),
        ("tag", {"tags": frozenset(("set=gold",))}, {}, {"protect_tags": ("Set=Gold",)}),
        ("tag", {"tags": frozenset(("set=gold",))}, {}, {"protect_tags": ("SET",)}),
    ],
)
def test_each_rule_protects_from_retiring_and_from_purging(
    rule: str, version: dict[str, Any], model: dict[str, Any], policy: dict[str, Any]
) -> None:
    for one in (OLD, RETIRED):
        found = verdict(
            changed(one, **version), model=changed(MODEL, **model), policy=changed(POLICY, **policy)
        )

        assert found == f"keep {rule}"


def test_what_is_optional_protects_only_where_the_policy_says_so() -> None:
    version = changed(
        OLD,
        descendants=USED,
        is_release=True,
        status="production",
        tags=frozenset(("golden=", "set=silver")),
    )

    assert verdict(version, policy=changed(POLICY, protect_tags=("set=gold",))) == "retire surplus"


def test_running_uploads_put_off_purging_alone() -> None:
    model = changed(MODEL, has_running_uploads=True)

    assert verdict(OLD, model=model) == "retire surplus"
    assert verdict(RETIRED, model=model) == "keep upload"


def test_ages_are_exact() -> None:
    for made, said in ((NOW - 10 * DAY, "retire surplus"), (NOW - 10 * DAY + 1, "keep young")):
        assert verdict(changed(OLD, created_at=made)) == said
        assert verdict(changed(OLD, returned_at=made)) == said
    for retired, said in ((NOW - 20 * DAY, "purge expired"), (NOW - 20 * DAY + 1, "keep retired")):
        assert verdict(changed(OLD, retired_at=retired)) == said


def test_without_an_age_nothing_is_purged() -> None:
    assert verdict(RETIRED, policy=changed(POLICY, purge_after_days=None)) == "keep retired"


def test_all_rules_are_named_with_what_they_saw_and_until_when() -> None:
    version = changed(OLD, created_at=NOW, aliases=Named(3, "champion"), bindings=USED)
    [judged] = decide(POLICY, MODEL, [version], NOW)

    assert sentence(judged.rules) == "alias (champion and 2 more), binding (one), young"
    assert judged.rules[-1].until == NOW + 10 * DAY


# Properties

named = st.sampled_from((Named(), USED))
moments = st.integers(0, NOW + DAY)
tags = st.frozensets(st.sampled_from(("a=", "a=1", "b=2")))
some_versions = st.lists(
    st.builds(
        VersionFacts,
        id=st.just(""),
        number=st.integers(1, 40),
        label=st.none(),
        status=st.sampled_from(STATUSES),
        is_release=st.booleans(),
        created_at=moments,
        returned_at=st.none() | moments,
        retired_at=st.none() | moments,
        aliases=named,
        deployments=named,
        rollbacks=named,
        bindings=named,
        descendants=named,
        is_base_of_draft=st.booleans(),
        tags=tags,
    ),
    unique_by=lambda version: version.number,
    max_size=12,
).map(lambda found: [changed(one, id=f"ver_{one.number}") for one in found])
some_policies = st.builds(
    Policy,
    id=st.just("pol_1"),
    scope=st.just("model"),
    is_active=st.booleans(),
    keep_last=st.integers(1, MOST_KEPT),
    retire_after_days=st.integers(0, 1001),
    purge_after_days=st.none() | st.integers(1, 1001),
    protect_descendants=st.booleans(),
    protect_releases=st.booleans(),
    protect_statuses=st.lists(st.sampled_from(STATUSES), unique=True).map(tuple),
    protect_tags=st.lists(st.sampled_from(("a", "A=1", "b=2", "c")), unique=True).map(tuple),
    description=st.just(""),
    created_at=st.just(0),
    created_by=st.just(""),
    updated_at=st.just(0),
)
some_models = st.tuples(st.booleans(), st.booleans())


def facts_of(flags: tuple[bool, bool], versions: list[VersionFacts]) -> ModelFacts:
    newest = sorted((one.number for one in versions), reverse=True)
    return ModelFacts(
        has_legal_hold=flags[0],
        has_running_uploads=flags[1],
        newest=tuple(newest[:MOST_KEPT]),
    )


def actions(policy: Policy | None, model: ModelFacts, versions: list[VersionFacts]) -> list[str]:
    return [judged.action for judged in decide(policy, model, versions, NOW)]


@settings(deadline=None)
@given(some_policies, some_models, some_versions)
def test_what_is_in_use_is_never_touched(
    policy: Policy, flags: tuple[bool, bool], versions: list[VersionFacts]
) -> None:
    """Told independently of the rules: whatever anything needs stays as it is."""
    model = facts_of(flags, versions)
    last = sorted(one.number for one in versions)[-policy.keep_last :]

    for version, judged in zip(versions, decide(policy, model, versions, NOW), strict=True):
        needed = [
            flags[0],
            bool(version.aliases),
            bool(version.deployments),
            bool(version.rollbacks),
            bool(version.bindings),
            version.is_base_of_draft,
            version.number in last,
            policy.protect_descendants and bool(version.descendants),
            policy.protect_releases and version.is_release,
            version.status in policy.protect_statuses,
            not policy.is_active,
        ]
        if any(needed):
            assert judged.action == "keep"
        if judged.action == "purge":
            assert policy.purge_after_days is not None
            assert version.retired_at is not None
            assert NOW - version.retired_at >= policy.purge_after_days * DAY
            assert not flags[1]
        if judged.action == "retire":
            assert version.retired_at is None
            assert NOW - version.created_at >= policy.retire_after_days * DAY
        assert judged.rules, "a judgement names what it goes by"


@settings(deadline=None)
@given(some_policies, some_models, some_versions)
def test_a_larger_number_to_keep_never_takes_more(
    policy: Policy, flags: tuple[bool, bool], versions: list[VersionFacts]
) -> None:
    model = facts_of(flags, versions)
    for more in range(policy.keep_last, MOST_KEPT + 1):
        after = actions(changed(policy, keep_last=more), model, versions)
        for one, other in zip(actions(policy, model, versions), after, strict=True):
            assert other in ("keep", one)


@settings(deadline=None)
@given(some_policies, some_policies, some_models, some_models, some_versions)
def test_more_protection_never_takes_more(
    policy: Policy,
    other: Policy,
    flags: tuple[bool, bool],
    more_flags: tuple[bool, bool],
    versions: list[VersionFacts],
) -> None:
    """Everything that protects in either policy protects in both together."""
    both = changed(
        policy,
        protect_descendants=policy.protect_descendants or other.protect_descendants,
        protect_releases=policy.protect_releases or other.protect_releases,
        protect_statuses=policy.protect_statuses + other.protect_statuses,
        protect_tags=policy.protect_tags + other.protect_tags,
        retire_after_days=max(policy.retire_after_days, other.retire_after_days),
    )
    more = (flags[0] or more_flags[0], flags[1] or more_flags[1])
    used = [changed(one, bindings=USED) if one.number % 2 else one for one in versions]

    before = actions(policy, facts_of(flags, versions), versions)
    for one, after in zip(before, actions(both, facts_of(more, versions), used), strict=True):
        assert after in ("keep", one)


@settings(deadline=None)
@given(some_policies, some_models, some_versions)
def test_what_was_decided_and_done_is_decided_no_more(
    policy: Policy, flags: tuple[bool, bool], versions: list[VersionFacts]
) -> None:
    left = [
        changed(version, retired_at=NOW) if action == "retire" else version
        for version, action in zip(
            versions, actions(policy, facts_of(flags, versions), versions), strict=True
        )
        if action != "purge"
    ]
    # Of the last N none was purged, so they are the same ones.
    again = actions(policy, facts_of(flags, versions), left)

    assert set(again) <= {"keep"}


@settings(deadline=None)
@given(some_policies, some_models, some_versions)
def test_a_version_is_judged_alone_as_among_all(
    policy: Policy, flags: tuple[bool, bool], versions: list[VersionFacts]
) -> None:
    """Applying judges one at a time what planning judged a page at a time."""
    model = facts_of(flags, versions)

    together = decide(policy, model, versions, NOW)

    assert together == [decide(policy, model, [one], NOW)[0] for one in versions]
