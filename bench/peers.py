"""The contenders: Digestry and what users would otherwise run, each as a fresh local process.

Each gets its own directory, port and configuration, one worker where it has workers, and no access
log; all else is as its makers ship it. docker-registry is not confined to one processor: it may
use all there are. Who syncs what it acknowledges: Digestry file, directory and index;
docker-registry the file; nginx nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from bench import environments
from bench.clients import CannotRun, Connection
from bench.data import Body
from bench.processes import HOST, Server, free_port
from bench.records import OURS

_REPOSITORY = Path(__file__).parent.parent
_OCI_NAME = "bench/blobs"
_CONNECTIONS = 8192
"""That nginx may hold: the scenario of idle ones opens thousands."""


class Contender(ABC):
    """How to start one server and speak its dialect for blobs.

    `directory` belongs to the contender alone and may be started upon again: what was stored
    there is still served.
    """

    name: str
    put_script: str = "put.lua"
    put_target: str

    @abstractmethod
    def absent(self) -> str | None:
        """Why it cannot run here, or None."""

    def obtain(self) -> None:
        """Install what can be installed without touching this environment; raises CannotRun."""
        raise CannotRun(self.absent() or "it is there")

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def start(self, directory: Path, settle_seconds: float) -> Server: ...

    @abstractmethod
    def target(self, sha256: str) -> str:
        """Where a stored blob is read."""

    def stored(self, directory: Path, sha256: str) -> Path:
        """The file that holds the bytes of a stored blob; raises `CannotRun` if there is none."""
        raise CannotRun(f"{self.name} keeps no files")

    def upload(self, connection: Connection, body: Body, *, length_known: bool = True) -> None:
        """Store one body by PUT; returns when the server acknowledged it."""
        self._put(connection, self.target(body.sha256), body, length_known)

    def upload_small(self, connection: Connection, sha256: str, content: bytes) -> None:
        connection.ask("PUT", self.target(sha256), {}, content, expect=(200, 201, 204))

    def plant(self, directory: Path, sha256: str, source: Path) -> None:
        """Make an existing file a stored blob by a hard link, so that all serve one inode."""
        target = self.stored(directory, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)

    def _put(self, connection: Connection, target: str, body: Body, length_known: bool) -> None:
        kind = {"Content-Type": "application/octet-stream"}
        if length_known:
            connection.send_head("PUT", target, kind | {"Content-Length": str(body.size_bytes)})
            connection.send_body(body)
        else:
            connection.send_head("PUT", target, kind | {"Transfer-Encoding": "chunked"})
            connection.send_chunked(body)
        connection.answer(expect=(200, 201, 204))


class Digestry(Contender):
    name = OURS
    put_target = "/blobs/sha256:%s"

    def absent(self) -> str | None:
        known = importlib.util.find_spec("registry")
        has_main = known is not None and importlib.util.find_spec("registry.__main__") is not None
        return None if has_main else "the package registry has no command yet"

    def version(self) -> str:
        return f"commit {commit()}, Python {sys.version.split()[0]}"

    def start(self, directory: Path, settle_seconds: float) -> Server:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        options = ["--host", HOST, "--port", str(port), "--data", str(directory / "data")]
        # Byte code is kept, as pip has compiled it for users: each start would compile it again.
        kept_out = ("DIGESTRY_", "PYTHONDONTWRITEBYTECODE")
        ours = {k: v for k, v in os.environ.items() if not k.startswith(kept_out)}
        return Server(
            self.name,
            [sys.executable, "-m", "registry", "serve", *options],
            port=port,
            ready_path="/readyz",
            log=directory / "log",
            working_directory=directory,
            environment=ours | {"PYTHONPATH": str(_REPOSITORY)},
            settle_seconds=settle_seconds,
        )

    def target(self, sha256: str) -> str:
        return self.put_target % sha256

    def stored(self, directory: Path, sha256: str) -> Path:
        shard = directory / "data" / "blobs" / "sha256" / sha256[:2] / sha256[2:4]
        return shard / sha256


class Nginx(Contender):
    name = "nginx"
    put_target = "/%s"
    body_buffer = "16k"
    """nginx's own default."""

    def absent(self) -> str | None:
        return None if _program("nginx") else "nginx is not installed"

    def version(self) -> str:
        done = subprocess.run([_program("nginx") or "nginx", "-v"], capture_output=True, text=True)
        return done.stderr.strip().removeprefix("nginx version: nginx/")

    def start(self, directory: Path, settle_seconds: float) -> Server:
        port = free_port()
        for each in ("files", "body", "other"):
            (directory / each).mkdir(parents=True, exist_ok=True)
        configuration = directory / "nginx.conf"
        configuration.write_text(_nginx_configuration(directory, port, self.body_buffer))
        return Server(
            self.name,
            [_program("nginx") or "nginx", "-p", str(directory), "-c", str(configuration)],
            port=port,
            ready_path="/ready",
            log=directory / "log",
            working_directory=directory,
            environment=os.environ,
            settle_seconds=settle_seconds,
        )

    def target(self, sha256: str) -> str:
        return self.put_target % sha256

    def stored(self, directory: Path, sha256: str) -> Path:
        return directory / "files" / sha256


