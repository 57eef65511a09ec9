"""May this caller do this? Asked once per request, before the handler of the matched route runs.

In open mode the principal ``local`` may do everything, because only the machine's own users reach
the server. Every other principal may do nothing that is not ``public``: a principal that this
module does not know *must* be refused.
"""

from __future__ import annotations

from registry.domain.permissions import Permission
from registry.domain.principals import LOCAL, Principal


def allows(principal: Principal, permission: Permission) -> bool:
    """Whether `principal` may use a route that declares `permission`."""
    return permission == "public" or principal.id == LOCAL.id
