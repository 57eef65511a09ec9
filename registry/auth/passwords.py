"""Passwords: hashed with Argon2id, a few at a time, and as slowly for users who do not exist.

What is kept is the usual text form, ``$argon2id$v=19$m=65536,t=3,p=4$salt$hash``, which names its
own parameters: those of the configuration hold for what is hashed from now on, and a password that
was right is hashed anew where it was hashed with others.

**A hash costs** 64 MiB and about 0.2 s of a processor by default, on purpose. So hashing has
threads of its own, never more than `AT_ONCE`, and whoever comes while `MOST_WAITING` wait is
refused: logins *must not* take the memory or the processors from everything else.

**Nobody learns who exists.** Where there is no hash to compare with, one that nothing fits is
compared, so that the answer takes the same time.

A password is compared in normal form C (RFC 8265, OpaqueString), so that it does not matter how a
keyboard composed it. Nothing here keeps or shows one.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from registry.errors import Invalid, Throttled

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

AT_ONCE: Final = 2
MOST_WAITING: Final = 64
LEAST_CHARACTERS: Final = 10
MOST_CHARACTERS: Final = 1024


class PasswordCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a guess costs whoever stole the hashes, and a login us. The defaults are RFC 9106's."""

    memory_kib: int = 65536
    passes: int = 3
    lanes: int = 4


class Judged(msgspec.Struct, frozen=True):
    """Whether a password was right, and if so the hash to keep from now on where it changed."""

    is_right: bool
    fresh_hash: str | None = None

    def __repr__(self) -> str:
        return f"Judged({self.is_right})"


class Passwords:
    """Hashes and compares; one per application."""

    def __init__(self, cost: PasswordCost) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._waiting = 0
        self._hasher: PasswordHasher | None = None
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """What is kept of a password."""
        return await self._run(lambda: self._prepared().hash(_prepared(password)))

    async def judge(self, password: str, kept: str | None) -> Judged:
        """Whether this is the password; `kept` is None where there is none, and takes as long."""
        return await self._run(lambda: self._judge(_prepared(password), kept))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise Throttled(2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _judge(self, password: str, kept: str | None) -> Judged:
        from argon2.exceptions import InvalidHashError, VerificationError

        hasher = self._prepared()
        try:
            hasher.verify(kept or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return Judged(False)
        if kept is None:  # nobody's password was drawn and forgotten
            return Judged(False)
        return Judged(True, hasher.hash(password) if hasher.check_needs_rehash(kept) else None)

    def _prepared(self) -> PasswordHasher:
        """The hasher, with nobody's hash made: by the first use, whomever it was about."""
        if self._hasher is None or not self._nobodys:
            from argon2 import PasswordHasher  # 20 ms, for those who have passwords

            hasher = PasswordHasher(
                time_cost=self._cost.passes,
                memory_cost=self._cost.memory_kib,
                parallelism=self._cost.lanes,
            )
            self._nobodys = hasher.hash(secrets.token_hex(32))
            self._hasher = hasher
        return self._hasher


def parse_password(text: str, *, names: tuple[str, ...] = (), field: str = "password") -> str:
    """Check a password that somebody wants to have; raises `Invalid` without repeating it.

    Long, and not what everybody knows of them: `names` are the username and such.
    """
    password = _prepared(text)
    if len(password) < LEAST_CHARACTERS:
        reason = f"is shorter than {LEAST_CHARACTERS} characters"
    elif len(password) > MOST_CHARACTERS:
        reason = f"is longer than {MOST_CHARACTERS} characters"
    elif len(set(password)) < 4:
        reason = "repeats very few characters"
    elif password.casefold() in {name.casefold() for name in names}:
        reason = "is the name"
    else:
        return password
    raise Invalid(field, reason, code="password_weak")


def _prepared(password: str) -> str:
    return unicodedata.normalize("NFC", password)
