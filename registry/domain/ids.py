"""Identifiers: a prefix that says of what, then 26 characters that sort by time of making.

The first ten characters are milliseconds since the epoch, the rest is random, both in base 32
without letters that look like digits. Rows made together lie together in the index.
"""

from __future__ import annotations

import os
import re
from collections import deque
from functools import lru_cache
from typing import Final

MODEL: Final = "mdl_"
VERSION: Final = "ver_"
NAMESPACE: Final = "nsp_"
TEAM: Final = "tea_"
TAG: Final = "tag_"
FOLDER: Final = "fld_"
FOLDER_UPLOAD: Final = "fup_"
LINEAGE: Final = "lin_"
EXPERIMENT: Final = "exp_"
RUN: Final = "run_"
WEBHOOK: Final = "whk_"
REVIEW: Final = "rev_"
RATING: Final = "scr_"
BINDING: Final = "bnd_"
ENVIRONMENT: Final = "env_"
DEPLOYMENT: Final = "dep_"
POLICY: Final = "pol_"
PLAN: Final = "pln_"
GUARD: Final = "grd_"
USER: Final = "usr_"
GRANT: Final = "grt_"
TOKEN: Final = "tok_"  # noqa: S105 - a prefix, no secret
SESSION: Final = "ses_"

PREFIXES: Final = frozenset(
    (
        MODEL,
        VERSION,
        FOLDER,
        FOLDER_UPLOAD,
        "als_",
        "aud_",
        BINDING,
        DEPLOYMENT,
        ENVIRONMENT,
        EXPERIMENT,
        GRANT,
        GUARD,
        "imp_",
        LINEAGE,
        NAMESPACE,
        PLAN,
        POLICY,
        REVIEW,
        RUN,
        RATING,
        SESSION,
        TAG,
        TEAM,
        TOKEN,
        "upl_",
        USER,
        WEBHOOK,
    )
)
"""Every prefix in use or set aside; no model's name may start with one."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS: Final = 10
_RANDOM_DIGITS: Final = 16
_TIMES_REMEMBERED: Final = 8
"""Of one moment several ids are made, for one request or many."""

_ID: Final = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}\Z")


_DIGIT_OF_BYTE: Final = (_ALPHABET * 8).encode()
"""Each digit as often as any other."""

_REVISION_BYTES: Final = 20
_ASKED_AT_ONCE: Final = 64
_random: Final = deque[bytes]()
"""From the kernel, for one id each, of whichever thread takes it: asking it for each takes longer
than making five ids, and lets go of the interpreter each time."""
os.register_at_fork(after_in_child=_random.clear)


def _random_bytes() -> bytes:
    """As many as a revision needs, given out once."""
    try:
        return _random.popleft()
    except IndexError:
        several = os.urandom(_ASKED_AT_ONCE * _REVISION_BYTES)
        starts = range(0, len(several), _REVISION_BYTES)
        first, *others = (several[start : start + _REVISION_BYTES] for start in starts)
        _random.extend(others)
        return first


def new_id(prefix: str, now: int) -> str:
    """A fresh id; `now` is in microseconds since the epoch."""
    random = _random_bytes()[:_RANDOM_DIGITS].translate(_DIGIT_OF_BYTE)
    return prefix + _time_digits(now // 1000) + random.decode()


def new_revision_id() -> str:
    """40 random hexadecimal digits, never all decimal: such a one would read as a number."""
    while True:
        found = _random_bytes().hex()
        if not found.isdecimal():
            return found


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the form of an id with this prefix."""
    return text.startswith(prefix) and _ID.match(text) is not None


@lru_cache(_TIMES_REMEMBERED)
def _time_digits(milliseconds: int) -> str:
    starts = range(5 * (_TIME_DIGITS - 1), -1, -5)
    return "".join([_ALPHABET[milliseconds >> start & 31] for start in starts])
