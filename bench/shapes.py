"""What a generated catalog is called and says: a pure function of a model's place in the count.

So pages, shares and words are alike at every size: a team has a hundred models, a project ten, a
task type a fifth of all; and a question can name what exists without having asked.
"""

from __future__ import annotations

import random

import msgspec

BASE_TIME = 1_700_000_000_000_000
ACTOR = "usr_local"
TEAM_MODELS = 100
PROJECT_MODELS = 10
CARD_EVERY = 10
TASKS = ("classification", "generation", "embedding", "detection", "ranking")
SUBJECTS = ("law", "medicine", "finance", "code", "news")
RISKS = ("low", "medium", "medium", "high", "critical")
REGIONS = ("eu-west", "eu-north", "us-east", "ap-south")
FRAMEWORKS = ("pytorch", "tensorflow", "sklearn", "xgboost", "jax", "onnx", "huggingface")
STATUSES = ("production", "validated", *["registered"] * 8)
COMMON_WORD = "transformer"
"""In the description of every fourth model."""

SEED = 20261121


class Shape(msgspec.Struct, frozen=True):
    """How large an index is; versions are spread evenly."""

    models: int
    versions: int

    @property
    def teams(self) -> int:
        return -(-self.models // TEAM_MODELS)

    @property
    def projects(self) -> int:
        return -(-self.models // PROJECT_MODELS)

    def versions_of(self, model: int) -> int:
        """How many versions a model has; they are numbered from 1."""
        return self.versions // self.models + (model < self.versions % self.models)


def model_id(model: int) -> str:
    return row_id("mdl_", model)


def model_name(model: int) -> str:
    """Names sort in another order than models were made in."""
    return f"family-{model * 7919 % 1000:03d}/{_WORDS[model % 977]}-{model:06d}"


def new_name(model: int, unique: int) -> str:
    """The name of a model that is not there, beside one that is."""
    return f"{model_name(model)}-{unique}"


def version_id(shape: Shape, model: int, number: int) -> str:
    return row_id("ver_", turn(shape, model, number))


def made(shape: Shape, model: int, number: int) -> int:
    """A version a second, the last of them not long ago."""
    return BASE_TIME + turn(shape, model, number) * 1_000_000


def label(number: int) -> str:
    return f"{number // 20}.{number % 20}.0"


def team_name(team: int) -> str:
    return f"team {team:05d}"


def project(model: int) -> int:
    return model // PROJECT_MODELS


def rare_word(model: int) -> str:
    """In the description of ten models only."""
    return f"corpus{project(model):06d}"


def row_id(prefix: str, number: int) -> str:
    return f"{prefix}{number:026d}"


def turn(shape: Shape, model: int, number: int) -> int:
    return (number - 1) * shape.models + model


def mixed(model: int, number: int) -> int:
    """A large number that looks random, the same for the same version at every size."""
    return (model * 2_654_435_761 + number * 40_503_777_777) * 0x9E3779B97F4A7C15 % 2**64 >> 20


def revision_id(model: int, number: int) -> str:
    return f"a{mixed(model, number):011x}{model:012x}{number:016x}"[:40]


def description(model: int) -> str:
    rng = random.Random(model)
    words = rng.choices(_WORDS, k=11)
    words[5] = COMMON_WORD if model % 4 == 0 else words[5]
    return " ".join([*words, rare_word(model)])


def card(model: int) -> str:
    return "# A model\n\n" + " ".join(random.Random(model + 1).choices(_WORDS, k=200))


def _made_up_words(count: int) -> list[str]:
    rng = random.Random(SEED)
    found = set[str]()
    while len(found) < count:
        syllables = rng.randrange(2, 5)
        found.add(
            "".join(rng.choice("bdfgklmnprst") + rng.choice("aeio") for _ in range(syllables))
        )
    return sorted(found)


_WORDS = _made_up_words(2000)
