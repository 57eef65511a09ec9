"""``digestry gc``: show, apply, undo, purge, confirm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from registry.cli.exits import CLEAN, FINDINGS, CommandError
from registry.cli.offices import Ended, Office, Task
from registry.cli.output import conclude, facts, many, say, say_json, size
from registry.cli.progress import shown
from registry.domain.principals import LOCAL
from registry.http.times import rfc3339

Verb = Literal["plan", "apply", "undo", "purge", "status", "confirm"]


class Action(msgspec.Struct, frozen=True):
    """What the flags ask for; at most one thing."""

    verb: Verb
    plan: str | None = None
    collection: str = ""
    everything: bool = False


def choose(
    *,
    apply: bool,
    plan: str | None,
    undo: str | None,
    purge: bool,
    everything: bool,
    status: bool,
    confirm: bool,
) -> Action:
    """The one action that the flags mean; raises `CommandError` if they mean several."""
    asked: dict[Verb, bool] = {
        "apply": apply,
        "undo": undo is not None,
        "purge": purge,
        "status": status,
        "confirm": confirm,
    }
    chosen = [verb for verb, is_asked in asked.items() if is_asked]
    if len(chosen) > 1:
        raise CommandError(f"--{chosen[0]} and --{chosen[1]} cannot go together")
    verb: Verb = chosen[0] if chosen else "plan"
    if plan is not None and verb != "apply":
        raise CommandError("--plan goes with --apply")
    if everything and verb != "purge":
        raise CommandError("--everything goes with --purge")
    return Action(verb, plan, undo or "", everything)


def run(office: Office, action: Action, *, as_json: bool) -> int:
    """Do what was asked and report."""
    if action.verb == "confirm":
        office.confirm_collection()
        if as_json:
            say_json({"confirmed": True})
        else:
            say("collection is allowed again")
        return CLEAN
    if action.verb == "status":
        return _status(office, as_json=as_json)
    with shown(f"gc {action.verb}") as watch:
        ended = office.work(_task(action), watch)
    return _plan(ended, as_json=as_json) if action.verb == "plan" else _done(ended, as_json=as_json)


def _task(action: Action) -> Task:
    if action.verb == "plan":
        return Task("/api/v1/gc/plan", None, lambda work: work.plan_collection(LOCAL))
    if action.verb == "apply":
        return Task(
            "/api/v1/gc/apply",
            {"plan": action.plan},
            lambda work: work.apply_collection(LOCAL, action.plan),
        )
    if action.verb == "undo":
        return Task(
            "/api/v1/gc/undo",
            {"collection": action.collection},
            lambda work: work.undo_collection(LOCAL, action.collection),
        )
    return Task(
        "/api/v1/gc/purge",
        {"everything": action.everything},
        lambda work: work.purge_collected(LOCAL, everything=action.everything),
    )


def _plan(ended: Ended, *, as_json: bool) -> int:
    plan = facts(ended)
    if ended.state != "succeeded":
        return conclude(ended, (), as_json=as_json)
    lines = [
        f"{blob['digest']}  {size(blob['size_bytes'])}  {blob['state']}" for blob in plan["largest"]
    ]
    if plan["blobs"] > len(lines):
        lines.append(f"... and {plan['blobs'] - len(lines)} more")
    lines.append(
        f"{many(plan['blobs'], 'blob')} of {plan['stored_blobs']} can be collected, "
        f"{size(plan['bytes'])} of {size(plan['stored_bytes'])}"
    )
    if not plan["is_complete"]:
        lines.append("this is as much as one plan holds; the next one finds the rest")
    if plan["refused"] is not None:
        lines.append(f"collecting would be refused: {plan['refused']}")
    elif plan["blobs"]:
        lines.append(f"collect exactly this with: digestry gc --apply --plan {plan['plan']}")
    return conclude(ended, lines, as_json=as_json)


def _done(ended: Ended, *, as_json: bool) -> int:
    report = facts(ended)
    return conclude(ended, _done_lines(ended.verb, report) if report else (), as_json=as_json)


def _done_lines(verb: str, report: Mapping[str, Any]) -> list[str]:
    amount = size(report["bytes"])
    if verb == "apply":
        lines = [f"{many(report['collected'], 'blob')} collected, {amount}"]
        if report["skipped"]:
            lines.append(f"{report['skipped']} were claimed since the plan and stay")
        if report["collected"]:
            lines.append(f"bring them back with: digestry gc --undo {report['id']}")
        return lines
    if verb == "undo":
        lines = [f"{many(report['returned'], 'blob')} brought back, {amount}"]
        if not report["returned"] and not report["superseded"]:
            lines = ["nothing of that collection is in quarantine"]
        if report["superseded"]:
            lines.append(f"{report['superseded']} had been stored anew meanwhile")
        return lines
    lines = [f"{many(report['purged'], 'file')} removed for good, {amount}"]
    if report["held_until"] is not None:
        lines.append(f"a backup keeps quarantine as it is until {rfc3339(report['held_until'])}")
    return lines


def _status(office: Office, *, as_json: bool) -> int:
    status, last = office.collection_status()
    if as_json:
        say_json({"quarantine": status, "operation": last})
    else:
        say(f"collected, can be brought back: {status.collected}, {size(status.collected_bytes)}")
        say(f"damaged, set aside: {status.damaged}, {size(status.damaged_bytes)}")
        if last is not None:
            say(f"last operation: {last.verb} {last.id}, {last.state}")
        if status.off is not None:
            say(f"collection is off: {status.off}; allow it with: digestry gc --confirm")
    return FINDINGS if status.off is not None else CLEAN
