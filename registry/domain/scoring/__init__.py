"""How far a version can be trusted: eleven metrics, each a pure function of what is held here.

A metric looks at a part of the `Evidence` and answers with an `Outcome`: a value from 0 to 1 and
what it was made of, or no value and the reason. Nothing here reads, runs or asks anything; what is
looked at was gathered before, by `registry.services.evidence`.

**Rules.** A value lies from 0 to 1. Better evidence never lowers one. Where there is nothing of the
kind that a metric looks at there is no value, which is not 0. What each metric means, and where its
definition comes from, is in ``registry/SCORES.md``.
"""
