"""The flags and help of ``digestry archive``; what it does is in `registry.cli.archive`."""

from __future__ import annotations

from typing import Final

from cyclopts import App

from registry.cli.arguments import Config, Data, Json, tells_exits

archive: Final = App(
    name="archive",
    help="Show what lies in the cold tier, and move retired versions there.",
    help_format="plaintext",
)


@archive.command
@tells_exits
def status(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Tell what is in the archive and whether it can be read; if it cannot, that is a finding."""
    from registry.cli import archive as work

    return work.status(config=config, data=data, as_json=json)


@archive.command
@tells_exits
def run(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Move what retired versions alone have to the archive; the server does so by itself too.

    Restoring a version brings its bytes back.
    """
    from registry.cli import archive as work

    return work.run(config=config, data=data, as_json=json)


@archive.command
@tells_exits
def adopt(*, json: Json = False, data: Data = None, config: Config = None) -> int:
    """Say that the archive at its place is this store's, after its index was lost or restored.

    Nobody else may use that archive from then on. Then run: digestry fsck --repair
    """
    from registry.cli import archive as work

    return work.adopt(config=config, data=data, as_json=json)
