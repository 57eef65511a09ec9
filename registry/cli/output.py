"""What a command prints, text for people or one JSON document, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from registry.cli.exits import CLEAN, FAILED, FINDINGS, REFUSED, complain, printable
from registry.cli.offices import Ended
from registry.domain.sizes import size

__all__ = ["conclude", "exit_code", "facts", "finding_lines", "many", "say", "say_json", "size"]


def say(line: str) -> None:
    """One line for people, safe for their terminal."""
    print(printable(line))


def say_json(value: Any) -> None:
    """The one document of a command with ``--json``."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def exit_code(ended: Ended) -> int:
    """What the outcome of an operation means to a script."""
    if ended.state == "succeeded":
        return FINDINGS if ended.findings else CLEAN
    if ended.failure is not None and ended.failure.is_refusal:
        return REFUSED
    return FAILED


def conclude(ended: Ended, lines: Sequence[str], *, as_json: bool) -> int:
    """Print the outcome, in text if it has a report, and return the exit code."""
    code = exit_code(ended)
    if as_json:
        say_json(
            {
                "operation": ended.id,
                "command": f"{ended.group} {ended.verb}",
                "state": ended.state,
                "exit_code": code,
                "findings": ended.findings,
                "report": ended.report,
                "failure": ended.failure,
            }
        )
        return code
    if ended.state == "succeeded":
        for line in lines:
            say(line)
    else:
        reason = "" if ended.failure is None else f": {ended.failure.reason}"
        complain(f"{ended.group} {ended.verb} {ended.state}{reason}")
    return code


def facts(ended: Ended) -> Mapping[str, Any]:
    """The report as plain values; empty where there is none."""
    found = msgspec.json.decode(ended.report)
    return found if isinstance(found, dict) else {}


def finding_lines(ended: Ended) -> list[str]:
    """One line per finding, and one for those that were left out."""
    findings = facts(ended).get("findings", [])
    lines = [
        f"{entry['digest']}  {entry['problem']}; action: {entry['action']}" for entry in findings
    ]
    if ended.findings > len(findings):
        lines.append(f"... and {ended.findings - len(findings)} more")
    return lines


def many(count: int, noun: str) -> str:
    """``1 blob``, ``2 blobs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
