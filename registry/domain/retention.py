"""Which versions of a model are kept, which are retired, and which are purged: one pure function.

The rule, as somebody who runs a registry could sign it: *Nothing happens without a policy. Of a
model the last N versions stay; an older one is retired when it is old enough, and purged when it
has been retired for long enough, unless something protects it.* Retired means: still there, still
readable, never `latest`. Purged means: gone, but for its number and label, which stay burnt.

**The nearest policy is the whole policy**: the model's own, else its namespace's, else the one of
the registry. They are not mixed. One that is not active ends the search: what it covers is kept.

**What protects.** All rules that speak for keeping a version are named, not only the first:

==============  ===========================================================  =======  =====
rule            a version is kept because                                    retires  purges
==============  ===========================================================  =======  =====
``hold``        its model is under a legal hold                              no       no
``alias``       an alias points at it, `latest` and `main` included          no       no
``deployment``  it runs somewhere                                            no       no
``rollback``    something that runs would roll back to it                    no       no
``binding``     a provider binding of it is in use                           no       no
``draft``       a draft or a running upload began when `main` pointed at it  no       no
``newest``      it is among the last N living versions                       no       no
``descendant``  something was made from it (optional)                        no       no
``release``     its label is a SemVer release (optional)                     no       no
``status``      it has a status that is protected (optional)                 no       no
``tag``         it has a tag that is protected (optional)                    no       no
``young``       it is younger than the age, since it was made or came back   no
``upload``      uploads into its model are running; afterwards it may go              no
``retired``     it was retired, and not long enough ago, or policy says      (is)     no
                never to purge
==============  ===========================================================  =======  =====

What is kept outright for its policy is said so: ``no_policy``, ``inactive``. What goes says by
which rule as well: ``surplus`` (older than the last N, and old enough) and ``expired`` (retired for
long enough).

`decide` must never answer other than keep while a rule protects; protecting more never removes
more; keeping a larger N never retires more; deciding again after what was decided was done changes
nothing. `tests.registry.domain.test_retention` holds it to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.names import fold
from registry.domain.statuses import Status
from registry.domain.tags import parse_tag
from store.clock import SECOND

Action: TypeAlias = Literal["keep", "retire", "purge"]
Scope: TypeAlias = Literal["registry", "namespace", "model"]
RuleName: TypeAlias = Literal[
    "hold",
    "alias",
    "deployment",
    "rollback",
    "binding",
    "draft",
    "newest",
    "descendant",
    "release",
    "status",
    "tag",
    "young",
    "upload",
    "retired",
    "no_policy",
    "inactive",
    "surplus",
    "expired",
]
PlanState: TypeAlias = Literal["making", "ready", "applying", "applied"]
Outcome: TypeAlias = Literal["retired", "purged", "skipped", "refused", "failed"]

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

MOST_KEPT: Final = 10
"""The largest N."""

DAY: Final = 86400 * SECOND
MOST_PROTECTED_TAGS: Final = 100


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What shall become of the versions of a model, of a namespace's models, or of all."""

    id: str
    scope: Scope
    namespace_id: str | None = None
    model_id: str | None = None
    is_active: bool = True
    keep_last: int = 3
    retire_after_days: int = 90
    purge_after_days: int | None = None
    """Since it was retired; None is never."""
    protect_descendants: bool = True
    protect_releases: bool = False
    protect_statuses: tuple[Status, ...] = ("production",)
    protect_tags: tuple[str, ...] = ()
    """As ``key``, whatever its value, or ``key=value``."""
    description: str = ""
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1


class Named(msgspec.Struct, frozen=True):
    """How many of something there are, and what one of them is called."""

    count: int = 0
    example: str = ""

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - 1
        return f"{self.example} and {more} more" if more > 0 else self.example


