"""What is read out of cards, front matter, licences, paths and runs, whatever they hold."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.scoring import front_matter
from registry.domain.scoring.cards import decode_card, read_card
from registry.domain.scoring.evidence import MOST_NAMED, NAME_CHARACTERS, Card
from registry.domain.scoring.licences import KINDS, kind_of, recognise, strictest
from registry.domain.scoring.paths import FileCount, are_pinned
from registry.domain.scoring.topics import topics_of
from registry.domain.scoring.trainings import read_run
from registry.domain.trees import TreeFile
from store.digest import Digest

DIGEST = Digest("0" * 64)


def card(text: str) -> Card:
    return read_card(text, origin="README.md", read_bytes=len(text))


# Cards

CARD = """---
license: apache-2.0
datasets:
- squad
- glue
base_model: bert-base
model-index:
- name: tickets
  results:
  - task: {type: text-classification}
    metrics:
    - {type: accuracy, value: 0.93}
    - {type: f1, value: 0.9}
    - {type: recall}
---
# Ticket router

## Intended uses

Routes tickets to the right desk.

## How to use

```python
# Limitations
pipeline("text-classification")
```

## Training data

<!-- say
which -->
[More Information Needed]

## Evaluation

| split | accuracy |
| ----- | -------- |
| test  | **0.93** |

