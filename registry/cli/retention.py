"""``digestry retention``: what policies would do, doing it, and what was done.

At a running server the commands ask its API; without one they open the directory and show the very
same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from registry.cli.exits import CLEAN, CommandError
from registry.cli.offices import LocalOffice, RemoteOffice, Task, configure, open_office
from registry.cli.output import conclude, exit_code, facts, many, say, say_json, size
from registry.cli.progress import shown
from registry.cli.tables import show
from registry.domain.principals import LOCAL
from registry.errors import RegistryError

if TYPE_CHECKING:
    from registry.api.wire_retention import LineAnswer
    from registry.cli.offices import Ended
    from registry.domain.operations import Operation
    from registry.services.operations import Operations
    from store.opening import Store

T = TypeVar("T")

_AT_ONCE: Final = 1000


def target_of(*, model: str | None, namespace: str | None) -> dict[str, str]:
    """What the flags name; raises `CommandError` if they name two things."""
    if model is not None and namespace is not None:
        raise CommandError("--model and --namespace cannot go together")
    given = {"model": model, "namespace": namespace}
    return {name: value for name, value in given.items() if value is not None}


def plan(
    target: Mapping[str, str],
    *,
    shows_kept: bool,
    limit: int,
    config: str | None,
    data: str | None,
    as_json: bool,
) -> int:
    """Make a plan and show its lines."""
    if limit < 1:
        raise CommandError("--limit is at least 1")
    with open_office(config=config, data=data) as office:
        ended = _work(office, "plan", _planning(target))
        report = facts(ended)
        if ended.state != "succeeded":
            return conclude(ended, (), as_json=as_json)
        actions = ("retire", "purge", "keep") if shows_kept else ("retire", "purge")
        found: list[LineAnswer] = []
        for action in actions:
            found += _lines(office, report["plan"], action, limit - len(found))
    if as_json:
        say_json(
            {
                "operation": ended.id,
                "command": "retention plan",
                "state": ended.state,
                "exit_code": exit_code(ended),
                "findings": ended.findings,
                "report": ended.report,
                "lines": found,
            }
        )
        return exit_code(ended)
    if found:
        rows = [
            (line.action, f"{line.model}:{line.version}", size(line.size), line.says)
            for line in found
        ]
        show(("ACTION", "VERSION", "SIZE", "BY"), rows, right=("SIZE",))
    return conclude(ended, _planned(report, len(found), shows_kept=shows_kept), as_json=False)


def _planning(target: Mapping[str, str]) -> Task:
    async def start(operations: Operations) -> Operation:
        from registry.domain.references import parse_model
        from registry.services.retention_plans import find_target

        named = target.get("model")
        model = None if named is None else parse_model(named, field="model")
        found = await find_target(
            operations.store, LOCAL, model=model, namespace=target.get("namespace")
        )
        return await operations.plan_retention(LOCAL, found)

    return Task("/api/v1/retention/plans", dict(target), start)


def _planned(report: Mapping[str, Any], shown_lines: int, *, shows_kept: bool) -> Sequence[str]:
    there = report["retire"] + report["purge"] + (report["keep"] if shows_kept else 0)
    lines = [f"... and {there - shown_lines} more"] if there > shown_lines else []
    lines.append(
        f"{many(report['keep'], 'version')} kept, {report['retire']} to retire, "
        f"{report['purge']} to purge"
    )
    if report["purge"]:
        most = "" if report["frees_exactly"] else "at most "
        lines.append(f"purging frees {most}{size(report['frees'])} with the next collection")
    if report["models_failed"]:
        lines.append(f"{many(report['models_failed'], 'model')} could not be judged; see the log")
    if not report["is_complete"]:
        lines.append("this is as much as one plan holds; the next one finds the rest")
    if report["retire"] or report["purge"]:
        lines.append(f"do exactly this with: digestry retention apply {report['plan']}")
    return lines


def _lines(
    office: LocalOffice | RemoteOffice, plan_id: str, action: str, limit: int
) -> list[LineAnswer]:
    """The first lines of a plan with that action."""
    if limit < 1:
        return []
    from registry.api.wire_retention import LineAnswer, line_answer
    from registry.http.cursors import Page
    from registry.services.retention_plans import list_lines

    if isinstance(office, RemoteOffice):
        found: list[LineAnswer] = []
        asked = {"action": action, "limit": str(min(limit, _AT_ONCE))}
        while True:
            path = f"/api/v1/retention/plans/{plan_id}/lines?{urlencode(asked)}"
            page = office.read(path, Page[LineAnswer])
            found += page.items
            if page.next is None or len(found) >= limit:
                return found[:limit]
            asked["after"] = page.next

    async def here(store: Store) -> list[LineAnswer]:
        page = await list_lines(store, LOCAL, plan_id, action=action, limit=limit)
        return [line_answer(line) for line in page.items]

    return _guarded(lambda: office.on_store(here))


def apply(plan_id: str, *, config: str | None, data: str | None, as_json: bool) -> int:
    """Apply a plan and tell what came of it."""
    task = Task(
        f"/api/v1/retention/plans/{_safe(plan_id)}/apply",
        None,
        lambda operations: operations.apply_retention(LOCAL, plan_id),
    )
    with open_office(config=config, data=data) as office:
        ended = _work(office, "apply", task)
    report = facts(ended)
    return conclude(ended, _applied(report) if report else (), as_json=as_json)


def _safe(plan_id: str) -> str:
    from registry.domain.ids import PLAN, is_id

    if not is_id(plan_id, PLAN):
        raise CommandError(f"no plan {plan_id}")
    return plan_id


def _applied(report: Mapping[str, Any]) -> list[str]:
    lines = [f"{many(report['retired'], 'version')} retired, {report['purged']} purged"]
    if report["skipped"]:
        lines.append(f"{report['skipped']} changed since the plan and stay")
    if report["refused"]:
        lines.append(f"{report['refused']} are needed and were refused; the plan's lines say why")
    if report["failed"]:
        lines.append(f"{report['failed']} failed, and {report['left']} are left; see the log")
    if report["purged"]:
        lines.append("collect what became free with: digestry gc --apply")
    return lines


def status(*, config: str | None, data: str | None, as_json: bool) -> int:
    """Tell where retention stands."""
    from registry.api.retention import show_retention
    from registry.api.wire_retention import RetentionAnswer
    from registry.services.operations import Operations

    every_hours = configure(config, data).retention.every_hours

    async def here(store: Store) -> RetentionAnswer:
        return await show_retention(store, Operations(store), LOCAL, every_hours)

    with open_office(config=config, data=data) as office:
        if isinstance(office, RemoteOffice):
            found = office.read("/api/v1/retention", RetentionAnswer)
        else:
            found = office.on_store(here)
    if as_json:
        say_json(found)
        return CLEAN
    say(f"policies: {found.policies}" + ("" if found.active else ", none is active"))
    say(f"applied next: {found.next_run_at or 'when asked to'}")
    total = found.total
    say(f"retired: {total.retired}, {size(total.retired_bytes)}; brought back: {total.returned}")
    cold = f"archived: {total.archived}, {size(total.archived_bytes)}"
    say(f"{cold}; back from the archive: {total.thawed}")
    say(f"purged: {total.purged}, {size(total.purged_bytes)}, freed {size(total.freed_bytes)}")
    if found.operation is not None:
        last = found.operation
        say(f"last operation: {last.verb} {last.id}, {last.state}")
    return CLEAN


def _work(office: LocalOffice | RemoteOffice, verb: str, task: Task) -> Ended:
    with shown(f"retention {verb}") as watch:
        return _guarded(lambda: office.work(task, watch))


def _guarded(run: Callable[[], T]) -> T:
    """What the registry has against it, as a command says it."""
    try:
        return run()
    except RegistryError as error:
        raise CommandError(str(error)) from error
