"""Digestry, the product: names, versions and protocols over the bytes that `store` keeps.

**Promises** beside those of `store`.

1. A published version *must not* change, and the label of a deleted one takes the same files only.
   Kept in `registry.services.publish`.
   Test: tests/registry/test_versions.py::test_frozen_fields_say_that_they_never_change
   Test: tests/registry/test_register.py::
   test_a_burnt_label_takes_the_same_files_only_and_what_is_said_anew
2. Nothing *must* be allowed that no grant allows, and what is hidden *must* look like what is
   missing; a digest opens nothing by itself. Kept in `registry.http.routing` and
   `registry.catalog.visible`.
   Test: tests/registry/test_permissions.py::
   test_a_route_lets_in_whom_the_table_says_and_nobody_else
   Test: tests/registry/test_enumeration.py::
   test_hidden_and_missing_are_answered_alike_and_take_as_many_statements
3. A change *must* be safe to repeat: by its nature, or by an ``Idempotency-Key``.
   Kept in `registry.http.once`.
   Test: tests/registry/test_once.py::test_every_post_takes_a_key
4. A start *must not* do more where more blobs are.
   Test: tests/registry/test_start.py::test_a_start_does_as_much_with_many_blobs_as_with_few
"""

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
