"""Configuration holds no secrets, however deep, but may say where they are."""

from __future__ import annotations

from typing import Any

import pytest

from registry.domain.secrets_in_config import CONFIG_BYTES, CONFIG_DEPTH, config_text
from registry.errors import Invalid, SecretInConfig


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"region": "eu", "max_tokens": 4096, "tokenizer": "bpe", "key_size": 2048},
        {"api_key": None},
        {"api_key_ref": "vault:kv/openai#key"},
        {"api_key": {"secret_ref": "vault:kv/openai#key"}},
        {"secretRef": {"name": "openai"}},
        {"api_key": {"valueFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}},
        {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "t"}}}]},
        {"env": [{"name": "HF_HOME", "value": "/cache"}]},
        {"env": [{"name": "HF_TOKEN_REF", "value": "vault:hf"}]},
        {"labels": [{"key": "partition", "value": "a"}]},
        {"password_from": "env:DB_PASSWORD"},
        {"secrets": {"db": {"ref": "vault:db"}, "mail": None}},
        {"credentials": [{"secret_ref": "one"}, {"secret_ref": "two"}]},
    ],
)
def test_what_holds_no_secret_is_kept(config: dict[str, Any]) -> None:
    assert config_text(config)


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"key": "sk-1"}, ["config.key"]),
        ({"token": 12345}, ["config.token"]),
        ({"hfToken": ""}, ["config.hfToken"]),
        ({"use_secret": True}, ["config.use_secret"]),
        (
            {"a": {"b": [{"password": "x"}]}, "db": {"DB_PASSWORD": "y", "user": "me"}},
            ["config.a.b[0].password", "config.db.DB_PASSWORD"],
        ),
        (
            {"secrets": {"one": "x", "two": ["y", None]}},
            ["config.secrets.one", "config.secrets.two[0]"],
        ),
        ({"api_key": {"value": "x"}}, ["config.api_key.value"]),
        ({"api_key": {"secret_ref": "vault:a", "plain": "x"}}, ["config.api_key.plain"]),
        ({"auth_from": {"password": "x"}}, ["config.auth_from.password"]),
        ({"auth_from": [{"a": {"client_secret": "x"}}]}, ["config.auth_from[0].a.client_secret"]),
        ({"env": [{"name": "HF_TOKEN", "value": "x"}]}, ["config.env[0].value"]),
        ({"env": [{"key": "HF_TOKEN", "value": "x"}]}, ["config.env[0].value"]),
        ({"env": [{"key": "sk-1", "val": "x"}]}, ["config.env[0].key"]),
    ],
)
def test_every_place_of_a_secret_is_named(config: dict[str, Any], places: list[str]) -> None:
    with pytest.raises(SecretInConfig) as refused:
        config_text(config)

    assert [problem[0] for problem in refused.value.problems] == places
    assert all("secret_ref" in problem[2] for problem in refused.value.problems)


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


def test_a_configuration_is_bounded_in_depth_and_size() -> None:
    config_text({"a": nested(CONFIG_DEPTH - 1)})
    config_text({"a": "x" * (CONFIG_BYTES - len('{"a":""}'))})
    for config in (
        {"a": nested(CONFIG_DEPTH)},
        {"a": "x" * (CONFIG_BYTES - len('{"a":""}') + 1)},
    ):
        with pytest.raises(Invalid) as refused:
            config_text(config)
        assert refused.value.code == "invalid"


def test_equal_configurations_are_equal_texts() -> None:
    assert config_text({"b": 1, "a": {"d": 2, "c": 3}}) == '{"a":{"c":3,"d":2},"b":1}'
