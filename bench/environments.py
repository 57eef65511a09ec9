"""Virtual environments of peers that are Python packages, apart from the one the bench runs in.

Made once, by pip, below a cache directory; what a failed installation leaves is never used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.clients import CannotRun

_PATIENCE_SECONDS = 900


def cache_directory() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "digestry-bench"


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def is_made(environment: Path) -> bool:
    return python_of(environment).exists()


def make(environment: Path, *requirements: str) -> None:
    """Install into a directory beside it and move that into place; raises CannotRun.

    An environment knows its own path only in scripts of `bin`, which nobody here calls.
    """
    making = environment.with_name(f"{environment.name}.making-{os.getpid()}")
    try:
        making.parent.mkdir(parents=True, exist_ok=True)
        venv.create(making)
        ours = [sys.executable, "-m", "pip", "--python", str(python_of(making))]
        command = [*ours, "install", "--quiet", "--disable-pip-version-check", *requirements]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            raise CannotRun(f"pip cannot install {', '.join(requirements)}: {last}")
        making.rename(environment)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotRun(f"no environment with {', '.join(requirements)}: {error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def version_of(environment: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}), end='')"
    command = [str(python_of(environment)), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
