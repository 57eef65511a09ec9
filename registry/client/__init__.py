"""Talks to a registry over HTTP, for the command line now and as a library later.

It knows the vocabulary (`registry.domain`) and digests, and nothing of the server's inside. What is
retried, what is verified and what an interruption leaves on disk is told in
`registry.client.transfer`.
"""

from __future__ import annotations
