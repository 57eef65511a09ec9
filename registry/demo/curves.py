"""What trainings log: losses that fall, scores that rise, and some that go wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

from registry.demo.files import chance

Shape: TypeAlias = Literal["learns", "diverges", "stops"]
"""Whether a run gets better, blows up half-way, or was ended before it was good."""

STEPS: Final = 60
ENDS: Final = {"learns": 1.0, "diverges": 0.45, "stops": 0.3}
STRIDE: Final = 50
"""Steps of training between two points."""


def curves(name: str, shape: Shape, *, best: float, rate: float) -> Iterator[dict[str, Any]]:
    """Points of four series: key, value and step; `best` is the score that it comes near."""
    numbers = chance("curve", name)
    last = int(STEPS * ENDS[shape])
    for place in range(last + 1):
        done = place / STEPS
        noise = (numbers.random() - 0.5) * 0.08 * (1.2 - done)
        loss = 0.12 + 2.3 * math.exp(-5 * done) + noise
        held_out = loss + 0.05 + 0.12 * done * done
        score = best * (1 - 0.85 * math.exp(-6 * done)) + noise / 6
        value: float | str = loss
        if shape == "diverges" and place > last // 2:
            value = loss * 2.2 ** (place - last // 2)
            held_out, score = value * 1.1, score * 0.4
            if place == last:
                value = "NaN"
        step = place * STRIDE
        yield {"key": "train/loss", "value": _rounded(value), "step": step}
        yield {"key": "learning_rate", "value": _decayed(rate, done), "step": step}
        if place % 5 == 0:
            yield {"key": "validation/loss", "value": _rounded(held_out), "step": step}
            score = min(max(score, 0.0), 1.0)
            yield {"key": "validation/score", "value": _rounded(score), "step": step}


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else round(value, 5)


def _decayed(rate: float, done: float) -> float:
    """Warmed up over a twentieth, then along half a cosine."""
    if done < 0.05:
        return rate * done / 0.05
    return rate * 0.5 * (1 + math.cos(math.pi * (done - 0.05) / 0.95))
