"""Rows of the domain, in the store's database and inside the store's transactions.

Every function here takes a `store.index.transactions.Tx` and runs inside a caller's unit of work;
it decides nothing that a rule of `registry.domain` decides, and knows no principal's rights.
"""
