"""What libraries load when they are imported and a process of ours never uses, left unloaded.

- The log's library imports rich wherever it finds it, a tenth of a worker's start, and uses it only
  for a log that a person reads on a terminal; ours is JSON.
- aiohttp makes two TLS contexts for clients that bring none of their own, and reads all the
  certificates the machine trusts for each, a twentieth of it. `registry.outbound` brings its own,
  made at its first call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NAME = "rich"
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def hide_terminal_libraries() -> None:
    """From here on, in a process that never draws."""
    sys.modules.setdefault(_NAME, None)  # type: ignore[arg-type]  # None stops an import


@contextmanager
def terminal_libraries_hidden() -> Iterator[None]:
    """For imports inside; afterwards a command may draw progress and tables."""
    hide_terminal_libraries()
    try:
        yield
    finally:
        if sys.modules[_NAME] is None:
            del sys.modules[_NAME]


@contextmanager
def certificates_unread() -> Iterator[None]:
    """For imports inside, by a process with one thread.

    A TLS context made meanwhile trusts nobody, so whoever used it by mistake would be refused.
    """
    before = {name: os.environ.get(name) for name in _CERTIFICATES}
    os.environ.update(dict.fromkeys(_CERTIFICATES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
