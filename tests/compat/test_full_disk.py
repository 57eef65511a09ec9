"""A disk that is really full: uploads are refused, deleting and collecting make room again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import small_disk
from tests.support.servers import ROOT, environment

MOUNT = 'mount -t tmpfs -o size=96m none "$1" && exec "$2" -m "$3" "$1"'


def test_a_full_disk_refuses_uploads_and_nothing_that_makes_room(tmp_path: Path) -> None:
    inside = ["sh", "-c", MOUNT, "sh", str(tmp_path), sys.executable, small_disk.__name__]
    done = subprocess.run(
        ["unshare", "-rm", *inside],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stderr
    print(done.stdout)
