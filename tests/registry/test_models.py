"""Models through HTTP: made, found, changed, renamed, deleted, brought back and purged."""

from __future__ import annotations

from typing import Any

from tests.support.builders import Registry


async def make(registry: Registry, name: str, **said: Any) -> Any:
    answer = await registry.send("POST", "/api/v1/models", json={"name": name, **said})
    assert answer.status == 201, answer.body
    return answer.json


async def test_a_model_is_made_with_what_is_said_and_defaults(registry: Registry) -> None:
    made = await registry.send(
        "POST",
        "/api/v1/models",
        json={"name": "nlp/bert", "description": "English", "risk_level": "high", "tags": {"a": "b"}},
    )

    assert made.status == 201
    model = made.json
    assert model["id"].startswith("mdl_")
    assert (model["name"], model["namespace"], model["kind"]) == ("nlp/bert", "nlp", "model")
    assert (model["risk_level"], model["active"], model["visibility"]) == ("high", True, "private")
    assert model["tags"] == [{"key": "a", "value": "b"}]
    assert made.headers["Location"] == f"{registry.url}/api/v1/models/nlp~bert"
    assert made.headers["ETag"] == f'"{model["id"]}.1"'
    for reference in ("nlp~bert", "NLP%2FBert", model["id"]):
        got = await registry.get(f"/api/v1/models/{reference}")
        assert (got.status, got.json) == (200, model)
        assert got.headers["ETag"] == made.headers["ETag"]
