"""What the documents say is what the code does, in both directions."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from registry.api.errors import ADAPTER
from registry.api.routes import ROUTES, UNMATCHED
from registry.cli.commands import app as commands
from registry.config import FIELDS, Config
from tests.contracts.adapter_errors import EXAMPLES

ROOT = Path(__file__).resolve().parents[1]
API = (ROOT / "registry/API.md").read_text()
SETTINGS = (ROOT / "config.toml").read_text().splitlines()

_ROUTE = re.compile(r"\| ((?:`[A-Z*]+` ?)+) \| `(/[^`]*)` \| `([a-z.]+)` \| (\S.*) \|")
_CODE = re.compile(r"\| `([a-z0-9_]+)` \| ([0-9, ]+) \| (\S.*?) \| (.*)\|")
_PROMISE = re.compile(r"Test: (\S+?)::\s*(\w+)")


# Settings


def documented_settings() -> dict[str, tuple[str, str]]:
    """Key to its value as written and the comment above it."""
    found: dict[str, tuple[str, str]] = {}
    section, comment = "", ""
    for line in SETTINGS:
        if line.startswith("["):
            section = line.strip("[]")
        if line.startswith("#"):
            comment = line.removeprefix("#").strip()
        elif " = " in line:
            name, _, value = line.partition(" = ")
            found[f"{section}.{name}"] = (value, comment)
            comment = ""
        else:
            comment = ""
    return found


def test_every_setting_is_in_the_reference_file_and_nothing_else_is() -> None:
    assert set(documented_settings()) == set(FIELDS)


@pytest.mark.parametrize("key", sorted(FIELDS))
def test_every_setting_has_a_comment_of_its_own_and_its_default(key: str) -> None:
    value, comment = documented_settings()[key]
    section, _, name = key.partition(".")
    default = getattr(getattr(Config(), section), name)

    assert len(comment.split()) >= 5
    assert (
        msgspec.toml.decode(f"value = {value}")["value"]
        == msgspec.to_builtins(default, builtin_types=())
        or list(default) == msgspec.toml.decode(f"value = {value}")["value"]
    )


# Routes


def canonical(path: str) -> str:
    """A path pattern without the expressions of its parameters."""
    plain, depth = "", 0
    skipping = False
    for character in path:
        if character == "{":
            depth += 1
            if depth > 1:
                continue
        elif character == "}":
            depth -= 1
            if depth == 0:
                skipping = False
        elif character == ":" and depth == 1:
            skipping = True
        if not skipping:
            plain += character
    return plain


def registered_routes() -> dict[tuple[str, str], str]:
    return {
        (route.method, canonical(route.path)): route.permission for route in [*ROUTES, *UNMATCHED]
    }


def documented_routes() -> dict[tuple[str, str], str]:
    return {
        (method, match[2]): match[3]
        for line in API.splitlines()
        if (match := _ROUTE.match(line)) is not None
        for method in re.findall(r"`([A-Z*]+)`", match[1])
    }


def test_every_route_is_documented_with_its_permission() -> None:
    assert documented_routes().items() >= registered_routes().items()


def test_every_documented_route_exists() -> None:
    assert registered_routes().keys() >= documented_routes().keys()


@pytest.mark.parametrize(
    ("pattern", "plain"),
    [("/a/{b}", "/a/{b}"), ("/{a:[^/]+}/{b:(?s:.*)}", "/{a}/{b}"), ("/{a:x{2}}/c", "/{a}/c")],
)
def test_patterns_are_compared_without_their_expressions(pattern: str, plain: str) -> None:
    assert canonical(pattern) == plain


# Errors


def documented_codes() -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for line in API.splitlines():
        match = _CODE.match(line)
        if match is not None:
            assert match[1] not in found, f"{match[1]} is documented twice"
            found[match[1]] = {int(status) for status in match[2].split(",")}
    return found


def codes_in_use() -> dict[str, str]:
    """Every literal code that native code gives to an error, and where."""
    found: dict[str, str] = {}
    for path in (ROOT / "registry").rglob("*.py"):
        if "protocols" in path.parts or "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for part in [] if (value := code_given(node)) is None else ast.walk(value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value:
                    found[part.value] = f"{path.relative_to(ROOT)}:{part.lineno}"
    return found


def code_given(node: ast.AST) -> ast.expr | None:
    """The value of ``code=…``, as an argument or in a class."""
    if isinstance(node, ast.keyword) and node.arg == "code":
        return node.value
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return node.value if "code" in names else None
    return None


def statuses() -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for error in EXAMPLES:
        rule = ADAPTER.rule_for(error)
        assert rule is not None
        found[rule.code or str(getattr(error, "code", ""))].add(rule.status)
    return found


def test_every_code_in_use_is_documented() -> None:
    missing = {
        code: where for code, where in codes_in_use().items() if code not in documented_codes()
    }

    assert missing == {}


def test_every_kind_of_error_is_documented_with_its_status() -> None:
    documented = documented_codes()

    assert {code: documented.get(code) for code in statuses()} == statuses()


def test_every_documented_code_exists() -> None:
    known = {*codes_in_use(), *statuses(), "internal_error", "http_error"}

    assert set(documented_codes()) - known == set()


# Commands


def test_every_command_has_help() -> None:
    named = [name for name in commands if not name.startswith("-")]

    assert {"serve", "gc", "scrub", "fsck"} <= set(named)
    assert [name for name in named if not commands[name].help] == []


# Promises


def promised_tests() -> list[tuple[str, str]]:
    """Each ``Test: path::name`` in a docstring of the code."""
    return sorted(
        {
            (path, name)
            for package in ("registry", "store")
            for module in (ROOT / package).rglob("*.py")
            if _PROMISE.search(content := module.read_text())
            for path, name in _PROMISE.findall(ast.get_docstring(ast.parse(content)) or "")
        }
    )


@pytest.mark.parametrize("package", ["store", "registry"])
def test_each_package_names_a_test_for_each_promise(package: str) -> None:
    numbered = re.split(r"\n\d\. ", (ROOT / package / "__init__.py").read_text())[1:]

    assert len(numbered) >= 4
    assert [text for text in numbered if "*must*" in text and not _PROMISE.search(text)] == []


@pytest.mark.parametrize(("path", "name"), promised_tests())
def test_the_test_that_guards_a_promise_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    names = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert name in names
