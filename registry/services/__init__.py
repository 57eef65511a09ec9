"""What the product does, independent of any protocol.

A service takes the principal who acts, and every read takes what that principal may see. It speaks
in values and raises errors of `registry.errors` and `store.errors`; it has never heard of HTTP.
"""
