"""The store's settings as the configuration has them."""

from __future__ import annotations

from pathlib import Path

from registry.catalog.migrations import CHAINS
from registry.config import Config
from store.opening import StoreSettings


def store_settings(config: Config) -> StoreSettings:
    """Translate the sections that the store understands; paths become absolute."""
    store = config.store
    return StoreSettings(
        root=None if store.backend == "memory" else Path(store.data).resolve(),
        archive=Path(store.archive).resolve() if store.archive else None,
        durability=store.durability,
        verify_reads=store.verify_reads,
        verify_again_days=store.verify_again_days,
        reserve_bytes=store.reserve_bytes,
        reserve_share=store.reserve_share,
        upload_seconds=config.uploads.expire_seconds,
        grace_seconds=config.collection.grace_seconds,
        undo_seconds=config.collection.undo_seconds,
        max_share=config.collection.max_share,
        chains=CHAINS,
    )
