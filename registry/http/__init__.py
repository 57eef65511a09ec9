"""HTTP mechanics that every adapter shares: routes, problems, bodies, ranges; no domain."""
