"""The flags and help of ``demo``; what it does is in `registry.cli.demo`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from registry.cli.arguments import Json, Server, tells_exits


@tells_exits
def demo(
    *,
    anyway: Annotated[
        bool, Parameter(negative=(), help="Also where the registry holds other models already.")
    ] = False,
    server: Server = None,
    json: Json = False,
) -> int:
    """Fill a registry with a believable small company, to look at and to try things on.

    Twenty models with real small files, several versions each, runs with curves, deployments,
    bindings, reviews and scores; everything made up and tagged demo. What is there already stays as
    it is, so running it again changes nothing, and finishes what was interrupted.
    """
    from registry.cli.demo import demo as run

    return run(server=server, anyway=anyway, as_json=json)
