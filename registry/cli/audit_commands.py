"""The flags and help of ``digestry audit``; what it does is in `registry.cli.audit`."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import App, Parameter

from registry.cli.arguments import Config, Data, Json, tells_exits

audit: Final = App(
    name="audit",
    help="Read the audit log, note its head, and verify that nobody changed it.",
    help_format="plaintext",
)


@audit.command
@tells_exits
def ls(
    *,
    kind: Annotated[
        str | None, Parameter(help="Only what was done to models, versions, aliases, …")
    ] = None,
    entity: Annotated[str | None, Parameter(help="Only what was done to this id.")] = None,
    model: Annotated[str | None, Parameter(help="Only of this model, by name or id.")] = None,
    actor: Annotated[str | None, Parameter(help="Only by whoever has this id.")] = None,
    action: Annotated[str | None, Parameter(help="Only this: create, publish, move, …")] = None,
    since: Annotated[
        str | None, Parameter(help="From this moment on, as in 2026-11-20T08:15:00Z.")
    ] = None,
    until: Annotated[str | None, Parameter(help="Before this moment.")] = None,
    limit: Annotated[int, Parameter(help="At most so many, the newest first.")] = 50,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """List who did what, newest first.

    Works through the running server, or on the directory itself when none runs.
    """
    from registry.cli import audit as work

    asked = {
        "kind": kind,
        "entity": entity,
        "model": model,
        "actor": actor,
        "action": action,
        "since": since,
        "until": until,
        "limit": str(limit),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return work.ls(given, config=config, data=data, as_json=json)


@audit.command
@tells_exits
def head(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Print the head of the log: the number and value of its newest seal.

    Keep it where nobody who can write the data directory can change it. `audit verify --since`
    that head finds a log that was cut off or written anew.
    """
    from registry.cli import audit as work

    return work.head(config=config, data=data, as_json=json)


@audit.command
@tells_exits
def export(
    file: Annotated[
        str,
        Parameter(
            help="A file that is not there yet, or - for the output.", allow_leading_hyphen=True
        ),
    ],
    /,
    *,
    since: Annotated[
        int, Parameter(help="Only behind this entry: the last one of the export before.")
    ] = 0,
    data: Data = None,
    config: Config = None,
) -> int:
    """Write the log as JSON lines, the oldest entry first.

    Each line is an entry with the number of its seal; the last entry of a seal is followed by a
    line with its head. Entries of the last second are not sealed yet, and left for the next export.
    """
    from registry.cli import audit as work

    return work.export(file, since=since, config=config, data=data)


@audit.command
@tells_exits
def verify(
    *,
    since: Annotated[
        str | None, Parameter(help="A head that was kept elsewhere: it must still be there.")
    ] = None,
    only_after: Annotated[
        bool, Parameter(negative=(), help="With --since: read again only what came after it.")
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Compute every seal of the log anew.

    Finds entries that were edited, removed, added or moved after they were sealed. Entries of the
    last second are not sealed yet. Without --since a log that was cut off looks like a shorter one.
    """
    from registry.cli import audit as work

    return work.verify(since, only_after=only_after, config=config, data=data, as_json=json)


@audit.command
@tells_exits
def rekey(
    *,
    yes: Annotated[bool, Parameter(negative=(), help="Do it without being asked.")] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Go on with a new root key because the old one is lost, and say so in the log.

    What was sealed so far can never be verified again, and everything signed with the old key is
    void. Put the file keys/root back from a backup instead, if there is one. Refused while a server
    runs.
    """
    from registry.cli import audit as work

    return work.rekey(is_sure=yes, config=config, data=data, as_json=json)
