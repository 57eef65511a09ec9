"""What must never be written down: looked for in everything that every test left in its output.

Logs, printed lines and messages of errors are captured by pytest, and what server processes write
lies in their log files; both are searched, so a full run is a search of a full run's output. What
a test reads itself (the one line in which a command tells a new token, say) is not left in it.
"""

from __future__ import annotations

import re
from typing import Final

_PATTERNS: Final = {
    "an API token": re.compile(r"dgt_[0-9A-Za-z]{40,}"),
    "a ticket": re.compile(r"eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    "the secret of local commands": re.compile(r"Digestry-Local [0-9a-f]{32,}"),
    "the hash of a password": re.compile(r"\$argon2id?\$"),
    "the secret of a webhook": re.compile(r"whsec_[0-9A-Za-z+/]{20,}"),
    "a signature": re.compile(r"[?&]signature=[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),
    "a password": re.compile(r"correct horse battery staple"),
}


def leaks(text: str) -> list[str]:
    """What secrets a text holds, each with its beginning and what stands before it."""
    found = []
    for what, pattern in _PATTERNS.items():
        match = pattern.search(text)
        if match is not None:
            before = text[max(0, match.start() - 60) : match.start()]
            found.append(f"{what} after {before!r}: {match[0][:12]}…")
    return found