NONE: Final = Named()


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of the whole model. `newest` are numbers of living versions, the last first.

    Retired versions live too. Of `newest` the first `MOST_KEPT` are enough.
    """

    has_legal_hold: bool = False
    has_running_uploads: bool = False
    newest: tuple[int, ...] = ()


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of one living version, as far as retention goes."""

    id: str
    number: int
    label: str | None = None
    status: str = "registered"
    is_release: bool = False
    created_at: int
    returned_at: int | None = None
    """When it last was brought back from retirement."""
    retired_at: int | None = None
    aliases: Named = NONE
    deployments: Named = NONE
    rollbacks: Named = NONE
    bindings: Named = NONE
    descendants: Named = NONE
    is_base_of_draft: bool = False
    tags: frozenset[str] = frozenset()
    """Folded, each as ``key=value``."""

    @property
    def age_counts_from(self) -> int:
        return max(self.created_at, self.returned_at or 0)


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule that speaks for what happens to a version: which, what it saw, and until when."""

    name: RuleName
    detail: str = ""
    until: int | None = None


class Judgement(msgspec.Struct, frozen=True):
    """What happens to a version, and all rules that say so."""

    id: str
    action: Action
    rules: tuple[Rule, ...]


def decide(
    policy: Policy | None, model: ModelFacts, versions: Iterable[VersionFacts], now: int
) -> list[Judgement]:
    """What happens to each of these living versions of a model at this moment."""
    return [_judge(policy, model, version, now) for version in versions]


def _judge(policy: Policy | None, model: ModelFacts, version: VersionFacts, now: int) -> Judgement:
    if policy is None:
        return Judgement(version.id, "keep", (Rule("no_policy"),))
    if not policy.is_active:
        return Judgement(version.id, "keep", (Rule("inactive", policy.id),))
    protecting = _in_use(model, version) + _protected(policy, model, version)
    if version.retired_at is None:
        protecting += _too_young(policy, version, now)
        action: Action = "retire"
        cause = Rule("surplus", f"not among the last {policy.keep_last}")
    else:
        protecting += _still_retired(policy, model, version, now)
        action = "purge"
        cause = Rule("expired", f"retired for {policy.purge_after_days} days")
    if protecting:
        return Judgement(version.id, "keep", tuple(protecting))
    return Judgement(version.id, action, (cause,))


def _in_use(model: ModelFacts, version: VersionFacts) -> list[Rule]:
    """What no policy can do without."""
    found = []
    if model.has_legal_hold:
        found.append(Rule("hold"))
    uses: tuple[tuple[RuleName, Named], ...] = (
        ("alias", version.aliases),
        ("deployment", version.deployments),
        ("rollback", version.rollbacks),
        ("binding", version.bindings),
    )
    found += [Rule(name, str(named)) for name, named in uses if named]
    if version.is_base_of_draft:
        found.append(Rule("draft"))
    return found


def _protected(policy: Policy, model: ModelFacts, version: VersionFacts) -> list[Rule]:
    """What this policy says to keep."""
    found = []
    if version.number in model.newest[: policy.keep_last]:
        found.append(Rule("newest", f"among the last {policy.keep_last}"))
    if policy.protect_descendants and version.descendants:
        found.append(Rule("descendant", str(version.descendants)))
    if policy.protect_releases and version.is_release:
        found.append(Rule("release", version.label or ""))
    if version.status in policy.protect_statuses:
        found.append(Rule("status", version.status))
    found += [Rule("tag", tag) for tag in _tags_of(policy, version)]
    return found


def _tags_of(policy: Policy, version: VersionFacts) -> list[str]:
    if not version.tags:
        return []
    keys = {tag.partition("=")[0] for tag in version.tags}
    found = []
    for tag in policy.protect_tags:
        key, value = parse_tag(tag)
        folded = fold(key)
        if folded in keys if value is None else f"{folded}={fold(value)}" in version.tags:
            found.append(tag)
    return found


def _too_young(policy: Policy, version: VersionFacts, now: int) -> list[Rule]:
    until = version.age_counts_from + policy.retire_after_days * DAY
    return [Rule("young", until=until)] if now < until else []


def _still_retired(
    policy: Policy, model: ModelFacts, version: VersionFacts, now: int
) -> list[Rule]:
    found = []
    if policy.purge_after_days is None:
        found.append(Rule("retired", "never purged by this policy"))
    else:
        until = (version.retired_at or 0) + policy.purge_after_days * DAY
        if now < until:
            found.append(Rule("retired", until=until))
    if model.has_running_uploads:
        found.append(Rule("upload"))
    return found


def sentence(rules: Sequence[Rule]) -> str:
    """Rules on one line, for people: ``alias (champion), newest (among the last 3)``."""
    return ", ".join(rule.name + (f" ({rule.detail})" if rule.detail else "") for rule in rules)
