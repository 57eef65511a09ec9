"""May this caller do this? Asked once per request, before the handler of the matched route runs.

The guard knows the route and not yet the model, so it asks whether the word is held *anywhere*:
nobody without it need be let in. Which model is meant is known where it is found, and there
`registry.services.resolve.require_model` asks again, for that place. A principal that nobody gave
anything holds nothing.
"""

from __future__ import annotations

from registry.domain.permissions import Permission
from registry.domain.principals import Principal


def allows(principal: Principal, permission: Permission) -> bool:
    """Whether `principal` may use a route that declares `permission`, in one place at least."""
    return permission == "public" or permission in principal.rights.somewhere
