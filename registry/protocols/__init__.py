"""Foreign protocols: one package each, which translates and decides nothing.

Every package has the same modules: ``wire`` (their text and JSON as values, pure), ``errors`` (one
table from our errors to their answers), ``handlers`` (parse, call one service, render).
An adapter *must not* know another one, nor the native API; what two share lives in `registry.http`.
"""
