"""Many candidates in order of rank, and questions to them that touch few of them.

What is asked can exclude nearly all of ten thousand candidates or nearly none, and both must be
answered in some tens of microseconds:

- Each candidate has a **slot**, a number that it keeps. What passes a test is a **mask**: an
  integer with the bits of these slots. Tests are combined by ``&``, and counting what each left out
  is counting bits.
- Masks are kept from question to question, because gateways ask the same over and over. A mask
  remembers how far it has read the list of slots that changed and catches up when it is next used.
- The candidates are **ranked** beforehand, since their order does not depend on the question. The
  best are found by walking down that order, or where few are left by sorting just those.

Nothing here waits or knows of a database; one thread at a time uses it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final, TypeAlias

import msgspec

from registry.domain.principals import Visibility
from registry.domain.ranking import Candidate, Rank, rank_of
from registry.domain.routing import Demand

MASKS_KEPT: Final = 256

_MANY: Final = 8
"""From one candidate in so many on that changed at once, sorting all is faster than moving each."""

Place: TypeAlias = tuple[Rank, int]
"""A rank and the slot that has it."""


class Found(msgspec.Struct, frozen=True):
    """How many were looked at, how many passed, what each test left out, and the best."""

    considered: int
    matched: int
    excluded: list[tuple[Demand, int]]
    best: list[Candidate]


class _Mask:
    """The slots that pass a test, as far as the changes were read."""

    __slots__ = ("bits", "read")

    def __init__(self, bits: int, read: int) -> None:
        self.bits = bits
        self.read = read


class Standings:
    """Candidates by rank; `put`, `drop` and `replace_models` change them, `find` asks."""

    def __init__(self, candidates: Iterable[Candidate] = ()) -> None:
        self._slots: list[Candidate | None] = list(candidates)
        self._ranks: list[Rank | None] = [
            None if one is None else rank_of(one) for one in self._slots
        ]
        self._place = {one.id: slot for slot, one in enumerate(self._slots) if one is not None}
        self._of_model: dict[str, set[str]] = {}
        for one in self._slots:
            if one is not None:
                self._of_model.setdefault(one.model_id, set()).add(one.id)
        self._free: list[int] = []
        self._ranked: list[Place] = []
        self._sort()
        self._masks: OrderedDict[Demand, _Mask] = OrderedDict()
        self._changed: list[int] = []
        self._taken = (1 << len(self._slots)) - 1

    def __len__(self) -> int:
        return len(self._place)

    def get(self, id: str) -> Candidate | None:
        slot = self._place.get(id)
        return None if slot is None else self._slots[slot]

    # Changing

    def put(self, candidates: Iterable[Candidate]) -> None:
        """Let candidates stand as they are now; those that did already are not touched."""
        new = [one for one in candidates if self.get(one.id) != one]
        if len(new) * _MANY > len(self._slots):
            for one in new:
                self._set(self._slot_of(one), one)
            self._sort()
        else:
            for one in new:
                slot = self._slot_of(one)
                self._unrank(slot)
                self._set(slot, one)
                rank = self._ranks[slot]
                assert rank is not None, "it was just set"
                insort(self._ranked, (rank, slot))
        self._forget_what_is_long()

    def drop(self, id: str) -> None:
        """Let a candidate go; one that is not there is no matter."""
        slot = self._place.pop(id, None)
        if slot is None:
            return
        gone = self._slots[slot]
        assert gone is not None, "a place leads to a taken slot"
        self._unrank(slot)
        of_model = self._of_model[gone.model_id]
        of_model.discard(id)
        if not of_model:
            del self._of_model[gone.model_id]
        self._slots[slot] = self._ranks[slot] = None
        # Masks may keep the bit: only taken slots are looked at, and who takes it is a change.
        self._taken &= ~(1 << slot)
        self._free.append(slot)

    def replace_models(self, models: Iterable[str], candidates: Iterable[Candidate]) -> None:
        """Let `candidates` be all that there are of these models."""
        now = list(candidates)
        kept = {one.id for one in now}
        for model in models:
            for id in self._of_model.get(model, set()) - kept:
                self.drop(id)
        self.put(now)

    def _slot_of(self, candidate: Candidate) -> int:
        slot = self._place.get(candidate.id)
        if slot is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot = len(self._slots)
                self._slots.append(None)
                self._ranks.append(None)
            self._place[candidate.id] = slot
            self._of_model.setdefault(candidate.model_id, set()).add(candidate.id)
            self._taken |= 1 << slot
        return slot

    def _set(self, slot: int, candidate: Candidate) -> None:
        self._slots[slot] = candidate
        self._ranks[slot] = rank_of(candidate)
        self._changed.append(slot)

    def _unrank(self, slot: int) -> None:
        rank = self._ranks[slot]
        if rank is not None:
            del self._ranked[bisect_left(self._ranked, (rank, slot))]

    def _sort(self) -> None:
        self._ranked = sorted(
            (rank, slot) for slot, rank in enumerate(self._ranks) if rank is not None
        )

    def _forget_what_is_long(self) -> None:
        """A list of changes longer than all there is saves nothing; masks are made anew then."""
        if len(self._changed) > len(self._slots) + 1024:
            self._changed.clear()
            self._masks.clear()

    # Asking

    def find(self, tests: Iterable[Demand], *, limit: int, seen: Visibility | None) -> Found:
        """The best that pass all tests; with `seen` only what that shows is looked at at all."""
        left = self._taken
        if seen is not None:
            left &= self._mask(Demand("hidden", seen))
        considered = count = left.bit_count()
        excluded: list[tuple[Demand, int]] = []
        for test in tests:
            left &= self._mask(test)
            if (passed := left.bit_count()) != count:
                excluded.append((test, count - passed))
                count = passed
        return Found(considered, count, excluded, self._best(left, count, limit))

    def _mask(self, test: Demand) -> int:
        mask = self._masks.get(test)
        if mask is None:
            mask = self._masks[test] = _Mask(self._bits(test), len(self._changed))
            if len(self._masks) > MASKS_KEPT:
                self._masks.popitem(last=False)
            return mask.bits
        self._masks.move_to_end(test)
        if mask.read < len(self._changed):
            for slot in set(self._changed[mask.read :]):
                one = self._slots[slot]
                if one is not None and test.passes(one):
                    mask.bits |= 1 << slot
                else:
                    mask.bits &= ~(1 << slot)
            mask.read = len(self._changed)
        return mask.bits

    def _bits(self, test: Demand) -> int:
        check, value = test.check, test.value
        digits = ["1" if one is not None and check(one, value) else "0" for one in self._slots]
        return int("0" + "".join(reversed(digits)), 2)

    def _best(self, left: int, count: int, limit: int) -> list[Candidate]:
        if not count:
            return []
        digits = format(left, "b")[::-1].ljust(len(self._slots), "0")
        # Walking meets one that passes every `slots / count` steps; sorting looks at `count`.
        if 3 * count * count < limit * len(self._slots):
            places = nsmallest(limit, self._standing(digits))
        else:
            places = self._walk(digits, limit)
        found = [self._slots[slot] for _, slot in places]
        return [one for one in found if one is not None]

    def _standing(self, digits: str) -> Iterable[Place]:
        slot = digits.find("1")
        while slot >= 0:
            rank = self._ranks[slot]
            assert rank is not None, "only taken slots pass"
            yield rank, slot
            slot = digits.find("1", slot + 1)

    def _walk(self, digits: str, limit: int) -> list[Place]:
        found: list[Place] = []
        for place in self._ranked:
            if digits[place[1]] == "1":
                found.append(place)
                if len(found) == limit:
                    break
        return found
