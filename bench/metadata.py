"""The same catalog in two dialects: how models, versions and metrics are written and asked for.

A dialect turns one content (`Content`) into the requests of its server; what answers say may
differ in form, not in what was put in. Lines are what `wrk/ask.lua` reads.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from bench import shapes
from bench.clients import Connection

PAGE: Final = 20
POINTS: Final = 100
"""In one batch of metrics."""

_JSON: Final = {"Content-Type": "application/json"}


class Content(msgspec.Struct, frozen=True):
    """Models that all have as many versions, and runs."""

    models: int
    versions: int
    runs: int

    def name(self, model: int) -> str:
        return f"family-{model % 10}-{shapes.model_name(model).rpartition('/')[2]}"

    def description(self, model: int) -> str:
        return shapes.description(model)

    def word(self, model: int) -> str:
        """In the names of a tenth of the models."""
        return f"family-{model % 10}"


class Dialect(ABC):
    """The requests of one server, each a line."""

    @abstractmethod
    def make_model(self, connection: Connection, name: str, description: str) -> None: ...

    @abstractmethod
    def register(self, name: str, source: str) -> str:
        """The line that registers a version whose bytes lie elsewhere."""

    @abstractmethod
    def make_run(self, connection: Connection, name: str) -> str:
        """A run to log to; its id."""

    @abstractmethod
    def log(self, run: str) -> str:
        """The line that logs a batch of points."""

    @abstractmethod
    def get_model(self, name: str) -> str: ...

    @abstractmethod
    def get_version(self, name: str, number: int) -> str: ...

    @abstractmethod
    def list_models(self) -> str: ...

    @abstractmethod
    def search(self, word: str) -> str: ...

    def fill(self, port: int, content: Content) -> list[str]:
        """Write the content; the ids of its runs."""
        with Connection(port) as connection:
            for model in range(content.models):
                name = content.name(model)
                self.make_model(connection, name, content.description(model))
                for number in range(content.versions):
                    line = self.register(name, f"s3://elsewhere/{name}/{number}")
                    ask_line(connection, line)
            return [self.make_run(connection, f"run {number}") for number in range(content.runs)]


class OurDialect(Dialect):
    def make_model(self, connection: Connection, name: str, description: str) -> None:
        said = {"name": name, "description": description, "tags": {"domain": "law"}}
        ask_line(connection, _line("POST", "/api/v1/models", said))

    def register(self, name: str, source: str) -> str:
        said = {
            "source": {"uri": source},
            "description": "registered by the bench",
            "tags": {"stage": "candidate"},
        }
        return _line("POST", f"/api/v1/models/{name}/versions", said)

    def make_run(self, connection: Connection, name: str) -> str:
        found: str = ask_line(connection, _line("POST", "/api/v1/runs", {"name": name}))["id"]
        return found

    def log(self, run: str) -> str:
        points = [
            {"key": key, "value": value, "step": step, "time": "2026-11-20T12:00:00Z"}
            for key, value, step in _points()
        ]
        return _line("POST", f"/api/v1/runs/{run}/metrics", {"points": points})

    def get_model(self, name: str) -> str:
        return _line("GET", f"/api/v1/models/{name}")

    def get_version(self, name: str, number: int) -> str:
        return _line("GET", f"/api/v1/models/{name}/versions/{number}")

    def list_models(self) -> str:
        return _line("GET", f"/api/v1/models?limit={PAGE}")

    def search(self, word: str) -> str:
        return _line("GET", "/api/v1/models?" + urlencode({"limit": PAGE, "q": word}))


class MlflowDialect(Dialect):
    _api: Final = "/api/2.0/mlflow"

    def make_model(self, connection: Connection, name: str, description: str) -> None:
        tags = [{"key": "domain", "value": "law"}]
        said = {"name": name, "description": description, "tags": tags}
        ask_line(connection, _line("POST", f"{self._api}/registered-models/create", said))

    def register(self, name: str, source: str) -> str:
        said = {
            "name": name,
            "source": source,
            "description": "registered by the bench",
            "tags": [{"key": "stage", "value": "candidate"}],
        }
        return _line("POST", f"{self._api}/model-versions/create", said)

    def make_run(self, connection: Connection, name: str) -> str:
        said = {"experiment_id": "0", "run_name": name}
        made = ask_line(connection, _line("POST", f"{self._api}/runs/create", said))
        found: str = made["run"]["info"]["run_id"]
        return found

    def log(self, run: str) -> str:
        points = [
            {"key": key, "value": value, "step": step, "timestamp": 1_763_640_000_000}
            for key, value, step in _points()
        ]
        return _line("POST", f"{self._api}/runs/log-batch", {"run_id": run, "metrics": points})

    def get_model(self, name: str) -> str:
        return _line("GET", f"{self._api}/registered-models/get?name={quote(name)}")

    def get_version(self, name: str, number: int) -> str:
        target = f"{self._api}/model-versions/get?name={quote(name)}&version={number}"
        return _line("GET", target)

    def list_models(self) -> str:
        return _line("GET", f"{self._api}/registered-models/search?max_results={PAGE}")

    def search(self, word: str) -> str:
        wanted = {"max_results": PAGE, "filter": f"name LIKE '%{word}%'"}
        return _line("GET", f"{self._api}/registered-models/search?" + urlencode(wanted))


DIALECTS: Final[dict[str, Dialect]] = {"digestry": OurDialect(), "mlflow": MlflowDialect()}


def ask_line(connection: Connection, line: str, serial: int = 0) -> Any:
    """Ask what a line says, once; what was answered."""
    method, target, *body = line.replace("@", str(serial)).split("\t")
    content = body[0].encode() if body else None
    headers = _JSON if body else {}
    answer = connection.ask(method, target, headers, content, expect=(200, 201))
    return json.loads(answer.body or b"null")


def _line(method: str, target: str, body: Any = None) -> str:
    parts = [method, target]
    if body is not None:
        parts.append(json.dumps(body).replace('"@"', "@"))
    return "\t".join(parts)


def _points() -> Sequence[tuple[str, float, str]]:
    """Steps are the number of the request, so no point is logged twice."""
    return [(f"key {number}", number / 7, "@") for number in range(POINTS)]
