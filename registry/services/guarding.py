"""Asking the promotion guards before an alias or a status moves, whichever door asks for it.

The checks are the first of `registry.services.moves`, so nothing walks round them: publishing
with a status, rolling back, restoring and importing end there, too. A model that is renamed into
another namespace takes its aliases and statuses there, so it is held against that one's guards.

- **Automatic moves.** A version that `latest` or `main` would follow to, and must not, is passed
  over: publishing succeeds and the alias stays, because only what is published can be reviewed.
  A guard of both is asked once, and overridden once.
- **Taking an alias away** promotes nothing: only `movers` are asked.
- **Override.** Who administers the namespace may say why a guard does not hold this once, in the
  header ``Digestry-Override``. It is audited with the reason and with every rule that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from registry.catalog.aliases import aliases_after
from registry.catalog.audit import Entry, record
from registry.catalog.guards import covering
from registry.catalog.memberships import team_ids_of
from registry.catalog.metrics import latest_metrics
from registry.catalog.reviews import count_verdicts
from registry.catalog.scores import latest_scores, latest_values
from registry.catalog.version_lists import VersionFilter, versions_of_model
from registry.catalog.versions import find_version_by_revision
from registry.domain.guards import OVERALL, Facts, Failure, Guard, failures
from registry.domain.models import Model, Version
from registry.domain.principals import Principal, place_of
from registry.domain.references import ModelReference, VersionReference
from registry.domain.scoring.metrics import METRICS, overall
from registry.domain.wishes import AliasWish, StatusWish, Together
from registry.errors import PolicyViolation
from registry.services.resolve import require_model
from registry.services.run_places import require_version
from store.index.transactions import Tx
from store.opening import Store

OVERRIDE_WORD: Final = "namespace.admin"

MOST_ASKED: Final = 1000
"""Aliases, and versions of a status, that a renamed model is judged by."""

ANY_NUMBER: Final = 2**53


class GuardsFailed(PolicyViolation):
    """Guards that cover a move do not hold; `failed` lists every rule."""

    def __init__(self, what: str, failed: list[Failure], *, hint: str = "") -> None:
        self.failed = failed
        rules = "; ".join(f"{one.rule}: {one.required}, found {one.found}" for one in failed)
        super().__init__(
            "guards",
            f"{what} is held back: {rules}{hint}",
            code="guards_failed",
            details={"failed": [msgspec.structs.asdict(one) for one in failed]},
        )


async def check_alias(tx: Tx, principal: Principal, wish: AliasWish) -> None:
    """Raise `GuardsFailed` unless every guard of this alias holds."""
    together = wish.together or Together((wish.name,))
    if together.guards is None:
        together.guards = await covering(tx, wish.model.id, wish.model.namespace_id)
    asked = [guard for guard in together.guards if guard.covers_alias(wish.name)]
    if not asked or (wish.is_automatic and wish.to is None):
        return
    unasked = [guard for guard in asked if guard.id not in together.failed]
    if unasked:
        together.failed |= {guard.id: [] for guard in unasked}
        for failure in await _failed(tx, principal, unasked, wish.to):
            together.failed[failure.guard].append(failure)
    failed = [
        failure
        for guard in asked
        if guard.id not in together.overridden
        for failure in together.failed[guard.id]
    ]
    lacking = {failure.guard for failure in failed}
    held_back = [
        f"@{name}"
        for name in together.names
        if any(guard.id in lacking and guard.covers_alias(name) for guard in asked)
    ]
    await _settle(tx, principal, wish.model, ", ".join(held_back), failed)
    together.overridden |= lacking


async def check_status(tx: Tx, principal: Principal, wish: StatusWish) -> None:
    """Raise `GuardsFailed` unless every guard of this status holds."""
    found = await covering(tx, wish.model.id, wish.model.namespace_id)
    asked = [guard for guard in found if guard.covers_status(wish.status)]
    if asked:
        failed = await _failed_for(tx, principal, asked, wish.version)
        await _settle(tx, principal, wish.model, f"status {wish.status}", failed)


async def check_return(tx: Tx, principal: Principal, model: Model, version: Version) -> None:
    """Raise `GuardsFailed` where a deleted version may not come back to the status it had."""
    wish = StatusWish(model=model, version=version, status=version.status, reason="restored")
    await check_status(tx, principal, wish)


async def check_place(
    tx: Tx, principal: Principal, model: Model, namespace_id: str, *, is_new: bool
) -> None:
    """Raise `GuardsFailed` where a model brings along what guards hold back where it will be.

    Its own guards came with it, so they are asked only where it was gone meanwhile.
    """
    # No model has an empty id: then the namespace's own are found.
    found = await covering(tx, "" if is_new else model.id, namespace_id)
    if not found:
        return
    failed = list[Failure]()
    for alias in await aliases_after(tx, model.id, "", MOST_ASKED):
        asked = [guard for guard in found if guard.covers_alias(alias.name)]
        if asked:
            failed += await _failed(tx, principal, asked, alias.revision)
    for status in sorted({status for guard in found for status in guard.statuses}):
        asked = [guard for guard in found if guard.covers_status(status)]
        wanted = VersionFilter(status=status)
        for version in await versions_of_model(
            tx, model.id, wanted, ANY_NUMBER, MOST_ASKED, is_deleted=False
        ):
            failed += await _failed_for(tx, principal, asked, version)
    await _settle(tx, principal, model, f"moving {model.name}", failed)


async def check_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    reference: VersionReference,
    *,
    alias: str | None,
    status: str | None,
) -> tuple[list[Guard], list[Failure]]:
    """The guards that such a move would ask, and what does not hold of a version now."""

    async def unit(tx: Tx) -> tuple[list[Guard], list[Failure]]:
        found = await require_model(tx, principal, model)
        _, version = await require_version(tx, principal, found, reference)
        asked = [
            guard
            for guard in await covering(tx, found.id, found.namespace_id)
            if (alias is not None and guard.covers_alias(alias))
            or (status is not None and guard.covers_status(status))
        ]
        return asked, await _failed_for(tx, principal, asked, version)

    return await store.index.read(unit)


async def _failed(
    tx: Tx, principal: Principal, asked: list[Guard], revision: str | None
) -> list[Failure]:
    if revision is None:
        return await _failed_by(tx, principal, asked, None)
    version = await find_version_by_revision(tx, revision)
    if version is None:  # a revision that was never published has no evidence of anything
        return await _failed_by(tx, principal, asked, Facts())
    return await _failed_for(tx, principal, asked, version)


async def _failed_for(
    tx: Tx, principal: Principal, asked: list[Guard], version: Version
) -> list[Failure]:
    facts = await _facts(tx, asked, version) if asked else None
    return await _failed_by(tx, principal, asked, facts)


async def _failed_by(
    tx: Tx, principal: Principal, asked: Sequence[Guard], facts: Facts | None
) -> list[Failure]:
    mover = frozenset((principal.id,))
    if any(guard.rules.movers for guard in asked):
        mover |= frozenset(await team_ids_of(tx, principal.id))
    return [failure for guard in asked for failure in failures(guard, facts, mover)]


async def _facts(tx: Tx, asked: list[Guard], version: Version) -> Facts:
    """What the rules of these guards ask for, and no more."""
    rules = [guard.rules for guard in asked]
    facts = Facts()
    if any(rule.approvals for rule in rules):
        reviews = await count_verdicts(tx, version.id)
        facts = msgspec.structs.replace(
            facts, approvals=reviews.approvals, rejections=reviews.rejections
        )
    if any(rule.scores for rule in rules):
        values = (await latest_values(tx, [version.id], METRICS)).get(version.id, {})
        mean = {} if not values else {OVERALL: overall(values).value}
        facts = msgspec.structs.replace(facts, scores={**values, **mean})
    if any(rule.metrics for rule in rules):
        latest = await latest_metrics(tx, [version.id], per="split")
        facts = msgspec.structs.replace(
            facts, metrics={(one.name, one.split): one.value for one in latest}
        )
    if any(rule.licences for rule in rules):
        facts = msgspec.structs.replace(facts, licence=await _licence(tx, version))
    return facts


async def _licence(tx: Tx, version: Version) -> str | None:
    """The licence that the version was rated to have."""
    for score in await latest_scores(tx, version.id, ["licence"]):
        found = msgspec.json.decode(score.evidence).get("licence")
        return None if found is None else str(found)
    return None


async def _settle(
    tx: Tx, principal: Principal, model: Model, what: str, failed: list[Failure]
) -> None:
    """Refuse, unless nothing failed or somebody who may says why it shall move all the same."""
    if not failed:
        return
    failed = list(dict.fromkeys(failed))  # several aliases or versions may lack the same
    if not principal.override:
        raise GuardsFailed(what, failed)
    if not principal.may(OVERRIDE_WORD, place_of(model)):
        raise GuardsFailed(what, failed, hint="; overriding takes namespace.admin")
    entry = Entry(
        action="override",
        kind="guard",
        id=failed[0].guard,
        name=f"{what} of {model.name}",
        model=model.id,
        after={"failed": [msgspec.structs.asdict(one) for one in failed]},
        reason=principal.override,
    )
    await record(tx, principal, entry)
