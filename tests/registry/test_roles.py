"""Roles and rights by themselves: what a word is held by, where, and what limits it."""

from __future__ import annotations

import itertools

import pytest

from registry.domain.permissions import PERMISSIONS
from registry.domain.principals import (
    EVERYTHING,
    HOUSEKEEPING,
    LOCAL,
    Principal,
    Visibility,
    visibility_of,
)
from registry.domain.roles import (
    ALL_WORDS,
    NO_RIGHTS,
    ROLES,
    WORDS,
    Place,
    Rights,
    matches,
    registry_words,
)

NLP = "nsp_nlp"
BERT = Place(namespace=NLP, model="mdl_bert", level="private")


def test_each_role_holds_what_the_one_before_it_does_and_more() -> None:
    for less, more in itertools.pairwise(ROLES):
        assert WORDS[less] < WORDS[more]


def test_only_admins_of_the_registry_hold_what_concerns_the_registry() -> None:
    assert {"ops", "admin"} == ALL_WORDS - WORDS["admin"]
    assert registry_words("admin") == ALL_WORDS == PERMISSIONS - {"public"}
    assert registry_words("maintainer") == WORDS["maintainer"]


def test_rights_add_up_from_registry_namespace_and_model() -> None:
    rights = Rights(
        registry=WORDS["reader"],
        namespaces={NLP: WORDS["writer"]},
        models={"mdl_bert": frozenset(("alias.move",))},
    )

    assert rights.at(BERT) == WORDS["writer"] | {"alias.move"}
    assert rights.at(Place(namespace=NLP)) == WORDS["writer"]
    assert rights.at(Place(namespace="nsp_other", model="mdl_vit")) == WORDS["reader"]


@pytest.mark.parametrize(("level", "held"), [("public", True), ("internal", False)])
def test_a_level_makes_readers_of_its_models_alone(level: str, held: bool) -> None:
    rights = Rights(levels=frozenset(("public",)))

    assert ("model.read" in rights.at(Place(NLP, "mdl_bert", level))) is held
    assert "model.write" not in rights.at(Place(NLP, "mdl_bert", level))
    assert rights.at(Place(NLP)) == frozenset()


def test_a_limit_takes_from_everything() -> None:
    rights = Rights(
        registry=ALL_WORDS,
        levels=frozenset(("public",)),
        own=frozenset(("anna",)),
        limit=frozenset(("content.read",)),
    )

    assert rights.at(BERT) == {"content.read"}
    assert rights.everywhere == rights.somewhere == rights.beginning("anna") == {"content.read"}


@pytest.mark.parametrize(
    ("slug", "held"),
    [("anna", "admin"), ("team-a", "writer"), ("team-", "writer"), ("other", None)],
)
def test_a_namespace_to_come_is_for_whom_a_pattern_or_a_name_says(
    slug: str, held: str | None
) -> None:
    rights = Rights(patterns=(("team-*", WORDS["writer"]),), own=frozenset(("anna",)))

    assert rights.beginning(slug) == (frozenset() if held is None else WORDS[held])


@pytest.mark.parametrize(
    ("pattern", "slug", "fits"),
    [
        ("nlp", "nlp", True),
        ("nlp", "nlp2", False),
        ("nlp*", "nlp2", True),
        ("*", "anything", True),
        ("n?p", "nlp", False),
        ("[n]lp", "nlp", False),
        ("[n]lp", "[n]lp", True),
    ],
)
def test_a_star_is_the_only_character_that_stands_for_others(
    pattern: str, slug: str, fits: bool
) -> None:
    assert matches(pattern, slug) is fits


def test_who_was_given_nothing_may_do_nothing_and_sees_what_it_owns() -> None:
    nobody = Principal("usr_x", "x")

    assert nobody.rights is NO_RIGHTS
    assert NO_RIGHTS.somewhere == frozenset()
    assert nobody.visibility == Visibility(everything=False, owners=frozenset(("usr_x",)))
    assert HOUSEKEEPING.rights is NO_RIGHTS


def test_the_open_mode_sees_everything() -> None:
    assert LOCAL.visibility is EVERYTHING


def test_seeing_follows_from_who_may_read_where() -> None:
    rights = Rights(
        levels=frozenset(("public",)),
        namespaces={NLP: WORDS["reader"], "nsp_o": frozenset(("observe",))},
        models={"mdl_vit": WORDS["reader"]},
    )

    assert visibility_of("usr_x", rights) == Visibility(
        everything=False,
        owners=frozenset(("usr_x", NLP, "mdl_vit")),
        levels=frozenset(("public",)),
    )


def test_a_reader_of_the_registry_sees_everything() -> None:
    assert visibility_of("usr_x", Rights(registry=WORDS["reader"])) is EVERYTHING


def test_a_token_that_may_not_read_sees_its_own_alone() -> None:
    rights = Rights(registry=ALL_WORDS, limit=frozenset(("content.write",)))

    assert visibility_of("usr_x", rights) == Visibility(False, frozenset(("usr_x",)))
