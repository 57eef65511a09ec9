"""Secrets are known by the names they stand under."""

from __future__ import annotations

from typing import Any

import pytest

from registry.domain.masking import MASK, masked, names_secret


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "secret",
        "token",
        "password",
        "api_key",
        "apiKey",
        "APIKEY",
        "HF_TOKEN",
        "hfToken",
        "AWS_SECRET_ACCESS_KEY",
        "client-secret-base64",
        "db.password",
        "credentials",
        "X-Api-Key",
        "Authorization",
        "passwordHash",
        "accesskey",
        "aws_secretkey",
        "api_keys",
        "refreshTokens",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "monkey",
        "tokenizer",
        "max_tokens",
        "stop_tokens",
        "tokens",
        "keys",
        "key_size",
        "token_count",
        "secretary",
        "",
        "😀",
    ],
)
def test_innocent_names_are_left_alone(name: str) -> None:
    assert not names_secret(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "x", "user": "y"}, {"password": MASK, "user": "y"}),
        ({"a": [{"token": 7}]}, {"a": [{"token": MASK}]}),
        ({"secrets": {"inner": "x"}}, {"secrets": MASK}),
        ({"token": None}, {"token": None}),
        ({"key": "sk-123"}, {"key": MASK}),
        ({"key": "stage", "value": "x"}, {"key": "stage", "value": "x"}),
        ({"key": "HF_TOKEN", "value": "x"}, {"key": "HF_TOKEN", "value": MASK}),
        ({"key": "HF_TOKEN", "value": None}, {"key": "HF_TOKEN", "value": None}),
        ([1, "token"], [1, "token"]),
        ("token", "token"),
    ],
)
def test_what_stands_under_such_names_is_masked(value: Any, expected: Any) -> None:
    assert masked(value) == expected
