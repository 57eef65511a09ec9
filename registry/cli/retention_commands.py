"""The flags and help of ``digestry retention``; what it does is in `registry.cli.retention`."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import App, Parameter

from registry.cli.arguments import Config, Data, Json, tells_exits

retention: Final = App(
    name="retention",
    help="Show which versions policies would retire and purge, and do so.",
    help_format="plaintext",
)


@retention.command
@tells_exits
def plan(
    *,
    model: Annotated[str | None, Parameter(help="Only of this model, by name or id.")] = None,
    namespace: Annotated[str | None, Parameter(help="Only of models in this namespace.")] = None,
    kept: Annotated[
        bool, Parameter(negative=(), help="Show what is kept too, and by which rules.")
    ] = False,
    limit: Annotated[int, Parameter(help="Most lines shown (default 100).")] = 100,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Find out what would become of each version; nothing else changes.

    The plan is kept and can be applied. Works through the running server, or on the directory
    itself when none runs.
    """
    from registry.cli import retention as work

    target = work.target_of(model=model, namespace=namespace)
    return work.plan(target, shows_kept=kept, limit=limit, config=config, data=data, as_json=json)


@retention.command
@tells_exits
def apply(
    plan: Annotated[str, Parameter(name="PLAN")],
    /,
    *,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Do what a plan says, as far as it is still true.

    Each version is judged once more. What changed since the plan is skipped; what a guard keeps is
    refused, named, and counts as a finding.
    """
    from registry.cli import retention as work

    return work.apply(plan, config=config, data=data, as_json=json)


@retention.command
@tells_exits
def status(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Tell how many policies there are, when they are applied next, and what was done so far."""
    from registry.cli import retention as work

    return work.status(config=config, data=data, as_json=json)
