"""What Hypothesis makes is the same, sooner, and however long it takes.

By itself it fails a test of which one example took 200 ms where the next run of the same took
less: a machine that does something else meanwhile is enough for that. `judge_no_duration` leaves
such tests alone; what bounds them is the time that every test has.

It now and then takes a constant of the code under test in place of a random value, and looks for
each alphabet anew, in Python and character by character, which of some thousands of strings are
made of it. A sixth of the processor time of the tests by Schemathesis went there; one call of a
regular expression for each string finds the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.intervalsets import IntervalSet

_permitted: Callable[[Any, Any], bool] = providers.choice_permitted
_made_of: dict[int, tuple[IntervalSet, re.Pattern[str]]] = {}
"""With the alphabets, so that no other ever has the address of one."""


def choose_constants_fast() -> None:
    """Let this process look at constants fast."""
    replaced: Any = providers
    replaced.choice_permitted = is_permitted


def judge_no_duration() -> None:
    """Let tests of this process, which say nothing else, take the time that they take."""
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


def is_permitted(choice: Any, constraints: Any) -> bool:
    """What `hypothesis.internal.conjecture.choice.choice_permitted` answers."""
    if type(choice) is not str:
        return _permitted(choice, constraints)
    if not constraints["min_size"] <= len(choice) <= constraints["max_size"]:
        return False
    return _pattern(constraints["intervals"]).fullmatch(choice) is not None


def _pattern(alphabet: IntervalSet) -> re.Pattern[str]:
    known = _made_of.get(id(alphabet))
    if known is None:
        spans = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in alphabet.intervals)
        known = _made_of[id(alphabet)] = alphabet, re.compile(f"[{spans}]*" if spans else "")
    return known[1]
