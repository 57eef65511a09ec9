"""The flags and help of ``backup`` and ``restore``; what they do is in `registry.cli.backups`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from registry.cli.arguments import Config, Data, Json, tells_exits

backup: Final = App(
    name="backup",
    help_format="plaintext",
)

_Directory = Annotated[Path, Parameter(name="DIR")]
_Number = Annotated[int | None, Parameter(help="This generation, as `backup list` numbers them.")]


@backup.default
@tells_exits
def make(
    directory: _Directory,
    /,
    *,
    keep: Annotated[int, Parameter(help="How many finished generations stay (default 3).")] = 3,
    check: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Read what DIR holds already and replace what is damaged; else sizes decide.",
        ),
    ] = False,
    with_keys: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Take the root key along. Whoever has it and the index can rewrite the audit log "
            "unnoticed and read the secrets of webhooks, so keep it in another place than this.",
        ),
    ] = False,
    snapshot: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Link blobs instead of copying them, on the same file system. That is a snapshot "
            "and no backup: one damaged disk takes both. Blobs are not read.",
        ),
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Copy the store to DIR, beside a running server or without one.

    The index is copied as it is at one moment, then every blob it names that DIR lacks, each
    verified against its digest. Until all is there the last finished backup in DIR stays the one to
    restore. What is damaged in the store is reported with the versions that need it, and left out.
    The server is only asked to remove nothing meanwhile; the files are read by this command, which
    must run as somebody who may. To a directory called verify or list: ./verify.
    """
    from registry.cli import backups

    return backups.make(
        directory,
        backups.Wish(keep=keep, check=check, with_keys=with_keys, snapshot=snapshot),
        config=config,
        data=data,
        as_json=json,
    )


@backup.command
@tells_exits
def verify(directory: _Directory, /, *, generation: _Number = None, json: Json = False) -> int:
    """Read a backup from the disk and compare everything with its digests.

    Without --generation all finished ones. What is damaged is named; `backup --check` replaces it
    from the store.
    """
    from registry.cli import backups

    return backups.verify(directory, generation, as_json=json)


@backup.command(name="list")
@tells_exits
def list_(directory: _Directory, /, *, json: Json = False) -> int:
    """List the generations of a backup, the newest last."""
    from registry.cli import backups

    return backups.show(directory, as_json=json)


@tells_exits
def restore(
    directory: _Directory,
    /,
    *,
    generation: _Number = None,
    verify: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Read everything back from the disk before the directory is declared whole.",
        ),
    ] = False,
    incomplete: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Restore what is there although the backup lacks blobs or holds damaged ones.",
        ),
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Make a data directory of the backup in DIR: an empty or missing one, named by --data.

    Bytes are verified while they are copied, whatever the flags. A restore that was cut short goes
    on when it is run again; until it is done nothing opens the directory. The restored store is of
    a new epoch and its collection stays off until `digestry fsck`, a look at its report and
    `digestry gc --confirm`. Uploads that were under way and what lay in quarantine are forgotten.
    """
    from registry.cli import backups

    return backups.restore(
        directory,
        backups.Return(generation=generation, verify=verify, incomplete=incomplete),
        config=config,
        data=data,
        as_json=json,
    )
