"""What a package offers is what it says it offers."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import registry
import store


def names_of(package: ModuleType) -> list[str]:
    return [
        package.__name__,
        *(
            module.name
            for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
            if ".migrations." not in module.name and not module.name.endswith("__main__")
        ),
    ]


MODULES = [*names_of(registry), *names_of(store)]


@pytest.mark.parametrize("name", MODULES)
def test_every_offered_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    offered = getattr(module, "__all__", [])

    assert [each for each in offered if not hasattr(module, each)] == []
    assert len(offered) == len(set(offered))


@pytest.mark.parametrize("name", MODULES)
def test_what_a_package_imports_for_others_is_offered(name: str) -> None:
    """In an ``__init__``, a public name from elsewhere is either in ``__all__`` or a mistake."""
    module = importlib.import_module(name)
    if not hasattr(module, "__path__") or not hasattr(module, "__all__"):
        return
    ours = (registry.__name__, store.__name__)
    reexported = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and not isinstance(value, ModuleType)
        and str(getattr(value, "__module__", "")).split(".")[0] in ours
    }

    assert reexported <= set(module.__all__)


def test_the_version_is_known() -> None:
    assert registry.__version__
