"""Deployments: a version that runs somewhere, where it stands, and what its history says.

A deployment moves between statuses as whoever runs it reports::

    deploying  -> healthy, degraded, failed, terminated
    healthy    -> degraded, deploying, failed, terminated
    degraded   -> healthy, deploying, failed, terminated
    failed     -> deploying, terminated
    terminated -> (final)

Each change is an **event**, kept as long as the deployment. Those that bring a version (deploy,
rollback) tell what ran, and so where a **rollback** goes: to the version that ran before the
present one. A rollback stands in the history where the version it restored stood, so the next one
goes further back, never to what was just fled from. A deployment by hand stands where it is.
Versions that were purged since are stepped over, also where the very same files bring them back
later: a rollback goes where the deployment says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.ids import DEPLOYMENT, is_id
from registry.errors import Invalid

DeploymentStatus: TypeAlias = Literal["deploying", "healthy", "degraded", "failed", "terminated"]
Action: TypeAlias = Literal["deploy", "status", "scale", "update", "rollback", "terminate"]

DEPLOYMENT_STATUSES: Final[tuple[DeploymentStatus, ...]] = get_args(DeploymentStatus)
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

DEPLOYING: Final[DeploymentStatus] = "deploying"
"""What a deployment starts as, and goes back to when another version comes."""

TERMINATED: Final[DeploymentStatus] = "terminated"

NAME_CHARACTERS: Final = 200
ENDPOINT_CHARACTERS: Final = 4096
MOST_REPLICAS: Final = 100_000
MOST_CPU: Final = 100_000
MOST_MEMORY: Final = 1 << 50
MOST_GPUS: Final = 10_000

_NEXT: Final[Mapping[str, tuple[DeploymentStatus, ...]]] = {
    "deploying": ("healthy", "degraded", "failed", "terminated"),
    "healthy": ("degraded", "deploying", "failed", "terminated"),
    "degraded": ("healthy", "deploying", "failed", "terminated"),
    "failed": ("deploying", "terminated"),
    "terminated": (),
}
_CREDENTIALS: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?[^/@\s:]*:[^/@\s]*@")


def allowed_after(status: str) -> tuple[DeploymentStatus, ...]:
    """The statuses that a deployment may take next."""
    return _NEXT[status]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much of it runs: cores, bytes and whole devices of one replica; None: not said."""

    replicas: int = 1
    cpu: float | None = None
    memory: int | None = None
    gpus: int | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A version that runs, or ran, in an environment under a name."""

    id: str
    name: str
    folded: str
    environment_id: str
    model_id: str
    version_id: str
    previous_version_id: str | None = None
    """Where a rollback goes; None where nothing ran before."""
    status: str = DEPLOYING
    endpoint: str = ""
    replicas: int = 1
    cpu: float | None = None
    memory: int | None = None
    gpus: int | None = None
    deployed_at: int
    """Since when it runs its version."""
    deployed_by: str
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    terminated_at: int | None = None
    terminated_by: str | None = None

    @property
    def scale(self) -> Scale:
        return Scale(replicas=self.replicas, cpu=self.cpu, memory=self.memory, gpus=self.gpus)


def named(deployment: Deployment) -> dict[str, str]:
    """What an error says of a deployment that is in the way."""
    return {"id": deployment.id, "name": deployment.name, "status": deployment.status}


class DeploymentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a deployment: as it stood before, None for the first one, and after."""

    id: int
    deployment_id: str
    action: str
    from_status: str | None
    to_status: str
    from_version_id: str | None
    to_version_id: str
    restored: int | None = None
    """Of a rollback: the event whose version came back."""
    changes: str = "{}"
    """A JSON object of what else changed: the name of each, and what it is now."""
    reason: str = ""
    created_at: int
    created_by: str

    @property
    def stands_at(self) -> int:
        """Where it stands in the history of what ran."""
        return self.id if self.restored is None else self.restored


def parse_deployment_name(text: str, *, field: str = "name") -> str:
    """Check the name of a deployment; raises `Invalid`, code ``deployment_name_invalid``."""
    name = unicodedata.normalize("NFC", text)
    reason = None
    if not name:
        reason = "is empty"
    elif len(name) > NAME_CHARACTERS:
        reason = f"is longer than {NAME_CHARACTERS} characters"
    elif name != name.strip():
        reason = "begins or ends with a space"
    elif not name.isprintable():
        reason = "holds characters that cannot be printed"
    elif is_id(name, DEPLOYMENT):
        reason = "has the form of an id"
    if reason is not None:
        raise Invalid(field, f"{text[:120]!r} {reason}", code="deployment_name_invalid")
    return name


def parse_endpoint(text: str, *, field: str = "endpoint") -> str:
    """Check where a deployment answers: an address without a password, or nothing."""
    reason = None
    if len(text) > ENDPOINT_CHARACTERS:
        reason = f"is longer than {ENDPOINT_CHARACTERS} characters"
    elif not text.isprintable() or " " in text:
        reason = "contains a space or a control character"
    elif _CREDENTIALS.match(text) is not None:
        reason = "holds a password, which everybody who sees the deployment would read"
    if reason is not None:
        raise Invalid(field, reason)
    return text
