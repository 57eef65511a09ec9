"""The words a route uses to say what its caller must be allowed to do; nothing is unspoken.

``public`` is a word too: a route that anybody may call says so. A route without a word cannot be
registered.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

Permission: TypeAlias = Literal[
    "content.read",
    "content.write",
    "model.read",
    "model.create",
    "model.write",
    "version.publish",
    "alias.move",
    "run.write",
    "deploy",
    "observe",
    "namespace.admin",
    "audit.read",
    "ops",
    "admin",
    "public",
]

PERMISSIONS: Final[frozenset[str]] = frozenset(get_args(Permission))
"""Every word there is."""
