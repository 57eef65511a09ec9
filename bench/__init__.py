"""Side-by-side measurements: every speed claim is a scenario that runs each contender in one run.

A scenario is one `bench_*.py` file: its docstring asks one question and names the decision that
the answer informs. Figures from different runs or machines *must not* be compared without
`--against`, which says how they differ; ratios are formed inside one round, never across rounds.
"""
