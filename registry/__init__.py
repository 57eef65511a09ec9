"""Digestry, the product: names, versions and protocols over the bytes that `store` keeps."""

from __future__ import annotations

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    # Looked up when asked for: the metadata of packages take 25 ms to import, and every start pays.
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("digestry")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0.0.0"
