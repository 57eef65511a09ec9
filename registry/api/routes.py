"""The whole native URL map on one screen; the order matters where two patterns match.

======================================  ===========================================================
module                                  addresses
======================================  ===========================================================
`registry.api.index`                    ``/``
`registry.api.health`                   ``/healthz`` ``/readyz`` ``/metrics``, ``stats``, ``health``
`registry.api.blobs`                    ``/blobs`` ``/api/v1/blobs/missing``
`registry.api.blob_tars`                ``/api/v1/blobs.tar``
`registry.api.pins`                     ``/api/v1/pins``
`registry.api.files`                    ``/models``
`registry.api.registering`              ``/api/v1/models/{model}/versions`` (``POST``)
`registry.api.version_lists`            ``/api/v1/versions``, lists and the latest of a model
`registry.api.versions`                 ``/api/v1/models/{model}/versions/{version}``
`registry.api.diff`                     ``…/versions/{version}/diff/{other}``
`registry.api.aliases`                  ``/api/v1/models/{model}/aliases``
`registry.api.lineage`                  ``/api/v1/lineage`` and under a version
`registry.api.experiments`               ``/api/v1/experiments``
`registry.api.runs`                     ``/api/v1/runs``, ``/api/v1/runs/costs``
`registry.api.series`                   ``/api/v1/runs/{run}/metrics``
`registry.api.metrics`                  ``/api/v1/metrics`` and under a version
`registry.api.environments`             ``/api/v1/environments``
`registry.api.deployments`              ``/api/v1/deployments`` with their ``events``
`registry.api.scores`                   ``…/rate`` ``…/scores`` under a version, ``/api/v1/scores``
`registry.api.reviews`                  ``…/reviews`` under a version
`registry.api.bindings`                 ``/api/v1/bindings`` with ``observations``
`registry.api.resolve`                  ``/api/v1/resolve``
`registry.api.audit`                    ``/api/v1/audit`` with ``head`` and ``verify``
`registry.api.audit_export`             ``/api/v1/audit/export``
`registry.api.events`                   ``/api/v1/events``
`registry.api.downloads`                ``…/downloads`` under a model and a version
`registry.api.documentation`            ``/openapi.json`` ``/docs`` ``/redoc``
`registry.api.models`                   ``/api/v1/models``
`registry.api.former_names`             ``/api/v1/models/{model}/former-names``
`registry.api.cards`                    ``/api/v1/models/{model}/card``
`registry.api.exports`                  ``/api/v1/models/{model}/export`` ``/api/v1/imports``
`registry.api.search`                   ``/api/v1/search``
`registry.api.tags`                     ``/api/v1/tags`` ``/api/v1/models/{model}/…/tags``
`registry.api.logins`                   ``/api/v1/login`` ``logout`` ``register`` ``me``
`registry.api.oidc`                     ``/api/v1/login/oidc``
`registry.api.users`                    ``/api/v1/users``
`registry.api.tokens`                   ``/api/v1/tokens``
`registry.api.teams`                    ``/api/v1/teams``
`registry.api.memberships`              ``/api/v1/teams/{team}/members``
`registry.api.grants`                   ``/api/v1/grants``
`registry.api.namespaces`               ``/api/v1/namespaces``
`registry.api.storage`                  ``…/usage`` ``…/storage`` ``…/owners``
`registry.api.webhooks`                 ``/api/v1/webhooks`` with ``deliveries``
`registry.api.analytics`                ``/api/v1/analytics``
`registry.api.retention`                ``/api/v1/retention``, policies and plans
`registry.api.archive`                  ``/api/v1/archive``, the cold tier
`registry.api.operations`               ``/api/v1/gc`` ``scrub`` ``fsck`` ``operations``
`registry.api.holds`                    ``/api/v1/holds``
`registry.api.backups`                  ``/api/v1/backups``
`registry.api.browser_sessions`         ``/api/v1/session-cookie``
`registry.api.guards`                   ``/api/v1/guards``, and under a version
`registry.api.signing`                  ``/api/v1/signed-urls``
======================================  ===========================================================

Foreign protocols bring their own lists; `registry.app` puts `UNMATCHED` behind all of them.
"""

from __future__ import annotations

from typing import Final

from registry.api import (
    aliases,
    analytics,
    archive,
    audit,
    audit_export,
    backups,
    bindings,
    blob_tars,
    blobs,
    browser_sessions,
    cards,
    deployments,
    diff,
    documentation,
    downloads,
    environments,
    events,
    experiments,
    exports,
    files,
    former_names,
    grants,
    guards,
    health,
    holds,
    index,
    lineage,
    logins,
    memberships,
    metrics,
    models,
    namespaces,
    oidc,
    operations,
    pins,
    registering,
    resolve,
    retention,
    reviews,
    runs,
    scores,
    search,
    series,
    signing,
    storage,
    tags,
    teams,
    tokens,
    unmatched,
    users,
    version_lists,
    versions,
    webhooks,
)
from registry.http.routing import Route

ROUTES: Final[list[Route]] = [
    *index.ROUTES,
    *health.ROUTES,
    *documentation.ROUTES,
    *blobs.ROUTES,
    *blob_tars.ROUTES,
    *pins.ROUTES,
    *files.ROUTES,
    *registering.ROUTES,  # ahead of its neighbours, each of which is tried before it
    *models.ROUTES,
    *former_names.ROUTES,
    *cards.ROUTES,
    *exports.ROUTES,
    *version_lists.ROUTES,
    *versions.ROUTES,
    *diff.ROUTES,
    *aliases.ROUTES,
    *lineage.ROUTES,
    *downloads.ROUTES,
    *experiments.ROUTES,
    *runs.ROUTES,
    *series.ROUTES,
    *metrics.ROUTES,
    *environments.ROUTES,
    *deployments.ROUTES,
    *scores.ROUTES,
    *reviews.ROUTES,
    *bindings.ROUTES,
    *resolve.ROUTES,
    *audit.ROUTES,
    *audit_export.ROUTES,
    *events.ROUTES,
    *search.ROUTES,
    *tags.ROUTES,
    *logins.ROUTES,
    *oidc.ROUTES,
    *users.ROUTES,
    *tokens.ROUTES,
    *teams.ROUTES,
    *memberships.ROUTES,
    *grants.ROUTES,
    *namespaces.ROUTES,
    *storage.ROUTES,
    *webhooks.ROUTES,
    *analytics.ROUTES,
    *retention.ROUTES,
    *archive.ROUTES,
    *operations.ROUTES,
    *holds.ROUTES,
    *backups.ROUTES,
    *signing.ROUTES,
    *guards.ROUTES,
    *browser_sessions.ROUTES,
]

UNMATCHED: Final[list[Route]] = unmatched.ROUTES
"""Takes every address that is left; must come last."""
