"""What the documentation of the API says in one place: sections, parameters, examples.

A parameter of the same name means the same on every route, so it is described here once; a field of
a query struct may say it better with ``Meta(description=…)``. Examples are by the name of a field,
in requests and answers alike, and are used where their type fits. The tests refuse a section or a
parameter of a path that is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from registry.http.cookies import CSRF, CSRF_HEADER, TICKET
from registry.http.openapi import Parameter

_DIGEST: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_TIME: Final = "2026-11-20T12:30:00Z"
_SIZE: Final = {"type": "integer", "minimum": 0, "maximum": 2**53}
_TEXT: Final = {"type": "string"}

DESCRIPTION: Final = """\
A registry for machine-learning models: bytes under their SHA-256 digest, and what they mean.

- **Errors** are RFC 9457 problems with a stable `code`, the `request_id`, and one entry of `errors`
  for each bad field: its path, the reason, and what would be accepted.
- **JSON** is read strictly: unknown fields are refused with the nearest known one, 64 levels at
  most. Of a name that comes twice in an object the last counts.
- **Lists** are pages: `next` of one is `after` of the following one, also in `Link`.
- **Changes** of a resource with an `ETag` honour `If-Match`; `PATCH` is a merge-patch
  (RFC 7396). Every `POST` that changes something, except of bare bytes, honours
  `Idempotency-Key`.
- **Names** of models are written with `~` for each `/`.
- Every answer has an `X-Request-Id`, which the server's log has too.

