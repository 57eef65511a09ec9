"""The rules that no single test of behaviour would notice being broken."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("registry", "store")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def no_change(_: object) -> None:
    pass


def test_imports_point_down_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contracts are in ``pyproject.toml``."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("logging.config.dictConfig", no_change)  # it disables every other logger
    outcome = lint_imports(no_cache=True)

    assert outcome == 0, capsys.readouterr().out


def test_only_durable_syncs_and_renames() -> None:
    """Whether bytes have reached the disk is decided in one module."""
    forbidden = {"fsync", "fdatasync", "rename", "replace", "renameat2"}
    elsewhere = [
        f"{named(path)}:{node.lineno}"
        for path in (ROOT / "store").rglob("*.py")
        if path.name != "durable.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in forbidden
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]

    assert elsewhere == []


def test_only_the_settings_and_the_command_read_the_environment() -> None:
    allowed = {"registry/config.py", "registry/metrics.py"}
    elsewhere = [
        f"{named(path)}:{node.lineno}"
        for path in modules()
        if named(path) not in allowed and not named(path).startswith("registry/cli/")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    ]

    assert elsewhere == []


def test_whole_bodies_are_never_read_at_once() -> None:
    """``request.read()`` and its kin hold a body of any size in memory."""
    forbidden = {"read", "text", "json", "post", "multipart"}
    found = [
        f"{named(path)}:{node.lineno}"
        for path in (ROOT / "registry").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in forbidden
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "request"
    ]

    assert found == []


def test_tests_are_packages() -> None:
    """Otherwise ``tests/store`` would shadow the package ``store``."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    without = [named(folder) for folder in folders if not (folder / "__init__.py").exists()]

    assert without == []
