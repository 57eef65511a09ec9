"""The commands with their flags and help; what they do is in the modules they call.

Groups of commands are declared in modules of their own, ``…_commands``. Importing this costs what
parsing and help cost, so ``serve`` avoids it when it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from cyclopts import App, CycloptsError, Parameter

from registry.cli.archive_commands import archive
from registry.cli.arguments import Config, Data, Json, tells_exits
from registry.cli.audit_commands import audit
from registry.cli.backup_commands import backup, restore
from registry.cli.browse_commands import ls, search, show
from registry.cli.database_commands import db
from registry.cli.demo_commands import demo
from registry.cli.exits import CLEAN, REFUSED, complain, ended
from registry.cli.export_commands import export, import_
from registry.cli.login_commands import login, logout, whoami
from registry.cli.retention_commands import retention
from registry.cli.rights_commands import grant, namespace, team
from registry.cli.setup_commands import doctor, info, init, stats
from registry.cli.transfer_commands import pull, push
from registry.cli.user_commands import token, user

_ABOUT: Final = """
Digestry keeps models: bytes stored once under their SHA-256, verified, resumable.

Start with `digestry serve` and the line it prints.
"""

app: Final = App(
    name="digestry",
    help=_ABOUT,
    help_format="plaintext",
    default_parameter=Parameter(show_default=False),
    version_flags=["--version", "-V"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


def run_command(arguments: Sequence[str]) -> int:
    """Parse and run one command line; return its exit code."""

    def command() -> object:
        try:
            return app(list(arguments), exit_on_error=False, print_error=False)
        except CycloptsError as error:
            complain(f"{error} Try --help.")
            return REFUSED

    return ended(command)


@app.command
def serve(
    *,
    config: Config = None,
    host: Annotated[str | None, Parameter(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, Parameter(help="Port; 0 takes a free one (default 8080).")] = None,
    data: Data = None,
    workers: Annotated[int | None, Parameter(help="Worker processes (default 1).")] = None,
) -> int:
    """Run the server until SIGTERM or Ctrl-C.

    Either lets requests in hand finish; a second one ends the server at once.

    Settings come from the configuration file, then DIGESTRY_<SECTION>_<KEY> from the environment,
    then these flags. The log goes to the error stream.

    Exit codes: 0 ended when asked to; 2 could not start (port or directory in use, wrong settings);
    3 died.
    """
    from registry.cli.flags import ServeFlags
    from registry.cli.serve import serve as run

    return run(ServeFlags(config=config, host=host, port=port, data=data, workers=workers))


@app.command
@tells_exits
def gc(
    *,
    apply: Annotated[bool, Parameter(negative=(), help="Collect; without, only show.")] = False,
    plan: Annotated[str | None, Parameter(help="With --apply: exactly this plan.")] = None,
    undo: Annotated[str | None, Parameter(help="Bring back what this collection took.")] = None,
    purge: Annotated[
        bool, Parameter(negative=(), help="Remove for good what is past the undo window.")
    ] = False,
    everything: Annotated[
        bool, Parameter(negative=(), help="With --purge: do not wait for the undo window.")
    ] = False,
    status: Annotated[
        bool, Parameter(negative=(), help="Show quarantine and the last operation.")
    ] = False,
    confirm: Annotated[
        bool,
        Parameter(negative=(), help="Allow collection again after a rebuilt or restored index."),
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Show what nothing refers to, and collect it when told to.

    Collected blobs go to quarantine and can be brought back until the undo window closes. Works
    through the running server, or on the directory itself when none runs.
    """
    from registry.cli import straight
    from registry.cli.flags import GcFlags

    return straight.gc(
        GcFlags(
            apply=apply,
            plan=plan,
            undo=undo,
            purge=purge,
            everything=everything,
            status=status,
            confirm=confirm,
            json=json,
            data=data,
            config=config,
        )
    )


@app.command
@tells_exits
def scrub(
    *,
    rate: Annotated[
        str | None, Parameter(help="Bytes read per second at most, such as 50M or 1G.")
    ] = None,
    digest: Annotated[
        list[str] | None, Parameter(negative=(), help="Only this blob; may be repeated.")
    ] = None,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Read stored bytes from the disk and compare them with their digests.

    Damaged blobs are set aside, readers get a clear error, and the next upload of the same bytes
    heals them. Works through the running server, or on the directory itself when none runs.
    """
    from registry.cli import checks
    from registry.cli.offices import open_office

    question = checks.scrub_question(rate=rate, digests=digest or [])
    with open_office(config=config, data=data) as office:
        return checks.scrub(office, question, as_json=json)


@app.command
@tells_exits
def fsck(
    *,
    repair: Annotated[
        bool, Parameter(negative=(), help="Make index and directory agree, adopting orphans.")
    ] = False,
    rebuild: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Set the index aside and make a new one from the blobs. Names, versions and pins "
            "are lost. Refused while a server runs.",
        ),
    ] = False,
    json: Json = False,
    data: Data = None,
    config: Config = None,
) -> int:
    """Compare index and directory both ways; with --repair make them agree.

    Works through the running server, or on the directory itself when none runs.
    """
    from registry.cli import straight
    from registry.cli.flags import FsckFlags

    return straight.fsck(
        FsckFlags(repair=repair, rebuild=rebuild, json=json, data=data, config=config)
    )


@app.command
def version() -> int:
    """Print the version."""
    print(_version())
    return CLEAN


def _version() -> str:
    from registry import __version__

    return f"digestry {__version__}"


app.version = _version
_more = (
    archive,
    audit,
    backup,
    db,
    demo,
    doctor,
    export,
    grant,
    info,
    init,
    login,
    logout,
    ls,
    namespace,
    pull,
    push,
    restore,
    retention,
    search,
    show,
    stats,
    team,
    token,
    user,
    whoami,
)
for _command in _more:
    app.command(_command)
app.command(import_, name="import")