class NginxLargeBuffer(Nginx):
    """The same, reading bodies by the mebibyte: how fast unhashed bytes can be taken in at all."""

    name = "nginx-1m"
    body_buffer = "1m"


class DockerRegistry(Contender):
    name = "docker-registry"
    put_script = "put_oci.lua"
    put_target = f"/v2/{_OCI_NAME}/blobs/uploads/"

    def absent(self) -> str | None:
        return None if _program("docker-registry") else "docker-registry is not installed"

    def version(self) -> str:
        command = [_program("docker-registry") or "docker-registry", "--version"]
        return subprocess.run(command, capture_output=True, text=True).stdout.split()[-1]

    def start(self, directory: Path, settle_seconds: float) -> Server:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        configuration = directory / "config.yml"
        configuration.write_text(_docker_registry_configuration(directory, port))
        return Server(
            self.name,
            [_program("docker-registry") or "docker-registry", "serve", str(configuration)],
            port=port,
            ready_path="/v2/",
            log=directory / "log",
            working_directory=directory,
            environment=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
            settle_seconds=settle_seconds,
        )

    def target(self, sha256: str) -> str:
        return f"/v2/{_OCI_NAME}/blobs/sha256:{sha256}"

    def stored(self, directory: Path, sha256: str) -> Path:
        return _oci_root(directory) / "blobs" / "sha256" / sha256[:2] / sha256 / "data"

    def plant(self, directory: Path, sha256: str, source: Path) -> None:
        super().plant(directory, sha256, source)
        layer = _oci_root(directory) / "repositories" / _OCI_NAME / "_layers" / "sha256" / sha256
        layer.mkdir(parents=True)
        (layer / "link").write_text(f"sha256:{sha256}")

    def upload(self, connection: Connection, body: Body, *, length_known: bool = True) -> None:
        """The protocol's single-request upload: POST opens it, one PUT carries the bytes."""
        self._put(connection, self._open_upload(connection, body.sha256), body, length_known)

    def upload_small(self, connection: Connection, sha256: str, content: bytes) -> None:
        connection.ask("PUT", self._open_upload(connection, sha256), {}, content, expect=(201,))

    def _open_upload(self, connection: Connection, sha256: str) -> str:
        opened = connection.ask("POST", self.put_target, expect=(202,))
        return f"{target_of(opened.headers['location'])}&digest=sha256:{sha256}"


class Bare(Contender):
    """What aiohttp can do at all: see `bench/bare.py`."""

    name = "bare"
    put_target = "/blobs/sha256:%s"

    def absent(self) -> str | None:
        return None

    def version(self) -> str:
        return f"aiohttp {importlib.metadata.version('aiohttp')}, answers from memory"

    def start(self, directory: Path, settle_seconds: float) -> Server:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        return Server(
            self.name,
            [sys.executable, "-m", "bench.bare", str(port)],
            port=port,
            ready_path="/ready",
            log=directory / "log",
            working_directory=_REPOSITORY,
            environment=os.environ,
            settle_seconds=settle_seconds,
        )

    def target(self, sha256: str) -> str:
        return self.put_target % sha256


