from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import web

from registry import errors as ours
from registry.api.errors import ADAPTER, NATIVE
from registry.http.adapters import Rule, rule_for
from registry.http.problems import problem
from store import errors as stored
from tests.contracts.adapter_errors import EXAMPLES, ONE, TWO, AdapterErrorContract


def members(answer: web.Response) -> dict[str, Any]:
    content: Any = answer.body
    decoded: dict[str, Any] = msgspec.json.decode(content)
    return decoded


class TestNativeErrors(AdapterErrorContract):
    adapter = ADAPTER

    def assert_envelope(self, answer: web.Response, error: Exception | None) -> None:
        body = members(answer)

        assert answer.content_type == "application/problem+json"
        assert body["status"] == answer.status
        assert body["type"] == f"urn:digestry:problem:{body['code']}"
        assert body["code"].replace("_", "").isalnum()
        assert body["code"] == body["code"].lower()
        assert body["title"]
        assert body["detail"]
        assert body["request_id"] == "req-1234"

    @pytest.mark.parametrize(
        ("error", "status", "code", "facts"),
        [
            (
                stored.DigestMismatch(ONE, TWO),
                422,
                "digest_mismatch",
                {"expected": str(ONE), "actual": str(TWO)},
            ),
            (stored.SizeMismatch(3, 2), 400, "size_mismatch", {"expected": 3, "actual": 2}),
            (
                stored.OffsetConflict("upl_1", 3, 2),
                409,
                "offset_conflict",
                {"expected": 3, "offset": 2},
            ),
            (
                ours.ContentMissing("version", "1", [ONE]),
                409,
                "content_missing",
                {"missing": [str(ONE)]},
            ),
            (ours.BodyTooLarge(3), 413, "body_too_large", {"limit_bytes": 3}),
            (
                ours.Invalid("x", "bad", problems=[("x", "bad"), ("y", "worse")]),
                400,
                "invalid",
                {
                    "errors": [
                        {"field": "x", "reason": "bad"},
                        {"field": "y", "reason": "worse"},
                    ]
                },
            ),
            (ours.Conflict("a", "b", "c", code="label_taken"), 409, "label_taken", {}),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    def test_facts_travel_as_members(
        self, error: Exception, status: int, code: str, facts: dict[str, Any]
    ) -> None:
        body = members(self.render(error))

        assert (body["status"], body["code"]) == (status, code)
        assert facts.items() <= body.items()

    @pytest.mark.parametrize(
        ("error", "name", "value"),
        [
            (stored.RangeNotSatisfiable(ONE, 7), "Content-Range", "bytes */7"),
            (stored.OffsetConflict("upl_1", 3, 2), "Upload-Offset", "2"),
            (stored.Unavailable("x"), "Retry-After", "2"),
            (stored.TooManyOpenFiles("x"), "Retry-After", "2"),
            (ours.Throttled(9), "Retry-After", "9"),
            (ours.Throttled(0), "Retry-After", "1"),
            (ours.MethodNotAllowed("PUT", {"HEAD", "GET"}), "Allow", "GET, HEAD"),
            (ours.Unauthenticated(), "WWW-Authenticate", 'Basic realm="digestry", charset="UTF-8"'),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    def test_facts_of_http_travel_as_headers(self, error: Exception, name: str, value: str) -> None:
        assert self.render(error).headers[name] == value

    def test_codes_are_one_word_for_one_kind(self) -> None:
        codes = [members(self.render(error))["code"] for error in EXAMPLES]

        assert len(codes) == len(set(codes))


def test_the_nearest_class_decides() -> None:
    class Nearer(ours.NotFound):
        pass

    assert rule_for(NATIVE, Nearer) is NATIVE[ours.NotFound]
    assert rule_for({Exception: Rule(500), ours.NotFound: Rule(404)}, Nearer) == Rule(404)
    assert rule_for(NATIVE, KeyError) is None


def test_members_cannot_replace_what_the_standard_names() -> None:
    body = members(problem(400, "x", "y", members={"status": 200, "extra": 1}))

    assert (body["status"], body["extra"]) == (400, 1)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_makes_one_plain_sentence(error: Exception) -> None:
    sentence = str(error)

    assert sentence
    assert "\n" not in sentence
