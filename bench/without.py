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


def without_metrics() -> None:
    from registry.metrics import Counted, Metrics

    Counted.add = _nothing  # type: ignore[method-assign]  # the point of it
    Metrics.request = _nothing  # type: ignore[method-assign]


def without_audit() -> None:
    from registry.services.accesses import Accesses
    from registry.services.identities import Identities

    Accesses.used = _nothing  # type: ignore[method-assign]
    Identities.note_use = _nothing  # type: ignore[method-assign]


def without_history() -> None:
    from registry.services.downloads import DownloadLog

    DownloadLog.add = _nothing  # type: ignore[method-assign]


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
