"""``python -m bench.without FEATURES…``: a Digestry server that leaves something out, to price it.

``metrics``, ``audit`` and ``history`` cannot be switched off, since nobody should run without them;
what they cost is seen beside a server whose hooks do nothing. Only for `bench.bench_access`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _leave_out(of: type, *methods: str, gives: object = None) -> None:
    for name in methods:
        assert callable(getattr(of, name)), "what is left out was there"
        setattr(of, name, lambda *_, **__: gives)


def without_metrics() -> None:
    from registry.metrics import Counted, Metrics

    _leave_out(Counted, "add")
    _leave_out(Metrics, "request")


def without_audit() -> None:
    from registry.services.accesses import Accesses
    from registry.services.identities import Identities

    _leave_out(Accesses, "used")
    _leave_out(Identities, "note_use")


def without_history() -> None:
    from registry.services.downloads import DownloadLog

    _leave_out(DownloadLog, "add", gives=_nothing)


FEATURES: Final[dict[str, Callable[[], None]]] = {
    "metrics": without_metrics,
    "audit": without_audit,
    "history": without_history,
}


def main() -> None:
    """Leave out what is named before ``--``, and do what the command line after it says."""
    end = sys.argv.index("--")
    for name in sys.argv[1:end]:
        FEATURES[name]()
    sys.argv = ["digestry", *sys.argv[end + 1 :]]
    from registry.cli import main as digestry

    digestry()


if __name__ == "__main__":
    main()
