"""What the files of a version are, told by their paths: weights, code, tests, dependencies.

Contents are not opened here. Which endings mean what is our own list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from registry.domain.scoring.evidence import MOST_NAMED, Files, shown
from registry.domain.trees import TreeFile


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PICKLED: Final = _words("ckpt dill joblib pickle pkl pt pth")
"""Files that are Python pickles as a rule: loading them can run anything
(https://docs.python.org/3/library/pickle.html, https://huggingface.co/docs/hub/security-pickle)."""

_PICKLED_BIN: Final = re.compile(
    r"(?:pytorch_model|adapter_model|training_args|optimizer)\b.*\.bin\Z"
)
"""What PyTorch tools call their pickles; other files of that ending are anything."""

WEIGHTS: Final = PICKLED | _words(
    "bin gguf ggml h5 keras mlmodel msgpack npz onnx pb safetensors tflite xgb ubj cbm "
    "engine weights"
)
SCRIPTS: Final = _words("c cc cpp cu go java jl js kt lua m py r rs scala sh sql swift ts")
_CONFIGS: Final = _words(
    "config.json config.yaml config.yml model_index.json generation_config.json "
    "hyperparameters.json params.yaml hparams.yaml mlmodel"
)
_DEPENDENCIES: Final = _words(
    "pyproject.toml setup.py setup.cfg environment.yml environment.yaml pipfile conda.yaml "
    "python_env.yaml package.json cargo.toml go.mod dockerfile description project.toml"
)
_LOCKS: Final = _words(
    "uv.lock poetry.lock pdm.lock pipfile.lock conda-lock.yml pylock.toml package-lock.json "
    "yarn.lock cargo.lock go.sum manifest.toml renv.lock"
)
_CHECKS: Final = _words(
    "ruff.toml .ruff.toml .flake8 .pylintrc mypy.ini pyrightconfig.json tox.ini noxfile.py "
    ".pre-commit-config.yaml .editorconfig .clang-format .eslintrc.json biome.json "
    "rustfmt.toml .lintr"
)
_PIPELINES: Final = frozenset((".gitlab-ci.yml", ".travis.yml", "azure-pipelines.yml"))
_PIPELINE_FOLDERS: Final = (".github/workflows/", ".circleci/")
_REQUIREMENTS: Final = re.compile(r"requirements[\w.-]{0,60}\.(?:txt|in)\Z")
_LICENCE: Final = re.compile(r"(?:licen[cs]e|copying|unlicen[cs]e)(?:[._-][\w.-]{0,40})?\Z")
_TEST_FOLDERS: Final = frozenset(("test", "tests"))
_COUNTED: Final = _words(
    "pickles scripts notebooks tests configs dependency_files lock_files check_files pipeline_files"
)


class FileCount:
    """Counts files page by page; keeps few paths, however many files there are."""

    def __init__(self) -> None:
        self.files = 0
        self.licences: list[TreeFile] = []
        self.requirements: TreeFile | None = None
        self._size = 0
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._weights: dict[str, int] = {}
        self._examples: list[str] = []

    def take(self, files: Iterable[TreeFile]) -> None:
        for file in files:
            self.files += 1
            self._size += file.size_bytes
            self._take(file)

    def facts(self, *, is_cut: bool = False, pinned_requirements: bool = False) -> Files:
        """Everything that was taken so far."""
        return Files(
            total=self.files,
            size_bytes=self._size,
            is_cut=is_cut,
            weight_bytes=dict(sorted(self._weights.items())),
            pinned_requirements=pinned_requirements,
            examples=tuple(self._examples),
            **self._counts,
        )

    def _take(self, file: TreeFile) -> None:
        *folders, name = file.path.lower().split("/")
        stem, dot, ending = name.rpartition(".")
        ending = ending if dot and stem else ""
        if ending in WEIGHTS:
            self._weights[ending] = self._weights.get(ending, 0) + file.size_bytes
            is_pickle = ending in PICKLED or _PICKLED_BIN.match(name) is not None
            self._counts["pickles"] += is_pickle
        if not folders and _LICENCE.match(name) and len(self.licences) < MOST_NAMED:
            self.licences.append(file)
        if not folders and name == "requirements.txt":
            self.requirements = file
        for kind in _kinds(file.path.lower(), folders, name, ending):
            self._counts[kind] += 1
            if len(self._examples) < MOST_NAMED and shown(file.path) not in self._examples:
                self._examples.append(shown(file.path))


def _kinds(path: str, folders: list[str], name: str, ending: str) -> list[str]:
    """What a file counts as besides weights, in the words of `Files`."""
    found = []
    if ending == "ipynb":
        found.append("notebooks")
    elif ending in SCRIPTS:
        is_test = name.startswith("test_") or f"_test.{ending}" in name
        is_test = is_test or not _TEST_FOLDERS.isdisjoint(folders)
        found.append("tests" if is_test else "scripts")
    if name in _CONFIGS:
        found.append("configs")
    if name in _DEPENDENCIES or _REQUIREMENTS.match(name):
        found.append("dependency_files")
    if name in _LOCKS:
        found.append("lock_files")
    if name in _CHECKS:
        found.append("check_files")
    if name in _PIPELINES or path.startswith(_PIPELINE_FOLDERS):
        found.append("pipeline_files")
    return found


def are_pinned(requirements: str) -> bool:
    """Whether every requirement of a list names one version, or one archive, and there are some."""
    count = 0
    for line in requirements.splitlines():
        plain = line.partition("#")[0].strip().rstrip("\\").strip()
        if not plain or plain.startswith("-"):
            continue
        count += 1
        if "==" not in plain and " @ " not in plain:
            return False
    return count > 0