The code is at https://github.com/acme/tickets and https://github.com/acme/tickets again.
"""


def test_a_card_is_taken_apart() -> None:
    found = card(CARD)

    assert found.licences == ("apache-2.0",)
    assert found.datasets == ("squad", "glue")
    assert found.base_models == ("bert-base",)
    assert found.claimed_results == 2
    assert found.headings == 5
    assert found.code_blocks == 1
    assert found.number_tables == 1
    assert found.code_links == 1
    assert found.problem == ""
    assert {"intended_use", "usage", "evaluation"} <= found.topics


def test_a_section_that_says_nothing_does_not_count() -> None:
    assert "training_data" not in card(CARD).topics
    assert "training_data" in card("# Training data\n\nsquad").topics
    assert "usage" not in card("## Usage").topics
    assert "usage" not in card("## Usage\n## License\nMIT").topics


def test_what_stands_under_a_heading_below_counts_for_those_above() -> None:
    assert {"usage", "installation"} <= card("# Usage\n## Installation\ntext").topics
    assert "usage" not in card("## Usage\n# Contact\ntext").topics


def test_headings_in_code_are_code() -> None:
    assert card(CARD).topics.isdisjoint({"limitations"})
    assert card("```\n# Limitations\ntext\n```\n").headings == 0
    assert card("~~~~\n~~~\n# no\n~~~~\n# yes\n").headings == 1


def test_underlined_headings_count() -> None:
    found = card("Limitations\n===========\ntext\n\nUsage\n-----\ntext\n")

    assert found.topics >= {"limitations", "usage"}


def test_an_empty_block_of_code_is_no_example() -> None:
    assert card("```\n\n```\n").code_blocks == 0
    assert card("```\nx").code_blocks == 1


@pytest.mark.parametrize(
    ("rows", "tables"),
    [
        ("| a | b |\n|---|---|\n| x | 0.9 |", 1),
        ("a | b\n--- | ---:\nx | 1,234 ± 5", 1),
        ("| a |\n|---|\n| 93 % |\n\n| b |\n|---|\n| 1e-3 |", 2),
        ("| a | b |\n|---|---|\n| x | y |", 0),
        ("| a | b |\n| x | 0.9 |", 0),
        ("| a |\n|---|\n| v2 |", 0),
        ("| a |\n|---|\n| nan |", 0),
    ],
)
def test_tables_with_numbers_are_counted(rows: str, tables: int) -> None:
    assert card(rows).number_tables == tables


def test_words_are_those_of_prose() -> None:
    assert card("---\na: b c d\n---\none two\n```\nthree\n```\n| four |\n|---|\n| 5 |").words == 3
    assert card("模型用于分类文本").words == 1 + 4


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        ("License: MIT", ("MIT",)),
        ("**Licence:** Apache-2.0", ("Apache-2.0",)),
        ("## License\n\nMIT\n\nother text", ("MIT",)),
        ("---\nlicense: mit\n---\nLicense: GPL", ("mit",)),
        ("---\nlicense: [mit, cc-by-4.0]\n---\n", ("mit", "cc-by-4.0")),
        ("---\nlicense: ~\n---\n", ()),
        ("licensed to nobody", ()),
    ],
)
def test_a_licence_is_named_in_front_or_in_a_line(text: str, licences: tuple[str, ...]) -> None:
    assert card(text).licences == licences


def test_names_are_cut_and_few() -> None:
    many = "\n".join(f"- {'x' * 200}{n}" for n in range(50))
    found = card(f"---\ndatasets:\n{many}\n---\n")

    assert len(found.datasets) == MOST_NAMED
    assert all(len(name) <= NAME_CHARACTERS for name in found.datasets)


def test_a_card_that_is_no_text_says_nothing() -> None:
    found = decode_card(b"# Usage\n\xff\xfe", origin="README.md")

    assert (found.words, found.headings) == (0, 0)
    assert found.problem == "the card is not in UTF-8"


def test_a_card_may_be_cut_within_a_character() -> None:
    content = "ü".encode()[:1]

    assert decode_card(b"words " + content, origin="R", is_cut=True).problem == ""
    assert decode_card(b"words " + content, origin="R").problem != ""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["---", "```", "~~~", "# Usage", "a: b", "- x", "| a |", "|---|", "<!--", "-->", "==="]
        )
        | st.text(max_size=20),
        max_size=30,
    )
)
def test_any_text_is_a_card(lines: list[str]) -> None:
    found = card("\n".join(lines))

    assert found.words >= 0
    assert len(msgspec.json.encode(found)) < 20_000


@pytest.mark.parametrize(
    "text",
    [
        "#" * 262_144,
        "|" * 262_144,
        "| a |\n|" + " " * 262_000,
        "| a |\n" + "|-" * 131_000,
        "https://github.com/" * 13_000,
        "License: " * 29_000,
        "# \n" * 87_000,
        "```\n" * 65_000,
        " " * 262_000 + "x",
        "a\n---\n" * 43_000,
        "---\n" + "[" * 30_000 + "\n---\n",
        "---\n" + "a: &a [*a, *a]\n" * 2_000 + "---\n",
        "---\n" + "{" * 30_000 + "\n---\n",
        "---\n" + "- " * 15_000 + "\n---\n",
        "---\n" + "? " * 15_000 + "\n---\n",
        "---\n" + '"' * 30_000 + "\n---\n",
    ],
)
def test_a_hostile_card_costs_no_more_than_a_long_one(text: str) -> None:
    start = time.thread_time()
    card(text)

    assert time.thread_time() - start < 2


# Front matter


@pytest.mark.parametrize(
    ("text", "front", "body"),
    [
        ("---\na: b\n---\nrest", "a: b\n", "rest"),
        ("---\r\na: b\r\n---\r\nrest", "a: b\r\n", "rest"),
        ("---\na: b\n...\nrest", "a: b\n", "rest"),
        ("---\na: b\n---", "a: b\n", ""),
        ("---\n---\n", "", ""),
        ("--- \na: b\n---\n", None, "--- \na: b\n---\n"),
        ("---\na: b\n", None, "---\na: b\n"),
        ("text\n---\na\n---\n", None, "text\n---\na\n---\n"),
        ("", None, ""),
    ],
)
def test_front_matter_is_split_off(text: str, front: str | None, body: str) -> None:
    assert front_matter.split(text) == (front, body)


def test_front_matter_without_an_end_is_none() -> None:
    text = "---\n" + "a: b\n" * 20_000 + "---\n"

    assert front_matter.split(text)[0] is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: true\nc: ~", {"a": "1", "b": "true", "c": "~"}),
        ("a: [x, {y: z}]", {"a": ["x", {"y": "z"}]}),
        ("a:\n  - b\n  - c", {"a": ["b", "c"]}),
        ("a: !!python/object/apply:os.system [x]", {"a": ["x"]}),
        ("a: 1\na: 2", {"a": "2"}),
    ],
)
def test_front_matter_is_plain_texts(text: str, value: Any) -> None:
    assert front_matter.parse(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "anchor"),
        ("a: [", "no YAML"),
        ("- a", "no mapping"),
        ("", "no mapping"),
        ("a: " + "[" * 20 + "]" * 20, "too deep"),
        ("a: [" + "b, " * 10_001 + "]", "too long"),
        ("? [a]\n: b", "no text"),
        ("a: \x00", "no YAML"),
    ],
)
def test_what_is_no_front_matter_says_why(text: str, reason: str) -> None:
    with pytest.raises(front_matter.Unreadable, match=reason):
        front_matter.parse(text)


def test_a_card_tells_of_front_matter_that_cannot_be_read() -> None:
    found = card("---\na: [\n---\nsome words")

    assert found.problem.startswith("the front matter is no YAML")
    assert found.words == 2


# Topics


@pytest.mark.parametrize(
    ("heading", "topics"),
    [
        ("Usage", {"usage", "uses"}),
        ("🚀 Getting Started!", {"usage"}),
        ("Intended Uses & Limitations", {"intended_use", "limitations", "uses"}),
        ("Bias, Risks, and Limitations", {"limitations"}),
        ("Training Data", {"training_data"}),
        ("Data Preprocessing", {"preprocessing"}),
        ("Acknowledgements", set()),
        ("Useful links", set()),
        ("Verwendung", set()),
    ],
)
def test_headings_name_topics(heading: str, topics: set[str]) -> None:
    assert topics_of(heading) == topics


# Licences


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mit", "permissive"),
        ("MIT License", "permissive"),
        ("Apache License, Version 2.0", "permissive"),
        ("GPL-3.0-or-later", "copyleft"),
        ("LGPL-2.1+", "weak copyleft"),
        ("(MIT OR GPL-3.0-only)", "permissive"),
        ("MIT AND GPL-3.0-only", "copyleft"),
        ("MIT OR GPL-3.0 AND CC-BY-NC-4.0", "permissive"),
        ("(MIT OR GPL-3.0) AND CC-BY-NC-4.0", "non-commercial"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "copyleft"),
        ("llama3.1", "use restricted"),
        ("AGPL-3.0-only", "network copyleft"),
        ("other", "not recognised"),
        ("MIT OR", "not recognised"),
        ("OR MIT", "not recognised"),
        ("(MIT", "not recognised"),
        ("MIT)", "not recognised"),
        ("MIT WITH", "not recognised"),
        ("MIT AND nothing-known", "not recognised"),
        ("MIT OR nothing-known", "permissive"),
        ("", "not recognised"),
        ("(" * 5000, "not recognised"),
    ],
)
def test_licences_have_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_no_licence_is_of_two_kinds() -> None:
    names = [name for group in KINDS.values() for name in group]

    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_the_strictest_counts() -> None:
    assert strictest(["mit", "cc-by-nc-4.0", "gpl-3.0"]) == ("cc-by-nc-4.0", "non-commercial")


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT License\n\nPermission is hereby granted, free of charge, to any\n"
         "person obtaining a copy of this software", "mit"),
        ("                                 Apache License\n"
         "                           Version 2.0, January 2004", "apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "gpl-3.0"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\nVersion 3, 19 November 2007", "agpl-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "lgpl-3.0"),
        ("Redistribution and use in source and binary forms, with or without", "bsd-2-clause"),
        ("Redistribution and use in source and binary forms … Neither the name of", "bsd-3-clause"),
        ("Attribution-NonCommercial 4.0 International", "cc-by-nc-4.0"),
        ("Attribution 4.0 International", "cc-by-4.0"),
        ("// SPDX-License-Identifier: MIT OR Apache-2.0\ncode", "mit or apache-2.0"),
        ("MIT", "mit"),
        ("All rights reserved.", None),
        ("", None),
        ("words " * 1000 + "Apache License Version 2.0", None),
    ],
)  # fmt: skip
def test_licences_are_recognised_by_their_beginning(text: str, licence: str | None) -> None:
    assert recognise(text) == licence


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_may_be_no_licence(text: str) -> None:
    found = recognise(text)

    assert kind_of(text) in {*KINDS, "not recognised"}
    assert found is None or kind_of(found) != "not recognised"


# Paths


def counted(*paths: str) -> Any:
    count = FileCount()
    count.take(TreeFile(path, DIGEST, 10) for path in paths)
    return count.facts()


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("model.safetensors", {}),
        ("src/train.py", {"scripts": 1}),
        ("tests/test_train.py", {"tests": 1}),
        ("test_train.py", {"tests": 1}),
        ("train_test.go", {"tests": 1}),
        ("contest.py", {"scripts": 1}),
        ("demo.ipynb", {"notebooks": 1}),
        ("requirements.txt", {"dependency_files": 1}),
        ("requirements-dev.txt", {"dependency_files": 1}),
        ("requirements.md", {}),
        ("setup.py", {"scripts": 1, "dependency_files": 1}),
        ("uv.lock", {"lock_files": 1}),
        ("Cargo.lock", {"lock_files": 1}),
        (".pre-commit-config.yaml", {"check_files": 1}),
        (".github/workflows/ci.yml", {"pipeline_files": 1}),
        ("docs/.github/workflows.md", {}),
        ("config.json", {"configs": 1}),
        ("model.pkl", {"pickles": 1}),
        ("pytorch_model.bin", {"pickles": 1}),
        ("pytorch_model-00001-of-00002.bin", {"pickles": 1}),
        ("data.bin", {}),
        (".py", {}),
    ],
)
def test_files_are_told_by_their_paths(path: str, counts: dict[str, int]) -> None:
    found = msgspec.structs.asdict(counted(path))

    assert {
        name: value
        for name, value in found.items()
        if type(value) is int and name not in ("total", "size_bytes") and value
    } == counts


def test_weights_are_added_up_by_format() -> None:
    found = counted("a.safetensors", "b/c.SAFETENSORS", "a.gguf", "README.md")

    assert found.weight_bytes == {"gguf": 10, "safetensors": 20}
    assert (found.total, found.size_bytes) == (4, 40)


def test_few_paths_are_kept_of_many_files() -> None:
    count = FileCount()
    for page in range(100):
        count.take(TreeFile(f"src/{page}/{n}{'x' * 200}.py", DIGEST, 1) for n in range(100))
    found = count.facts()

    assert found.scripts == 10_000
    assert len(found.examples) == MOST_NAMED
    assert len(msgspec.json.encode(found)) < 2_000


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("LICENSE", True),
        ("licence.md", True),
        ("COPYING", True),
        ("LICENSE-APACHE.txt", True),
        ("UNLICENSE", True),
        ("docs/LICENSE", False),
        ("licensed.py", False),
    ],
)
def test_licence_files_stand_at_the_root(path: str, is_one: bool) -> None:
    count = FileCount()
    count.take([TreeFile(path, DIGEST, 1)])

    assert bool(count.licences) is is_one


@pytest.mark.parametrize(
    ("text", "is_pinned"),
    [
        ("torch==2.9.1\nnumpy==2.3.4  # why\n\n# comment\n-r other.txt", True),
        ("torch==2.9.1 \\\n    --hash=sha256:ab", True),
        ("torch==2.9.1\nnumpy>=2", False),
        ("torch", False),
        ("x @ https://example.org/x.whl", True),
        ("# nothing", False),
        ("", False),
    ],
)
def test_requirements_are_pinned_or_not(text: str, is_pinned: bool) -> None:
    assert are_pinned(text) is is_pinned


# Runs


@pytest.mark.parametrize(
    ("hyperparameters", "environment", "has_seed"),
    [
        ({"seed": 1}, {}, True),
        ({"train": {"random_state": 0}}, {}, True),
        ({}, {"PYTHONHASHSEED": "0"}, False),
        ({}, {"GLOBAL_SEED": "0"}, True),
        ({"list": [{"torch-seed": 1}]}, {}, True),
        ({"seed": None}, {}, False),
        ({"seedling": 1}, {}, False),
        ({"lr": 1}, {"python": "3.12"}, False),
    ],
)
def test_a_seed_is_found_by_its_name(
    hyperparameters: Any, environment: Any, has_seed: bool
) -> None:
    found = read_run(
        "run_a",
        status="succeeded",
        dataset="squad",
        dataset_version="",
        hyperparameters=msgspec.json.encode(hyperparameters).decode(),
        environment=msgspec.json.encode(environment).decode(),
        has_metrics=False,
    )

    assert found.has_seed is has_seed
    assert found.hyperparameters == len(hyperparameters)
    assert (found.has_succeeded, found.has_dataset, found.has_dataset_version) == (
        True,
        True,
        False,
    )
