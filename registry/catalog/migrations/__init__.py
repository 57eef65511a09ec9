"""Migrations of the catalog's tables, one module each in ``versions``, numbered from 0001.

They run after the store's, in the same transaction.
"""

from __future__ import annotations

from typing import Final

from store.index.upgrade import STORE, Chain

CATALOG: Final = Chain(name="catalog", package="registry.catalog", number=14)

CHAINS: Final = (STORE, CATALOG)
"""Every chain of the registry's database, in the order in which they run."""
