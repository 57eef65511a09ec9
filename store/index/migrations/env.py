"""Entry point of Alembic for this chain; all it does is in `store.index.upgrade`."""

from store.index.upgrade import run_environment

run_environment()
