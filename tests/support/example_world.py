"""What the examples of the API's documentation speak of, made on a live server.

`ExampleWorld` fills a namespace of its own, since some names cannot be taken twice, and makes the
request that the document shows for an operation: parameters that are required, and the example of
the body, with the names of this world. A new resource of the API gets its example here: in
`ExampleWorld.known` what a path may call it, in `_prepared` what a request needs besides (something
deleted, before it can be restored).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any, Final

import requests

from tests.support.servers import Server, wait_until

EMPTY: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_VERSION: Final = "/api/v1/models/{model}/versions/{version}"
_RUN: Final = "/api/v1/runs/{run}"
_EXPERIMENT: Final = "/api/v1/experiments/{experiment}"
_ENVIRONMENT: Final = "/api/v1/environments/{environment}"

_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    # What tus demands by method, where the document cannot say so.
    "POST /uploads": {"Upload-Length": "99999"},
    "POST /uploads/": {"Upload-Length": "99999"},
    "POST /uploads/{session}": {"X-HTTP-Method-Override": "HEAD"},
    "PATCH /uploads/{session}": {"Upload-Offset": "0"},
}

_CONTENT: Final = b"{}"
_FILES: Final = {"PUT /api/v1/blobs.tar": hashlib.sha256(_CONTENT).hexdigest()}
"""What a file is called in archives of such requests."""


class ExampleWorld:
    """A namespace with one of everything; `known` says how paths and queries name each."""

    def __init__(
        self,
        server: Server,
        document: Mapping[str, Any],
        space: str,
        headers: Mapping[str, str] | None = None,
        reviewer: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` say who fills it, where the server asks, and `reviewer` who reviews it."""
        self.server = server
        self.space = space
        self._headers = dict(headers or {})
        self._reviewer = dict(reviewer or self._headers)
        self._document = document
        self._connection: HTTPConnection | None = None
        with self._connected():
            self.known = self._filled()

    def request(self, operation: Any, *, is_prepared: bool = True) -> Any:
        """The case of `operation` as the document itself shows it; what it needs is made.

        Where it is not to be prepared, everything stays as it is, and the request may fail.
        """
        known = dict(self.known)
        if is_prepared:
            with self._connected():
                known |= self._prepared(operation.label)
        declared = self._document["paths"][operation.path][operation.method.lower()]
        parts: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}}
        for one in declared.get("parameters", ()):
            if one["required"]:
                parts[one["in"]][one["name"]] = known.get(one["name"], one.get("example"))
        parts["header"].update(_HEADERS.get(operation.label, {}))
        return operation.Case(
            path_parameters=parts["path"],
            query=parts["query"],
            headers=parts["header"],
            **self._body(declared.get("requestBody", {}).get("content", {}), operation.label),
        )

    def _body(self, content: Mapping[str, Any], label: str) -> dict[str, Any]:
        for media_type, described in content.items():
            reference = described["schema"].get("$ref")
            if reference is None:
                exported = label == "POST /api/v1/imports"
                body = self._exported() if exported else archive(_FILES.get(label, "config.json"))
                return {"media_type": media_type, "body": body}
            schemas = self._document["components"]["schemas"]
            example = json.dumps(schemas[reference.rpartition("/")[2]]["examples"][0])
            for name in ("nlp", "speech", "vision", "ada", "grace", "robot"):
                for end in ("/", "~", '"'):
                    example = example.replace(f'"{name}{end}', f'"{name}-{self.space}{end}')
            return {"media_type": media_type, "body": json.loads(example)}
        return {}

    @contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        """All requests inside go over one connection: most of sixty would be their connections."""
        if self._connection is not None:
            yield self._connection
            return
        with closing(HTTPConnection("127.0.0.1", self.server.port, timeout=10)) as connection:
            self._connection = connection
            try:
                yield connection
            finally:
                self._connection = None

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        with self._connected() as connection:
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _filled(self) -> dict[str, str]:
        space, team = f"nlp-{self.space}", f"vision-{self.space}"
        model, tag = f"{space}~bert", f"language-{self.space}"
        self.put("/blobs/nothing.bin", b"")
        for label in ("1.3.0", "1.4.0", "1.5.0"):
            self.put(f"/models/{model}/{label}/model.safetensors?publish=true", label.encode())
        self.put(f"/models/{model}/draft/model.safetensors", b"a draft")
        for version in ("1.3.0", "1.4.0"):
            self.api("PUT", f"models/{model}/aliases/champion", {"version": version})
        self.api("PUT", f"models/{model}/tags/{tag}", {"value": "en"})
        self.api("PUT", f"models/{model}/versions/1.4.0/tags/{tag}", {"value": "en"})
        self.api("POST", "teams", {"name": team})
        edge = {"relation": "merged", "parent": {"uri": "hf:squad"}}
        return {
            "model": model,
            "version": "1.4.0",
            "other": "1.5.0",
            "path": "model.safetensors",
            "alias": "champion",
            "tag": f"{tag}=en",
            "key": tag,
            "team": team,
            "edge": self.made(f"models/{model}/versions/1.4.0/lineage", edge),
            "digest": EMPTY,
            "namespace": space,
            "experiment": self.made("experiments", {"name": "learning rates", "namespace": space}),
            "run": self.new_run(model),
            "environment": self._new_environment(space),
            "deployment": self._new_deployment(space),
            "binding": self.made("bindings", _binding(space)),
            "review": self._new_review(model),
            "id": self.api("GET", f"models/{model}/versions/1.4.0")["id"],
            **self._retention(space),
            "operation": self._ended_operation(),
            "hold": self.made("holds", {"reason": "a copy"}),
            "session": self._new_session(),
            "uri": "hf:squad",
            "guard": self._new_guard(space),
            **self._webhook(),
            **self._people(space, team),
            "q": "bert",
        }

    def _prepared(self, label: str) -> dict[str, str]:
        """What a request needs besides, and how it names it."""
        method, _, path = label.partition(" ")
        model, space = self.known["model"], self.known["namespace"]
        match path:
            case "/blobs/{digest}" if method == "PUT":
                return {"digest": "archive.tar"}
            case "/models/{model}/{version}/{path}" if method in ("PUT", "DELETE"):
                return {"version": "draft"}
            case "/models/{model}/{version}" if method == "PUT":
                return {"version": "2.1.0.tar"}
            case "/api/v1/models/{model}" if method == "DELETE":  # what runs is not deleted
                self.api("POST", f"deployments/{self.known['deployment']}/terminate")
            case "/api/v1/models/{model}/card":
                self.put(f"/api/v1/models/{model}/card", b"# BERT")
            case "/api/v1/models/{model}/former-names/{name}":
                self.api("POST", f"models/{model}/rename", {"name": f"{space}/new"})
                return {"model": f"{space}~new", "name": model}
            case "/api/v1/namespaces/{namespace}" if method == "DELETE":
                self.api("POST", "namespaces", {"slug": f"{space}-empty"})
                return {"namespace": f"{space}-empty"}
            case "/api/v1/holds/{hold}" | "/api/v1/holds/{hold}/renew":
                return {"hold": self.made("holds", {"reason": "a copy"})}
            case "/api/v1/runs/{run}/metrics/chart":
                return {"key": "train/loss"}
            case "/api/v1/metrics/compare":
                return {"version": self.known["id"]}
            case "/api/v1/environments/{environment}" if method == "DELETE":
                return {"environment": self._new_environment(f"{space}-empty")}
            case "/api/v1/scrub" if method == "POST":  # one at a time, and others ask for theirs
                self._end_scrub()
            case "/api/v1/retention/policies" if method == "POST":
                self.api("DELETE", f"retention/policies/{self.known['policy']}")
            case "/api/v1/tags/{tag}" if method == "DELETE":
                self._leave_tag_unused()
        if method == "DELETE" and path in ("/models/{model}/{version}", _VERSION):
            return {"version": "1.3.0"}
        if path.endswith(("/restore", "/purge")):
            return self._deleted(path.rpartition("/")[0])
        return {}

    def _deleted(self, path: str) -> dict[str, str]:
        """Something of that path, deleted, under the name that is left to it."""
        model, team = self.known["model"], self.known["team"]
        if path == _VERSION:
            self.api("DELETE", f"models/{model}/versions/1.3.0")
            return {"version": "1"}
        if path == _RUN:
            run = self.new_run(model)
            self.api("DELETE", f"runs/{run}")
            return {"run": run}
        if path == _EXPERIMENT:
            named = {"name": "over", "namespace": self.known["namespace"]}
            experiment = self.made("experiments", named)
            self.api("DELETE", f"experiments/{experiment}")
            return {"experiment": experiment}
        if "{model}" in path:  # what runs is not purged
            self.api("POST", f"deployments/{self.known['deployment']}/terminate")
        if path == _ENVIRONMENT:
            environment = self._new_environment(f"{self.known['namespace']}-over")
            self.api("DELETE", f"environments/{environment}")
            return {"environment": environment}
        name, place = (
            ("team", f"teams/{team}") if "{team}" in path else ("model", f"models/{model}")
        )
        found = self.api("GET", place)["id"]
        self.api("DELETE", place)
        return {name: found}

    def _exported(self) -> bytes:
        """A model that is not here any more, as one archive."""
        model = f"nlp-{self.space}~leaving"
        self.put(f"/models/{model}/1.0.0/config.json?publish=true", b"{}")
        export = f"{self.server.url}/api/v1/models/{model}/export"
        content = requests.get(export, timeout=60).content
        self.api("DELETE", f"models/{model}")
        return content

    def _leave_tag_unused(self) -> None:
        """A tag that nobody described goes with its last use."""
        self.api("PATCH", f"tags/{self.known['tag']}", {"description": "stays"})
        for place in ("", "/versions/1.4.0"):
            self.api("DELETE", f"models/{self.known['model']}{place}/tags/{self.known['key']}")

    def _retention(self, space: str) -> dict[str, str]:
        """A policy that lets nothing go, and a plan of its namespace that is finished."""
        policy = self.made("retention/policies", {"namespace": space, "keep_last": 10})

        def started() -> Any:
            """Others plan at the same server, one at a time."""
            return self.api("POST", "retention/plans", {"namespace": space}).get("url")

        wait_until(started, "turn to plan")

        def planned() -> Any:
            found = self.api("GET", "retention/plans")["items"]
            ready = [one["id"] for one in found if one["state"] == "ready"]
            return ready and found[0]["target"] == space and ready[0]

        return {"policy": policy, "plan": str(wait_until(planned, "end of the plan"))}

    def _ended_operation(self) -> str:
        """The id of a check; nothing that excludes another operation is running then."""
        self.api("POST", "fsck", {})

        def last() -> Any:
            found = self.api("GET", "fsck")["operation"]
            return found["state"] != "running" and found["id"]

        return str(wait_until(last, "end of the check"))

    def _end_scrub(self) -> None:
        """Somebody may have asked for one of a byte a second, which would go on for hours."""

        def nothing_scrubs() -> bool:
            found = self.api("GET", "scrub")["operation"]
            if found is None or found["state"] != "running":
                return True
            self.api("DELETE", f"operations/{found['id']}")
            return False

        wait_until(nothing_scrubs, "end of the scrub")

    def _webhook(self) -> dict[str, str]:
        """A webhook with a delivery, at a name that nobody has."""
        wish = {"url": "https://hooks.invalid/", "events": ["*"], "namespace": f"nlp-{self.space}"}
        webhook = self.made("webhooks", wish)
        ping = self.api("POST", f"webhooks/{webhook}/ping")
        return {"webhook": webhook, "delivery": str(ping["entry"])}

    def _people(self, space: str, team: str) -> dict[str, str]:
        """A user in the team, and a service account with a token and a grant."""
        user, robot = f"ada-{self.space}", f"robot-{self.space}"
        password = "correct horse battery staple"
        self.api("POST", "users", {"username": user, "password": password})
        self.api("POST", "users", {"username": robot, "kind": "service"})
        self.api("PUT", f"teams/{team}/members/{user}", {"role": "writer"})
        granted = {
            "subject": {"kind": "user", "name": robot},
            "resource": {"kind": "namespace", "name": space},
            "role": "reader",
        }
        made = self.api("POST", "tokens", {"name": "build", "user": robot})
        login = self.api("POST", "login", {"username": user, "password": password})
        return {
            "user": user,
            "token": made["token"]["id"],
            "login": login["session"]["id"],
            "grant": self.made("grants", granted),
        }

    def _new_session(self) -> str:
        headers = {**self._headers, "Tus-Resumable": "1.0.0", "Upload-Length": "99999"}
        answer = requests.post(f"{self.server.url}/uploads", headers=headers, timeout=60)
        return answer.headers["Location"].rpartition("/")[2]

    def _new_review(self, model: str) -> str:
        """By somebody else than who made the version, where people are told apart."""
        maker, self._headers = self._headers, self._reviewer
        try:
            return self.made(f"models/{model}/versions/1.4.0/reviews", {"verdict": "approve"})
        finally:
            self._headers = maker

    def _new_guard(self, space: str) -> str:
        """Of an alias that no example moves."""
        wish = {"namespace": space, "aliases": ["guarded"], "rules": {"approvals": 1}}
        return self.made("guards", wish)

    def new_run(self, model: str) -> str:
        wish = {"model": model.replace("~", "/"), "started_at": "2026-11-20T10:00:00Z"}
        return self.made("runs", wish)

    def _new_environment(self, name: str) -> str:
        return self.made("environments", {"name": name, "type": "staging"})

    def _new_deployment(self, space: str) -> str:
        """Into the environment of that name, of a model that has run another version before."""
        wish = {"name": "first", "environment": space, "model": f"{space}/bert"}
        deployment = self.made("deployments", {**wish, "version": "1.3.0"})
        self.api("POST", f"deployments/{deployment}/deploy", {"version": "1.4.0"})
        return deployment

    def made(self, path: str, content: object) -> str:
        """The id of something new."""
        return str(self.api("POST", path, content)["id"])

    def put(self, path: str, content: bytes) -> None:
        self._send("PUT", path, content, self._headers)

    def api(self, method: str, path: str, content: object = None) -> Any:
        """What the server answers; the answer may be a problem, but not one of the server's."""
        body = None if content is None else json.dumps(content).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        status, answer = self._send(method, f"/api/v1/{path}", body, headers)
        assert status < 500, answer
        return json.loads(answer) if answer else None


def _binding(space: str) -> dict[str, str]:
    return {"model": f"{space}/bert", "version": "1.4.0", "provider": "self-hosted"}


def archive(name: str) -> bytes:
    """Bytes that every route takes, those of archives too, which have one file of this name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(_CONTENT)
        tar.addfile(member, io.BytesIO(_CONTENT))
    return buffer.getvalue()
