"""``digestry demo``: fill a server with a small company, and say where to look."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from registry.cli.credentials import token_for
from registry.cli.exits import CLEAN, CommandError
from registry.cli.output import say, say_json
from registry.cli.progress import shown
from registry.cli.transfers import refusals, server_url
from registry.client.connection import masked
from registry.demo.filling import Filled, HoldsOthers, NameTaken, fill_at
from registry.domain.operations import Progress

_SHOWN: Final = ("models", "versions", "blobs", "runs", "points", "deployments", "bindings")


def demo(*, server: str | None, anyway: bool, as_json: bool) -> int:
    """Make what is not there yet."""
    url, begun = server_url(server), time.monotonic()
    with refusals(), shown("demo") as draw:

        def watch(stage: str, done: int, total: int) -> None:
            draw(Progress(stage=stage, done=done, total=total, unit="entries"))

        try:
            filled = asyncio.run(fill_at(url, watch, anyway=anyway, token=token_for(url)))
        except HoldsOthers as error:
            raise CommandError(f"{error}; --anyway adds the demo to them") from error
        except NameTaken as error:
            raise CommandError(str(error)) from error
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        say_json(
            {
                "server": masked(url),
                "was_there": filled.was_there,
                "made": filled.made,
                "seconds": seconds,
                "look": places(masked(url)),
            }
        )
        return CLEAN
    say(_told(filled, seconds))
    say("look at")
    for place in places(masked(url)):
        say(f"  {place}")
    return CLEAN


def _told(filled: Filled, seconds: float) -> str:
    if filled.was_there:
        return "the demo is there already; nothing was changed"
    made = [f"{filled.made[name]} {name}" for name in _SHOWN if name in filled.made]
    return f"made {', '.join(made) or 'what was missing'} in {seconds} s"


def places(url: str) -> list[str]:
    """Where something is to be seen, as lines to copy."""
    router = "language~ticket-router"
    asked = "task=text-generation&min_success_rate=0.9"
    return [
        f"{url}/?model={router.replace('~', '/')}",
        f"{url}/docs",
        "digestry ls --tag demo",
        "digestry show language/ticket-router:1.2.0",
        "digestry pull language/ticket-router@champion",
        f"curl {url}/api/v1/models/{router}/aliases/champion/history",
        f"curl {url}/api/v1/analytics/models/{router}",
        f"curl {url}/api/v1/analytics/registry",
        f"curl {url}/api/v1/analytics/retraining",
        f"curl {url}/api/v1/models/{router}/versions/1.2.0/scores",
        f"curl '{url}/api/v1/resolve?{asked}'",
    ]
