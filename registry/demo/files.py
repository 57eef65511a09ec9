"""Files of models and data sets, made from a seed: the same bytes on every machine."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

SEED: Final = 20_260

_LICENCE: Final = """\
Permission is granted to use, copy, change and pass on this model and its files, provided that this
notice stays with them. They are made up for a demonstration and come without any warranty.
"""
_REQUIREMENTS: Final = "numpy==2.3.4\nsafetensors==0.6.2\n"
_TRAINING: Final = '''\
"""Fit the weights to the rows of a data set, and write them down."""

import argparse

import numpy
from safetensors.numpy import save_file


def fit(features, wanted, rate, steps):
    weights = numpy.zeros(features.shape[1], dtype="float32")
    for _ in range(steps):
        error = features @ weights - wanted
        weights -= rate * features.T @ error / len(wanted)
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rows")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    table = numpy.loadtxt(given.rows, delimiter=",", skiprows=1, dtype="float32")
    save_file({"weights": fit(table[:, :-1], table[:, -1], given.rate, given.steps)}, "out")
'''
_TESTS: Final = """\
import numpy
from train import fit


def test_a_line_is_found():
    features = numpy.array([[1.0], [2.0], [3.0]], dtype="float32")
    assert abs(fit(features, 2 * features[:, 0], 0.1, 200)[0] - 2) < 1e-3
"""

COMMON: Final[Mapping[str, bytes]] = {
    "LICENSE": _LICENCE.encode(),
    "requirements.txt": _REQUIREMENTS.encode(),
    "train.py": _TRAINING.encode(),
    "tests/test_train.py": _TESTS.encode(),
}
"""What all models share: stored once."""


def chance(*names: object) -> random.Random:
    """Numbers that follow from the seed and from what they are for."""
    return random.Random(":".join(map(str, (SEED, *names))))  # noqa: S311  # a demo, no secret


def weights(name: str, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """Tensors of 32-bit floats in one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for tensor, shape in shapes.items():
        begin = len(body)
        body += _floats(chance(name, tensor), shape)
        header[tensor] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def quantised(name: str, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """Tensors of 8-bit integers with one scale each."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "scheme": "int8, per tensor"}}
    body = bytearray()
    for tensor, shape in shapes.items():
        count, numbers = _count(shape), chance(name, tensor)
        for part, dtype, content in (
            (tensor, "I8", numbers.randbytes(count)),
            (f"{tensor}.scale", "F32", _floats(numbers, (1,))),
        ):
            begin = len(body)
            body += content
            header[part] = {
                "dtype": dtype,
                "shape": list(shape) if part == tensor else [1],
                "data_offsets": [begin, len(body)],
            }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for each in shape:
        count *= each
    return count


def _floats(numbers: random.Random, shape: Sequence[int]) -> bytes:
    # A sum of evenly spread numbers is nearly a bell, and three times as quick as a true one.
    values = array(
        "f", ((numbers.random() + numbers.random() - 1) * 0.05 for _ in range(_count(shape)))
    )
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def document(content: Mapping[str, Any]) -> bytes:
    """JSON for people."""
    return json.dumps(content, indent=2).encode() + b"\n"


def tokenizer(name: str) -> bytes:
    """A vocabulary of pieces."""
    syllables = [first + last for first in "bdfglmnprst" for last in "aeiou"]
    numbers = chance(name, "vocabulary")
    words = {"[PAD]": 0, "[UNK]": 1}
    while len(words) < 400:
        word = "".join(numbers.choice(syllables) for _ in range(numbers.randint(1, 3)))
        words.setdefault(word, len(words))
    return document({"type": "pieces", "lowercase": True, "vocabulary": words})


def table(name: str, part: int, columns: Sequence[str], rows: int) -> bytes:
    """One part of a data set, as CSV: a day's worth of rows."""
    numbers = chance(name, part)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in range(rows):
        writer.writerow([_cell(column, numbers, part * rows + row) for column in columns])
    return text.getvalue().encode()


_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "queue": ("billing", "delivery", "returns", "account"),
    "language": ("en", "de", "fr", "pl"),
    "text": (
        "the parcel has not arrived",
        "charged twice this month",
        "cannot sign in any more",
        "wants to send it back",
        "invoice is missing",
    ),
    "store": ("north", "south", "harbour", "station"),
    "label": ("bottle", "box", "gap", "price tag"),
    "speaker": ("caller", "desk"),
}


def _cell(column: str, numbers: random.Random, row: int) -> str | int:
    if column in ("id", "row"):
        return row
    if column == "day":
        return f"2026-{1 + row // 28 % 12:02d}-{1 + row % 28:02d}"
    if column in _WORDS:
        return numbers.choice(_WORDS[column])
    if column in ("file", "image"):
        return f"{numbers.getrandbits(48):012x}.{'wav' if column == 'file' else 'jpg'}"
    return numbers.randint(0, 400)
