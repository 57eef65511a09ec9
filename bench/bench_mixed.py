"""What does each kind of request get when all kinds come at once?

Decides who may hold the event loop, and for how long. One large upload after the other, one large
download after the other, four connections that read 4 KiB blobs and four that write them, each as
fast as it can: on two processors nobody gets all of what it could have, so read the kinds
together. Then once more with four connections that ask for models, which only Digestry knows.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.bench_small import Prepared, prepare, store_small
from bench.clients import WrkResult, wrk_command, wrk_result
from bench.data import MIB
from bench.harness import Bench, Figures, Measured, Scenario
from bench.metadata import DIALECTS, Content
from bench.peers import Contender
from bench.processes import Server
from bench.records import OURS, Goal
from bench.transfers import transfers

_CONNECTIONS = 4
_READ_BLOBS = 256
_SHARE = 4
"""Large transfers are this part of ``--size``, so that several end while the others count."""

_MODELS = 20


def measure(bench: Bench, contender: Contender, prepared: Prepared) -> Measured:
    yield from _mixed(bench, contender, prepared, "", {})
    if contender.name == OURS:
        yield from _mixed(bench, contender, prepared, ", with models", {"get a model": "ask.lua"})


def _mixed(
    bench: Bench,
    contender: Contender,
    prepared: Prepared,
    suffix: str,
    more: Mapping[str, str],
) -> Iterator[tuple[str, Figures]]:
    with bench.fresh(contender) as server:
        commands = {
            "GET 4 KiB": ("get.lua", str(_targets(server, contender, prepared))),
            "PUT 4 KiB": (
                contender.put_script,
                str(prepared.digest_file),
                str(prepared.template_file),
                contender.put_target,
            ),
        }
        for case, script in more.items():
            commands[case] = (script, str(_models(server, prepared)))
        size = max(MIB, bench.settings.size_bytes // _SHARE)
        with transfers(bench, contender, server, 1, size) as moved:
            found = _together(bench, server, commands)
    for case, each in (("large up", moved.up), ("large down", moved.down)):
        yield case + suffix, {"mib_per_s": each.total_bytes / MIB / each.seconds}
    for case, got in found.items():
        rate = "blobs_per_s" if case.startswith("PUT") else "requests_per_s"
        figures = {
            rate: (got.stored or got.requests) / got.seconds,
            "p50_ms": got.p50_us / 1000,
            "p99_ms": got.p99_us / 1000,
        }
        yield case + suffix, figures


def _together(
    bench: Bench, server: Server, commands: Mapping[str, Sequence[str]]
) -> dict[str, WrkResult]:
    running = {
        case: subprocess.Popen(
            wrk_command(
                server.port,
                *command,
                connections=_CONNECTIONS,
                seconds=bench.settings.rate_seconds,
            ),
            stdout=subprocess.PIPE,
        )
        for case, command in commands.items()
    }
    outputs = {case: each.communicate()[0] for case, each in running.items()}
    return {case: wrk_result(output) for case, output in outputs.items()}


def _targets(server: Server, contender: Contender, prepared: Prepared) -> Path:
    """Blobs to read, from the end of the prepared ones: those at the start are written later."""
    store_small(server.port, contender, prepared, range(-_READ_BLOBS, 0))
    targets = prepared.digest_file.with_name(f"targets-{contender.name}")
    lines = [contender.target(each) for each in prepared.digests[-_READ_BLOBS:]]
    targets.write_text("\n".join(lines))
    return targets


def _models(server: Server, prepared: Prepared) -> Path:
    content = Content(_MODELS, 1, 0)
    DIALECTS[OURS].fill(server.port, content)
    asked = prepared.digest_file.with_name("models")
    lines = [DIALECTS[OURS].get_model(content.name(model)) for model in range(_MODELS)]
    asked.write_text("\n".join(lines))
    return asked


SCENARIO = Scenario(
    name="mixed",
    title="large and small, up and down, at once",
    prepare=prepare,
    measure=measure,
    rounds=3,
    goals=tuple(
        Goal(case=case, figure=figure, against=peer)
        for peer in ("nginx", "docker-registry")
        for case, figure in (
            ("large up", "mib_per_s"),
            ("large down", "mib_per_s"),
            ("GET 4 KiB", "requests_per_s"),
            ("PUT 4 KiB", "blobs_per_s"),
        )
    ),
)
