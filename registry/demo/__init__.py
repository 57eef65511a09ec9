"""A believable small company for a registry that has nothing to show yet.

Everything goes through the registry's own API, so the demo shows what a user's commands do. What is
made follows from a seed: the same files with the same digests every time, small but real (weights
are safetensors that any reader opens). Nobody in it is a person; teams have the names of what they
do.

`registry.demo.company` says what there is, `files` and `curves` make content, `filling` sends it.
Every step can be repeated: what is there already is left as it is, so a demo that was interrupted
goes on.
"""

from __future__ import annotations
