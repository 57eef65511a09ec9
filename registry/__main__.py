"""``python -m registry``: the same as the command ``digestry``."""

from __future__ import annotations

from registry.cli import main

if __name__ == "__main__":
    main()
