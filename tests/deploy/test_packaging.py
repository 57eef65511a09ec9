"""What starts a server: image, compose file, service; each by its own checker, as far as it goes.

There is no container engine here and no systemd that runs services, so no image is built and no
unit started. Instead the server itself is run as they would run it: nothing to write but its data
directory, no capability, no memory that is both written and executed.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from registry.config import Config, load
from tests.support.promtool import promtool
from tests.support.servers import Server, environment, running_server

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "systemd/digestry.service"
COMPOSE: Final = DEPLOY / "compose.yaml"

EXPOSURE: Final = 15
"""Tenths: what `systemd-analyze security` may say at most; an empty unit has 96."""

_PR_SET_MDWE: Final = 65


def checked(name: str, *args: str | Path, cwd: Path = ROOT) -> str:
    """Run a checker that pip or Debian installed; fails with what it says."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(name, path=beside)
    if program is None:
        if os.environ.get("DIGESTRY_TESTS_COMPLETE"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [program, *map(str, args)], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# The image.


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def of_image(word: str) -> list[str]:
    """Instructions of the last stage."""
    found = instructions()
    last = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    return [rest for name, rest in found[last:] if name == word]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in of_image("ENV") for pair in shlex.split(line))


def settings_of(given: dict[str, str]) -> Config:
    """Fails for a variable that is no setting, and for a value that is none."""
    return load(None, {name: value for name, value in given.items() if name.startswith("DIGEST")})


def test_hadolint_has_nothing_to_object() -> None:
    assert checked("hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile") == ""


def test_the_image_is_built_of_all_that_the_package_needs() -> None:
    project = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().split()

    assert copied == needed
    assert all((ROOT / name).exists() for name in copied)
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == needed
    assert fnmatch("secrets", ignored[0])


def test_the_image_runs_as_nobody_special_and_keeps_its_data_outside() -> None:
    given = image_environment()

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of_image("USER")[-1])
    assert json.loads(of_image("VOLUME")[0]) == [given["DIGESTRY_STORE_DATA"]]
    assert of_image("EXPOSE") == [given["DIGESTRY_SERVER_PORT"]]
    assert settings_of(given).auth.mode == "authenticated"


def test_the_image_checks_its_own_health(tmp_path: Path) -> None:
    [check] = of_image("HEALTHCHECK")
    words = json.loads(check.partition("CMD ")[2])

    def is_well(port: int) -> bool:
        done = subprocess.run(
            [sys.executable, *words[1:]],
            env=environment({"DIGESTRY_SERVER_PORT": str(port)}),
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    assert words[0] == "python"
    with running_server(tmp_path / "data") as server:
        assert is_well(server.port)
        server.stop()
        assert not is_well(server.port)


# The compose file.


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_compose_file_is_what_its_specification_says() -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_what_the_compose_file_names_exists() -> None:
    whole = yaml.safe_load(COMPOSE.read_text())
    own = services()["digestry"]

    assert (DEPLOY / own["build"]["context"]).resolve() == ROOT
    assert (ROOT / own["build"]["dockerfile"]).is_file()
    for name, service in services().items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = (DEPLOY / source).exists() if source[0] == "." else source in whole["volumes"]
            assert known, (name, volume)
        assert set(service.get("secrets", ())) <= set(whole["secrets"])
        assert set(service.get("depends_on", ())) <= set(services())


def test_the_container_gets_no_more_than_it_needs() -> None:
    own = services()["digestry"]
    config = settings_of({**image_environment(), **own["environment"]})

    assert (own["read_only"], own["cap_drop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in own["security_opt"]
    assert int(own["stop_grace_period"].rstrip("s")) >= config.server.drain_seconds + 10
    assert config.store.data == own["volumes"][0].partition(":")[2]
    assert all(port.startswith("127.0.0.1:") for port in own["ports"])


def test_no_secret_is_written_into_the_compose_file() -> None:
    for service in services().values():
        for name in service.get("environment", ()):
            if re.search("PASSWORD|SECRET|TOKEN|KEY", name):
                assert name.endswith("__FILE")


def test_prometheus_takes_its_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token")
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    text = text.replace("/run/secrets/metrics-token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus/digestry.rules.yml", tmp_path)

    told = promtool("check", "config", tmp_path / "prometheus.yml")

    assert "rules found" in told
    assert yaml.safe_load(text)["scrape_configs"][0]["job_name"] == "digestry"  # as rules expect


# The service.


def unit_with(program: str, folder: Path) -> Path:
    """The unit where the checker can find what it starts."""
    text = UNIT.read_text()
    assert "ExecStart=/opt/digestry/bin/digestry serve " in text
    written = folder / UNIT.name
    written.write_text(text.replace("/opt/digestry/bin/digestry", program))
    return written


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    assert checked("systemd-analyze", "verify", "--man=no", unit_with("/bin/true", tmp_path)) == ""


def test_the_unit_is_exposed_to_little(tmp_path: Path) -> None:
    unit = unit_with("/bin/true", tmp_path)

    checked("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)


def test_the_unit_waits_for_requests_in_hand() -> None:
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)

    assert int(seconds) >= Config().server.drain_seconds + 10


# The server as they run it.


class ConfinedServer(Server):
    """May write its data directory and shared memory, and has no privilege whatever its user."""

    def started(self, **options: Any) -> subprocess.Popen[bytes]:
        writable = shlex.quote(str(self.data.parent))
        steps = (
            f"mount --bind {writable} {writable}",
            "mount -o remount,ro,bind /",
            f"exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "
            f"{shlex.join([sys.executable, '-m', 'registry', *self.arguments()])}",
        )
        command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", "\n".join(steps)]
        return subprocess.Popen(command, env=environment(self.env), **options)


def refuse_written_code() -> None:
    """What MemoryDenyWriteExecute does; an old kernel does not know how."""
    ctypes.CDLL(None).prctl(_PR_SET_MDWE, 1, 0, 0, 0)


def may_have_own_mounts() -> bool:
    words = ["unshare", "--mount", "--propagation=private", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    not may_have_own_mounts(), reason="this user may not make a view of file systems of its own"
)
def test_a_server_works_that_may_write_nothing_but_its_data(tmp_path: Path) -> None:
    own = tmp_path / "own"
    server = ConfinedServer(
        own / "data", workers=2, is_first_start=True, preexec_fn=refuse_written_code
    )
    own.mkdir()
    try:
        server.start()
        status, answer = server.request("PUT", "/models/bert/1.0.0/m.bin?publish=true", b"x" * 99)
        assert status == 201, answer
        assert server.get("/models/bert/latest/m.bin") == (200, b"x" * 99)
        assert server.get("/metrics")[0] == 200
        assert json.loads(server.get("/api/v1/audit/verify")[1])["is_intact"]
        mounts = Path(f"/proc/{server.pid}/mounts").read_text().splitlines()
        assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts)
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{server.pid}/status").read_text()
        assert server.stop() == 0
    finally:
        server.close()
