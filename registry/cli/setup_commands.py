"""The flags and help of ``init``, ``info``, ``doctor`` and ``stats``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Config, Data, Json, tells_exits


@tells_exits
def init(
    *,
    data: Data = None,
    config: Annotated[
        str | None, Parameter(help="File of settings to write (default ./config.toml).")
    ] = None,
    json: Json = False,
) -> int:
    """Make a data directory, and a file with every setting explained.

    Not needed before `digestry serve`, which makes its directory itself. Nothing that is there
    is overwritten.
    """
    from registry.cli.setup import init as run

    return run(data=data, config=config, as_json=json)


@tells_exits
def info(
    *,
    changed: Annotated[
        bool, Parameter(negative=(), help="Only settings that are not at their default.")
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Show every setting in force and where its value comes from.

    Passwords and tokens in URLs are left out.
    """
    from registry.cli.setup import info as run

    return run(config=config, data=data, only_changed=changed, as_json=json)


@tells_exits
def doctor(
    *,
    server: Annotated[
        str | None, Parameter(help="Also test this server (default $DIGESTRY_URL, if set).")
    ] = None,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Test the disk, the index and every connection, and say what to do.

    Each line is ok, a warning or a failure; either of the last two makes the exit code 1. Nothing
    is changed, and a running server is not disturbed.
    """
    from registry.cli import straight
    from registry.cli.flags import DoctorFlags

    return straight.doctor(DoctorFlags(server=server, json=json, data=data, config=config))


@tells_exits
def stats(
    *,
    server: Annotated[
        str | None,
        Parameter(
            help="Ask this server (default $DIGESTRY_URL where neither --data nor --config is "
            "given)."
        ),
    ] = None,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Tell how much is stored.

    Asks the running server, or counts in the directory itself when none runs.
    """
    from registry.cli.statistics import stats as run

    return run(server=server, config=config, data=data, as_json=json)
