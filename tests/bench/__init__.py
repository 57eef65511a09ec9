"""The benchmark: its arithmetic, and that every scenario still runs."""
