"""``digestry scrub`` and ``digestry fsck``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from registry.cli.exits import CommandError
from registry.cli.offices import Ended, Office, Task
from registry.cli.output import conclude, facts, finding_lines, many, size
from registry.cli.progress import shown
from registry.domain.principals import LOCAL
from store.digest import Digest, InvalidDigest

_RATE: Final = re.compile(r"([0-9]{1,12})([KMGT]?)(?:i?B)?(?:/s)?\Z", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class ScrubQuestion(msgspec.Struct, frozen=True):
    """What to verify and how fast."""

    rate_bytes_per_second: int | None
    digests: list[Digest]


def scrub_question(*, rate: str | None, digests: Sequence[str]) -> ScrubQuestion:
    """The flags as values; raises `CommandError` for what they cannot mean."""
    try:
        wanted = [Digest.parse(_full(text)) for text in digests]
    except InvalidDigest as error:
        raise CommandError(str(error)) from error
    return ScrubQuestion(None if rate is None else rate_of(rate), wanted)


def rate_of(text: str) -> int:
    """``50M`` as bytes a second, in powers of 1024."""
    match = _RATE.match(text.strip())
    rate = 0 if match is None else int(match[1]) * 1024 ** _POWERS[match[2].upper()]
    if rate < 1:
        raise CommandError(f"--rate {text!r} is not a number of bytes a second, such as 50M")
    return rate


def scrub(office: Office, question: ScrubQuestion, *, as_json: bool) -> int:
    """Verify, show how far it is, report."""
    task = Task(
        "/api/v1/scrub",
        {
            "rate_bytes_per_second": question.rate_bytes_per_second,
            "digests": [str(digest) for digest in question.digests],
        },
        lambda operations: operations.scrub(
            LOCAL,
            rate_bytes_per_second=question.rate_bytes_per_second,
            only=question.digests,
        ),
    )
    with shown("scrub") as watch:
        ended = office.work(task, watch)
    return conclude(ended, _scrub_lines(ended), as_json=as_json)


def fsck(office: Office, *, repair: bool, as_json: bool) -> int:
    """Compare, show how far it is, report."""
    task = Task(
        "/api/v1/fsck",
        {"repair": repair},
        lambda operations: operations.fsck(LOCAL, repair=repair),
    )
    with shown("fsck") as watch:
        ended = office.work(task, watch)
    return conclude(ended, _fsck_lines(ended), as_json=as_json)


def _scrub_lines(ended: Ended) -> list[str]:
    report = facts(ended)
    read = f"{many(report.get('blobs', 0), 'blob')} read, {size(report.get('bytes', 0))}"
    found = f"{many(ended.findings, 'finding')}" if ended.findings else "every byte is right"
    return [*finding_lines(ended), f"{read}: {found}"]


def _fsck_lines(ended: Ended) -> list[str]:
    report = facts(ended)
    seen = ", ".join(
        f"{report.get(name, 0)} {name}" for name in ("rows", "files", "uploads", "quarantined")
    )
    found = f"{many(ended.findings, 'finding')}" if ended.findings else "index and directory agree"
    return [*finding_lines(ended), f"{seen}: {found}"]


def _full(text: str) -> str:
    """A bare hexadecimal name means SHA-256, as it does in URLs."""
    return text if ":" in text else f"sha256:{text}"