Each operation names the permission it needs in `x-permission`. Foreign protocols live beside this
API; tus, for resumable uploads, is described here as well.
"""

TAGS: Final[Mapping[str, str]] = {
    "blobs": "Bytes under their digest, and what keeps them.",
    "uploads": "Resumable uploads by [tus 1.0.0](https://tus.io/protocols/resumable-upload).",
    "files": "Files and archives of versions, one line of curl each.",
    "namespaces": "First segments of names: owner, visibility, what they hold.",
    "models": "Named lines of work, found, described, renamed, deleted and brought back.",
    "account": "Who the caller is, and what they sign in with: login, sessions, tokens.",
    "users": "People and service accounts, as administrators see them.",
    "teams": "Who a model belongs to, and who acts for the team.",
    "grants": "Who has which role on what.",
    "guards": "What must hold of a version before an alias or a status moves to it.",
    "tags": "Keys with an optional value, on models and versions.",
    "versions": "Published revisions and drafts on their way to becoming one.",
    "aliases": "Movable names of versions, with a history of where they pointed.",
    "lineage": "What was made from what.",
    "experiments": "Questions that runs try to answer.",
    "runs": "Trainings: what they worked on, what they logged, what they cost.",
    "metrics": "What was measured of versions, per split.",
    "environments": "Where versions are deployed to.",
    "deployments": "Which version runs where, and what ran there before.",
    "bindings": "Who serves a version where, how that goes, and which one to use.",
    "scores": "How far a version can be trusted, by eleven metrics and what they are made of.",
    "reviews": "What others than its author say of a version.",
    "downloads": "Who fetched what, and how much.",
    "events": "What happens, as it happens.",
    "audit": "Who changed what, sealed so that edits are found.",
    "analytics": "Models, teams and the registry at a glance, and over time.",
    "webhooks": "Addresses that are told of what happens, signed, until they have heard it.",
    "retention": "Which versions are kept, retired and purged.",
    "operations": "Work on the whole store: collection, scrub, check.",
    "server": "Health, metrics and counts.",
}

PATH: Final[Mapping[str, Parameter]] = {
    "digest": Parameter("A digest: `sha256:` and 64 lower-case hexadecimal digits.", _DIGEST),
    "model": Parameter("A model's name with `~` for each `/`, or its `mdl_` id.", "nlp~bert"),
    "version": Parameter(
        "A number, a label, an alias (`@champion`), a tree, a revision, or a `ver_` id.", "1.4.0"
    ),
    "other": Parameter("The version to compare with, named like any other.", "1.5.0"),
    "id": Parameter("The `ver_` id of a version.", "ver_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "path": Parameter("The path of a file; slashes stay as they are.", "model.safetensors"),
    "alias": Parameter("The name of an alias.", "champion"),
    "edge": Parameter("The id of an edge.", "lin_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "review": Parameter("The id of a review.", "rev_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "run": Parameter("The id of a run.", "run_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "binding": Parameter("The id of a binding.", "bnd_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "experiment": Parameter(
        "An experiment: its `exp_` id, `namespace~name`, or a name in `default`.",
        "nlp~learning rates",
    ),
    "webhook": Parameter("The id of a webhook.", "whk_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "delivery": Parameter("The number of the audit entry that it tells of.", "4711"),
    "environment": Parameter("An environment, by its name or its `env_` id.", "production-eu"),
    "deployment": Parameter("The id of a deployment.", "dep_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "guard": Parameter("The id of a guard.", "grd_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "policy": Parameter("The id of a policy.", "pol_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "plan": Parameter("The id of a plan.", "pln_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "session": Parameter("The id of an upload session.", "upl_0123456789abcdef"),
    "hold": Parameter("The id of a hold.", "hold_0123456789abcdef01234567"),
    "operation": Parameter("The id of an operation.", "op_0123456789abcdef"),
    "namespace": Parameter("The first segment of models' names.", "nlp"),
    "team": Parameter("A team's name or its id.", "vision"),
    "user": Parameter("A user, by their name or their `usr_` id.", "ada"),
    "token": Parameter("The id of a token.", "tok_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "login": Parameter("The id of a login's session.", "ses_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "grant": Parameter("The id of a grant.", "grt_01kagz6y5n8s3v0c4t7x9b2d1f"),
    "tag": Parameter("A tag as `key=value`, its key where it has no value, or its id.", "language"),
    "key": Parameter("The key of a tag.", "language"),
    "name": Parameter("A former name, with `~` for each `/`.", "nlp~bert-old"),
}

QUERY: Final[Mapping[str, str]] = {
    "limit": "How many entries a page has at most.",
    "after": "The cursor `next` of the page before.",
    "total": "Whether to count all entries too.",
    "reason": "Why, for the audit log.",
    "uri": "What is not stored here, by its URI.",
    "state": "What the provider was given on the way there.",
    "code": "What the provider can be asked with who came back.",
    "error": "Why the provider lets nobody in.",
    "iss": "Which provider answers.",
    "namespace": "Only of this namespace.",
    "kind": "Only of this kind.",
    "team": "Only of this team, by name or id.",
    "task": "Only of this task type.",
    "subject": "Only of this subject domain.",
    "risk": "Only of this risk level.",
    "active": "Only active ones, or only the others.",
    "visibility": "Only of this visibility.",
    "tag": "Only with this tag: `key`, or `key=value`; given several times, with all of them.",
    "q": "Only what this text is found in.",
    "order": "In which order.",
    "metric": "Only of this metric.",
    "verdict": "Only with this verdict.",
    "deleted": "Whether to show what is deleted too.",
    "include": "What to show besides.",
    "status": "Only of this status.",
    "region": "Only in this region.",
    "provider": "Only at this provider.",
    "framework": "Only of this framework.",
    "alias": "The name of an alias.",
    "tier": "Only in this tier.",
    "slo_met": "Only those that met their objective, or only the others.",
    "min_eval_score": "Only with an evaluation score of at least this.",
    "max_cost_per_1k": "Only with a cost per 1,000 of at most this.",
    "by": "What to add up by; given several times, by all of them.",
    "since": "Only from this time on.",
    "until": "Only before this time.",
    "prefix": "Only what begins with this.",
}

_ONCE: Final = {"type": "string", "enum": ["1"]}

HEADERS: Final[Mapping[str, Parameter]] = {
    "If-Match": Parameter(
        "Change it only if it still has this `ETag`; else 412.", '"mdl_0123.7"', _TEXT
    ),
    "If-None-Match": Parameter("Answer 304 if it still has this `ETag`.", '"mdl_0123.7"', _TEXT),
    "Idempotency-Key": Parameter(
        "Under the same key the request is carried out once: repeated within 24 hours, it is "
        "answered as it was.",
        "2f1c6f0e-5d1b-4c43-a5b5-0c3d8f6f1f11",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "Range": Parameter("Which bytes to send.", "bytes=0-1023", _TEXT),
    "If-Range": Parameter("Honour `Range` only if it still has this `ETag`.", "", _TEXT),
    "Accept": Parameter("What to answer with.", "application/json", _TEXT),
    "Repr-Digest": Parameter(
        "The digest that the body must have, as in RFC 9530; it is verified.",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        _TEXT,
    ),
    "Content-Digest": Parameter("The same as `Repr-Digest` here.", "", _TEXT),
    "Tus-Resumable": Parameter(
        "The version of the protocol.", "1.0.0", {"type": "string", "enum": ["1.0.0"]}, True
    ),
    "Upload-Offset": Parameter("Where these bytes begin.", 0, _SIZE),
    "Upload-Length": Parameter("The size of the whole upload.", 4096, _SIZE),
    "Upload-Defer-Length": Parameter("The size will be told later.", "1", _ONCE),
    "Expect": Parameter(
        "With `100-continue` and a declared digest, what the caller may read already is "
        "acknowledged without its body.",
        "100-continue",
        {"type": "string", "enum": ["100-continue"]},
    ),
}

SECURITY: Final[Mapping[str, Mapping[str, str]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token (`dgt_…`), or the `access_token` of a login.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "An API token as the password, with any username.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": TICKET,
        "description": f"A login kept by a browser; changes need its `{CSRF}` in `{CSRF_HEADER}`.",
    },
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "digest": _DIGEST,
    "tree": _DIGEST,
    "missing": [_DIGEST],
    "expect_tree": _DIGEST,
    "size": 438_000_000,
    "id": "ver_0123456789abcdef",
    "request_id": "5f0c2a9e6c8b4d51",
    "number": 4,
    "name": "nlp/bert",
    "model": "nlp/bert",
    "namespace": "nlp",
    "version": "1.4.0",
    "label": "1.4.0",
    "alias": "champion",
    "revision": "8b1a9953c4611296a827abf8c47804d7e6c49c6b",
    "from_revision": "8b1a9953c4611296a827abf8c47804d7e6c49c6b",
    "to_revision": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "expected": "8b1a9953c4611296a827abf8c47804d7e6c49c6b",
    "path": "model.safetensors",
    "files": 12,
    "url": "http://127.0.0.1:8080/models/nlp~bert/1.4.0/",
    "archive_url": "http://127.0.0.1:8080/models/nlp~bert/1.4.0.tar",
    "publish_url": "http://127.0.0.1:8080/api/v1/models/nlp~bert/versions/1.4.0/publish",
    "created_at": _TIME,
    "created_by": "usr_local",
    "changed_at": _TIME,
    "updated_at": _TIME,
    "deleted_at": _TIME,
    "moved_at": _TIME,
    "moved_by": "usr_local",
    "touched_at": _TIME,
    "started_at": _TIME,
    "ended_at": _TIME,
    "leased_until": _TIME,
    "expires_at": _TIME,
    "time": _TIME,
    "at": _TIME,
    "actor": "usr_local",
    "reason": "better on the holdout set",
    "description": "a base model for English text",
    "status": "validated",
    "field": "files[3].digest",
    "accepted": "a text",
    "framework": "pytorch",
    "framework_version": "2.9.1",
    "python_version": "3.12",
    "metadata": {"dataset": "wiki-2026"},
    "parameters": {"layers": 12},
    "tag": "language",
    "key": "language",
    "value": "en",
    "region": "eu-central-1",
    "plan": "op_0123456789abcdef",
    "collection": "op_0123456789abcdef",
    "next": None,
    "kind": "model",
    "visibility": "private",
    "risk_level": "medium",
    "task_type": "text-classification",
    "subject_domain": "support tickets",
    "use_case": "routes tickets to the right desk",
    "team": "vision",
    "department": "research",
    "cost_center": "4711",
    "slug": "nlp",
    "quota_bytes": 1 << 40,
    "rate_bytes_per_second": 100 << 20,
}

BODIES: Final[Mapping[str, Any]] = {
    "AliasMove": {"version": "1.4.0", "reason": "better on the holdout set"},
    "AliasRollback": {"steps": 1, "reason": "slower than expected"},
    "ApplyQuestion": {},
    "DeploymentBody": {
        "name": "ticket-router",
        "environment": "nlp",
        "model": "nlp/bert",
        "version": "1.4.0",
        "replicas": 3,
        "memory": 16 << 30,
        "endpoint": "https://tickets.example.org/v1",
    },
    "DeploymentStatusBody": {"status": "healthy", "reason": "all replicas answer"},
    "EdgeBody": {
        "relation": "fine-tuned",
        "parent": {"model": "nlp/bert", "version": "1.3.0"},
        "description": "on support tickets",
    },
    "EnvironmentBody": {
        "name": "speech",
        "type": "production",
        "region": "eu-central-1",
        "kubernetes_namespace": "ml-serving",
        "config": {"api_key": {"secret_ref": "vault:kv/gateway#key"}},
    },
    "EnvironmentPatchBody": {"description": "in the second hall", "active": True},
    "ExperimentBody": {
        "name": "batch sizes",
        "namespace": "nlp",
        "tags": {"goal": "baseline"},
    },
    "LineageBatch": {
        "edges": [
            {
                "child": {"model": "nlp/bert", "version": "1.4.0"},
                "relation": "trained-on",
                "parent": {"uri": "hf:datasets/allenai/c4", "kind": "dataset"},
            }
        ]
    },
    "BatchBody": {
        "versions": [
            {
                "model": "nlp/bert",
                "label": "2.1.0",
                "files": [{"path": "model.safetensors", "digest": _DIGEST}],
            },
            {"model": "nlp/large", "source": {"uri": "s3://models/large/7"}, "region": "eu"},
        ]
    },
    "BatchedBody": {
        "model": "nlp/bert",
        "label": "2.1.0",
        "files": [{"path": "model.safetensors", "digest": _DIGEST}],
    },
    "GrantCreate": {
        "subject": {"kind": "user", "name": "ada"},
        "resource": {"kind": "namespace", "name": "nlp"},
        "role": "writer",
    },
    "ModelCreate": {
        "name": "nlp/tickets",
        "description": "routes support tickets",
        "task_type": "text-classification",
        "risk_level": "medium",
        "tags": {"language": "en"},
    },
    "LoginBody": {"username": "ada", "password": "correct horse battery staple"},
    "MemberPut": {"role": "maintainer"},
    "ModelRename": {"name": "nlp/tickets"},
    "ModelRestore": {"name": "nlp/bert"},
    "ModelUpdate": {"description": "routes support tickets", "risk_level": "high"},
    "ModelsCreate": {"models": [{"name": "nlp/small"}, {"name": "nlp/large"}]},
    "NamespaceCreate": {"slug": "speech", "visibility": "internal"},
    "NamespaceUpdate": {"visibility": "internal", "description": "language models"},
    "RegisterBody": {
        "label": "2.0.0",
        "files": [{"path": "model.safetensors", "digest": _DIGEST}],
        "framework": "pytorch",
        "framework_version": "2.9.1",
        "parameters": {"layers": 12},
        "eval_score": 0.93,
        "lineage": [
            {
                "relation": "trained-on",
                "parent": {"uri": "hf:datasets/allenai/c4", "kind": "dataset"},
            }
        ],
        "reason": "the weekly training",
    },
    "PasswordChange": {"old": "correct horse battery staple", "new": "a longer one, and mine"},
    "RefreshBody": {"refresh_token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"},
    "Registration": {"username": "grace", "password": "correct horse battery staple"},
    "PasswordBody": {"password": "correct horse battery staple"},
    "PlanBody": {"namespace": "nlp"},
    "PolicyBody": {
        "namespace": "nlp",
        "keep_last": 5,
        "retire_after_days": 90,
        "purge_after_days": 365,
        "protect_releases": True,
    },
    "PolicyPatchBody": {"keep_last": 5, "purge_after_days": None},
    "RateBody": {"metrics": ["licence", "size"]},
    "ReviewBody": {"verdict": "approve", "comment": "checked on the holdout set"},
    "TokenCreate": {
        "name": "the build server",
        "scopes": ["content.read", "model.read"],
        "user": "robot",
    },
    "UserCreate": {
        "username": "grace",
        "email": "grace@example.org",
        "password": "correct horse battery staple",
    },
    "UserUpdate": {"description": "moved to another team"},
    "SaidBody": {
        "description": "the weekly training",
        "eval_score": 0.93,
        "lineage": [
            {
                "relation": "trained-on",
                "parent": {"uri": "hf:datasets/allenai/c4", "kind": "dataset"},
            }
        ],
    },
    "GuardBody": {
        "namespace": "nlp",
        "aliases": ["guarded"],
        "rules": {"approvals": 1, "metrics": [{"name": "accuracy", "at_least": 0.9}]},
    },
    "GuardPatchBody": {"rules": {"approvals": 2}, "active": True},
    "SigningBody": {"path": "/models/nlp~bert/1.4.0/model.safetensors", "expires_in": 600},
    "ScrubQuestion": {"rate_bytes_per_second": 100 << 20},
    "TeamCreate": {"name": "speech", "department": "research", "cost_center": "4711"},
    "WebhookBody": {
        "url": "https://ci.example/hooks/registry",
        "namespace": "nlp",
        "events": ["version.publish", "alias.*"],
    },
    "WebhookPatchBody": {"events": ["*"], "active": True},
    "TeamUpdate": {"department": "research", "cost_center": "4712"},
}
"""Examples of whole bodies, by the name of their struct, where fields exclude each other."""