class Mlflow(Contender):
    """MLflow's server with one worker, an SQLite file, and artifacts passed on to a directory."""

    name = "mlflow"
    put_target = "/api/2.0/mlflow-artifacts/artifacts/bench/%s"
    requirement = "mlflow>=3,<4"

    @property
    def environment(self) -> Path:
        return environments.cache_directory() / "mlflow-3"

    def absent(self) -> str | None:
        return None if environments.is_made(self.environment) else "mlflow is not installed"

    def obtain(self) -> None:
        if not environments.is_made(self.environment):
            environments.make(self.environment, self.requirement)

    def version(self) -> str:
        return environments.version_of(self.environment, "mlflow")

    def start(self, directory: Path, settle_seconds: float) -> Server:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tmp").mkdir(exist_ok=True)
        port = free_port()
        options = ["--host", HOST, "--port", str(port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{directory}/index.sqlite3"]
        options += ["--artifacts-destination", str(directory / "artifacts")]
        options += ["--uvicorn-opts", "--no-access-log --log-level warning"]
        # what it stages lies where all files do; its runner of jobs is a process that no case uses
        own = {"TMPDIR": str(directory / "tmp"), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        own |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        return Server(
            self.name,
            [str(environments.python_of(self.environment)), "-m", "mlflow", "server", *options],
            port=port,
            ready_path="/health",
            log=directory / "log",
            working_directory=directory,
            environment=os.environ | own,
            settle_seconds=settle_seconds,
            ready_within_seconds=300,
        )

    def target(self, sha256: str) -> str:
        return self.put_target % sha256

    def stored(self, directory: Path, sha256: str) -> Path:
        return directory / "artifacts" / "bench" / sha256


ALL: tuple[Contender, ...] = (
    Digestry(),
    Nginx(),
    NginxLargeBuffer(),
    DockerRegistry(),
    Mlflow(),
    Bare(),
)
PEERS = tuple(each.name for each in ALL if each.name != OURS)


def target_of(location: str) -> str:
    """The target on this server of a Location, which may be an absolute URL."""
    return location if location.startswith("/") else "/" + location.split("/", 3)[3]


def commit() -> str:
    command = ["git", "-C", str(_REPOSITORY), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _program(name: str) -> str | None:
    """Debian keeps servers where an ordinary user's PATH does not look."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _oci_root(directory: Path) -> Path:
    return directory / "store" / "docker" / "registry" / "v2"


def _nginx_configuration(directory: Path, port: int, body_buffer: str) -> str:
    # PUT always takes the body into a file, and on one file system its last step is a rename;
    # tcp_nopush, which Debian's own file adds, kept 64 KiB ranges waiting 40 ms each
    user = "user root;" if os.geteuid() == 0 else ""
    other = directory / "other"
    return f"""
        daemon off; worker_processes 1; {user}
        pid {directory}/nginx.pid;
        error_log stderr crit;
        worker_rlimit_nofile {_CONNECTIONS * 2};
        events {{ worker_connections {_CONNECTIONS}; }}
        http {{
            access_log off;
            sendfile on;
            keepalive_requests 1000000000;
            client_max_body_size 0;
            client_body_temp_path {directory}/body;
            client_body_buffer_size {body_buffer};
            proxy_temp_path {other}; fastcgi_temp_path {other};
            uwsgi_temp_path {other}; scgi_temp_path {other};
            server {{
                listen {HOST}:{port} backlog=1024;
                location = /ready {{ return 200; }}
                location / {{ root {directory}/files; dav_methods PUT DELETE; }}
            }}
        }}
        """


def _docker_registry_configuration(directory: Path, port: int) -> str:
    return f"""\
version: 0.1
log:
  level: error
  accesslog: {{disabled: true}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {directory}/store}}
  delete: {{enabled: true}}
http:
  addr: {HOST}:{port}
"""
